"""The rows of an outcomes file. A long and a wide file become the same arrays here, the one form that is read on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.files.file_table import FileTable, listed
from erp_trainer.outcomes import columns
from erp_trainer.outcomes.columns import Numbers
from erp_trainer.outcomes.table import CONTRACT_COLUMNS, JUDGED_COLUMNS
from litellm_erp.errors import OutcomesError

# One number per row cannot be told apart per model, and a wrong cost is worse than none.
_LONG_ONLY = ("model", "reward", "reward_std", "sample_rewards", "output_tokens", "cost_usd", *JUDGED_COLUMNS)

# What an index that was written along is called; as a model it would win with row numbers for rewards.
_NO_MODEL = re.compile(
    r"\s*|Unnamed: \d+|__index_level_\d+__|(id|index|idx|uid|uuid|((question|sample|query|doc|row)[_ ]?id))",
    re.IGNORECASE,
)


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


def long_rows(table: FileTable, models: Sequence[str] | None) -> LongRows:
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
            f"{table.path}: no usable rows for model {missing[0]!r}; found {listed(sorted(model.values))}"
        )
    position = {name: index for index, name in enumerate(pool)}
    model_N = np.array([position.get(name, -1) for name in model.values], dtype=np.int64)[model.codes_N]
    row_N = np.flatnonzero(model_N >= 0)
    return LongRows(row_N, model_N[row_N], reward.values_N[row_N], pool)


def wide_rows(table: FileTable, models: Sequence[str] | None) -> LongRows:
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
    nameless = [name for name in pool if _NO_MODEL.fullmatch(name) and name not in (models or ())]
    if nameless:
        raise OutcomesError(
            f"{table.path}: column {nameless[0]!r} looks like a row index, not a model name; expected every column to "
            "be named after its model. Write the table without its index, name the models with --models a,b, or say "
            f"that it is the id with --column prompt_id={nameless[0]!r}"
        )
    if not pool:
        raise OutcomesError(f"{table.path}: no model columns; found only {listed(table.names)}. Leave out --wide")
    if models is None:
        _refuse_words(table, pool)
    row_parts, model_parts, reward_parts = [], [], []
    for index, name in enumerate(pool):
        hint = f" in every model column. Name the model columns with --models a,b, or say what {name!r} is, as in "
        cells = columns.numbers(table, name, f"{hint}--column category={name}")
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


def _refuse_words(table: FileTable, pool: Sequence[str]) -> None:
    """Columns of words are no models; an error about the file, because no row of it is better than another."""
    words = [name for name in pool if columns.holds_words(table, name)]
    if not words:
        return
    others = [name for name in pool if name not in words]
    category = f"; --column category={words[0]!r} keeps what it says" if "category" not in table.columns else ""
    raise OutcomesError(
        f"{table.path}: in a wide table every column that has no role is a model, and {listed(words)} "
        f"{'holds' if len(words) == 1 else 'hold'} text; expected a number in every model column. Name the model "
        f"columns with --models {','.join(others[:8]) or 'a,b'}{category}"
    )


def _missing(table: FileTable, cells: Numbers) -> np.ndarray:
    return np.isnan(cells.values_N) if table.nan_is_empty else cells.empty_N


def of_reward_model(table: FileTable, rows: LongRows, wanted: str | None) -> LongRows:
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
