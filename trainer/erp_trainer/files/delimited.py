"""IO. Delimited text (CSV and its kin) as columns: delimiter, spaces after it and encoding are found, not asked for."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from erp_trainer.files.file_table import TEXT, Asked, FileTable
from erp_trainer.files.opening import first_bytes, open_bytes
from litellm_erp.errors import OutcomesError

DELIMITERS = ",;\t|"
_HEAD_BYTES = 1 << 18
_HEAD_ROWS = 100
_BLOCK_BYTES = 64 << 20
# Bounds on memory: of one cell, and of one line.
MAX_CELL = 16 << 20
_MAX_LINE = 64 << 20
_CHUNK_ROWS = 1 << 16


@dataclass(frozen=True)
class Dialect:
    """How cells are set apart; ``spaced`` where a space follows each delimiter, outside of the cells."""

    delimiter: str
    spaced: bool = False


def read_delimited(path: Path, asked: Asked) -> FileTable:
    """Read a delimited file; an empty cell is a null, and everything else is text.

    Raises
    ------
    OutcomesError : ragged, an endless quote, not UTF-8, a cell larger than `MAX_CELL`; names file and row
    """
    dialect = _dialect(path)
    header = _header(path, dialect)
    if header and header[0].casefold().startswith("sep="):
        raise OutcomesError(f"{path}: the first line is Excel's `sep=`; expected the header. Delete that line")
    names = asked.names(path, header)
    if dialect.spaced:
        return _spaced(path, dialect, header, names, asked)
    if asked.on_bad is not None and not _is_utf8(path):
        # Arrow hands bad rows over as text, and prints a traceback where they are none.
        _explain(path, dialect, None)
    bad: list[int] = []
    try:
        table = _by_arrow(path, dialect, header, names, asked, bad)
    except pa.ArrowInvalid as exc:
        _explain(path, dialect, len(header))
        raise OutcomesError(f"{path}: not a readable table of delimited text: {exc}") from exc
    if _odd_quotes(path):
        _explain(path, dialect, len(header))
    columns = {here: table[name] for name, here in names.items()}
    numbers = None
    if bad:
        numbers = np.setdiff1d(np.arange(1, table.num_rows + len(bad) + 1), np.array(bad))
    return FileTable(path, columns, tuple(header), table.num_rows, numbers)


def _by_arrow(
    path: Path, dialect: Dialect, header: list[str], names: dict[str, str], asked: Asked, bad: list[int]
) -> Any:
    on_bad = asked.on_bad

    def skip(row: Any) -> str:
        if on_bad is not None:
            # The header is row 1 of Arrow's.
            bad.append(row.number - 1)
            on_bad(f"{path}: row {row.number - 1} has {row.actual_columns} cells; expected {row.expected_columns}")
        return "error" if on_bad is None else "skip"

    with open_bytes(path) as stream:
        return pa_csv.read_csv(
            stream,
            # Numbers of bad rows are only known where one thread reads.
            read_options=pa_csv.ReadOptions(
                block_size=min(_BLOCK_BYTES, max(1 << 20, path.stat().st_size + 1)), use_threads=on_bad is None
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.delimiter,
                newlines_in_values=True,
                invalid_row_handler=None if on_bad is None else skip,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={
                    name: pa.dictionary(pa.int32(), pa.string()) if names[name] in asked.text else pa.string()
                    for name in names
                },
                # None at all would be every column.
                include_columns=list(names) or header[:1],
                null_values=[""],
                strings_can_be_null=True,
            ),
        )


def _spaced(path: Path, dialect: Dialect, header: list[str], names: dict[str, str], asked: Asked) -> FileTable:
    """By Python's reader, which knows that a space after a delimiter belongs to no cell; Arrow's does not."""
    places = [header.index(name) for name in names]
    chunks: list[list[Any]] = [[] for _ in names]
    numbers: list[int] = []
    rows = _rows(path, dialect)
    next(rows)
    while block := list(itertools.islice(rows, _CHUNK_ROWS)):
        kept = []
        for number, cells in block:
            if len(cells) == len(header):
                kept.append((number, cells))
            elif asked.on_bad is None:
                raise _ragged(path, number, len(cells), len(header), dialect)
            else:
                asked.on_bad(str(_ragged(path, number, len(cells), len(header), dialect)))
        numbers += [number for number, _ in kept]
        for chunk, place, name in zip(chunks, places, names.values(), strict=True):
            column = pa.array([cells[place].rstrip() or None for _, cells in kept], pa.large_string())
            chunk.append(column.dictionary_encode() if name in asked.text else column)
    columns = {
        name: pa.chunked_array(chunk, type=TEXT if name in asked.text else pa.large_string())
        for name, chunk in zip(names.values(), chunks, strict=True)
    }
    return FileTable(path, columns, tuple(header), len(numbers), np.array(numbers, dtype=np.int64))


def _dialect(path: Path) -> Dialect:
    """The delimiter that makes most of the header, and keeps the first rows as wide as it is."""
    head = first_bytes(path, _HEAD_BYTES).decode("utf-8-sig", "replace")
    whole = len(head) < _HEAD_BYTES // 4
    best = max((_judged(head, Dialect(d), whole), -place, d) for place, d in enumerate(DELIMITERS))
    plain = Dialect(best[2])
    header = _parsed(head, plain)[:1]
    spaced = Dialect(plain.delimiter, spaced=True)
    all_spaced = bool(header) and len(header[0]) > 1 and all(cell[:1] == " " for cell in header[0][1:])
    return spaced if all_spaced or _judged(head, spaced, whole)[0] > _judged(head, plain, whole)[0] else plain


def _judged(head: str, dialect: Dialect, whole: bool) -> tuple[float, int]:
    """Share of the first rows that are as wide as the header, and that width; a header of one cell is the worst."""
    rows = _parsed(head, dialect)
    if not rows or len(rows[0]) < 2:
        return (0.0, 0)
    # The last row may be cut, unless the head is the whole file.
    others = rows[1:] if whole else rows[1:-1]
    return (sum(len(row) == len(rows[0]) for row in others) / len(others) if others else 1.0, len(rows[0]))


def _parsed(head: str, dialect: Dialect) -> list[list[str]]:
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=dialect.delimiter, skipinitialspace=dialect.spaced)
    found: list[list[str]] = []
    try:
        with _large_cells():
            found.extend(row for row in itertools.islice(reader, _HEAD_ROWS) if row)
    except csv.Error:
        pass
    return found


def _header(path: Path, dialect: Dialect) -> list[str]:
    header = next(_rows(path, dialect, errors="surrogateescape"), (0, []))[1]
    try:
        "".join(header).encode()
    except UnicodeEncodeError as exc:
        raise OutcomesError(f"{path}: the header is not UTF-8. {_SAVE}") from exc
    return header


_SAVE = "Save the file as UTF-8 (it may be Latin-1 or Windows-1252: `iconv -f WINDOWS-1252 -t UTF-8`)"


def _rows(path: Path, dialect: Dialect, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each row that has any; the header is row 0.

    Raises
    ------
    OutcomesError : not UTF-8, an endless quote, or too large a cell or line
    """
    row = 0
    try:
        with _large_cells(), open_bytes(path) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors=errors, newline="")
            reader = csv.reader(
                _bounded(path, lines), delimiter=dialect.delimiter, skipinitialspace=dialect.spaced, strict=True
            )
            for cells in reader:
                if cells:
                    yield row, cells
                    row += 1
    except UnicodeDecodeError as exc:
        row = _undecodable_row(path, dialect, row)
        raise OutcomesError(
            f"{path}: not UTF-8 near row {row}: {exc.reason} (byte 0x{exc.object[exc.start]:02x}). {_SAVE}"
        ) from exc
    except csv.Error as exc:
        if "field larger" in str(exc):
            raise OutcomesError(
                f"{path}: row {row} has a cell of more than {MAX_CELL >> 20} Mi characters; expected text that a model "
                "can read. A quote that never ends looks like this too"
            ) from exc
        raise OutcomesError(
            f"{path}: row {row} is malformed CSV ({exc}); expected every quoted cell to end with a quote"
        ) from exc


