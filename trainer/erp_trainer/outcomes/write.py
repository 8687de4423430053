"""IO. The outcomes table to a file, in long form."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from erp_trainer.files.arrow import check_suffix
from erp_trainer.files.atomic import atomic_file
from erp_trainer.files.file_table import as_json
from erp_trainer.outcomes.table import JUDGED_COLUMNS, OutcomesTable

_ROWS_PER_GROUP = 1 << 17


def write_outcomes(outcomes: OutcomesTable, path: str | Path) -> None:
    """Write the long form, atomically; optional columns nobody recorded are left out.

    Parameters
    ----------
    path : .parquet, .csv or .jsonl

    Raises
    ------
    OutcomesError : unknown suffix
    """
    path = Path(path)
    check_suffix(path)
    write = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}[path.suffix.lower()]
    with atomic_file(path) as temporary:
        write(_long_tables(outcomes), temporary)


def _write_parquet(tables: Iterator[Any], path: Path) -> None:
    first = next(tables)
    # Without Arrow's own schema other readers get plain strings. The dictionary limit keeps each prompt stored once
    # per row group instead of once per model.
    with pq.ParquetWriter(
        path, first.schema, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 28
    ) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=_ROWS_PER_GROUP)


def _write_csv(tables: Iterator[Any], path: Path) -> None:
    with path.open("wb") as sink:
        for table in tables:
            plain = _decoded(table)
            for name in {"tags", "sample_rewards"} & plain.keys():
                cells = [None if cell is None else as_json(cell) for cell in plain[name].to_pylist()]
                plain[name] = pa.array(cells, pa.string())
            pa_csv.write_csv(pa.table(plain), sink, pa_csv.WriteOptions(include_header=sink.tell() == 0))


def _write_jsonl(tables: Iterator[Any], path: Path) -> None:
    with path.open("wb") as sink:
        for table in tables:
            for record in pa.table(_decoded(table)).to_pylist():
                stated = {name: value for name, value in record.items() if value is not None}
                sink.write(as_json(stated).encode() + b"\n")


def _decoded(table: Any) -> dict[str, Any]:
    columns = zip(table.column_names, table.columns, strict=True)
    return {name: c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for name, c in columns}


def _long_tables(outcomes: OutcomesTable) -> Iterator[Any]:
    """Long form in pieces, because Arrow stores a whole dictionary of prompts again in every row group."""
    recorded = [
        name
        for name in ("reward_std", "input_tokens", "output_tokens", "cost_usd")
        if not np.isnan(getattr(outcomes, f"{name}_PM")[outcomes.n_samples_PM > 0]).all()
    ]
    recorded += [name for name in JUDGED_COLUMNS if getattr(outcomes, f"{name}_PM") is not None]
    stated = [name for name in ("categories", "splits", "tags") if any(getattr(outcomes, name))]
    step = max(1, _ROWS_PER_GROUP // max(1, len(outcomes.models)))
    for start in range(0, max(1, len(outcomes.prompt_ids)), step):
        yield _long_table(outcomes, slice(start, start + step), recorded, stated)


def _long_table(outcomes: OutcomesTable, part: slice, recorded: list[str], stated: list[str]) -> Any:
    prompt_N, model_N = np.nonzero(outcomes.n_samples_PM[part])

    def repeat(values: Sequence[str], codes_N: np.ndarray) -> Any:
        empty = np.array([value == "" for value in values], dtype=bool)
        codes = pa.array(codes_N.astype(np.int32), mask=empty[codes_N])
        return pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string()))

    def cells(array_PM: np.ndarray) -> Any:
        return pa.array(array_PM[part][prompt_N, model_N], from_pandas=True)

    table = {
        "prompt_id": repeat(outcomes.prompt_ids[part], prompt_N),
        "prompt": repeat(outcomes.prompts[part], prompt_N),
        "model": repeat(outcomes.models, model_N),
        "reward": cells(outcomes.rewards_PM),
        "n_samples": cells(outcomes.n_samples_PM),
        **{name: cells(getattr(outcomes, f"{name}_PM")) for name in recorded},
    }
    if outcomes.samples_PMK is not None:
        table["sample_rewards"] = _lists(outcomes.samples_PMK[part][prompt_N, model_N])
    if "categories" in stated:
        table["category"] = repeat(outcomes.categories[part], prompt_N)
    if "splits" in stated:
        table["split"] = repeat(outcomes.splits[part], prompt_N)
    if "tags" in stated:
        lists = pa.array([list(tags) or None for tags in outcomes.tags[part]], pa.list_(pa.string()))
        table["tags"] = lists.take(pa.array(prompt_N))
    if outcomes.reward_model:
        table["reward_model"] = repeat([outcomes.reward_model], np.zeros_like(prompt_N))
    return pa.table(table)


def _lists(samples_NK: np.ndarray) -> Any:
    """The recorded samples of each row as a list; null where there are fewer than two."""
    recorded = ~np.isnan(samples_NK)
    recorded &= recorded.sum(axis=1, keepdims=True) > 1
    sizes = recorded.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(samples_NK[recorded]), mask=pa.array(sizes == 0))
