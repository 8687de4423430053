"""PURE. Spend windows: which hour, day, week or month of a time zone a moment belongs to.

Windows tile time: each ends where the next begins, also over changes to and from summer time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

Per = Literal["hour", "day", "week", "month"]
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start_s`` to just before ``end_s``, Unix seconds."""

    start_s: float
    end_s: float


def is_timezone(name: str) -> bool:
    """Whether this machine knows a time zone, such as ``Europe/Berlin``."""
    try:
        ZoneInfo(name)
    except Exception:  # KeyError, ValueError and OSError, by the kind of name and of machine
        return False
    return True


def span(per: Per, timezone: str, now_s: float) -> Span:
    """The window that a moment belongs to.

    Weeks begin on Monday; days, weeks and months begin at midnight of the time zone, so a day lasts 23 to 25 hours.

    Parameters
    ----------
    now_s : Unix seconds
    """
    known = _span(per, timezone, int(now_s // 60))
    return known if known.start_s <= now_s < known.end_s else _span_at(per, timezone, now_s)


@lru_cache(maxsize=4096)
def _span(per: Per, timezone: str, minute: int) -> Span:
    return _span_at(per, timezone, minute * 60.0)


def _span_at(per: Per, timezone: str, now_s: float) -> Span:
    zone = ZoneInfo(timezone)
    now = datetime.fromtimestamp(now_s, zone)
    if per == "hour":
        # Not by local time, in which an hour comes twice a year.
        into_s = now.minute * 60 + now.second + now.microsecond / 1e6
        start_s = round(now_s - into_s)
        return Span(float(start_s), start_s + HOUR_S)
    start = datetime(now.year, now.month, now.day, tzinfo=zone)
    if per == "week":
        start -= timedelta(days=start.weekday())
    elif per == "month":
        start = start.replace(day=1)
    return Span(start.timestamp(), _next(per, start).timestamp())


def _next(per: Per, start: datetime) -> datetime:
    """The start after one; added to the local date, so that it is midnight again after a change of the clocks."""
    if per == "month":
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + timedelta(days=7 if per == "week" else 1)
