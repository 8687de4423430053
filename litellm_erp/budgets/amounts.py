"""PURE. Amounts that somebody else stated: an upstream, a client, a store. Every function here takes anything."""

from __future__ import annotations

NANO = 1_000_000_000
# No single answer costs more; what claims to is a mistake or an attack.
MAX_USD = 1e6
# Above it a sum is no longer exact in the store's arithmetic; nine million USD, or 10^15 requests.
MAX_COUNT = 2**53 - 1
MAX_ANSWERS = 1_000_000


def amount(value: object, high: float = MAX_USD) -> float | None:
    """A number in [0, ``high``]; None for whatever is none: NaN, infinite, negative, too large, a bool, text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0.0 <= number <= high else None


def nano_usd(usd: object) -> int:
    """Whole nano-dollars of an estimate: too much counts as the most there is, nonsense as nothing."""
    if type(usd) is float and 0.0 <= usd <= MAX_USD:
        return round(usd * NANO)
    if isinstance(usd, (int, float)) and not isinstance(usd, bool) and usd > MAX_USD:
        return round(MAX_USD * NANO)
    return round((amount(usd) or 0.0) * NANO)


def answers(count: object) -> int:
    """How many answers a request asks for, from 1 to a million: 1 where that is no number."""
    if isinstance(count, bool) or not isinstance(count, int):
        return 1
    return min(max(count, 1), MAX_ANSWERS)
