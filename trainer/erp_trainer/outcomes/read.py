"""IO. The outcomes table from a file, in long form or wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.files.arrow import read_table
from erp_trainer.files.file_table import FileTable
from erp_trainer.outcomes import columns
from erp_trainer.outcomes.columns import Coded, Lists, fail_where
from erp_trainer.outcomes.long_form import LongRows, long_rows, of_reward_model, wide_rows
from erp_trainer.outcomes.table import (
    CONTRACT_COLUMNS,
    JUDGED_COLUMNS,
    MAX_KEPT_SAMPLES,
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    OutcomesTable,
    single_rewards,
)
from erp_trainer.prompts.prompt_set import prompt_id_of

# What messages call a row: its file, number, prompt and model.
Place = Callable[[int], str]
# Which entries are bad, what is said of the first, and in a few words of all.
Fail = Callable[[np.ndarray, Place, str], None]
# What `BadRowsError` says of rows whose key an earlier row has.
REPEATED = "a second row for the same key"


def read_outcomes(
    path: str | Path,
    *,
    wide: bool = False,
    models: Sequence[str] | None = None,
    reward_model: str | None = None,
) -> OutcomesTable:
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
    OutcomesTable ; rows that differ only in ``sample`` are averaged, tokens and costs too

    Raises
    ------
    OutcomesError : anything that breaks the contract; the message names the file and the row, column or model
    """
    keep = set(CONTRACT_COLUMNS) | set(models or ())
    table = read_table(Path(path), wanted=lambda name: name in keep or (wide and models is None), text=TEXT_COLUMNS)
    return from_columns(table, wide=wide, models=models, reward_model=reward_model)


def from_columns(
    table: FileTable, *, wide: bool = False, models: Sequence[str] | None = None, reward_model: str | None = None
) -> OutcomesTable:
    """An outcomes table from the columns of a file; see `read_outcomes`.

    A foreign format becomes such columns, in long form, and is read by this from there on.
    """
    hint = "" if wide else ". Where each model has a column of its own, read with --wide"
    required = ("prompt",) if wide else ("prompt", "model", "reward")
    columns.require_columns(table, required, hint)
    prompt_ids = _prompt_ids(table)
    rows = wide_rows(table, models) if wide else long_rows(table, models)
    return _pivot(table, prompt_ids, of_reward_model(table, rows, reward_model))


def _prompt_ids(table: FileTable) -> Coded:
    """The prompts' ids; where a file has none, what the prompts' texts are hashed to."""
    if "prompt_id" in table.columns:
        return columns.required_text(table, "prompt_id")
    prompts = columns.required_text(table, "prompt")
    return Coded(prompts.codes_N, [prompt_id_of(text) for text in prompts.values])


def _pivot(table: FileTable, prompt_ids: Coded, rows: LongRows) -> OutcomesTable:
    """Turn rows into arrays: every row has the code of its cell, p · M + m, by which all its numbers are averaged."""

    def at(index: int) -> str:
        row = rows.row_N[index]
        prompt_id = prompt_ids.values[prompt_ids.codes_N[row]]
        return f"{table.at(row)} (prompt_id {prompt_id!r}, model {rows.pool[rows.model_N[index]]!r})"

    def number(index: int) -> str:
        row = rows.row_N[index]
        return f"row {table.number(row)}" if not table.files else table.at(row)

    def fail(bad_N: np.ndarray, message: Place, what: str) -> None:
        fail_where(bad_N, message, what, row_N=rows.row_N, rows=table.n_rows)

    of_prompts = _prompt_columns(table, prompt_ids)
    numbers = {"reward": rows.reward_N, **_numbers(table, rows.row_N)}
    _check_numbers(numbers, at, fail)
    lists = columns.number_lists(table, "sample_rewards", rows.row_N)
    sample_N = columns.numbers(table, "sample").values_N[rows.row_N]

    shape = (len(prompt_ids.values), len(rows.pool))
    cell_N = prompt_ids.codes_N[rows.row_N] * shape[1] + rows.model_N
    if np.isnan(sample_N).all():
        _check_unique(cell_N, number, at, fail)
        _check_lists(lists, rows.reward_N, numbers["n_samples"], at, fail)
        flat = _of_means(cell_N, numbers, lists, shape[0] * shape[1])
        samples_PMK = single_rewards(np.repeat(cell_N, lists.sizes_N), lists.values, shape)
    else:
        _check_samples(sample_N, numbers, at, fail)
        samples, code_N = np.unique(sample_N, return_inverse=True)
        _check_unique(cell_N * samples.size + code_N, number, at, fail)
        flat = _of_samples(cell_N, numbers, shape[0] * shape[1])
        order = np.argsort(code_N, kind="stable")
        samples_PMK = single_rewards(cell_N[order], rows.reward_N[order], shape)

    kept_P = (flat["n_samples"] > 0).reshape(shape).any(axis=1)
    kept = np.flatnonzero(kept_P).tolist()
    stated: dict[str, Any] = {field: tuple(values[p] for p in kept) for field, values in of_prompts.items()}
    stated |= {f"{name}_PM": array.reshape(shape)[kept_P] for name, array in flat.items()}
    stated["rewards_PM"] = stated.pop("reward_PM")
    return OutcomesTable(
        models=rows.pool,
        reward_model=rows.reward_model,
        prompts_without_outcome=len(prompt_ids.values) - len(kept),
        samples_PMK=None if samples_PMK is None else samples_PMK[kept_P],
        **stated,
    )


