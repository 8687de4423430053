"""PURE. Values that may be of any kind and size: how a message shows them, and which are numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

_SHOWN = 80


def shown(value: object) -> str:
    """A value that may be of any size, for a message: short and printable."""
    try:
        text = str(value) if isinstance(value, Exception) else repr(value)
    except (ValueError, RecursionError):  # Python does not print integers of many thousand digits
        text = f"a {type(value).__name__} that is too large to print"
    return _printable(text)


def one_line(found: object, most: int = 300) -> str:
    """What somebody else's error or text says, for a message: on one line, its beginning."""
    text = " ".join(str(found).split()) or type(found).__name__
    return text if len(text) <= most else text[: most - 1] + "…"


def shown_names(names: Iterable[str]) -> str:
    """Some names for a message, the first few of many."""
    found = sorted(names)
    return ", ".join(map(_printable, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "") or "none"


def _printable(text: str) -> str:
    short = text if len(text) <= _SHOWN * 2 else text[:_SHOWN] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


def is_finite_number(value: object) -> bool:
    """Whether it is a number that a float holds; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
