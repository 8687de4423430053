"""PURE. How many requests are still to come: what the same hours usually bring, times how busy it is now.

A forecast is a sum over the hours that are left of

    profile(h) · (day + (now − day) · exp(−t / 3 h))  +  (rate − profile · now) · exp(−t / 10 min)

* ``profile``: mean of the same hour on earlier days, the same weekday counting most; a flat one until a day is known.
* ``now`` and ``day``: how much busier than the profile the last hours, and the last day, have been.
* ``rate``: requests per second of the last minutes, so that a burst is seen at once and believed for minutes only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from litellm_erp.windows import HOUR_S

DAYS_KEPT = 28
_KEPT = DAYS_KEPT * 24
# An hour a week ago says more of this hour than one of yesterday, and that more than one two weeks ago.
_DAY_WEIGHT_K = np.array([0.9**k * (25.0 if k % 7 == 0 else 1.0) for k in range(1, DAYS_KEPT + 1)])
_BACK_KJ = -24 * np.arange(1, DAYS_KEPT + 1)
_SHORT_HALF_LIFE_H, _DAY_HALF_LIFE_H, _LEVEL_HOURS = 1.0, 12.0, 30
_FADE_S, _BURST_S = 3 * HOUR_S, 600.0


@dataclass(frozen=True, slots=True)
class History:
    """Requests per hour up to now.

    Attributes
    ----------
    hour : the current one, since 1970
    counts_H : shape (28 · 24,), of the hours before the current one, the last of them last; 0 before ``known``
    known : how many of them, counted from the end, were observed at all
    current : requests in the current hour so far
    past : sum of ``counts_H``
    """

    hour: int
    counts_H: np.ndarray
    known: int
    current: float
    past: float

    @classmethod
    def from_hours(cls, requests: Mapping[int, float], hour: int) -> History:
        """Arrange counts by hour since 1970; an hour between two that were seen had none."""
        past = {h: n for h, n in requests.items() if hour - _KEPT <= h < hour}
        counts = np.zeros(_KEPT)
        for h, n in past.items():
            counts[_KEPT - (hour - h)] = n
        return cls(hour, counts, hour - min(past) if past else 0, float(requests.get(hour, 0.0)), float(counts.sum()))

    def at(self, current: float) -> History:
        """The same with another count for the current hour."""
        return replace(self, current=current)

    @property
    def total(self) -> float:
        """All requests that are remembered."""
        return self.past + self.current


def usual(history: History, n_hours: int) -> np.ndarray:
    """Usual requests by hour: of the 30 hours before the current one, then of it and those after it.

    It changes once an hour, and is what a forecast takes longest for.

    Returns
    -------
    shape (30 + n_hours,)
    """
    return _profile(history, np.arange(-_LEVEL_HOURS, n_hours))


def forecast(history: History, usual_H: np.ndarray, rate_per_s: float, now_s: float, end_s: float) -> float:
    """Requests expected from now to the end of a window.

    Parameters
    ----------
    usual_H : from :func:`usual`, of as many hours as the window still has
    rate_per_s : of the last minutes, see :class:`Rate`
    now_s, end_s : Unix seconds; the history's current hour is that of ``now_s``

    Source: ours.
    """
    left_s = max(0.0, end_s - now_s)
    into_s = now_s % HOUR_S
    n_hours = math.ceil((into_s + left_s) / HOUR_S)
    if n_hours == 0:
        return 0.0
    short, day = _levels(history, usual_H[:_LEVEL_HOURS], usual_H[_LEVEL_HOURS] * into_s / HOUR_S, into_s)
    ahead = usual_H[_LEVEL_HOURS : _LEVEL_HOURS + n_hours]
    begins = np.maximum(np.arange(n_hours) * HOUR_S - into_s, 0.0)
    ends = np.minimum((np.arange(n_hours) + 1) * HOUR_S - into_s, left_s)
    middle = (begins + ends) / 2
    level = day + (short - day) * np.exp(-middle / _FADE_S)
    steady = float(np.sum(ahead * level * (ends - begins) / HOUR_S))
    burst = rate_per_s - float(ahead[0]) * short / HOUR_S
    return max(0.0, steady + burst * _BURST_S * (1 - math.exp(-left_s / _BURST_S)))


def _profile(history: History, hours: np.ndarray) -> np.ndarray:
    """Usual requests of hours relative to the current one, each from the days before *it*."""
    at = _KEPT + hours[:, None] + _BACK_KJ
    # Hours further ahead than a day look back at days that have not been yet.
    there = (at >= _KEPT - history.known) & (at < _KEPT)
    weight = np.where(there, _DAY_WEIGHT_K, 0.0)
    total = weight.sum(axis=1)
    counts = history.counts_H[np.clip(at, 0, _KEPT - 1)]
    flat = float(history.counts_H[_KEPT - history.known :].mean()) if history.known else history.current
    mean = (weight * counts).sum(axis=1) / np.maximum(total, 1e-12)
    return np.where(total > 0, mean, flat)


def _levels(history: History, past: np.ndarray, usual_so_far: float, into_s: float) -> tuple[float, float]:
    """How much busier than usual: the last hours, the last day; a quiet night is no evidence of a quiet day."""
    known = min(history.known, _LEVEL_HOURS)
    seen = history.counts_H[_KEPT - known :]
    past = past[_LEVEL_HOURS - known :]
    age = np.arange(known, 0, -1) - 1 + into_s / HOUR_S
    # Of a tenth of an hour and one request, so that few requests at night are no evidence of anything.
    prior = 0.1 * (float(past.mean()) if known else 1.0) + 1.0
    levels = []
    for half_life_h in (_SHORT_HALF_LIFE_H, _DAY_HALF_LIFE_H):
        weight = 0.5 ** (age / half_life_h)
        observed = float(weight @ seen) + history.current + prior
        levels.append(observed / (float(weight @ past) + usual_so_far + prior))
    return levels[0], levels[1]


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
