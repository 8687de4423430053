"""PURE. How many requests are still to come: what the same hours usually bring, times how busy it is now.

A forecast is a sum over the hours that are left of

    profile(h) · (1 + (day − 1) · exp(−t / 2 d) + (now − day) · exp(−t / 3 h))
      + (rate − profile · now) · exp(−t / 10 min)

* ``profile``: mean of the same hour on earlier days, the same weekday counting most; a flat one until a day is known.
* ``now`` and ``day``: how much busier than the profile the last hours, and the last day, have been.
* ``rate``: requests per second of the last minutes, so that a burst is seen at once and believed for minutes only.

A *surge* is what may come on top and cannot be forecast: how far hours rose above those around them, on the busiest
days of the last four weeks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from litellm_erp.goals.windows import HOUR_S

DAYS_KEPT = 28
_KEPT = DAYS_KEPT * 24
# An hour a week ago says more of this hour than one of yesterday, and that more than one two weeks ago.
_DAY_WEIGHT_K = np.array([0.9**k * (25.0 if k % 7 == 0 else 1.0) for k in range(1, DAYS_KEPT + 1)])
_BACK_KJ = -24 * np.arange(1, DAYS_KEPT + 1)
_SHORT_HALF_LIFE_H, _DAY_HALF_LIFE_H, _LEVEL_HOURS = 1.0, 12.0, 30
_FADE_DAY_S, _FADE_S, _BURST_S = 48 * HOUR_S, 3 * HOUR_S, 600.0
# Hours around one that say what it would have brought without a surge, and the longest surge looked for.
_AROUND_H, _LONGEST_SURGE_H = 7, 24
_SURGE_DAYS = 0.95
# How many times its beginning a first day may bring.
_UNKNOWN = 4.0
# Until something worse was seen: an hour may bring twice what it usually does.
_LEAST_SURGE = 1.0


@dataclass(frozen=True, slots=True)
class History:
    """Requests per hour before the current one.

    Attributes
    ----------
    hour : the current one, since 1970
    counts_H : shape (28 · 24,), of the hours before the current one, the last of them last; 0 before ``known``
    known : how many of them, counted from the end, were observed at all
    """

    hour: int
    counts_H: np.ndarray
    known: int

    @classmethod
    def from_hours(cls, requests: Mapping[int, float], hour: int) -> History:
        """Arrange counts by hour since 1970; an hour between two that were seen had none."""
        past = {h: n for h, n in requests.items() if hour - _KEPT <= h < hour}
        counts = np.zeros(_KEPT)
        for h, n in past.items():
            counts[_KEPT - (hour - h)] = n
        return cls(hour, counts, hour - min(past) if past else 0)


@dataclass(frozen=True, slots=True)
class _Level:
    """Requests of the last hours, each counting by its age at the beginning of the current one; and the usual ones."""

    half_life_h: float
    seen: float
    usual: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a forecast rests on that changes once an hour only.

    Attributes
    ----------
    first : usual requests of the current hour; None where nothing is known yet
    rest, slowly, fading : usual requests of the hours after it; the same counting exp(−t / 2 d), and exp(−t / 3 h)
    prior : requests by which the past counts as usual, so that few requests at night are no evidence of anything
    surge : hours of the busiest remaining hour's traffic that may come on top, now and at the end of the current hour
    busiest : usual requests of that hour
    to_come : usual requests of the window's next day
    unknown : share of a first day that was not seen yet
    observed : requests that are remembered
    """

    hour: int
    end_s: float
    first: float | None
    rest: float
    slowly: float
    fading: float
    short: _Level
    day: _Level
    prior: float
    surge: tuple[float, float]
    busiest: float
    to_come: float
    unknown: float
    observed: float


def ahead(history: History, end_s: float) -> Ahead:
    """Look ahead to the end of a window, Unix seconds; a forecast takes longest for this.

    Source: ours.
    """
    begins_s = history.hour * HOUR_S
    length_h = max(end_s - begins_s, 0.0) / HOUR_S
    hours = np.arange(-_LEVEL_HOURS, max(1, math.ceil(length_h)))
    usual_H = _profile(history, hours)
    past, later = usual_H[:_LEVEL_HOURS], usual_H[_LEVEL_HOURS + 1 :]
    lengths = np.minimum(length_h - np.arange(1, len(later) + 1), 1.0)
    middle_s = HOUR_S * (np.arange(1, len(later) + 1) + lengths / 2)
    known = min(history.known, _LEVEL_HOURS)
    recent, past = history.counts_H[_KEPT - known :], past[_LEVEL_HOURS - known :]
    levels = []
    for half_life_h in (_SHORT_HALF_LIFE_H, _DAY_HALF_LIFE_H):
        weight = 0.5 ** (np.arange(known - 1, -1, -1) / half_life_h)
        levels.append(_Level(half_life_h, float(weight @ recent), float(weight @ past)))
    return Ahead(
        history.hour,
        end_s,
        first=float(usual_H[_LEVEL_HOURS]) if history.known else None,
        rest=float(later @ lengths),
        slowly=float(later @ (lengths * np.exp(-middle_s / _FADE_DAY_S))),
        fading=float(later @ (lengths * np.exp(-middle_s / _FADE_S))),
        short=levels[0],
        day=levels[1],
        prior=0.1 * (float(past.mean()) if known else 1.0) + 1.0,
        surge=_surge(history, length_h),
        busiest=float(usual_H[_LEVEL_HOURS:].max()),
        to_come=float(usual_H[_LEVEL_HOURS : _LEVEL_HOURS + 24] @ np.append(1.0, lengths)[:24]),
        unknown=max(0.0, 1.0 - history.known / 24),
        observed=float(history.counts_H.sum()),
    )


