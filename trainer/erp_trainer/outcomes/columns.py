"""Columns of a table as numpy arrays, checked; what cannot be used is named by its row.

Everything is vectorised over rows. Python loops run over distinct values (model names, prompt ids, tags) and, when
something is wrong, over nothing more than the offending row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from erp_trainer.files.file_table import FileTable, listed
from erp_trainer.outcomes.names import suggested
from litellm_erp.errors import BadRowsError, OutcomesError

# Characters; what is longer is no prompt, and no model could read it.
MAX_CELL = 16 << 20
_ALL_PERCENT, _ALL_COMMA = r"^[+-]?\d+([.,]\d+)?\s*%$", r"^[+-]?\d+(,\d+)?$"
PERCENTAGES = "percentages"
_OF_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})*$"
_BOOLEANS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Coded:
    """A text column as codes.

    Attributes
    ----------
    codes_N : shape (N,), int64, index into ``values``; -1 where the cell is empty or only white space
    values : distinct cells in the order in which they first occur
    """

    codes_N: np.ndarray
    values: list[str]

    def take(self, rows: np.ndarray) -> Coded:
        """The same column at other rows, its values again in first-seen order."""
        return _first_seen(self.codes_N[rows], self.values)


@dataclass(frozen=True)
class Numbers:
    """A number column: float64, NaN where a cell is empty (``empty_N``) or holds NaN itself."""

    values_N: np.ndarray
    empty_N: np.ndarray


@dataclass(frozen=True)
class Lists:
    """A column of lists of numbers.

    Attributes
    ----------
    values : shape (S,), float64, all lists one after another
    sizes_N : shape (N,), int64; 0 where a cell is empty
    """

    values: np.ndarray
    sizes_N: np.ndarray


def text(table: FileTable, name: str) -> Coded:
    """Read an optional text column; a missing column has only empty cells.

    Raises
    ------
    OutcomesError : a cell is not UTF-8, or the file is damaged
    """
    if name not in table.columns:
        return Coded(np.full(table.n_rows, -1, dtype=np.int64), [])
    column = table.columns[name]
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.unify_dictionaries()
    chunks = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
    codes_N = np.concatenate(chunks).astype(np.int64)
    try:
        values = encoded.chunk(0).dictionary.to_pylist()
    except UnicodeDecodeError as exc:
        raise OutcomesError(f"{table.path}: column {name!r} is not UTF-8: {exc.reason}. Write it again") from exc
    if codes_N.max(initial=-1) >= len(values):
        raise OutcomesError(f"{table.path}: column {name!r} is damaged: it refers to texts the file does not hold")
    lengths_K = np.array([0 if value is None else len(value) for value in values] + [0])
    fail_where(
        lengths_K[codes_N] > MAX_CELL,
        lambda row: (
            f"{table.at(row)}: {name} has {lengths_K[codes_N[row]]:,} characters; expected at most {MAX_CELL:,}"
        ),
        f"{name} too long",
    )
    blank_K = np.array([value is None or not value.strip() for value in values] + [True])
    codes_N[blank_K[codes_N]] = -1
    return _first_seen(codes_N, values)


def required_text(table: FileTable, name: str) -> Coded:
    """Read a text column in which no cell may be empty.

    Raises
    ------
    OutcomesError : the column is missing, or a row has no text in it
    """
    require_columns(table, (name,))
    column = text(table, name)
    fail_where(
        column.codes_N < 0,
        lambda row: f"{table.at(row)}: {name} is empty; expected text in every row",
        f"without {name}",
    )
    return column


def require_columns(table: FileTable, names: tuple[str, ...], hint: str = "") -> None:
    """Raise `OutcomesError` where the file lacks one of the columns."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        flags = suggested(missing, table.names)
        near = f". Try {flags}" if flags else ". Name other columns with --column ROLE=NAME"
        raise OutcomesError(
            f"{table.path}: column {missing[0]!r} is missing; found {listed(table.names)}; "
            f"expected {listed(names)}{near}{hint}"
        )


def fail_where(
    bad_N: np.ndarray, message: Callable[[int], str], what: str, *, row_N: np.ndarray | None = None, rows: int = 0
) -> None:
    """Raise `BadRowsError` with ``message(index)`` of the first bad entry, if there is one.

    Parameters
    ----------
    what : what is wrong, in a few words, by which rows that are left out are counted
    row_N : the row of each entry, where entries are not rows; ``rows`` is then how many rows there are
    """
    if not bad_N.any():
        return
    bad_rows_N = bad_N
    if row_N is not None:
        bad_rows_N = np.zeros(rows, dtype=bool)
        bad_rows_N[row_N[bad_N]] = True
    raise BadRowsError(message(int(np.argmax(bad_N))), what=what, bad_N=bad_rows_N)


