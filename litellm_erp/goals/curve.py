"""λ read off a bundle's frontier, the out-of-fold curve of mean reward and mean cost over λ.

A curve of finitely many λ hits few costs; what lies between two of them is reached by giving some requests the one λ
and the others the other: the *upper concave envelope* of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle.frontier import Frontier


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


def one_lambda(frontier: Frontier, lambda_: float) -> Solution:
    """One λ for everybody; between two points of the curve its reward and cost are read off the line between them."""
    right = min(int(np.searchsorted(frontier.lambda_L, lambda_)), len(frontier.lambda_L) - 1)
    left = max(right - 1, 0)
    gap = frontier.lambda_L[right] - frontier.lambda_L[left]
    weight = 1.0 if gap == 0 else min(1.0, float((lambda_ - frontier.lambda_L[left]) / gap))
    found = between(frontier, left, right, weight, reached=True)
    return Solution(Mixture.of(lambda_), found.reward, found.cost, True, found.points)


def on_envelope(
    frontier: Frontier, hull: np.ndarray, values_V: np.ndarray, target: float, *, at_least: bool
) -> Solution:
    """Where the envelope has a value, which rises along it: exactly there, or at the end that is nearest."""
    if target <= values_V[0]:
        # A mean of equal costs may differ from them in its last digit.
        reached = bool(at_least or np.isclose(target, values_V[0], rtol=1e-9, atol=0.0))
        return between(frontier, hull[0], hull[0], 0.0, reached=reached)
    if target >= values_V[-1]:
        reached = bool(not at_least or target == values_V[-1])
        return between(frontier, hull[-1], hull[-1], 0.0, reached=reached)
    right = int(np.searchsorted(values_V, target))
    weight = (target - values_V[right - 1]) / (values_V[right] - values_V[right - 1])
    return between(frontier, hull[right - 1], hull[right], float(weight), reached=True)


def between(frontier: Frontier, a: int, b: int, weight_b: float, *, reached: bool) -> Solution:
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
