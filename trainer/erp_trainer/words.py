"""PURE. Numbers and names as people read them, on a page, on a terminal and in sentences alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from erp_trainer.console import columns

MINUS = "−"
NOTHING = "–"
# Decimals of a percentage, at most, where fewer would make it 0% or 100%.
_MOST_DECIMALS = 2
# A name longer than this is cut in its middle wherever people read it.
LONGEST_NAME = 48


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A reward or another figure near 1 with so many decimals; large ones lose some, small ones keep two digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if 0 < abs(value) < 10.0 ** (1 - digits):
        return significant(value, 2, sign=sign)
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
    """A share. What is not quite none or all of it is not written as if it were."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if abs(value) in (0.0, 1.0) or abs(value) > 1:
        return f"{_written(round(100 * value, digits), f'.{digits}f')}%"
    sizes = {digits: round(100 * abs(value), digits) for digits in range(digits, max(digits, _MOST_DECIMALS) + 1)}
    fit = next((digits for digits, size in sizes.items() if 0 < size < 100), None)
    if fit is not None:
        return f"{_written(math.copysign(sizes[fit], value), f'.{fit}f')}%"
    edge = 10.0**-_MOST_DECIMALS
    return (
        f"under {MINUS if value < 0 else ''}{edge:.{_MOST_DECIMALS}f}%"
        if abs(value) < 0.5
        else (f"over {MINUS if value < 0 else ''}{100 - edge:.{_MOST_DECIMALS}f}%")
    )


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


def short(name: str) -> str:
    """A name as a sentence can carry it: one that is too long loses its middle."""
    return _without_middle(name, LONGEST_NAME) if columns(name) > LONGEST_NAME else name


def shortened(names: Sequence[str], most: int = 22) -> dict[str, str]:
    """Names of at most so many characters, each still its own: long ones lose their middle."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        last = name.rsplit("/", 1)[-1]
        plain = last.removesuffix("-instruct").removesuffix("-it") if columns(last) > most else last
        candidates = (_without_middle(text, most) for text in (plain, last, name))
        found[name] = next((text for text in candidates if text not in taken), None) or _numbered(plain, most, taken)
        taken.add(found[name])
    return found


def _numbered(name: str, most: int, taken: set[str]) -> str:
    """A name told from those that it would be cut to by a number."""
    marks = (f" ({number})" for number in count(2))
    return next(text for mark in marks if (text := _without_middle(name, most - len(mark)) + mark) not in taken)


def with_short_names(figures: Any, names: Iterable[str], most: int = LONGEST_NAME) -> Any:
    """Figures as they are, but that names longer than ``most`` are cut wherever they occur, keys included."""
    names = list(names)
    short = {name: cut for name, cut in shortened(names, most).items() if columns(name) > most}
    if not short:
        return figures
    longest_first = sorted(short, key=lambda name: -len(name))

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            for name in longest_first:
                value = value.replace(name, short[name]) if len(value) >= len(name) else value
            return value
        if isinstance(value, Mapping):
            return {cut(key): cut(entry) for key, entry in value.items()}
        return [cut(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    return cut(figures)


def _without_middle(name: str, most: int) -> str:
    """A name cut between its words where that fits, else anywhere."""
    if columns(name) <= most:
        return name
    if columns(name) > len(name):
        # Wide characters take two columns.
        most = most // 2
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
