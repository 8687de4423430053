"""IO. The records of a foreign file, whatever it is written as, and what becomes of those that are no outcomes."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from erp_trainer.files.json_records import items_inside, json_records
from erp_trainer.files.opening import first_bytes, open_bytes, plain_suffix
from erp_trainer.outcomes.formats.base import AT, HEAD_BYTES, Origin, Reading, Row
from erp_trainer.outcomes.formats.values import BadRecord, NoOutcome, text_id
from litellm_erp.errors import OutcomesError

Record = Mapping[str, Any]
Convert = Callable[[Record, Reading], Iterable[Row]]
_BATCH_ROWS = 4096
# What APIs call the list of what was asked for.
_LISTS = ("data", "logs", "traces")
_PICKLES = (".pkl", ".pickle")
_DELIMITERS = (",", "\t", ";", "|")
# What tools call the id of one call, vote or result.
_OWN_IDS = ("id", "request_id", "litellm_call_id", "question_id", "conversation_id")
# What is said of rows of a record that was read before.
SAME_RECORD = "records that had been read before"


def records(
    path: Path, reading: Reading, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[int, Record]]:
    """Number and record of a JSON, JSONL, CSV, TSV or Parquet file, compressed or not, in bounded memory.

    Parameters
    ----------
    wanted : columns of a table to read; responses are most of such a file, and nothing here needs them

    Raises
    ------
    OutcomesError : the file cannot be read; a pickle, which would run whatever code it holds
    """
    kind = _kind(path, first_bytes(path, HEAD_BYTES))
    if kind == "pickle":
        raise OutcomesError(
            f"{path}: a pickle can run any code when it is read, so it is not. Where you trust it, convert it once: "
            f"python -c \"import pandas; pandas.read_pickle('{path.name}').to_parquet('{path.stem}.parquet')\""
        )
    try:
        if kind == "parquet":
            yield from _parquet(path, wanted)
        elif kind == "json":
            yield from json_records(path, on_bad=reading.on_bad)
        else:
            yield from _delimited(path, kind, wanted)
    except (OSError, pa.ArrowException, csv.Error, UnicodeDecodeError) as exc:
        detail = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise OutcomesError(f"{path}: not readable to its end: {detail}. It may be truncated; write it again") from exc


def _kind(path: Path, head: bytes) -> str:
    """What a file is written as, by its content; of delimited text the delimiter."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if path.suffix.lower() in _PICKLES or head.startswith(b"\x80"):
        return "pickle"
    if head.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"{", b"[")) or not start:
        return "json"
    header = start.partition(b"\n")[0].decode("utf-8", "replace")
    return max(_DELIMITERS, key=header.count)


def listed(path: Path, reading: Reading) -> Iterator[tuple[int, Record]]:
    """As `records`, also of one JSON object: an answer of an API with its list inside, or a single record.

    Raises
    ------
    OutcomesError : as for `records`
    """
    if not is_document(path):
        yield from records(path, reading)
        return
    for key in _LISTS:
        around: dict[str, Any] = {}
        found = items_inside(path, (key,), around)
        first = next(found, None)
        if first is not None:
            yield from itertools.chain([first], found)
            return
        if key in around:
            return
    yield 1, around


