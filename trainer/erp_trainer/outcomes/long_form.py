"""The long form of the outcomes table: rows of a file in, tables for a file out.

A long and a wide file become the same three arrays here, so that everything after this module knows one form only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from erp_trainer.files.arrow import Table
from erp_trainer.outcomes import columns
from erp_trainer.outcomes.columns import Numbers
from litellm_erp.errors import OutcomesError

if TYPE_CHECKING:
    from erp_trainer.outcomes.table import Outcomes

TEXT_COLUMNS = ("prompt_id", "prompt", "model", "category", "split", "tags", "reward_model")
NUMBER_COLUMNS = ("n_samples", "reward_std", "input_tokens", "output_tokens", "cost_usd")
# What some policies judge an answer by after the call; arrays of outcomes only where a file has them.
JUDGED_COLUMNS = ("log_likelihood", "self_check")
CONTRACT_COLUMNS = (*TEXT_COLUMNS, "reward", "sample", "sample_rewards", *NUMBER_COLUMNS, *JUDGED_COLUMNS)
# One number per row cannot be told apart per model, and a wrong cost is worse than none.
_LONG_ONLY = ("model", "reward", "reward_std", "sample_rewards", "output_tokens", "cost_usd", *JUDGED_COLUMNS)

ROWS_PER_GROUP = 1 << 17

# What pandas calls an index that was written along; as a model it would win with row numbers for rewards.
_NO_MODEL = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")


@dataclass(frozen=True)
class LongRows:
    """One entry per outcome.

    Attributes
    ----------
    row_N : int64, row of the file, from 0
    model_N : int64, index into ``pool``
    reward_N : float64, not yet checked
    pool : the pool models, sorted
    reward_model : "" where the file names none
    """

    row_N: np.ndarray
    model_N: np.ndarray
    reward_N: np.ndarray
    pool: tuple[str, ...]
    reward_model: str = ""

    def take(self, mask_N: np.ndarray, reward_model: str) -> LongRows:
        return LongRows(self.row_N[mask_N], self.model_N[mask_N], self.reward_N[mask_N], self.pool, reward_model)


def long_rows(table: Table, models: Sequence[str] | None) -> LongRows:
    """Outcomes of a long table, of the given models or of all.

    Raises
    ------
    OutcomesError : a model is unnamed, or one of ``models`` has no rows
    """
    model = columns.required_text(table, "model")
    reward = columns.numbers(table, "reward")
    pool = tuple(sorted(models or model.values))
    missing = sorted(set(pool) - set(model.values))
    if missing:
        raise OutcomesError(
            f"{table.path}: no usable rows for model {missing[0]!r}; found {', '.join(sorted(model.values))}"
        )
    position = {name: index for index, name in enumerate(pool)}
    model_N = np.array([position.get(name, -1) for name in model.values], dtype=np.int64)[model.codes_N]
    row_N = np.flatnonzero(model_N >= 0)
    return LongRows(row_N, model_N[row_N], reward.values_N[row_N], pool)


def wide_rows(table: Table, models: Sequence[str] | None) -> LongRows:
    """Outcomes of a wide table: its cells that are not empty, row by row.

    Raises
    ------
    OutcomesError : no model columns, one that holds no numbers or none at all, or a column only a long table can have
    """
    found = [name for name in _LONG_ONLY if name in table.columns and name not in (models or ())]
    if found:
        raise OutcomesError(
            f"{table.path}: column {found[0]!r} in a wide table; found one value for all models of a row, expected "
            "one row per model for it. Leave out --wide if the table is long, else drop the column"
        )
    pool = tuple(sorted(models or (name for name in table.columns if name not in CONTRACT_COLUMNS)))
    columns.require_columns(table, pool)
    nameless = [name for name in pool if _NO_MODEL.fullmatch(name)]
    if nameless:
        raise OutcomesError(
            f"{table.path}: column {nameless[0]!r} looks like a row index, not a model name; expected every column to "
            "be named after its model. Write the table without its index, or name the models with --models a,b"
        )
    if not pool:
        raise OutcomesError(f"{table.path}: no model columns; found only {', '.join(table.names)}. Leave out --wide")
    hint = " in every model column. Name the model columns with --models a,b"
    row_parts, model_parts, reward_parts = [], [], []
    for index, name in enumerate(pool):
        cells = columns.numbers(table, name, hint)
        rows = np.flatnonzero(~_missing(table, cells))
        if not rows.size:
            raise OutcomesError(
                f"{table.path}: no usable rows for model {name!r}; every cell of its column is empty. "
                "Drop the column, or name the models with --models"
            )
        row_parts.append(rows)
        model_parts.append(np.full(rows.size, index, dtype=np.int64))
        reward_parts.append(cells.values_N[rows])
    row_N = np.concatenate(row_parts)
    order = np.argsort(row_N, kind="stable")
    return LongRows(row_N[order], np.concatenate(model_parts)[order], np.concatenate(reward_parts)[order], pool)


def _missing(table: Table, cells: Numbers) -> np.ndarray:
    return np.isnan(cells.values_N) if table.path.suffix.lower() == ".parquet" else cells.empty_N


def of_reward_model(table: Table, rows: LongRows, wanted: str | None) -> LongRows:
    """Keep the outcomes of one reward model.

    Raises
    ------
    OutcomesError : several reward models and none wanted, the wanted one is absent, or it never scored some model
    """
    names = columns.text(table, "reward_model").take(rows.row_N)
    found = sorted(names.values) + (["(empty)"] if (names.codes_N < 0).any() and names.values else [])
    if wanted is not None and wanted not in names.values:
        listed = ", ".join(found) or "no reward_model column"
        raise OutcomesError(f"{table.path}: no rows of reward model {wanted!r}; found {listed}")
    if wanted is None and len(found) > 1:
        raise OutcomesError(
            f"{table.path}: {len(found)} reward models: {', '.join(found)}; expected one. "
            "Choose it with --reward-model NAME"
        )
    if not names.values:
        return rows
    name = names.values[0] if wanted is None else wanted
    kept = rows.take(names.codes_N == names.values.index(name), name)
    absent = sorted(set(range(len(kept.pool))) - set(np.unique(kept.model_N).tolist()))
    if absent:
        raise OutcomesError(
            f"{table.path}: no usable rows for model {kept.pool[absent[0]]!r} from reward model {name!r}; "
            "expected some. Name the models to keep with --models"
        )
    return kept


def long_tables(outcomes: Outcomes) -> Iterator[Any]:
    """Long form in pieces, because Arrow stores a whole dictionary of prompts again in every row group."""
    recorded = [
        name
        for name in ("reward_std", "input_tokens", "output_tokens", "cost_usd")
        if not np.isnan(getattr(outcomes, f"{name}_PM")[outcomes.n_samples_PM > 0]).all()
    ]
    recorded += [name for name in JUDGED_COLUMNS if getattr(outcomes, f"{name}_PM") is not None]
    stated = [name for name in ("categories", "splits", "tags") if any(getattr(outcomes, name))]
    step = max(1, ROWS_PER_GROUP // max(1, len(outcomes.models)))
    for start in range(0, max(1, len(outcomes.prompt_ids)), step):
        yield _long_table(outcomes, slice(start, start + step), recorded, stated)


def _long_table(outcomes: Outcomes, part: slice, recorded: list[str], stated: list[str]) -> Any:
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