def numbers(table: FileTable, name: str, hint: str = "") -> Numbers:
    """Read an optional number column; numbers as text and true and false are read too.

    Parameters
    ----------
    hint : what to do about a column that holds no numbers, appended to the message

    Raises
    ------
    OutcomesError : a cell is no number
    """
    if name not in table.columns:
        return Numbers(np.full(table.n_rows, np.nan), np.ones(table.n_rows, dtype=bool))
    column = _decoded(table.columns[name])
    if _is_text(column):
        return _parse(table, name, column, hint)
    try:
        column = column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise OutcomesError(f"{table.path}: column {name!r} holds {column.type}; expected numbers{hint}") from exc
    return _numbers(column)


def _decoded(column: Any) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def as_written_elsewhere(table: FileTable, name: str) -> tuple[FileTable, list[str]]:
    """A column whose every cell is a percentage, or has a decimal comma, as plain numbers.

    A column that is so only in part, or in which a comma may be of thousands, is left for `numbers` to refuse.

    Returns
    -------
    the table, and how its cells were written, in words; none where nothing was done
    """
    column = _decoded(table.columns[name])
    if not _is_text(column):
        return table, []
    cells = pc.utf8_trim_whitespace(column)
    stated = pc.filter(cells, pc.not_equal(cells, ""))

    def all_match(pattern: str) -> bool:
        return len(stated) > 0 and bool(pc.all(pc.match_substring_regex(stated, pattern)).as_py())

    comma = bool(pc.any(pc.match_substring(stated, ",")).as_py())
    # No thousand begins with a nought.
    of_less_than_one = bool(pc.any(pc.match_substring_regex(stated, r"^[+-]?0,")).as_py())
    if comma and not of_less_than_one and all_match(_OF_THOUSANDS):
        return table, []
    percent = all_match(_ALL_PERCENT)
    if not percent and not (comma and all_match(_ALL_COMMA)):
        return table, []
    bare = pc.replace_substring(pc.utf8_rtrim(cells, " %"), ",", ".")
    numbers_ = pc.cast(pc.if_else(pc.equal(bare, ""), None, bare), pa.float64())
    changed = pc.divide(numbers_, 100.0) if percent else numbers_
    ways = [PERCENTAGES] * percent + ["decimal commas"] * comma
    return replace(table, columns={**table.columns, name: changed}), ways


