"""PURE. Numbers and units as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MINUS = "−"
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Units:
    """What the payload's costs and rewards are counted in.

    Attributes
    ----------
    scale : turns a cost per request into what is shown and what λ counts
    cost, reward, gain : axis titles
    cost_short : a column's head
    lambda_ : the unit of λ
    prefix : stands before an amount of money
    """

    scale: float
    cost: str
    cost_short: str
    reward: str
    gain: str
    lambda_: str
    prefix: str

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Units:
        """Read from an evaluation payload."""
        unit = payload["reward"].get("unit") or "reward"
        reward = "Mean reward" if unit == "reward" else f"Mean reward, {unit}"
        gain = "Reward gained" if unit == "reward" else f"Reward gained, {unit}"
        if payload["cost"]["kind"] == "usd":
            cost, short, lambda_ = (
                "Mean cost, USD per 1,000 requests",
                "USD / 1,000",
                "reward per (USD / 1,000 requests)",
            )
        else:
            cost, short, lambda_ = "Mean relative cost per request", "relative cost", "reward per unit of relative cost"
        prefix = "$" if payload["cost"]["kind"] == "usd" else ""
        return cls(float(payload["cost"]["scale"]), cost, short, reward, gain, lambda_, prefix)

    def titles(self) -> dict[str, str]:
        """Axis titles by field, for charts."""
        return {"cost": self.cost, "reward": self.reward, "gain": self.gain}

    def shown(self, cost: float | None) -> float | None:
        """A cost per request on the scale that is shown."""
        return None if cost is None else cost * self.scale

    def money(self, cost: float | None) -> str:
        """A cost per request as text, on the scale that is shown."""
        return NOTHING if cost is None else f"{self.prefix}{significant(cost * self.scale)}"


def number(value: float | None, digits: int = 3) -> str:
    """A reward or another figure near 1; large ones lose decimals."""
    if value is None or not math.isfinite(value):
        return NOTHING
    digits = max(0, digits - max(0, math.floor(math.log10(abs(value)))) if abs(value) >= 10 else digits)
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) != 0 else text.replace("-", "")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text.replace(",", "")) > 0 else text


def significant(value: float, digits: int = 3) -> str:
    """So many significant digits, without an exponent where that is readable."""
    if value == 0 or not math.isfinite(value):
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}".replace("-", MINUS)
    return f"{value:.{digits - 1}e}".replace("-", MINUS)


def percent(value: float | None, digits: int = 0) -> str:
    """A share."""
    if value is None:
        return NOTHING
    text = f"{100 * value:.{digits}f}%"
    return text.replace("-", MINUS) if float(text[:-1]) != 0 else text.replace("-", "")


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval of levels."""
    return NOTHING if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def signed_span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval of differences."""
    return NOTHING if low is None or high is None else f"{signed(low, digits)} to {signed(high, digits)}"


def tone(interval: Mapping[str, Any] | None) -> str:
    """``up`` or ``down`` where an interval of differences keeps to one side of nought."""
    if interval is None or interval["low"] is None:
        return ""
    return "up" if interval["low"] > 0 else "down" if interval["high"] < 0 else ""


def mostly(share: Mapping[str, float], names: Mapping[str, str], most: int = 2) -> str:
    """The models chosen most, with their shares.

    Parameters
    ----------
    names : how each model is written
    """
    first = sorted(share.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{names[name]} {percent(part)}" for name, part in first if part > 0)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


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
