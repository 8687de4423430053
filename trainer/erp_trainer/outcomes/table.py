"""The outcomes table (contract 1): which reward each pool model earned on each prompt.

In a file the table is long: one row per (prompt, model[, reward model][, sample]). In memory it is one array per
quantity with an axis for prompts and one for models. Invariants:

* Prompts stand in the order in which the file first names them; models are sorted by name, so that the order of
  rows or columns in a file never changes a result.
* ``rewards_PM`` is NaN exactly where ``n_samples_PM`` is 0. Every prompt and every model has an outcome.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from erp_trainer.files.arrow import Table, check_suffix, read_table
from erp_trainer.files.atomic import atomic_file
from erp_trainer.outcomes import columns
from erp_trainer.outcomes.columns import Coded, fail_where
from erp_trainer.outcomes.long_form import (
    CONTRACT_COLUMNS,
    JUDGED_COLUMNS,
    NUMBER_COLUMNS,
    ROWS_PER_GROUP,
    TEXT_COLUMNS,
    LongRows,
    long_rows,
    long_tables,
    of_reward_model,
    wide_rows,
)
from erp_trainer.outcomes.single_rewards import by_cell, check_lists
from erp_trainer.prompts.duplicates import split_in_half
from litellm_erp.errors import OutcomesError


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes of P prompts at M pool models.

    Attributes
    ----------
    prompt_ids, prompts : P each; a prompt is plain text, or a JSON list of chat messages as a string
    models : M, sorted
    rewards_PM : float64, in reward-model units, mean over samples; NaN where there is no outcome
    n_samples_PM : int64, samples behind each mean; 0 where there is no outcome
    reward_std_PM : float64, spread of single samples (ddof = 1); NaN where not recorded
    output_tokens_PM, input_tokens_PM, cost_usd_PM : float64, per request (USD); NaN where not recorded
    categories : P, "" where there is none
    tags : P, empty where there are none
    splits : P, "train", "test", another value as the file had it, or "" where there is none
    log_likelihood_PM, self_check_PM : float64, of the recorded responses: mean token log-likelihood, and how far the
        model's own check accepts it, in [0, 1]; NaN where not recorded, None where the file has no such column
    reward_model : "" where the file names none
    prompts_without_outcome : prompts that a wide file listed with only empty cells, and that were left out
    samples_PMK : float32, shape (P, M, K), the single rewards behind the means in sample order, NaN where there are
        fewer; None where no mean is of two on record. At most ``MAX_KEPT_SAMPLES`` of each
    """

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    rewards_PM: np.ndarray
    n_samples_PM: np.ndarray
    reward_std_PM: np.ndarray
    output_tokens_PM: np.ndarray
    input_tokens_PM: np.ndarray
    cost_usd_PM: np.ndarray
    categories: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    splits: tuple[str, ...]
    reward_model: str = ""
    prompts_without_outcome: int = 0
    log_likelihood_PM: np.ndarray | None = None
    self_check_PM: np.ndarray | None = None
    samples_PMK: np.ndarray | None = None

    def subset(self, mask_P: np.ndarray) -> Outcomes:
        """The prompts at which ``mask_P`` (shape (P,), bool) is true; all models are kept."""
        mask_P = np.asarray(mask_P, dtype=bool)
        if mask_P.shape != (len(self.prompt_ids),):
            raise ValueError(f"mask of shape {mask_P.shape} for {len(self.prompt_ids)} prompts")
        rows = np.flatnonzero(mask_P).tolist()
        kept: dict[str, Any] = {name: tuple(getattr(self, name)[row] for row in rows) for name in _PER_PROMPT}
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("_PM")}
        kept |= {name: array if array is None else array[mask_P] for name, array in arrays.items()}
        kept["samples_PMK"] = None if self.samples_PMK is None else self.samples_PMK[mask_P]
        return replace(self, **kept)

    def split(self, name: str) -> Outcomes:
        """The prompts of one split."""
        return self.subset(np.array([split == name for split in self.splits], dtype=bool))

    def duplicate_groups(self) -> np.ndarray:
        """Number prompts so that the same text has the same number.

        Returns
        -------
        shape (P,), int64, from 0 in first-seen order; texts that differ only in case or white space are the same

        Source: ours; facts on public routing data show 2 % of prompts repeated across splits, mostly verbatim.
        """
        numbers: dict[str, int] = {}
        normalised = (" ".join(prompt.split()).casefold() for prompt in self.prompts)
        return np.array([numbers.setdefault(text, len(numbers)) for text in normalised], dtype=np.int64)


