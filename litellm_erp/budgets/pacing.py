"""PURE. The law of pacing: what a request should cost now, so that a window's money lasts to its end.

Numbers in, numbers out; whose they are, and when they are asked for, is ``account.py``.

λ is the multiplier of a budget (arXiv 2603.20217, eq. 6). Its dual is solved anew at each step on what was really
spent: the money left over the requests still to come is what one may cost, the frontier says which λ costs that. The
controller moves the cost, not λ itself, because cost is what money and traffic are stated in; the frontier's map from
cost to λ is monotone, so more money never means a higher λ.

Four corrections keep it honest:

* ``bias``: real spend over what the frontier promised for the targets in force, for prompts, prices or answers that are
  not those the bundle was fitted on;
* what is in flight is taken off the money left, at its expected cost;
* one percent of the budget is kept back for the end of the window, where no request is left to correct a forecast;
* so is what a surge would cost on the cheapest models, as large as surges have been: it is spent as the window ends.

Steps are bounded in the logarithm of the target. Time is an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# A target may double, or fall to a quarter, in so many seconds; a longer pause counts as one such step.
STEP_S = 20.0
_UP, _DOWN = math.log(2.0), math.log(4.0)
_KEPT_BACK = 0.01
_BIAS_REQUESTS = 200.0
_BIAS_PRIOR_REQUESTS = 10.0
_BIAS_BOUNDS = (0.02, 50.0)
_FIRST_REQUESTS = 20.0
_CHANCE = 1.0
# Requests within which a mean spend that is off its target is to be back on it.
_MEAN_HORIZON = 250.0
_MEAN_BOUNDS = (0.1, 4.0)


@dataclass(frozen=True, slots=True)
class Range:
    """Mean USD per request at the cheap and at the dear end of a frontier."""

    cheapest_usd: float
    dearest_usd: float

    @property
    def middle_usd(self) -> float:
        """Where a controller begins that knows nothing."""
        return math.sqrt(max(self.cheapest_usd, 1e-12) * max(self.dearest_usd, 1e-12))

    def clip(self, usd: float) -> float:
        """The nearest mean cost that the frontier has."""
        return min(max(usd, self.cheapest_usd), self.dearest_usd)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a window has brought so far.

    Attributes
    ----------
    spent_usd, requests : all that counts against the budget
    reserved_usd : expected cost of what is in flight
    paced_usd, planned_usd : spend of the requests that were decided by this controller, and the sum of the targets
        that were in force when they were
    """

    spent_usd: float = 0.0
    requests: float = 0.0
    reserved_usd: float = 0.0
    paced_usd: float = 0.0
    planned_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The controller's state.

    Attributes
    ----------
    target_usd : mean cost per request to aim at, on the frontier's scale
    bias : real USD per USD of the frontier
    """

    at_s: float
    target_usd: float
    bias: float = 1.0
    _real: float = 0.0
    _planned: float = 0.0
    _before: Seen = Seen()


def start(range_: Range, seen: Seen, now_s: float) -> Pace:
    """A controller that begins, or begins again, on what its window has brought."""
    return _learned(Pace(now_s, range_.middle_usd), replace(seen, reserved_usd=0.0), range_)


def new_window(pace: Pace, seen: Seen) -> Pace:
    """The same controller in another window: what it learned stays, and is learned from that window only once.

    Parameters
    ----------
    seen : what the window has brought by now; nothing, unless a clock was set back
    """
    return replace(pace, _before=seen)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a window still brings.

    Attributes
    ----------
    requests : expected until its end
    observed : how many were ever seen, on which that rests
    first_usd : what a request may cost while nothing was; it counts as 20 requests do
    surge_usd : what those that may come beyond what is expected cost at the cheap end
    """

    requests: float
    observed: float
    first_usd: float
    surge_usd: float = 0.0


def per_request(budget_usd: float, seen: Seen, outlook: Outlook) -> float:
    """Real USD that one of the requests to come may cost."""
    left = budget_usd * (1.0 - _KEPT_BACK) - seen.spent_usd - seen.reserved_usd - outlook.surge_usd
    if left <= 0:
        return 0.0
    # Harmonic: the assumed request number is the one that makes a request cost first_usd.
    known = outlook.observed / (outlook.observed + _FIRST_REQUESTS)
    expected = max(outlook.requests, 1.0)
    # As many as chance may make of them; so the last of the money is not one request's either.
    count = known * (expected + _CHANCE * math.sqrt(expected)) + (1.0 - known) * left / max(outlook.first_usd, 1e-12)
    return left / count


def per_request_ignoring(budget_usd: float, seen: Seen, outlook: Outlook) -> float:
    """As :func:`per_request` where a spent budget is not to be felt: never below the window's mean."""
    usual = budget_usd / max(seen.requests + outlook.requests, 1.0)
    return max(per_request(budget_usd, seen, replace(outlook, surge_usd=0.0)), usual)


def per_request_of_mean(target_usd: float, seen: Seen) -> float:
    """Real USD that one of the next requests may cost, so that the mean of all comes back to its target."""
    owed = target_usd * seen.requests - seen.spent_usd
    low, high = _MEAN_BOUNDS
    return target_usd + min(max(owed / _MEAN_HORIZON, (low - 1.0) * target_usd), (high - 1.0) * target_usd)


def step(pace: Pace, real_usd: float, seen: Seen, range_: Range, now_s: float, *, bounded: bool = True) -> Pace:
    """Learn from what was spent since the last step, and move the target towards a real cost per request.

    Parameters
    ----------
    real_usd : what one request may cost, from one of the functions above
    bounded : False lets a controller that begins take the target at once

    Source: ours; a receding-horizon form of the dual ascent of online resource allocation.
    """
    learned = _learned(pace, seen, range_)
    wanted = range_.clip(real_usd / learned.bias)
    if not bounded:
        return replace(learned, at_s=now_s, target_usd=wanted)
    share = min(max(now_s - pace.at_s, 0.0), STEP_S) / STEP_S
    low, high = pace.target_usd * math.exp(-_DOWN * share), pace.target_usd * math.exp(_UP * share)
    return replace(learned, at_s=now_s, target_usd=range_.clip(min(max(wanted, low), high)))


def _learned(pace: Pace, seen: Seen, range_: Range) -> Pace:
    planned = max(seen.planned_usd - pace._before.planned_usd, 0.0)
    real = max(seen.paced_usd - pace._before.paced_usd, 0.0)
    if planned <= 0:
        return replace(pace, _before=seen)
    # Counted in typical requests, because a window's cheap end teaches less per request than its dear end.
    unit = range_.middle_usd
    keep = 0.5 ** (planned / unit / _BIAS_REQUESTS)
    real, planned = pace._real * keep + real, pace._planned * keep + planned
    prior = _BIAS_PRIOR_REQUESTS * unit
    low, high = _BIAS_BOUNDS
    bias = min(max((real + prior) / (planned + prior), low), high)
    return replace(pace, bias=bias, _real=real, _planned=planned, _before=seen)
