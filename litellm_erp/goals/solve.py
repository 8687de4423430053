"""The λ that meets a goal.

Everything is solved on a bundle's frontier, the out-of-fold curve of mean reward and mean cost over λ, so
nothing here looks at a request. A curve of finitely many λ hits few costs; what lies between two of them is reached by
giving some requests the one λ and the others the other: the *upper concave envelope* of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.goal import Goal


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two neighbouring λ: a share of the requests gets the higher, the others the lower.

    Attributes
    ----------
    share_high : in [0, 1]
    """

    low: float
    high: float
    share_high: float

    @classmethod
    def of(cls, lambda_: float) -> Mixture:
        """One λ for everybody."""
        return cls(lambda_, lambda_, 0.0)

    def at(self, u: float) -> float:
        """λ of the request that drew ``u``, uniform in [0, 1)."""
        return self.high if u < self.share_high else self.low


@dataclass(frozen=True, slots=True)
class Solution:
    """The λ, or the two, that meet a goal, and what the frontier expects of them.

    Attributes
    ----------
    reward, cost : mean reward and mean cost of a request; a cost is NaN where prices are unknown
    points : the curve's points it is made of and their weights, to read anything else off them
    """

    mixture: Mixture
    reward: float
    cost: float
    reached: bool
    points: tuple[tuple[int, float], ...]

    @property
    def lambda_(self) -> float:
        """The λ that most requests get."""
        return self.mixture.high if self.mixture.share_high > 0.5 else self.mixture.low


def solve(goal: Goal, frontier: Frontier) -> Solution:
    """Find the λ of a goal on a frontier.

    A budget takes the highest mean reward whose mean cost fits; a quality floor takes the lowest mean cost
    whose mean reward is at least R_cheapest + q · (R_best − R_cheapest); both on the envelope. Where no point meets
    the goal, the nearest is taken and ``reached`` is False. A sum of money per window (``budget_usd``) says nothing of
    a request's cost before there is traffic: it starts from the curve's best reward, and pacing does the rest.

    Source: arXiv 2603.20217, eq. 4 and 6: λ is the multiplier of the budget constraint.
    """
    if goal.form == "lambda":
        return _at_lambda(frontier, goal.value)
    hull = frontier.envelope
    if len(hull) == 0:
        return _between(frontier, 0, 0, 0.0, reached=False)
    if goal.form == "budget_usd":
        return _between(frontier, hull[-1], hull[-1], 0.0, reached=True)
    if goal.form == "min_quality":
        return _on(frontier, hull, frontier.reward_L[hull], quality_floor(frontier, goal.value), at_least=True)
    return _on(frontier, hull, frontier.cost_L[hull], goal.value / 1000.0, at_least=False)


def at_lambdas(frontier: Frontier, parts: Sequence[tuple[float, float]], *, reached: bool = True) -> Solution:
    """What a frontier expects of several λ, each for a share of the requests.

    Parameters
    ----------
    parts : each λ and its share, highest λ first; shares sum to 1
    """
    found = [(_at_lambda(frontier, lambda_), share) for lambda_, share in parts]
    points: dict[int, float] = {}
    for solution, share in found:
        for point, weight in solution.points:
            points[point] = points.get(point, 0.0) + share * weight
    return Solution(
        # Between the highest and the lowest there may be one more, where a budget stands above a budget.
        Mixture(parts[-1][0], parts[0][0], 0.0 if len(parts) == 1 else 1.0 - parts[-1][1]),
        reward=float(sum(share * solution.reward for solution, share in found)),
        cost=float(sum(share * solution.cost for solution, share in found)),
        reached=reached,
        points=tuple(points.items()),
    )


def quality_floor(frontier: Frontier, share: float) -> float:
    """Mean reward ``share`` of the way from the cheapest single model to the best, in reward units."""
    known = np.where(np.isnan(frontier.single_cost_M), np.inf, frontier.single_cost_M)
    cheapest = frontier.single_reward_M[np.argmin(known)]
    best = frontier.single_reward_M.max()
    return float(cheapest + share * (best - cheapest))


def reachable(goal: Goal, frontier: Frontier) -> str | None:
    """What can be reached, where a goal cannot; None where it can."""
    if solve(goal, frontier).reached:
        return None
    hull = frontier.envelope
    if len(hull) == 0:
        return f"{goal.form} {goal.value:g} cannot be met: no cost is known; fit with --prices"
    cheap, best = (
        f"{frontier.cost_L[i] * 1000:.4g} per 1,000 requests at mean reward {frontier.reward_L[i]:.4g}"
        for i in (hull[0], hull[-1])
    )
    return f"{goal.form} {goal.value:g} cannot be reached; what can: from {cheap} to {best}"


def _on(frontier: Frontier, hull: np.ndarray, values_V: np.ndarray, target: float, *, at_least: bool) -> Solution:
    """Where the envelope has a value, which rises along it: exactly there, or at the end that is nearest."""
    if target <= values_V[0]:
        # A mean of equal costs may differ from them in its last digit.
        reached = bool(at_least or np.isclose(target, values_V[0], rtol=1e-9, atol=0.0))
        return _between(frontier, hull[0], hull[0], 0.0, reached=reached)
    if target >= values_V[-1]:
        reached = bool(not at_least or target == values_V[-1])
        return _between(frontier, hull[-1], hull[-1], 0.0, reached=reached)
    right = int(np.searchsorted(values_V, target))
    weight = (target - values_V[right - 1]) / (values_V[right] - values_V[right - 1])
    return _between(frontier, hull[right - 1], hull[right], float(weight), reached=True)


def _between(frontier: Frontier, a: int, b: int, weight_b: float, *, reached: bool) -> Solution:
    """The mixture of two points of the curve; ``weight_b`` of the requests get the second's λ."""
    (low, weight_low), (high, weight_high) = sorted(
        ((int(a), 1.0 - weight_b), (int(b), weight_b)), key=lambda part: frontier.lambda_L[part[0]]
    )
    points = ((low, 1.0),) if low == high else ((low, weight_low), (high, weight_high))
    return Solution(
        Mixture(float(frontier.lambda_L[low]), float(frontier.lambda_L[high]), 0.0 if low == high else weight_high),
        reward=float(sum(weight * frontier.reward_L[point] for point, weight in points)),
        cost=float(sum(weight * frontier.cost_L[point] for point, weight in points)),
        reached=reached,
        points=points,
    )


def _at_lambda(frontier: Frontier, lambda_: float) -> Solution:
    """One λ for everybody; between two points of the curve its reward and cost are read off the line between them."""
    right = min(int(np.searchsorted(frontier.lambda_L, lambda_)), len(frontier.lambda_L) - 1)
    left = max(right - 1, 0)
    gap = frontier.lambda_L[right] - frontier.lambda_L[left]
    weight = 1.0 if gap == 0 else min(1.0, float((lambda_ - frontier.lambda_L[left]) / gap))
    found = _between(frontier, left, right, weight, reached=True)
    return Solution(Mixture.of(lambda_), found.reward, found.cost, True, found.points)
