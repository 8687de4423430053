"""PURE. Numbers and names as people read them, on a page, on a terminal and in sentences alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MINUS = "−"
NOTHING = "–"


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A reward or another figure near 1 with so many decimals; large ones lose decimals."""
    if value is None or not math.isfinite(value):
        return NOTHING
    decimals = max(0, digits - int(math.log10(max(abs(value), 1.0))))
    return _written(round(value, decimals), f",.{decimals}f", sign=sign)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign."""
    return number(value, digits, sign=True)


def significant(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """So many significant digits, without an exponent where that is readable."""
    if value == 0 or not math.isfinite(value):
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return _written(value, f",.{decimals}f", sign=sign)
    return _written(value, f".{digits - 1}e", sign=sign)


def percent(value: float | None, digits: int = 0) -> str:
    """A share."""
    return NOTHING if value is None else f"{_written(round(100 * value, digits), f'.{digits}f')}%"


def points(value: float, digits: int = 1) -> str:
    """A difference in hundredths, with its sign."""
    return _written(round(100 * value, digits), f".{digits}f", sign=True)


def points_from_to(mean: float, low: float, high: float, digits: int = 1) -> str:
    """A difference in hundredths, and its interval in brackets."""
    return f"{points(mean, digits)} ({points(low, digits)} to {points(high, digits)})"


def _written(value: float, form: str, *, sign: bool = False) -> str:
    # Nought has no sign, also where only rounding made it nought.
    return f"{value or 0.0:{'+' if sign and value else ''}{form}}".replace("-", MINUS)


def from_to(low: float | None, high: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """An interval of levels; of differences with ``sign``."""
    if low is None or high is None:
        return NOTHING
    return f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


def mostly(share: Mapping[str, float], names: Mapping[str, str], most: int = 2) -> str:
    """The models chosen most, with their shares.

    Parameters
    ----------
    names : how each model is written
    """
    first = sorted(share.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{names[name]} {percent(part)}" for name, part in first if part > 0)


def shortened(names: Sequence[str], most: int = 22) -> dict[str, str]:
    """Names that fit beside a chart, each still its own: long ones lose their middle."""
    found: dict[str, str] = {}
    for name in names:
        last = name.rsplit("/", 1)[-1]
        plain = last.removesuffix("-instruct").removesuffix("-it") if len(last) > most else last
        candidates = (_without_middle(plain, most), plain, last, name)
        found[name] = next((text for text in candidates if text not in found.values()), name)
    return found


def _without_middle(name: str, most: int) -> str:
    """A name cut between its words where that fits, else anywhere."""
    if len(name) <= most:
        return name
    words = name.split("-")
    sizes = [(left, right) for left in range(1, len(words)) for right in range(1, len(words) - left)]
    # Both ends say something, the front rather more.
    for left, right in sorted(sizes, key=lambda size: (min(size), size[0]), reverse=True):
        cut = f"{'-'.join(words[:left])}…{'-'.join(words[-right:])}"
        if len(cut) <= most:
            return cut
    return f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def bare(label: str) -> str:
    """A policy's label; a single model by its own name."""
    return label.removeprefix("single: ")
