"""IO. Files that somebody else made: read whole only if regular and no larger than they may be, parsed only if plain.

Invariant: what is read here takes memory in proportion to ``most``, whatever the file is or says of itself.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors

# A thousand models with scores by category are some two.
MAX_JSON_BYTES = 8 << 20
# The header of a safetensors file; ours have a few hundred bytes.
MAX_HEADER_BYTES = 64 << 10
_MAX_DEPTH = 32
_LARGEST = sys.float_info.max
# Characters of what a file says, in a message.
_SHOWN = 160
# A pipe put there between the two looks does not block either.
_NO_BLOCKING = getattr(os, "O_NONBLOCK", 0)


def read_whole(path: Path, most: int, *, inside: Path | None = None) -> bytes:
    """The bytes of a regular file.

    Parameters
    ----------
    most : bytes; a larger file is not read at all
    inside : a folder that links must not lead out of

    Raises
    ------
    OSError : it is not there, no regular file, larger than ``most``, or leads elsewhere; ``strerror`` says which
    """
    try:
        if inside is not None and _leaves(path, inside):
            raise OSError(errno.EXDEV, f"a link that leads out of {inside}; put the file itself there")
        # Looked at before it is opened: a pipe would block, and opening a device may do something.
        _size(path.stat(), most)
        with os.fdopen(os.open(path, os.O_RDONLY | _NO_BLOCKING), "rb") as file:
            content = file.read(_size(os.fstat(file.fileno()), most) + 1)
    except (ValueError, RuntimeError) as e:  # a NUL or half a surrogate in the path; a circle of links
        raise OSError(errno.EINVAL, f"not a path of a file ({e})") from e
    except MemoryError as e:
        raise OSError(errno.ENOMEM, "too little memory to read it") from e
    if len(content) > most:
        raise OSError(errno.EFBIG, f"still growing beyond the {most} bytes that it may have")
    return content


def parse_json(content: bytes) -> Any:
    """A JSON document of plain values.

    Raises
    ------
    ValueError : not UTF-8, not JSON, a key twice, nested deeper than 32, NaN, a number beyond what a double
        holds, or half a surrogate in a text
    """
    try:
        document = json.loads(content.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"nested deeper than {_MAX_DEPTH}") from None
    _check_plain(document)
    return document


def parse_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, read only.

    Raises
    ------
    ValueError : not a safetensors file, a header of over 64 KiB, or a dtype that numpy does not have
    """
    if (header := int.from_bytes(content[:8], "little")) > MAX_HEADER_BYTES:
        raise ValueError(f"it claims a header of {header} bytes; expected at most {MAX_HEADER_BYTES}")
    try:
        return _load_tensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as e:
        raise ValueError(f"{type(e).__name__}: {str(e)[:_SHOWN]!a}") from e


def _leaves(path: Path, folder: Path) -> bool:
    # Paths are resolved only where there is a link below the folder: that takes longer than to read a small file.
    below = path.relative_to(folder).parts
    if not any(folder.joinpath(*below[: i + 1]).is_symlink() for i in range(len(below))):
        return False
    return not path.resolve().is_relative_to(folder.resolve())


def _size(found: os.stat_result, most: int) -> int:
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise OSError(errno.EINVAL, f"{kind}, not a regular file")
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"{found.st_size} bytes; expected at most {most}")
    return found.st_size


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:_SHOWN]!a} twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_plain(document: Any) -> None:
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH}")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            value.encode()  # a ValueError for half a surrogate
        elif isinstance(value, (int, float)) and abs(value) > _LARGEST:
            raise ValueError("a number is beyond what a double holds")