_PER_PROMPT = ("prompt_ids", "prompts", "categories", "tags", "splits")


def read_outcomes(
    path: str | Path,
    *,
    wide: bool = False,
    models: Sequence[str] | None = None,
    reward_model: str | None = None,
) -> Outcomes:
    """Read an outcomes table in long form, or in wide form with one column per model.

    Parameters
    ----------
    path : .parquet, .csv (UTF-8, a byte order mark is accepted) or .jsonl
    wide : every column whose name is not in the contract is a model, and an empty cell means no outcome. In Parquet
        a float NaN counts as empty too, because that is how pandas writes an empty cell; ``nan`` written out in CSV
        or JSONL is an error. Columns ``sample``, ``n_samples``, ``reward_model`` and ``input_tokens`` of a wide
        file hold for all models of the row
    models : in wide form the columns that are models; in long form the models to keep
    reward_model : which one to read, where a file holds several

    Returns
    -------
    Outcomes ; rows that differ only in ``sample`` are averaged, tokens and costs too

    Raises
    ------
    OutcomesError : anything that breaks the contract; the message names the file and the row, column or model
    """
    keep = set(CONTRACT_COLUMNS) | set(models or ())
    table = read_table(
        Path(path),
        wanted=lambda name: name in keep or (wide and models is None),
        text=TEXT_COLUMNS,
    )
    hint = ". Where each model has a column of its own, read with --wide"
    required = ("prompt_id", "prompt") if wide else ("prompt_id", "prompt", "model", "reward")
    columns.require_columns(table, required, "" if wide else hint)
    ids = columns.required_text(table, "prompt_id")
    rows = wide_rows(table, models) if wide else long_rows(table, models)
    rows = of_reward_model(table, rows, reward_model)
    return _pivot(table, ids, rows)


def _prompt_rows(table: Table, ids: Coded) -> dict[str, Sequence[Any]]:
    """What a table says once per prompt; a value stated in only some of its rows holds for all."""
    prompts = columns.required_text(table, "prompt")
    rows_P = columns.one_per_group(table, "prompt", prompts, ids)
    stated = {"prompt_ids": ids.values, "prompts": [prompts.values[prompts.codes_N[row]] for row in rows_P]}
    for field, name in (("categories", "category"), ("splits", "split")):
        column = columns.text(table, name)
        rows_P = columns.one_per_group(table, name, column, ids)
        codes_P = np.where(rows_P >= 0, column.codes_N[rows_P], -1)
        stated[field] = [column.values[code] if code >= 0 else "" for code in codes_P]
    return {**stated, "tags": columns.tags_by_group(table, ids)}