@dataclass(frozen=True, slots=True)
class Coming:
    """Requests expected to the end of a window, and how many more a surge may bring."""

    requests: float
    surge: float


def forecast(outlook: Ahead, current: float, rate_per_s: float, now_s: float) -> Coming:
    """What comes from now to the end of a window.

    Parameters
    ----------
    outlook : of the hour that ``now_s`` is in
    current : requests in that hour so far
    rate_per_s : of the last minutes, see :class:`Rate`
    now_s : Unix seconds

    Source: ours.
    """
    left_s = outlook.end_s - now_s
    if left_s <= 0:
        return Coming(0.0, 0.0)
    # A clock may have been set back since.
    into_s = min(max(now_s - outlook.hour * HOUR_S, 0.0), HOUR_S)
    surge_h = outlook.surge[0] + (outlook.surge[1] - outlook.surge[0]) * into_s / HOUR_S
    if outlook.first is None:
        return Coming(rate_per_s * left_s, _UNKNOWN * rate_per_s * left_s)
    so_far = outlook.first * into_s / HOUR_S
    short = _busier(outlook.short, current, so_far, outlook.prior, into_s)
    day = _busier(outlook.day, current, so_far, outlook.prior, into_s)
    here_s = min(HOUR_S - into_s, left_s)
    steady = outlook.first * here_s / HOUR_S * (day + (short - day) * math.exp(-here_s / 2 / _FADE_S))
    steady += outlook.rest + (day - 1) * outlook.slowly * math.exp(into_s / _FADE_DAY_S)
    steady += (short - day) * outlook.fading * math.exp(into_s / _FADE_S)
    usual_per_s = outlook.first * short / HOUR_S
    burst = rate_per_s - usual_per_s
    requests = max(0.0, steady + burst * _BURST_S * (1 - math.exp(-left_s / _BURST_S)))
    beyond_chance = max(burst - 2 * math.sqrt(usual_per_s / _BURST_S) - 1 / _BURST_S, 0.0)
    # The whole of a burst may go on for a day.
    goes_on = beyond_chance * HOUR_S / max(outlook.first, 1.0) * outlook.to_come
    return Coming(requests, max(surge_h * outlook.busiest * day, goes_on, _UNKNOWN * outlook.unknown * requests))


def _busier(level: _Level, current: float, so_far: float, prior: float, into_s: float) -> float:
    """How much busier than usual it has been."""
    older = 0.5 ** (into_s / HOUR_S / level.half_life_h)
    return (level.seen * older + current + prior) / (level.usual * older + so_far + prior)


def _profile(history: History, hours: np.ndarray) -> np.ndarray:
    """Usual requests of hours relative to the current one, each from the days before *it*."""
    at = _KEPT + hours[:, None] + _BACK_KJ
    # Hours further ahead than a day look back at days that have not been yet.
    there = (at >= _KEPT - history.known) & (at < _KEPT)
    weight = np.where(there, _DAY_WEIGHT_K, 0.0)
    total = weight.sum(axis=1)
    counts = history.counts_H[np.clip(at, 0, _KEPT - 1)]
    flat = float(history.counts_H[_KEPT - history.known :].mean()) if history.known else 0.0
    mean = (weight * counts).sum(axis=1) / np.maximum(total, 1e-12)
    return np.where(total > 0, mean, flat)


def _surge(history: History, length_h: float) -> tuple[float, float]:
    """Hours of usual traffic that came on top within so many hours, and within an hour less, on a busy day."""
    counts = history.counts_H[_KEPT - history.known :]
    ends = [min(max(length_h - less, 0.0), _LONGEST_SURGE_H) for less in (0.0, 1.0)]
    if len(counts) < _AROUND_H:
        return _LEAST_SURGE * min(ends[0], 1.0), _LEAST_SURGE * min(ends[1], 1.0)
    around = np.median(sliding_window_view(np.pad(counts, _AROUND_H // 2, mode="reflect"), _AROUND_H), axis=1)
    # What a quiet night brings more by chance is no surge, and is none of a quarter of a usual hour.
    risen = np.maximum(counts - around - 2 * np.sqrt(around) - 1, 0.0) / (around + 0.25 * counts.mean() + 1e-9)
    return _within(risen, ends[0]), _within(risen, ends[1])


def _within(risen_H: np.ndarray, length_h: float) -> float:
    """The worst that came within ``length_h`` hours on 95 days of 100."""
    sums = np.concatenate(([0.0], np.cumsum(risen_H)))
    length_h = min(length_h, len(risen_H) - 1.0)
    whole = int(length_h)
    found = [
        float(np.quantile(_worst_of_days(sums[n:] - sums[: len(sums) - n]), _SURGE_DAYS)) if n else 0.0
        for n in (whole, whole + 1)
    ]
    return max(found[0] + (found[1] - found[0]) * (length_h - whole), _LEAST_SURGE * min(length_h, 1.0))


def _worst_of_days(block_H: np.ndarray) -> np.ndarray:
    """Shape (D,): the greatest of every 24, counted from the end."""
    days = -(-len(block_H) // 24)
    padded = np.pad(block_H, (days * 24 - len(block_H), 0))
    return np.asarray(padded.reshape(days, 24).max(axis=1))


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second, smoothed over minutes."""

    at_s: float
    per_s: float = 0.0

    def after(self, requests: float, now_s: float) -> Rate:
        """The rate once ``requests`` more have been seen."""
        passed_s = max(now_s - self.at_s, 1e-3)
        keep = math.exp(-passed_s / _BURST_S * 2)
        return Rate(now_s, self.per_s * keep + requests / passed_s * (1 - keep))
