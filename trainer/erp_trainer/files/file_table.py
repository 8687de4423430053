"""The columns of files in memory, and from which row of which file each cell came."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from litellm_erp.errors import OutcomesError

# What a cell of a text column is: every distinct text is stored once.
TEXT = pa.dictionary(pa.int32(), pa.large_string())

# A bound on memory; a pool has fewer models.
MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class Asked:
    """What is asked of a file.

    Attributes
    ----------
    wanted : name to whether the column is read; long logs carry responses that nothing here needs
    text : columns to deliver as dictionary-encoded text
    rename : what the file calls a column to its name here, None for one that must not be read
    inside : name to the keys of a value inside a JSON record, for names such as ``scores.accuracy``
    on_bad : called with the message of each row that is malformed, which is then left out; None raises it
    where : how messages call a record, from its number; None calls it a line of the file
    """

    wanted: Callable[[str], bool]
    text: Collection[str]
    rename: Callable[[str], str | None] = str.strip
    inside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    on_bad: Callable[[str], None] | None = None
    where: Callable[[int], str] | None = None

    def name(self, found: str) -> str | None:
        """The name here of a column as a file calls it; None where it is not wanted."""
        name = self.rename(found)
        return name if name is not None and self.wanted(name) else None

    def names(self, path: Path, found: Sequence[str]) -> dict[str, str]:
        """The wanted ones of a file's columns, as the file calls them, to their names here.

        Raises
        ------
        OutcomesError : two of them have the same name
        """
        repeated = [name for name, count in Counter(found).items() if count > 1]
        if repeated:
            raise OutcomesError(f"{path}: the column {listed(repeated[:1])!r} occurs twice; expected every name once")
        names: dict[str, str] = {}
        first: dict[str, str] = {}
        for each in found:
            name = self.name(each)
            if name is None:
                continue
            if name in first:
                raise OutcomesError(
                    f"{path}: the columns {first[name]!r} and {each!r} would both be {name!r}; expected one. Choose it "
                    f"with --column {name}=NAME, or rename one"
                )
            names[each], first[name] = name, each
        if len(names) > MAX_COLUMNS:
            raise too_many_columns(path)
        return names


@dataclass(frozen=True)
class FileTable:
    """Columns of one file, or of several one below the other.

    Attributes
    ----------
    path : the file, for messages; of several the first
    columns : the wanted columns by name, in file order, each an Arrow chunked array of ``n_rows`` cells
    names : every column of the file, wanted or not
    n_rows : data rows
    row_N : shape (N,), int64, the number of each row in its file; None where they are 1, 2, …
    files : where there are several, each with its first row in this table; else empty
    nan_is_empty : whether a NaN may be an empty cell, as pandas writes it to Parquet
    """

    path: Path
    columns: dict[str, Any]
    names: tuple[str, ...]
    n_rows: int
    row_N: np.ndarray | None = None
    files: tuple[tuple[int, Path], ...] = ()
    nan_is_empty: bool = False

    def number(self, row: int) -> int:
        """What a row of this table is called in its file."""
        return int(row) + 1 if self.row_N is None else int(self.row_N[row])

    def file(self, row: int) -> Path:
        """The file that a row of this table is from."""
        return next((path for first, path in reversed(self.files) if first <= row), self.path)

    def at(self, row: int) -> str:
        """File and row, as messages begin."""
        return f"{self.file(row)}: row {self.number(row)}"

    def without(self, dropped_N: np.ndarray) -> FileTable:
        """The same table less some rows; the others keep their numbers."""
        kept = np.flatnonzero(~dropped_N)
        numbers = np.arange(1, self.n_rows + 1) if self.row_N is None else self.row_N
        firsts = np.searchsorted(kept, [first for first, _ in self.files])
        return replace(
            self,
            columns={name: column.take(pa.array(kept)) for name, column in self.columns.items()},
            n_rows=kept.size,
            row_N=numbers[kept],
            files=tuple((int(first), path) for first, (_, path) in zip(firsts, self.files, strict=True)),
        )


def joined(tables: Sequence[FileTable]) -> FileTable:
    """Tables one below the other; a column that one of them lacks has empty cells there."""
    if len(tables) == 1:
        return tables[0]
    if not all(table.nan_is_empty for table in tables):
        tables = [_with_nulls(table) if table.nan_is_empty else table for table in tables]
    sizes = [table.n_rows for table in tables]
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    names = tuple(dict.fromkeys(name for table in tables for name in table.names))
    wanted = dict.fromkeys(name for table in tables for name in table.columns)
    return FileTable(
        tables[0].path,
        {name: _below(name, tables) for name in wanted},
        names,
        sum(sizes),
        np.concatenate([np.arange(1, t.n_rows + 1) if t.row_N is None else t.row_N for t in tables]),
        tuple((first, table.path) for first, table in zip(firsts, tables, strict=True)),
        all(table.nan_is_empty for table in tables),
    )


def _with_nulls(table: FileTable) -> FileTable:
    columns = {
        name: pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column
        for name, column in table.columns.items()
    }
    return replace(table, columns=columns, nan_is_empty=False)


def _below(name: str, tables: Sequence[FileTable]) -> Any:
    columns = [table.columns.get(name) for table in tables]
    types = {str(column.type): column.type for column in columns if column is not None}
    type_ = next(iter(types.values())) if len(types) == 1 else None
    if type_ is None:
        type_ = TEXT if any(pa.types.is_dictionary(t) for t in types.values()) else pa.large_string()
    chunks = [
        chunk
        for column, table in zip(columns, tables, strict=True)
        for chunk in ([pa.nulls(table.n_rows, type_)] if column is None else column.chunks)
    ]
    return pa.chunked_array([chunk if chunk.type == type_ else _as(chunk, type_) for chunk in chunks], type=type_)


def _as(chunk: Any, type_: Any) -> Any:
    """A chunk as text; a dictionary stays one, so that no text is written out once per row."""
    if pa.types.is_dictionary(chunk.type):
        values = chunk.dictionary.cast(pa.large_string())
        encoded = pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), values)
        return encoded if type_ == TEXT else encoded.cast(type_)
    if pa.types.is_nested(chunk.type):
        plain = pa.array([None if cell is None else as_json(cell) for cell in chunk.to_pylist()], pa.large_string())
    else:
        plain = chunk.cast(pa.large_string())
    return plain.dictionary_encode() if type_ == TEXT else plain


def too_many_columns(path: Path) -> OutcomesError:
    return OutcomesError(
        f"{path}: more than {MAX_COLUMNS:,} columns to read; expected one per model. Name them with --models a,b"
    )


def as_json(value: Any) -> str:
    """A value as cells hold it: JSON, with its characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message: the first ones, each cut to what a line can hold."""
    found = list(names)
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in found[:most]]
    return ", ".join(shown) + (f" and {len(found) - most:,} more" if len(found) > most else "")