def _pivot(table: Table, ids: Coded, rows: LongRows) -> Outcomes:
    n_models = len(rows.pool)

    def at(index: int) -> str:
        row = rows.row_N[index]
        prompt_id = ids.values[ids.codes_N[row]]
        return f"{table.path}: row {row + 1} (prompt_id {prompt_id!r}, model {rows.pool[rows.model_N[index]]!r})"

    prompt_rows = _prompt_rows(table, ids)
    fail_where(
        ~np.isfinite(rows.reward_N),
        lambda i: (
            f"{at(i)}: reward is {_spelled(rows.reward_N[i])}; expected a finite number. "
            "Leave the row out if there is no outcome"
        ),
    )
    extra = {name: columns.numbers(table, name).values_N[rows.row_N] for name in (*NUMBER_COLUMNS, *JUDGED_COLUMNS)}
    extra = {name: cells_N for name, cells_N in extra.items() if name in NUMBER_COLUMNS or not np.isnan(cells_N).all()}
    _check_numbers(extra, at)

    cell_N = ids.codes_N[rows.row_N] * n_models + rows.model_N
    shape = (len(ids.values), n_models)
    counts_PM = np.bincount(cell_N, minlength=shape[0] * n_models)
    sample_N = columns.numbers(table, "sample").values_N[rows.row_N]
    lists = columns.number_lists(table, "sample_rewards", rows.row_N)
    if np.isnan(sample_N).all():
        _check_unique(cell_N, rows.row_N, at)
        check_lists(lists, rows.reward_N, extra["n_samples"], at)
        extra["n_samples"] = np.where(
            np.isnan(extra["n_samples"]) & (lists.sizes_N > 0), lists.sizes_N, extra["n_samples"]
        )
        arrays = _scatter(cell_N, counts_PM, rows.reward_N, extra)
        samples = by_cell(np.repeat(cell_N, lists.sizes_N), lists.values, counts_PM.size)
    else:
        _check_samples(sample_N, extra, at)
        _check_unique(
            cell_N * (1 + np.unique(sample_N).size) + np.unique(sample_N, return_inverse=True)[1], rows.row_N, at
        )
        arrays = _average(cell_N, counts_PM, rows.reward_N, extra)
        order = np.argsort(sample_N, kind="stable")
        samples = by_cell(cell_N[order], rows.reward_N[order], counts_PM.size)

    has_outcome_P = counts_PM.reshape(shape).any(axis=1)
    keep = np.flatnonzero(has_outcome_P).tolist()
    kept: dict[str, Any] = {name: tuple(values[p] for p in keep) for name, values in prompt_rows.items()}
    kept |= {f"{name}_PM": array.reshape(shape)[has_outcome_P] for name, array in arrays.items()}
    return Outcomes(
        models=rows.pool,
        reward_model=rows.reward_model,
        prompts_without_outcome=len(ids.values) - len(keep),
        samples_PMK=None if samples is None else samples.reshape(*shape, -1)[has_outcome_P],
        **kept,
    )


_RANGES = {"n_samples": (1.0, np.inf), "log_likelihood": (-np.inf, np.inf), "self_check": (0.0, 1.0)}
_EXPECTED = {
    "n_samples": "a whole number of at least 1",
    "log_likelihood": "a finite number",
    "self_check": "a number from 0 to 1",
}


def _check_numbers(extra: Mapping[str, np.ndarray], at: Callable[[int], str]) -> None:
    for name, values_N in extra.items():
        low, high = _RANGES.get(name, (0.0, np.inf))
        bad_N = np.isinf(values_N) | (values_N < low) | (values_N > high)
        if name == "n_samples":
            bad_N |= np.isfinite(values_N) & (np.floor(values_N) != values_N)
        expected = _EXPECTED.get(name, "a finite number of at least 0")
        fail_where(
            bad_N,
            lambda i, name=name, values_N=values_N, expected=expected: (  # type: ignore[misc]
                f"{at(i)}: {name} is {values_N[i]:g}; expected {expected}, or an empty cell where it was not recorded"
            ),
        )


def _check_samples(sample_N: np.ndarray, extra: Mapping[str, np.ndarray], at: Callable[[int], str]) -> None:
    fail_where(np.isnan(sample_N), lambda i: f"{at(i)}: sample is empty; expected a number in every row of the file")
    several_N = (extra["n_samples"] > 1) | ~np.isnan(extra["reward_std"])
    fail_where(
        several_N,
        lambda i: (
            f"{at(i)}: n_samples or reward_std beside a sample number; expected one row per sample, or one row per "
            "mean. Drop the columns that do not apply"
        ),
    )


def _check_unique(key_N: np.ndarray, row_N: np.ndarray, at: Callable[[int], str]) -> None:
    order = np.argsort(key_N, kind="stable")
    repeats = np.flatnonzero(np.diff(key_N[order]) == 0)
    if repeats.size:
        second = int(order[repeats + 1].min())
        first = int(np.flatnonzero(key_N == key_N[second])[0])
        raise OutcomesError(
            f"{at(second)}: a second row for the key of row {row_N[first] + 1}; expected one row per (prompt_id, "
            "model, reward_model, sample). Remove one, or number the samples in a `sample` column"
        )