def is_document(path: Path) -> bool:
    """Whether a file is one JSON object, not one a line: its first line is no whole object, or holds a list of them."""
    head = first_bytes(path, HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head.startswith(b"{"):
        return False
    try:
        record = json.loads(head.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return plain_suffix(path) != ".jsonl"
    return any(isinstance(record.get(key), list) for key in _LISTS)


def outcomes(path: Path, found: Iterable[tuple[int, Record]], reading: Reading, convert: Convert) -> Iterator[Row]:
    """The rows of records; those without an outcome are counted, one that is malformed is named.

    Raises
    ------
    OutcomesError : a record is not what its format promises
    """
    for number, record in found:
        try:
            for row in convert(record, reading):
                yield {**row, AT: Origin(path, number, *_content(record))}
        except NoOutcome as exc:
            reading.skipped[str(exc)] += 1
        except BadRecord as exc:
            message = f"{path}: record {number}: {exc}"
            if reading.on_bad is None:
                raise OutcomesError(message) from exc
            reading.on_bad(message)


def _content(record: Record) -> tuple[int, bool]:
    """A hash of all that a record holds, and whether it holds an id of its own."""
    text = json.dumps(record, sort_keys=True, default=repr).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big"), any(record.get(name) not in (None, "") for name in _OWN_IDS)


def counted_once(rows: Iterable[Row], reading: Reading) -> Iterator[Row]:
    """The rows without those of a record that was read before, which are counted.

    A record is the same where it has the same content in another file, such as a copy or an export that overlaps; in
    one file only where it holds an id of its own, because two votes may be alike.
    """
    seen: dict[tuple[int, str, str], tuple[Path, int, int]] = {}
    for row in rows:
        origin = row.get(AT)
        if origin is not None:
            key = (origin.content, row["prompt_id"], row["model"])
            path, here, most = seen.get(key, (origin.path, 0, 0))
            here = 1 if origin.identified or path != origin.path else here + 1
            seen[key] = (origin.path, here, max(here, most))
            if here <= most:
                reading.skipped[SAME_RECORD] += 1
                continue
        yield row


def reader(
    convert: Convert, wanted: Callable[[str], bool] = lambda name: True, *, repeats: bool = False
) -> Callable[[Sequence[Path], Reading], Iterator[Row]]:
    """What reads files of independent records.

    Parameters
    ----------
    wanted : columns of a table that ``convert`` reads; where repeats are samples all, to tell records from another
    repeats : a second outcome of a model on a prompt is a second sample, not a mistake
    """

    def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
        rows = (row for path in paths for row in outcomes(path, records(path, reading, wanted), reading, convert))
        return numbered(rows) if repeats else rows

    return read


def numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, samples of a model on a prompt numbered; a prompt keeps the category that it was first given."""
    seen: Counter[tuple[str, str]] = Counter()
    categories: dict[str, Any] = {}
    for row in rows:
        key = (row["prompt_id"], row["model"])
        category = categories.setdefault(row["prompt_id"], row.get("category"))
        yield {**row, "sample": seen[key], "category": category}
        seen[key] += 1


def apart(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, with the text's hash behind an id that stands for another text elsewhere: ids may be mere positions."""
    prompts: dict[str, str] = {}
    for row in rows:
        key, prompt = row["prompt_id"], row["prompt"]
        yield row if prompts.setdefault(key, prompt) == prompt else {**row, "prompt_id": f"{key}#{text_id(prompt)[:8]}"}


def worded_once(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, a prompt keeping its first text: tools word it for each model, in its template or as messages."""
    prompts: dict[str, str] = {}
    for row in rows:
        yield {**row, "prompt": prompts.setdefault(row["prompt_id"], row["prompt"])}


def columns(path: Path, head: bytes) -> frozenset[str]:
    """Names of a table's columns, or of the first record's keys, for a guess; empty where they cannot be told."""
    try:
        kind = _kind(path, head)
        if kind == "parquet":
            return frozenset(pq.read_schema(path).names)
        first = head.decode("utf-8-sig", "replace")
        if kind in _DELIMITERS:
            return frozenset(next(csv.reader(io.StringIO(first), delimiter=kind), []))
        record = json.JSONDecoder().raw_decode(first.lstrip(" \t\r\n["))[0]
    except (OSError, ValueError, csv.Error, RecursionError, pa.ArrowException):
        return frozenset()
    return frozenset(record) if isinstance(record, dict) else frozenset()


def _parquet(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[int, Record]]:
    number = 0
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if wanted(name)]
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            for record in batch.to_pylist():
                number += 1
                yield number, record


def _delimited(path: Path, delimiter: str, wanted: Callable[[str], bool]) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(1 << 27)
    with io.TextIOWrapper(io.BufferedReader(open_bytes(path)), encoding="utf-8-sig", newline="") as text:  # type: ignore[type-var]
        for number, row in enumerate(csv.DictReader(text, delimiter=delimiter, strict=True), start=1):
            if None in row or None in row.values():
                raise OutcomesError(f"{path}: row {number} has not as many cells as the header. Quote its cells")
            yield number, {name: cell for name, cell in row.items() if wanted(name)}