def _prompt_columns(table: FileTable, ids: Coded) -> dict[str, Sequence[Any]]:
    """What a file says once per prompt; a value stated in only some of its rows holds for all."""
    prompts = columns.required_text(table, "prompt")
    rows_P = columns.one_per_group(table, "prompt", prompts, ids)
    stated = {"prompt_ids": ids.values, "prompts": [prompts.values[prompts.codes_N[row]] for row in rows_P]}
    for field, name in (("categories", "category"), ("splits", "split")):
        column = columns.text(table, name)
        rows_P = columns.one_per_group(table, name, column, ids)
        codes_P = np.where(rows_P >= 0, column.codes_N[rows_P], -1)
        stated[field] = [column.values[code] if code >= 0 else "" for code in codes_P]
    return {**stated, "tags": columns.tags_by_group(table, ids)}


def _numbers(table: FileTable, row_N: np.ndarray) -> dict[str, np.ndarray]:
    """The optional numbers of the rows; those that policies judge by only where any is recorded."""
    found = {name: columns.numbers(table, name).values_N[row_N] for name in (*NUMBER_COLUMNS, *JUDGED_COLUMNS)}
    return {name: found[name] for name in found if name in NUMBER_COLUMNS or not np.isnan(found[name]).all()}


def _of_means(
    cell_N: np.ndarray, numbers: Mapping[str, np.ndarray], lists: Lists, n_cells: int
) -> dict[str, np.ndarray]:
    """Flat (P · M) arrays of rows that are one per cell."""
    listed_N = np.where(lists.sizes_N > 0, lists.sizes_N, 1)  # what states no number of samples is one sample
    n_samples_N = np.where(np.isnan(numbers["n_samples"]), listed_N, numbers["n_samples"])
    flat = {name: _mean_by_cell(cell_N, values_N, n_cells) for name, values_N in numbers.items()}
    return flat | {"n_samples": np.bincount(cell_N, n_samples_N, n_cells).astype(np.int64)}


def _of_samples(cell_N: np.ndarray, numbers: Mapping[str, np.ndarray], n_cells: int) -> dict[str, np.ndarray]:
    """Flat (P · M) arrays of rows that are one per sample; the standard deviation is that of samples (ddof = 1)."""
    flat = {name: _mean_by_cell(cell_N, values_N, n_cells) for name, values_N in numbers.items()}
    number = np.bincount(cell_N, minlength=n_cells)
    squares = np.bincount(cell_N, (numbers["reward"] - flat["reward"][cell_N]) ** 2, n_cells)
    variance = np.divide(squares, number - 1, out=np.full(n_cells, np.nan), where=number > 1)
    return flat | {"n_samples": number.astype(np.int64), "reward_std": np.sqrt(variance)}


def _mean_by_cell(cell_N: np.ndarray, values_N: np.ndarray, n_cells: int) -> np.ndarray:
    """Mean over the rows of each cell that record a value; NaN where none does."""
    recorded_N = ~np.isnan(values_N)
    total = np.bincount(cell_N[recorded_N], values_N[recorded_N], n_cells)
    number = np.bincount(cell_N[recorded_N], minlength=n_cells)
    return np.divide(total, number, out=np.full(n_cells, np.nan), where=number > 0)


# Of a reward as of a bundle's numbers. Their squares must be finite, and what is larger is a sentinel or a mistake.
LARGEST = 1e15
# The least and the most a number may be, and how a message says so.
_AT_LEAST_0 = (0.0, LARGEST, f"a finite number of at least 0 and at most {LARGEST:g}")
_RANGES = {
    "reward": (
        -LARGEST,
        LARGEST,
        f"a finite number of at most {LARGEST:g} in size. Leave the row out if there is no outcome",
    ),
    # Of rewards as far apart as they may be.
    "reward_std": (0.0, 2 * LARGEST, f"a finite number of at least 0 and at most {2 * LARGEST:g}"),
    "n_samples": (1.0, 1e9, "a whole number of at least 1, and at most 1e9"),
    "log_likelihood": (-LARGEST, LARGEST, "a finite number"),
    "self_check": (0.0, 1.0, "a number from 0 to 1"),
}


