"""IO. The records of a JSON file, one at a time: JSON lines, one list, or a list inside an object."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from erp_trainer.files.opening import open_bytes
from litellm_erp.errors import OutcomesError

# The most that one record may take, in bytes of a line and in characters of a list's item: a bound on memory.
MAX_RECORD = 64 << 20
_CHUNK = 1 << 20
_WHITE = " \t\r\n"

Record = dict[str, Any]
OnBad = Callable[[str], None]


def json_records(path: Path, *, on_bad: OnBad | None = None, unwrap: bool = False) -> Iterator[tuple[int, Record]]:
    """Number (of the line, or in the list, from 1) and object of each record, in bounded memory.

    Parameters
    ----------
    path : may be compressed. A file that is one object, on one line or many, is one record
    on_bad : called with the message of a line or item that is no JSON object, which is then left out; None raises it
    unwrap : of a file that is one object around a list of objects, such as ``{"data": [...]}``, yield that list's

    Raises
    ------
    OutcomesError : not JSON, not UTF-8, cut short, or a record too large; names the file and the record
    """
    try:
        with open_bytes(path) as handle:
            start = handle.read(4096).lstrip(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"["):
            yield from _items(path, on_bad)
            return
        records = _one_object(path) if start.startswith(b"{") and _is_spread(path) else _lines(path, on_bad)
        first, second = next(records, None), next(records, None)
        if unwrap and first is not None and second is None and (inner := _list_inside(first[1])) is not None:
            yield from enumerate(inner, start=1)
            return
        yield from (each for each in (first, second) if each is not None)
        yield from records
    except (OSError, pa.ArrowException) as exc:
        raise OutcomesError(
            f"{path}: cannot be read to its end ({_first_line(exc)}); the file may be truncated. Write it again"
        ) from exc


def _is_spread(path: Path) -> bool:
    """Whether the first line is the beginning of an object and not the whole of one."""
    with open_bytes(path) as handle:
        first = next((line for line in _bounded_lines(path, handle) if line.strip(b"\xef\xbb\xbf \t\r\n")), b"")
    return first.strip(b"\xef\xbb\xbf \t\r\n") == b"{"


def _one_object(path: Path) -> Iterator[tuple[int, Record]]:
    with open_bytes(path) as handle:
        content = handle.read(MAX_RECORD + 1)
    if len(content) > MAX_RECORD:
        raise OutcomesError(
            f"{path}: one JSON object of more than {MAX_RECORD >> 20} MiB; expected a list, or one object per line"
        )
    yield 1, _object(f"{path}: the object", content, "utf-8-sig", "one JSON object")


_WRAPPED = (
    "data",
    "results",
    "rows",
    "records",
    "items",
    "examples",
    "outcomes",
    "logs",
    "samples",
    "requests",
    "traces",
)


def _list_inside(record: Record) -> list[Record] | None:
    """The one list of objects in an object that is nothing but its frame; None where there is no such list."""
    lists = {
        name: value
        for name, value in record.items()
        if isinstance(value, list) and value and all(isinstance(each, dict) and "role" not in each for each in value)
    }
    if len(lists) != 1:
        return None
    [(name, found)] = lists.items()
    plain = all(not isinstance(value, list) for key, value in record.items() if key != name)
    return found if plain or name.casefold() in _WRAPPED else None


def _lines(path: Path, on_bad: OnBad | None) -> Iterator[tuple[int, Record]]:
    with open_bytes(path) as handle:
        for number, line in enumerate(_bounded_lines(path, handle), start=1):
            if not line.strip():
                continue
            try:
                yield number, _object(f"{path}: line {number}", line, "utf-8-sig" if number == 1 else "utf-8")
            except OutcomesError as exc:
                if on_bad is None:
                    raise
                on_bad(str(exc))


def _bounded_lines(path: Path, handle: BinaryIO) -> Iterator[bytes]:
    """Lines without their end; own splitting, because not every stream has readline with a limit."""
    rest, number = b"", 1
    while block := handle.read(_CHUNK):
        *whole, rest = (rest + block).split(b"\n") if b"\n" in block else [rest + block]
        yield from whole
        number += len(whole)
        if len(rest) > MAX_RECORD:
            raise OutcomesError(
                f"{path}: line {number} is longer than {MAX_RECORD >> 20} MiB; expected one JSON object per line. "
                "Write each record on a line of its own"
            )
    if rest:
        yield rest


def _object(where: str, line: bytes, encoding: str, expected: str = "one JSON object per line") -> Record:
    try:
        record = json.loads(line.decode(encoding))
    except UnicodeDecodeError as exc:
        raise OutcomesError(f"{where} is not UTF-8: {exc.reason}. Save the file as UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise OutcomesError(f"{where} is not JSON: {_first_line(exc)}. Expected {expected}") from exc
    if not isinstance(record, dict):
        raise OutcomesError(f"{where} is a JSON {type(record).__name__}; expected {expected}")
    return record


def _items(path: Path, on_bad: OnBad | None) -> Iterator[tuple[int, Record]]:
    """Objects of a file that is one JSON list, decoded one by one as they arrive."""
    with open_bytes(path) as handle:
        yield from _listed(path, _Text(path, handle), json.JSONDecoder(), on_bad)


def _listed(
    path: Path, text: _Text, decoder: json.JSONDecoder, on_bad: OnBad | None = None
) -> Iterator[tuple[int, Record]]:
    text.expect("[", 1)
    number = 1
    while text.peek(number) != "]":
        record = text.value(decoder, number)
        if isinstance(record, dict):
            yield number, record
        else:
            message = f"{path}: record {number} is a JSON {type(record).__name__}; expected a list of JSON objects"
            if on_bad is None:
                raise OutcomesError(message)
            on_bad(message)
        number += 1
        if text.peek(number) != "]":
            text.expect(",", number)
    text.expect("]", number)


def items_inside(path: Path, keys: Sequence[str], around: Record) -> Iterator[tuple[int, Record]]:
    """Number and object of each item of the list that stands under ``keys`` in a file that is one JSON object.

    Parameters
    ----------
    keys : from the outermost inwards, such as ``("results", "results")``
    around : filled with the rest of the object; what stands before the list is there before its first item

    Raises
    ------
    OutcomesError : as for `json_records`
    """
    try:
        with open_bytes(path) as handle:
            yield from _inside(path, _Text(path, handle), json.JSONDecoder(), keys, around)
    except (OSError, pa.ArrowException) as exc:
        raise OutcomesError(
            f"{path}: cannot be read to its end ({_first_line(exc)}); the file may be truncated. Write it again"
        ) from exc


def _inside(
    path: Path, text: _Text, decoder: json.JSONDecoder, keys: Sequence[str], around: Record
) -> Iterator[tuple[int, Record]]:
    text.expect("{", 1)
    while text.peek(1) != "}":
        key = text.value(decoder, 1)
        text.expect(":", 1)
        if key == keys[0] and text.peek(1) == ("[" if len(keys) == 1 else "{"):
            inner: Record = {}
            around[key] = inner if len(keys) > 1 else []
            yield from (
                _listed(path, text, decoder) if len(keys) == 1 else _inside(path, text, decoder, keys[1:], inner)
            )
        else:
            around[key] = text.value(decoder, 1)
        if text.peek(1) != "}":
            text.expect(",", 1)
    text.expect("}", 1)


class _Text:
    """The text of a stream, of which only what is not yet decoded is kept."""

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        self._path, self._handle = path, handle
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False

    def peek(self, number: int) -> str:
        """The next character that is not white space."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _WHITE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(number):
                raise OutcomesError(
                    f"{self._path}: the list ends within or after record {number - 1}; expected a `]` at its end. "
                    "The file may be truncated; write it again"
                )

    def expect(self, char: str, number: int) -> None:
        if self.peek(number) != char:
            raise OutcomesError(
                f"{self._path}: {self.peek(number)!r} before record {number} where {char!r} was expected; "
                "expected a JSON list of objects"
            )
        self._at += 1

    def value(self, decoder: json.JSONDecoder, number: int) -> Any:
        self.peek(number)
        while True:
            try:
                found, end = decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as exc:
                if not self._more(number):
                    raise OutcomesError(
                        f"{self._path}: record {number} is not JSON: {_first_line(exc)}. Expected a list of objects"
                    ) from exc
            else:
                self._at = end
                return found

    def _more(self, number: int) -> bool:
        """Twice as much text as before, so that a large record is tried a few times, not once per block."""
        if self._ended:
            return False
        left = self._text[self._at :]
        if len(left) > MAX_RECORD:
            raise OutcomesError(f"{self._path}: record {number} is larger than {MAX_RECORD >> 20} Mi characters")
        block = self._handle.read(max(_CHUNK, len(left)))
        self._ended = not block
        try:
            self._text, self._at = left + self._decoder.decode(block, self._ended), 0
        except UnicodeDecodeError as exc:
            raise OutcomesError(f"{self._path}: not UTF-8 near record {number}: {exc.reason}") from exc
        return not self._ended


def _first_line(exc: BaseException) -> str:
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
