"""IO. The lines of a decision log: rotated files, compressed or not, of one process or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from erp_trainer.files.opening import is_compressed, open_bytes
from litellm_erp.errors import DecisionLogError

# A line of a log has a few hundred bytes per model, and one prompt at most.
MAX_LINE = 16 << 20
_CHUNK, _PIECE = 1 << 20, 256
# What a rotated file of lines may be called in a folder: log.jsonl, log.jsonl.3, log.2026-12-01.jsonl.gz.
_NAMED = ".jsonl"


@dataclass(slots=True)
class Reading:
    """What is counted while files are read.

    Attributes
    ----------
    files : read so far
    lines : that are not empty, of any kind
    torn : ends of files that are not a whole line, as a killed process leaves them
    cut : compressed files that end too early; what they hold up to there is read
    too_long : lines beyond what a log's may have
    """

    files: int = 0
    lines: int = 0
    torn: int = 0
    cut: int = 0
    too_long: int = 0


def log_files(paths: Sequence[Path]) -> list[Path]:
    """The files of a log, by name.

    Parameters
    ----------
    paths : folders, files, and patterns such as ``log/*.jsonl.gz``

    Raises
    ------
    DecisionLogError : one of them is nothing, or a folder without a log
    """
    found: dict[Path, None] = {}
    for path in paths:
        here = _files_of(path)
        if not here:
            what = f"has no file named *{_NAMED}*" if path.is_dir() else "does not exist"
            raise DecisionLogError(f"{path}: {what}; expected the folder, the files or a pattern of a decision log")
        found |= dict.fromkeys(here)
    return list(found)


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if _NAMED in file.name and file.is_file())
    if path.exists():
        return [path]
    root = Path(path.anchor or ".")
    pattern = path.relative_to(root) if path.anchor else path
    return sorted(file for file in root.glob(str(pattern)) if file.is_file())


def lines(files: Sequence[Path], reading: Reading) -> Iterator[bytes]:
    """Every line that is not empty, without its end; in bounded memory.

    Raises
    ------
    DecisionLogError : a file cannot be opened
    """
    for path in files:
        reading.files += 1
        try:
            yield from _lines_of(path, reading)
        except ValueError as exc:  # as `open_bytes` says it, of outcomes
            raise DecisionLogError(str(exc)) from exc


def _lines_of(path: Path, reading: Reading) -> Iterator[bytes]:
    rest, skipping = b"", False
    for block in _blocks(path, reading):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            if not skipping and line.strip():
                reading.lines += 1
                yield line
            skipping = False
        if len(rest) > MAX_LINE:
            reading.too_long += not skipping
            rest, skipping = b"", True
    if rest.strip() and not skipping:
        if rest.rstrip().endswith(b"}"):  # a whole record that only lacks its line end
            reading.lines += 1
            yield rest
        else:
            reading.torn += 1


def _blocks(path: Path, reading: Reading) -> Iterator[bytes]:
    """A file's bytes, decompressed; of one that ends too early all that there is, to within part of a line."""
    held: list[bytes] = []
    with open_bytes(path) as handle:
        size = _PIECE if is_compressed(path) else _CHUNK
        try:
            while piece := handle.read(size):
                held.append(piece)
                if len(held) * size >= _CHUNK:
                    yield b"".join(held)
                    held.clear()
        except (OSError, pa.ArrowException):
            # The read that finds the end missing gives nothing, so that it must be a small one.
            reading.cut += 1
    if held:
        yield b"".join(held)
