"""IO. Tables as files: Parquet, CSV and JSONL in, named Arrow columns out.

What the formats have in common after reading:

* A column named in ``text`` is dictionary-encoded text, whatever the file called its type: a long table repeats
  every prompt once per model, and only the dictionary keeps 4 million rows within memory.
* A null is an empty cell. NaN is a null in Parquet only where the reader of the column decides so.
* Other columns keep their Arrow type; in CSV that is text, so that ``nan`` and an empty cell stay different.

A file that cannot be read is one `OutcomesError` that names the file and, where there is one, the line.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from erp_trainer.files.delimited import read_delimited
from erp_trainer.files.file_table import MAX_COLUMNS, Asked, FileTable, as_json, listed, too_many_columns
from erp_trainer.files.json_records import json_records
from erp_trainer.files.opening import first_bytes, is_compressed, plain_suffix
from litellm_erp.errors import OutcomesError

# What tables are written as.
SUFFIXES = (".parquet", ".csv", ".jsonl")
# What they are read from; each may be compressed.
_KINDS = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".csv", ".tsv", ".psv", ".tab", ".txt"), "text"),
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines", ".json"), "json"),
}
READ_SUFFIXES = tuple(_KINDS)
_EXPECTED = "expected .parquet, .csv or .jsonl (or .tsv, .ndjson, .json; each also as .gz, .zst or .bz2)"
_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive, as .xlsx is one; export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; export the sheet as CSV",
    b"\xfd7zXZ": "compressed with xz; decompress it first",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"ARROW1": "an Arrow (Feather) file; write it as Parquet",
    b"\xff\xff\xff\xff": "an Arrow stream; write it as Parquet",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"\x89HDF": "an HDF5 file; write the table as Parquet",
    b"ORC": "an ORC file; write the table as Parquet",
    b"\x80\x02": "a Python pickle, which can run code when it is read; write the table as Parquet",
    b"\x80\x03": "a Python pickle, which can run code when it is read; write the table as Parquet",
    b"\x80\x04": "a Python pickle, which can run code when it is read; write the table as Parquet",
    b"\x80\x05": "a Python pickle, which can run code when it is read; write the table as Parquet",
    b"%PDF": "a PDF; export the table as CSV",
    b"\xff\xfe": "in UTF-16; save it as UTF-8",
    b"\xfe\xff": "in UTF-16; save it as UTF-8",
}
_HEAD_BYTES = 1 << 16
_CHUNK_ROWS = 1 << 16


def read_table(path: Path, *, wanted: Callable[[str], bool], text: Collection[str]) -> FileTable:
    """Read the wanted columns of a Parquet, delimited or JSON file.

    Parameters
    ----------
    path : read by its suffix, or where that says nothing by its first bytes; may be compressed
    wanted : column name to whether it is read; long logs carry responses that nothing here needs
    text : columns to deliver as dictionary-encoded text

    Raises
    ------
    OutcomesError : missing, empty, truncated, not UTF-8, ragged or malformed file, or an unknown suffix
    """
    return read(path, Asked(wanted, text))


def read(path: Path, asked: Asked) -> FileTable:
    """As `read_table`, with columns of other names, and with bad rows left out where that is asked."""
    kind = _kind(path)
    try:
        if kind == "parquet":
            table = _read_parquet(path, asked)
        elif kind == "json":
            table = table_of_records(path, json_records(path, on_bad=asked.on_bad, unwrap=True), asked)
        else:
            table = read_delimited(path, asked)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        first_line = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise OutcomesError(
            f"{path}: not a readable {''.join(path.suffixes[-2:])} file: {first_line[:300]}. The file may be truncated "
            "or of another format; write it again"
        ) from exc
    if table.n_rows == 0:
        raise OutcomesError(f"{path}: the table has no rows; found only the columns {listed(table.names)}")
    return table


def _kind(path: Path) -> str:
    """What a file holds: parquet, json or text.

    Raises
    ------
    OutcomesError : missing, empty, binary, or nothing that is known
    """
    if not path.is_file():
        if plain_suffix(path) and plain_suffix(path) not in _KINDS:
            raise OutcomesError(f"{path}: suffix {path.suffix!r}; {_EXPECTED}. Rename or convert the file")
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise OutcomesError(f"{path}: {what}; expected a .parquet, .csv or .jsonl file")
    try:
        size = path.stat().st_size
    except OSError as exc:
        raise OutcomesError(f"{path}: cannot be read ({exc.strerror}); expected a readable file") from exc
    if size == 0:
        raise OutcomesError(f"{path}: the file is empty (0 bytes); expected a table with a header or rows")
    known = _KINDS.get(plain_suffix(path))
    head = first_bytes(path, _HEAD_BYTES)
    if known == "parquet" or head.startswith(b"PAR1"):
        if is_compressed(path):
            raise OutcomesError(f"{path}: Parquet compressed once more; expected it plain. Decompress the file")
        return "parquet"
    if not head:
        raise OutcomesError(
            f"{path}: nothing could be decompressed; the file may be truncated or empty. Write it again"
        )
    _check_text(path, head)
    if known is None and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return "json"
    if known is None and (plain_suffix(path) or not any(mark in head.split(b"\n")[0] for mark in (b",", b";", b"\t"))):
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise OutcomesError(f"{path}: {found}; {_EXPECTED}. Rename or convert the file")
    return known or "text"


def _check_text(path: Path, head: bytes) -> None:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise OutcomesError(f"{path}: the file is {what}")
    # A single zero byte may stand in somebody's prompt; binary files have many, or are no text for other reasons.
    zeros = head.count(0)
    if zeros > len(head) // 10 or (zeros and not _is_utf8(head)):
        what = "in UTF-16 or UTF-32, it seems; save it as UTF-8" if zeros > len(head) // 4 else "binary; expected text"
        raise OutcomesError(f"{path}: the file is {what}. Found a zero byte at position {head.index(0)}")


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def check_suffix(path: Path) -> None:
    """Raise `OutcomesError` unless the suffix names a format that tables are written in."""
    if path.suffix.lower() not in SUFFIXES:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise OutcomesError(f"{path}: {found}; expected .parquet, .csv or .jsonl. Rename or convert the file")


def _read_parquet(path: Path, asked: Asked) -> FileTable:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    names = asked.names(path, schema.names)
    stored_text = [name for name in names if names[name] in asked.text and _is_text(schema.field(name).type)]
    with pq.ParquetFile(path, read_dictionary=stored_text) as file:
        # select(): a column "a" is also read for "a.b", which is how Arrow spells nested fields.
        table = file.read(columns=list(names)).select(list(names))
    columns = {
        names[name]: _as_text(path, name, table[name]) if names[name] in asked.text else table[name]
        for name in table.column_names
    }
    return FileTable(path, columns, tuple(schema.names), table.num_rows, nan_is_empty=True)


def _is_text(type_: Any) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _as_text(path: Path, name: str, column: Any) -> Any:
    """Column of any sensible Arrow type as dictionary-encoded text; nested cells become JSON."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return column if _is_text(type_.value_type) else column.cast(type_.value_type).cast(pa.string())
    if pa.types.is_list(type_) and _is_text(type_.value_type):
        return pa.chunked_array([_lists_as_json(chunk) for chunk in column.chunks], type=pa.large_string())
    if pa.types.is_nested(type_):
        cells = [None if v is None else as_json(_without_nulls(v)) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, pa.large_string())])
    if pa.types.is_floating(type_) and pc.all(pc.is_null(column, nan_is_null=True)).as_py():
        # pandas writes a column without any text as float NaN.
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    if pa.types.is_floating(type_):
        raise OutcomesError(
            f"{path}: column {name!r} holds {type_} numbers; expected text. Convert it to text when writing"
        )
    return column.cast(pa.string()) if not _is_text(type_) else column


