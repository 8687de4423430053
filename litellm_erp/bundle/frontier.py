"""PURE. The curve a bundle's λ are solved on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# Of rewards, costs and weights: their products with each other and with λ stay within a double.
LARGEST = 1e15


@dataclass(frozen=True)
class Frontier:
    """Out-of-fold curve of the safe policy over λ, and the single models beside it.

    Attributes
    ----------
    lambda_L : shape (L,), ascending from 0, reward units per USD per 1,000 requests
    reward_L, cost_L : shape (L,), mean reward and mean cost per request of what the policy chooses
    shrinkage_L : shape (L,), in [0, 1]; how far probes are believed at each λ, 0 meaning the best single model
    single_reward_M, single_cost_M : shape (M,), the same means for always choosing one model
    document : the whole of frontier.json, with intervals, shares and the verdict
    """

    lambda_L: np.ndarray
    reward_L: np.ndarray
    cost_L: np.ndarray
    shrinkage_L: np.ndarray
    single_reward_M: np.ndarray
    single_cost_M: np.ndarray
    document: Mapping[str, Any]

    def chooses(self, model: str, lambda_: float) -> bool:
        """Whether a pool model got some prompts at the λ of the curve that are next to one."""
        above = int(np.searchsorted(self.lambda_L, lambda_))
        near = {max(above - 1, 0), min(above, len(self.lambda_L) - 1)}
        return any(self.document["points"][i]["share"].get(model, 0.0) > 0 for i in near)

    def shrinkage(self, lambda_: float) -> float:
        """Shrinkage at any λ: the smaller of the two neighbouring grid points', so never bolder than either."""
        # Asked for on every request, where plain numbers cost less than numpy's calls.
        lambdas, shrinkages = self._steps
        right = bisect_left(lambdas, lambda_)
        if right == len(lambdas):
            return shrinkages[-1]
        if lambdas[right] == lambda_:
            return shrinkages[right]
        return min(shrinkages[right - 1], shrinkages[right])

    @cached_property
    def _steps(self) -> tuple[list[float], list[float]]:
        return self.lambda_L.tolist(), self.shrinkage_L.tolist()

    @cached_property
    def envelope(self) -> np.ndarray:
        """The curve's upper concave hull, shape (V,), see `upper_hull`; empty where no cost is known."""
        # Of equal points the one with the highest λ.
        return len(self.cost_L) - 1 - upper_hull(self.cost_L[::-1], self.reward_L[::-1])


def upper_hull(cost_N: np.ndarray, reward_N: np.ndarray) -> np.ndarray:
    """Points of the upper concave hull of reward over cost, from the cheapest to the one with the highest reward.

    Parameters
    ----------
    cost_N, reward_N : shape (N,), in any order; points without a finite cost and reward are left out

    Returns
    -------
    shape (V,), int, indices; cost and reward both rise along it, and of equal points it has the first

    Source: the monotone chain (Andrew, 1979).
    """

    def slope(a: int, b: int) -> float:
        return float((reward_N[b] - reward_N[a]) / (cost_N[b] - cost_N[a]))

    known = np.flatnonzero(np.isfinite(cost_N) & np.isfinite(reward_N))
    hull: list[int] = []
    for point in known[np.lexsort((-reward_N[known], cost_N[known]))].tolist():
        if hull and reward_N[point] <= reward_N[hull[-1]]:
            continue
        while len(hull) >= 2 and slope(hull[-2], hull[-1]) <= slope(hull[-2], point):
            hull.pop()
        hull.append(point)
    return np.array(hull, dtype=np.intp)