def _undecodable_row(path: Path, dialect: Dialect, at_least: int) -> int:
    """The row itself; decoding runs ahead of it by a block."""
    escaped = re.compile("[\ud800-\udfff]")
    with contextlib.suppress(OutcomesError):
        for row, cells in _rows(path, dialect, errors="surrogateescape"):
            if any(map(escaped.search, cells)):
                return row
    return at_least


def _bounded(path: Path, lines: io.TextIOWrapper) -> Iterator[str]:
    for number in itertools.count(1):
        line = lines.readline(_MAX_LINE)
        if len(line) >= _MAX_LINE:
            raise OutcomesError(
                f"{path}: line {number} is longer than {_MAX_LINE >> 20} Mi characters; expected rows that end in a "
                "newline"
            )
        if not line:
            return
        yield line


@contextlib.contextmanager
def _large_cells() -> Iterator[None]:
    # The limit is the process's own; others may have set theirs.
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _odd_quotes(path: Path) -> bool:
    """Whether a quoted cell never ends; Arrow takes the rest of the file as its text and says nothing."""
    with open_bytes(path) as handle:
        return sum(block.count(b'"') for block in iter(lambda: handle.read(1 << 20), b"")) % 2 == 1


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as handle:
        try:
            for block in iter(lambda: handle.read(1 << 20), b""):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _explain(path: Path, dialect: Dialect, width: int | None) -> None:
    """Raise the error that names the row; Arrow names it only sometimes.

    Parameters
    ----------
    width : of the header; None where rows of other widths are no error
    """
    for row, cells in _rows(path, dialect):
        if width is not None and len(cells) != width:
            raise _ragged(path, row, len(cells), width, dialect)


def _ragged(path: Path, row: int, found: int, expected: int, dialect: Dialect) -> OutcomesError:
    mark = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[dialect.delimiter]
    return OutcomesError(
        f"{path}: row {row} has {found} cells; expected {expected}, as in the header. "
        f"Quote cells that contain {mark} or newlines"
    )