def number_lists(table: FileTable, name: str, rows: np.ndarray) -> Lists:
    """Read an optional column of lists of numbers at some rows; CSV and JSONL hold them as JSON.

    Raises
    ------
    OutcomesError : a cell is no list of numbers
    """
    if name not in table.columns:
        return Lists(np.empty(0), np.zeros(len(rows), dtype=np.int64))
    column = table.columns[name].take(pa.array(rows)).combine_chunks()
    if _is_text(column):
        cells = [_list_of_numbers(table, name, cell, row) for cell, row in zip(column.to_pylist(), rows, strict=True)]
        column = pa.array(cells, pa.list_(pa.float64()))
    try:
        column = column.cast(pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise OutcomesError(
            f"{table.path}: column {name!r} holds {column.type}; expected lists of numbers. Drop the column"
        ) from exc
    sizes_N = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = np.asarray(column.flatten().fill_null(np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
    return Lists(values, sizes_N)


def _list_of_numbers(table: FileTable, name: str, cell: str | None, row: int) -> list[float] | None:
    if cell is None or not cell.strip():
        return None
    try:
        found = json.loads(cell)
        if not isinstance(found, list):
            raise TypeError(f"a JSON {type(found).__name__}")
        return [float(value) for value in found]
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise OutcomesError(
            f"{table.at(row)}: column {name!r} holds {_short(cell)}; expected a JSON list of numbers"
        ) from exc


def first_rows(codes_N: np.ndarray, size: int) -> np.ndarray:
    """Row in which each code first occurs: shape (size,), int64, -1 for a code that does not."""
    rows = np.full(size, -1, dtype=np.int64)
    # Assigned backwards, so that the first row is the last to be written.
    stated = np.flatnonzero(codes_N >= 0)[::-1]
    rows[codes_N[stated]] = stated
    return rows


def one_per_group(table: FileTable, name: str, column: Coded, groups: Coded) -> np.ndarray:
    """Row that states the column's value of each group; -1 where no row does.

    Raises
    ------
    OutcomesError : two rows of a group state different values
    """
    stated_N = np.where(column.codes_N >= 0, groups.codes_N, -1)
    rows_G = first_rows(stated_N, len(groups.values))
    source_N = rows_G[groups.codes_N]
    differs_N = (column.codes_N >= 0) & (column.codes_N != column.codes_N[source_N])
    fail_where(
        differs_N,
        lambda row: (
            f"{table.at(row)} (prompt_id {groups.values[groups.codes_N[row]]!r}): {name} "
            f"{_short(column.values[column.codes_N[row]])} differs from "
            f"{_short(column.values[column.codes_N[source_N[row]]])} in row {table.number(source_N[row])}; "
            f"expected one {name} per prompt_id. Give different prompts different ids"
        ),
        f"another {name} for the same prompt_id",
    )
    return rows_G


def tags_by_group(table: FileTable, groups: Coded) -> tuple[tuple[str, ...], ...]:
    """Tags of each group: those of all its rows, in first-seen order."""
    cells = text(table, "tags")
    tags: list[dict[str, None]] = [{} for _ in groups.values]
    rows = np.flatnonzero(cells.codes_N >= 0)
    if rows.size:
        parsed = [_tags(table, cells, index) for index in range(len(cells.values))]
        pairs = groups.codes_N[rows] * len(parsed) + cells.codes_N[rows]
        for pair in rows[np.sort(np.unique(pairs, return_index=True)[1])]:
            tags[groups.codes_N[pair]].update(dict.fromkeys(parsed[cells.codes_N[pair]]))
    return tuple(tuple(group) for group in tags)


def _first_seen(codes_N: np.ndarray, values: list[str]) -> Coded:
    rows_K = first_rows(codes_N, len(values))
    present = np.flatnonzero(rows_K >= 0)
    order = present[np.argsort(rows_K[present])]
    new_K = np.full(len(values) + 1, -1, dtype=np.int64)
    new_K[order] = np.arange(order.size)
    return Coded(new_K[codes_N], [values[index] for index in order])


def _numbers(column: Any) -> Numbers:
    # Through Arrow's own null mask: to_numpy() turns a null and a NaN into the same thing.
    empty_N = np.asarray(column.is_null().to_numpy(), dtype=bool)
    values_N = np.asarray(column.fill_null(np.nan).to_numpy(), dtype=np.float64)
    return Numbers(values_N, empty_N)


def _parse(table: FileTable, name: str, column: Any, hint: str) -> Numbers:
    try:
        return _numbers(pc.cast(column, pa.float64()))
    except pa.ArrowInvalid:
        pass
    encoded = column.dictionary_encode().unify_dictionaries()
    cells = encoded.chunk(0).dictionary.to_pylist()
    parsed = [_number(cell) for cell in cells]
    codes_N = np.concatenate([c.indices.fill_null(-1).to_numpy(zero_copy_only=False) for c in encoded.chunks])
    bad_K = np.array([value is None for value in parsed] + [False])
    fail_where(
        bad_K[codes_N],
        lambda row: (
            f"{table.at(row)}: column {name!r} holds {_short(cells[codes_N[row]])}; expected a number"
            f"{_remedy(cells[codes_N[row]])}{hint}"
        ),
        f"{name} is no number",
    )
    values_K = np.array([np.nan if value is None else value for value in parsed] + [np.nan])
    return Numbers(values_K[codes_N], codes_N < 0)


def holds_words(table: FileTable, name: str) -> bool:
    """Whether a column has cells, and none of them is a number or written with digits like one."""
    column = table.columns[name]
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(type_) or pa.types.is_large_string(type_)):
        return False
    cells = [cell for cell in column.unique().to_pylist() if cell is not None and cell.strip()]
    return bool(cells) and all(_number(cell) is None and not _remedy(cell) for cell in cells)


def _number(cell: str) -> float | None:
    cell = cell.strip().lower()
    if cell in _BOOLEANS:
        return _BOOLEANS[cell]
    try:
        # float() reads 1_000 as a thousand; in a table it is more likely an identifier.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


_PERCENT = re.compile(r"\s*[-+]?[\d.,]+\s*%\s*")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+\s*")


def _remedy(cell: str) -> str:
    """What to do about a number written in a way that could mean two things."""
    if _PERCENT.fullmatch(cell):
        return ". Write a percentage as a share: 87% is 0.87"
    if _DECIMAL_COMMA.fullmatch(cell):
        return ". Write a decimal point in place of the comma"
    return ""


def _tags(table: FileTable, cells: Coded, index: int) -> list[str]:
    cell = cells.values[index].strip()
    if not cell.startswith("["):
        return [tag.strip() for tag in cell.split(",") if tag.strip()]
    try:
        tags = json.loads(cell)
    except (ValueError, RecursionError) as exc:
        row = int(np.argmax(cells.codes_N == index))
        raise OutcomesError(
            f"{table.at(row)}: tags {_short(cell)} is no JSON list ({exc}); expected a list, or a,b,c"
        ) from exc
    return [str(tag) for tag in tags if tag is not None]


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else f"{cell[:57]}...")
