"""IO. Tables as files: Parquet, CSV and JSONL in, named Arrow columns out.

What the formats have in common after reading:

* A column named in ``text`` is dictionary-encoded text, whatever the file called its type: a long table repeats
  every prompt once per model, and only the dictionary keeps 4 million rows within memory.
* A null is an empty cell. NaN is a null in Parquet only where the reader of the column decides so.
* Other columns keep their Arrow type; in CSV that is text, so that ``nan`` and an empty cell stay different.

A file that cannot be read is one `OutcomesError` that names the file and, where there is one, the line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from erp_trainer.files.file_table import FileTable
from erp_trainer.files.json_records import json_records
from litellm_erp.errors import OutcomesError

SUFFIXES = (".parquet", ".csv", ".jsonl")
_TEXT = pa.dictionary(pa.int32(), pa.string())
_CSV_BLOCK_BYTES = 64 << 20
_JSONL_CHUNK_ROWS = 1 << 16


def read_table(path: Path, *, wanted: Callable[[str], bool], text: Collection[str]) -> FileTable:
    """Read the wanted columns of a Parquet, CSV or JSONL file.

    Parameters
    ----------
    path : chosen by its suffix: ``.parquet``, ``.csv`` or ``.jsonl``
    wanted : column name to whether it is read; long logs carry responses that nothing here needs
    text : columns to deliver as dictionary-encoded text

    Raises
    ------
    OutcomesError : missing, empty, truncated, not UTF-8, ragged or malformed file, or an unknown suffix
    """
    check_suffix(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise OutcomesError(f"{path}: {what}; expected a .parquet, .csv or .jsonl file")
    if path.stat().st_size == 0:
        raise OutcomesError(f"{path}: the file is empty (0 bytes); expected a table with a header or rows")
    read = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_jsonl}[path.suffix.lower()]
    try:
        table = read(path, wanted, text)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        first_line = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise OutcomesError(
            f"{path}: not a readable {path.suffix} file: {first_line}. The file may be truncated or of another "
            "format; write it again"
        ) from exc
    if table.n_rows == 0:
        raise OutcomesError(f"{path}: the table has no rows; found only the columns {', '.join(table.names)}")
    return table


def check_suffix(path: Path) -> None:
    """Raise `OutcomesError` unless the suffix names a format this module reads and writes."""
    if path.suffix.lower() not in SUFFIXES:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise OutcomesError(f"{path}: {found}; expected .parquet, .csv or .jsonl. Rename or convert the file")


def _read_parquet(path: Path, wanted: Callable[[str], bool], text: Collection[str]) -> FileTable:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    _check_names(path, schema.names)
    names = [name for name in schema.names if wanted(name)]
    stored_text = [name for name in names if name in text and _is_text(schema.field(name).type)]
    with pq.ParquetFile(path, read_dictionary=stored_text) as file:
        # select(): a column "a" is also read for "a.b", which is how Arrow spells nested fields.
        table = file.read(columns=names).select(names)
    columns = {name: _as_text(path, name, table[name]) if name in text else table[name] for name in table.column_names}
    return FileTable(path, columns, tuple(schema.names), table.num_rows)


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


def _read_csv(path: Path, wanted: Callable[[str], bool], text: Collection[str]) -> FileTable:
    header = _csv_header(path)
    _check_names(path, header)
    names = [name for name in header if wanted(name)]
    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=min(_CSV_BLOCK_BYTES, path.stat().st_size + 1)),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: _TEXT if name in text else pa.string() for name in names},
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as exc:
        _explain_csv(path, len(header))
        raise OutcomesError(f"{path}: not a readable CSV file: {exc}") from exc
    if _odd_quotes(path):
        _explain_csv(path, len(header))
    return FileTable(path, dict(zip(names, table.columns, strict=True)), tuple(header), table.num_rows)


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as handle:
        header = next(csv.reader(handle), [])
    try:
        "".join(header).encode()
    except UnicodeEncodeError as exc:
        raise OutcomesError(f"{path}: the header is not UTF-8. Save the file as UTF-8") from exc
    return header


def _odd_quotes(path: Path) -> bool:
    """Whether a quoted cell never ends; Arrow takes the rest of the file as its text and says nothing."""
    with path.open("rb") as handle:
        return sum(block.count(b'"') for block in iter(lambda: handle.read(1 << 20), b"")) % 2 == 1


def _explain_csv(path: Path, width: int) -> None:
    """Raise the error that names the row; Arrow names it only sometimes."""
    csv.field_size_limit(2**31 - 1)
    row = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for cells in csv.reader(handle, strict=True):
                if cells and len(cells) != width:
                    raise OutcomesError(
                        f"{path}: row {row} has {len(cells)} cells; expected {width}, as in the header. "
                        "Quote cells that contain commas or newlines"
                    )
                row += bool(cells)
    except UnicodeDecodeError as exc:
        raise OutcomesError(
            f"{path}: not UTF-8 near row {row}: {exc.reason} (byte 0x{exc.object[exc.start]:02x}). "
            "Save the file as UTF-8"
        ) from exc
    except csv.Error as exc:
        raise OutcomesError(
            f"{path}: row {row} is malformed CSV ({exc}); expected every quoted cell to end with a quote"
        ) from exc


def _read_jsonl(path: Path, wanted: Callable[[str], bool], text: Collection[str]) -> FileTable:
    return table_of_records(path, json_records(path), wanted=wanted, text=text)


def table_of_records(
    path: Path,
    records: Iterable[tuple[int, Mapping[str, Any]]],
    *,
    wanted: Callable[[str], bool],
    text: Collection[str],
) -> FileTable:
    """Columns of numbered records, read once, in chunks so that repeated texts are stored once.

    Raises
    ------
    OutcomesError : a text column holds what is no text; names the record by its number
    """
    chunks: list[dict[str, Any]] = []
    sizes: list[int] = []
    names: dict[str, None] = {}
    rows: dict[str, list[Any]] = {}
    size = 0

    def flush() -> None:
        nonlocal rows, size
        chunks.append({name: _jsonl_array(cells, name in text) for name, cells in rows.items()})
        sizes.append(size)
        rows, size = {}, 0

    for number, record in records:
        for name, value in record.items():
            names.setdefault(name)
            if wanted(name):
                cells = rows.setdefault(name, [])
                cells.extend([None] * (size - len(cells)))
                cells.append(_jsonl_text(path, number, name, value) if name in text else value)
        size += 1
        for cells in rows.values():
            if len(cells) < size:
                cells.append(None)
        if size == _JSONL_CHUNK_ROWS:
            flush()
    flush()
    columns = {name: _concatenate([c.get(name) for c in chunks], sizes) for name in names if wanted(name)}
    return FileTable(path, columns, tuple(names), sum(sizes))


def _jsonl_text(path: Path, number: int, name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        raise OutcomesError(f"{path}: line {number}: {name} is the number {value}; expected text")
    cell = value if isinstance(value, str) else as_json(value)
    try:
        cell.encode()
    except UnicodeEncodeError as exc:
        raise OutcomesError(
            f"{path}: line {number}: {name} holds a lone surrogate, which is no character; expected valid text"
        ) from exc
    return cell


def _jsonl_array(cells: list[Any], is_text: bool) -> Any:
    if is_text:
        return pa.array(cells, pa.large_string()).dictionary_encode()
    try:
        return pa.array(cells, pa.float64(), from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # The form CSV has, so that what is no number is found and named in one place.
        return pa.array([v if v is None or isinstance(v, str) else as_json(v) for v in cells], pa.string())


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


def as_json(value: Any) -> str:
    """A value as cells hold it: JSON, with its characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def _check_names(path: Path, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise OutcomesError(f"{path}: the column {repeated[0]!r} occurs twice; expected every name once")