def _check_numbers(numbers: Mapping[str, np.ndarray], at: Place, fail: Fail) -> None:
    for name, values_N in numbers.items():
        low, high, expected = _RANGES.get(name, _AT_LEAST_0)
        bad_N = np.isinf(values_N) | (values_N < low) | (values_N > high)
        if name == "reward":
            bad_N |= np.isnan(values_N)
        else:
            expected += ", or an empty cell where it was not recorded"
        if name == "n_samples":
            bad_N |= np.isfinite(values_N) & (np.floor(values_N) != values_N)
        fail(bad_N, partial(_not_expected, at, name, values_N, expected), f"{name} out of range")


def _not_expected(at: Place, name: str, values_N: np.ndarray, expected: str, index: int) -> str:
    found = "NaN or empty" if np.isnan(values_N[index]) else f"{values_N[index]:g}"
    return f"{at(index)}: {name} is {found}; expected {expected}"


def _check_samples(sample_N: np.ndarray, numbers: Mapping[str, np.ndarray], at: Place, fail: Fail) -> None:
    fail(
        np.isnan(sample_N),
        lambda i: f"{at(i)}: sample is empty; expected a number in every row of the file",
        "without sample",
    )
    fail(
        (numbers["n_samples"] > 1) | ~np.isnan(numbers["reward_std"]),
        lambda i: (
            f"{at(i)}: n_samples or reward_std beside a sample number; expected one row per sample, or one row per "
            "mean. Drop the columns that do not apply"
        ),
        "a mean beside a sample",
    )


def _check_unique(key_N: np.ndarray, number: Place, at: Place, fail: Fail) -> None:
    order = np.argsort(key_N, kind="stable")
    repeats_N = np.zeros(key_N.size, dtype=bool)
    repeats_N[order[1:][np.diff(key_N[order]) == 0]] = True

    def message(second: int) -> str:
        first = int(np.flatnonzero(key_N == key_N[second])[0])
        return (
            f"{at(second)}: a second row for the key of {number(first)}; expected one row per (prompt_id, model, "
            "reward_model, sample). Remove one (--keep-first keeps the first of each), or number the samples in a "
            "`sample` column"
        )

    fail(repeats_N, message, REPEATED)


def _check_lists(lists: Lists, reward_N: np.ndarray, n_samples_N: np.ndarray, at: Place, fail: Fail) -> None:
    """Where single rewards are listed, the row's reward must be their mean and its n_samples their number.

    A list of ``MAX_KEPT_SAMPLES`` may be the first of more.
    """
    starts = np.cumsum(lists.sizes_N) - lists.sizes_N
    filled_N = lists.sizes_N > 0
    mean_N, spread_N = reward_N.copy(), np.abs(reward_N)
    unusable_N = np.zeros(reward_N.size, dtype=bool)
    if lists.values.size:
        # Not "greater than", so that a NaN fails too.
        bad_S = ~(np.abs(lists.values) <= LARGEST)
        unusable_N[filled_N] = np.add.reduceat(bad_S.astype(np.int64), starts[filled_N]) > 0
        finite_S = np.where(bad_S, 0.0, lists.values)
        mean_N[filled_N] = np.add.reduceat(finite_S, starts[filled_N]) / lists.sizes_N[filled_N]
        spread_N[filled_N] = np.maximum.reduceat(np.abs(finite_S), starts[filled_N])
    fail(
        unusable_N,
        lambda i: f"{at(i)}: sample_rewards holds what is no finite number of at most {LARGEST:g}; expected rewards",
        "sample_rewards out of range",
    )
    first_of_more_N = (lists.sizes_N == MAX_KEPT_SAMPLES) & (n_samples_N > MAX_KEPT_SAMPLES)
    listed_N = filled_N & ~first_of_more_N
    fail(
        listed_N & ~(np.abs(mean_N - reward_N) <= 1e-4 * (1.0 + spread_N)),
        lambda i: (
            f"{at(i)}: reward is {reward_N[i]:g}, the mean of its sample_rewards {mean_N[i]:g}; expected the same. "
            "Drop the column sample_rewards, or state the mean"
        ),
        "reward is not the mean of sample_rewards",
    )
    fail(
        listed_N & ~np.isnan(n_samples_N) & (n_samples_N != lists.sizes_N),
        lambda i: (
            f"{at(i)}: n_samples is {n_samples_N[i]:g}, and sample_rewards holds {lists.sizes_N[i]}; expected as many"
        ),
        "n_samples is not the length of sample_rewards",
    )