def _scatter(
    cell_N: np.ndarray, counts: np.ndarray, reward_N: np.ndarray, extra: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Flat (P * M) arrays of rows that are one per cell."""

    def spread(values_N: np.ndarray) -> np.ndarray:
        flat = np.full(counts.size, np.nan)
        flat[cell_N] = values_N
        return flat

    arrays = {name: spread(values_N) for name, values_N in extra.items()}
    # An outcome that does not say how many samples it is the mean of is one sample.
    arrays["n_samples"] = np.where(np.isnan(arrays["n_samples"]), counts, arrays["n_samples"]).astype(np.int64)
    return {"rewards": spread(reward_N), **arrays}


def _average(
    cell_N: np.ndarray, counts: np.ndarray, reward_N: np.ndarray, extra: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Flat (P * M) arrays of rows that are one per sample: means over the rows that record a value."""

    def mean(values_N: np.ndarray) -> np.ndarray:
        recorded = ~np.isnan(values_N)
        total = np.bincount(cell_N[recorded], weights=values_N[recorded], minlength=counts.size)
        number = np.bincount(cell_N[recorded], minlength=counts.size)
        return np.divide(total, number, out=np.full(counts.size, np.nan), where=number > 0)

    rewards = mean(reward_N)
    squares = np.bincount(cell_N, weights=(reward_N - rewards[cell_N]) ** 2, minlength=counts.size)
    variance = np.divide(squares, counts - 1, out=np.full(counts.size, np.nan), where=counts > 1)
    others = {name: mean(values_N) for name, values_N in extra.items() if name not in ("n_samples", "reward_std")}
    return {"rewards": rewards, "n_samples": counts.astype(np.int64), "reward_std": np.sqrt(variance), **others}


def _spelled(reward: float) -> str:
    return "NaN or empty" if np.isnan(reward) else f"{reward:g}"


def write_outcomes(outcomes: Outcomes, path: str | Path) -> None:
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
    write = _write_parquet if path.suffix.lower() == ".parquet" else _write_text
    with atomic_file(path) as temporary:
        write(long_tables(outcomes), temporary, path.suffix.lower())


def _write_parquet(tables: Iterator[Any], path: Path, suffix: str) -> None:
    first = next(tables)
    # Without Arrow's own schema other readers get plain strings. The dictionary limit keeps each prompt stored once
    # per row group instead of once per model.
    with pq.ParquetWriter(
        path, first.schema, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 28
    ) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)


def _write_text(tables: Iterator[Any], path: Path, suffix: str) -> None:
    with path.open("wb") as sink:
        for table in tables:
            plain = dict(zip(table.column_names, table.columns, strict=True))
            for name, column in plain.items():
                if pa.types.is_dictionary(column.type):
                    plain[name] = column.cast(pa.string())
            if suffix == ".csv":
                for name in {"tags", "sample_rewards"} & plain.keys():
                    cells = plain[name].to_pylist()
                    plain[name] = pa.array([None if cell is None else _json(cell) for cell in cells], pa.string())
                pa_csv.write_csv(pa.table(plain), sink, pa_csv.WriteOptions(include_header=sink.tell() == 0))
                continue
            for record in pa.table(plain).to_pylist():
                stated = {name: value for name, value in record.items() if value is not None}
                sink.write(_json(stated).encode() + b"\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def assign_split(outcomes: Outcomes, seed: int = 0) -> Outcomes:
    """Give every prompt the split "train" or "test", half each, where none has a split yet.

    Parameters
    ----------
    seed : the same seed and prompts give the same split, whatever the order of the prompts

    Returns
    -------
    Outcomes ; unchanged if any prompt already has a split. Categories are halved one by one, and prompts with the
    same text (`Outcomes.duplicate_groups`) stay on one side

    Source: arXiv 2603.20217 evaluates on a random half; strata and duplicate groups are ours, against leakage.
    """
    if any(outcomes.splits):
        return outcomes
    order = np.array(sorted(range(len(outcomes.prompt_ids)), key=outcomes.prompt_ids.__getitem__), dtype=np.intp)
    categories = [outcomes.categories[p] for p in order]
    splits = np.empty(len(order), dtype=object)
    splits[order] = split_in_half(outcomes.duplicate_groups()[order], categories, seed)
    return replace(outcomes, splits=tuple(splits))
