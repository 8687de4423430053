"""PURE. Which model is tried in the place of the best one, so that something is learned of it: Thompson sampling.

A share of requests goes to the best model of a draw, with each model's expected reward drawn from what is believed of
it. The draws are a finite set, fixed by the models' names, and a request has one of them, each as probable as the
others; so how probable each model is follows by counting, exactly.

What exploring costs is held back by an `Allowance`: what it does not cover is out of all draws alike.

Source: Thompson (1933); each model's normals are stratified, one of every ``1/DRAWS`` of the distribution (McKay,
Beckman and Conover, 1979). The finite set and the allowance are ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from litellm_erp.choice.decision import REQUESTS_PER_LAMBDA_UNIT, first_choices

DRAWS = 256
# So many requests' allowance may be saved up: enough for a dear model, and no month of thrift is spent in an hour.
CARRIED = 10_000
_NORMALS = np.array([NormalDist().inv_cdf((i + 0.5) / DRAWS) for i in range(DRAWS)], dtype=np.float32)
_FURTHEST = float(_NORMALS[-1])


@lru_cache(maxsize=2048)
def normals(name: str) -> np.ndarray:
    """Shape (DRAWS,), float32, standard normal: how far off a model's expected reward is in each draw."""
    seed = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    found = np.random.default_rng(seed).permutation(_NORMALS)
    found.flags.writeable = False
    return found


def choices(
    reward_M: np.ndarray,
    std_M: np.ndarray,
    cost_M: np.ndarray,
    lambda_: float,
    *,
    greedy: int,
    names: Sequence[str],
    tie_order_M: np.ndarray,
    allowed_M: np.ndarray,
    allowance: float,
    cost_scale: float = REQUESTS_PER_LAMBDA_UNIT,
) -> np.ndarray:
    """The choice of every draw among the models that may be tried, by the rules of `decision.rank`.

    Parameters
    ----------
    reward_M, std_M : what is believed of the models' mean rewards, in reward units
    cost_M : expected, NaN where unknown: such a model is not tried, for nobody knows what that costs
    greedy : the choice without exploring; it may always be chosen
    tie_order_M : see ``decision.name_order``
    allowed_M : bool, those that stand no lower than the greedy one by tier, and are not excluded
    allowance : by how much a choice may be dearer than the greedy one

    Returns
    -------
    shape (DRAWS,), int, positions
    """
    with np.errstate(invalid="ignore"):
        may_M = allowed_M & (cost_M - cost_M[greedy] <= allowance) & ~np.isnan(reward_M)
    may_M[greedy] = True
    utility_M = np.where(may_M, reward_M - lambda_ * cost_scale * np.nan_to_num(cost_M), -np.inf)
    reach_M = _FURTHEST * std_M
    # No draw is further off than the furthest: whoever cannot win then never does. A little slack for rounding.
    may_M &= utility_M + reach_M >= (utility_M - reach_M).max() - 1e-9 * (1.0 + np.abs(reward_M))
    few = np.flatnonzero(may_M)
    if len(few) < 2:
        return np.full(DRAWS, greedy if not len(few) else few[0])
    drawn_SC = reward_M[few] + std_M[few] * np.stack([normals(names[i]) for i in few.tolist()], axis=1)
    one = np.ones((DRAWS, 1))
    found = first_choices(drawn_SC, cost_M[few], lambda_, [one], tie_order_M=tie_order_M[few], cost_scale=cost_scale)
    return few[found[0]]


class Allowance:
    """What exploring may still cost: a share of what requests are expected to cost without it, in their unit.

    At every moment the explored choices have been expected to cost at most ``share`` times what the greedy ones would
    have, in all and since any earlier moment, there plus what was saved up. What a cheaper choice saves counts too.

    Parameters
    ----------
    share : at least 0
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = 0.0
        self._requests = 0
        self._mean = 0.0

    def at(self, greedy_cost: float) -> float:
        """What is left for a request that is expected to cost so much without exploring; changes nothing."""
        if not math.isfinite(greedy_cost):
            return 0.0
        mean = self._mean + (greedy_cost - self._mean) / (self._requests + 1)
        return min(self._left + self._share * greedy_cost, CARRIED * self._share * mean)

    def count(self, greedy_cost: float, extra_cost: float) -> None:
        """Count a request, and by how much its choice is expected to be dearer than the greedy one."""
        if not (math.isfinite(greedy_cost) and math.isfinite(extra_cost)):
            return
        left = self.at(greedy_cost)
        self._requests += 1
        self._mean += (greedy_cost - self._mean) / self._requests
        self._left = min(left - extra_cost, CARRIED * self._share * self._mean)


@dataclass(slots=True)
class Trial:
    """A request that may explore.

    Attributes
    ----------
    draw : the request's own number in [0, 1), independent of all else
    serves : whether what is decided serves it; else the decision only says what would have been
    allowance : what was left when it was decided first; later picks decide by it too, and count nothing
    """

    draw: float
    serves: bool = True
    allowance: float | None = None

    def place(self, share: float) -> int | None:
        """Which of the draws the request has; None where it is not of the share that explores."""
        if not self.serves or self.draw >= share:
            return None
        return min(int(self.draw / share * DRAWS), DRAWS - 1)
