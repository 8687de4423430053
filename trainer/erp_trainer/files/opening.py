"""IO. A file of any compression as bytes; what it is compressed with is read from its first bytes, not its name."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from litellm_erp.errors import OutcomesError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
# Suffixes that only say how a file is compressed.
COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2")


def open_bytes(path: Path) -> BinaryIO:
    """The decompressed bytes of a file, to read from its beginning.

    Raises
    ------
    OutcomesError : missing, a folder, or not readable. A compressed file that is cut short raises OSError on reading
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise OutcomesError(f"{path}: {what}; expected a file")
    try:
        kind = _compression(path)
        # pyarrow's streams are io.RawIOBase in all but name.
        return cast(BinaryIO, path.open("rb") if kind is None else pa.CompressedInputStream(pa.OSFile(str(path)), kind))
    except OSError as exc:
        raise OutcomesError(f"{path}: cannot be read ({exc.strerror or exc}); expected a readable file") from exc


def is_compressed(path: Path) -> bool:
    """Whether a readable file is compressed as a whole."""
    return _compression(path) is not None


def _compression(path: Path) -> str | None:
    with path.open("rb") as handle:
        first = handle.read(4)
    return next((name for magic, name in _COMPRESSED.items() if first.startswith(magic)), None)


def first_bytes(path: Path, size: int) -> bytes:
    """The first bytes of a file, decompressed; fewer where it is shorter or cut.

    Raises
    ------
    OutcomesError : as for `open_bytes`
    """
    with open_bytes(path) as handle:
        try:
            return handle.read(size)
        except (OSError, pa.ArrowException):
            return b""


def plain_suffix(path: Path) -> str:
    """The suffix that says what a file holds, in lower case: ``.csv`` for ``scores.CSV.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