def _lists_as_json(lists: Any) -> Any:
    """Lists of texts as JSON, by distinct text: a long table repeats a prompt's tags in every row."""
    items = lists.flatten().dictionary_encode()
    quoted = pa.array([as_json(item) for item in items.dictionary.to_pylist()], pa.string())
    present = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = np.concatenate([[0], np.cumsum(present.to_numpy())]).astype(np.int32)
    cells = quoted.take(items.indices).fill_null("null") if len(quoted) else pa.nulls(len(items), pa.string())
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), cells), ",")
    text = pc.binary_join_element_wise("[", joined, "]", "")
    return pc.if_else(lists.is_valid(), text, None).cast(pa.large_string())


def _without_nulls(value: Any) -> Any:
    """Arrow fills the keys that one message has and another lacks with nulls; take them out again."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def table_of_records(path: Path, records: Iterable[tuple[int, Mapping[str, Any]]], asked: Asked) -> FileTable:
    """Columns of numbered records, read once, in chunks so that repeated texts are stored once.

    Raises
    ------
    OutcomesError : a text column holds what is no text; names the record by its number
    """
    chunks: list[dict[str, Any]] = []
    names: dict[str, str | None] = {}
    numbers: list[int] = []
    sizes: list[int] = []
    rows: dict[str, list[Any]] = {}
    size = 0

    def flush() -> None:
        nonlocal rows, size
        chunks.append({name: _array_of(cells, name in asked.text) for name, cells in rows.items()})
        sizes.append(size)
        rows, size = {}, 0

    for number, record in records:
        try:
            cells_of = _cells(path, number, record, asked, names)
        except OutcomesError as exc:
            if asked.on_bad is None:
                raise
            asked.on_bad(str(exc))
            continue
        if len(rows) + len(cells_of) > 2 * MAX_COLUMNS:
            raise too_many_columns(path)
        for name, value in cells_of.items():
            cells = rows.setdefault(name, [])
            cells.extend([None] * (size - len(cells)))
            cells.append(value)
        size += 1
        numbers.append(number)
        for cells in rows.values():
            if len(cells) < size:
                cells.append(None)
        if size == _CHUNK_ROWS:
            flush()
    flush()
    wanted = dict.fromkeys(name for chunk in chunks for name in chunk)
    columns = {name: _concatenate([c.get(name) for c in chunks], sizes) for name in wanted}
    return FileTable(path, columns, tuple(names), sum(sizes), np.array(numbers, dtype=np.int64))


def _cells(
    path: Path, number: int, record: Mapping[str, Any], asked: Asked, names: dict[str, str | None]
) -> dict[str, Any]:
    """The wanted values of a record by their names here; ``names`` remembers every key that was met."""
    cells: dict[str, Any] = {}
    at = f"{path}: line {number}" if asked.where is None else asked.where(number)
    for key, value in record.items():
        name = names[key] if key in names else asked.name(key)
        if key not in names and len(names) < MAX_COLUMNS:
            names[key] = name
            if isinstance(value, Mapping):
                # For messages, which suggest them.
                names.update(dict.fromkeys(f"{key}.{inner}" for inner in itertools.islice(value, 20)))
        if name is None:
            continue
        if name in cells:
            asked.names(path, list(record))
        cells[name] = _json_text(at, name, value) if name in asked.text else value
    for name, keys in asked.inside.items():
        value = _inside(record, keys)
        if value is not None:
            cells[name] = _json_text(at, name, value) if name in asked.text else value
    return cells


def _inside(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _json_text(at: str, name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        raise OutcomesError(f"{at}: {name} is the number {value}; expected text")
    try:
        cell = value if isinstance(value, str) else as_json(value)
        cell.encode()
    except RecursionError as exc:
        raise OutcomesError(f"{at}: {name} is nested too deep; expected text or chat messages") from exc
    except UnicodeEncodeError as exc:
        raise OutcomesError(f"{at}: {name} holds a lone surrogate, which is no character; expected valid text") from exc
    return cell


def _array_of(cells: list[Any], is_text: bool) -> Any:
    if is_text:
        return pa.array(cells, pa.large_string()).dictionary_encode()
    try:
        return pa.array(cells, pa.float64(), from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # The form CSV has, so that what is no number is found and named in one place.
        return pa.array([None if v is None else _as_shown(v) for v in cells], pa.string())


def _as_shown(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else as_json(value)
    except RecursionError:
        return "[nested too deep]"
    return text.encode("utf-8", "replace").decode()


def _concatenate(chunks: list[Any | None], sizes: list[int]) -> Any:
    """One chunked array; where any chunk is text, the numbers of the others become text too."""
    types = {str(chunk.type): chunk.type for chunk in chunks if chunk is not None}
    type_ = next(iter(types.values())) if len(types) == 1 else pa.string()
    return pa.chunked_array(
        [
            pa.nulls(n, type_) if c is None else c if len(types) == 1 else c.cast(type_)
            for c, n in zip(chunks, sizes, strict=True)
        ],
        type=type_,
    )
