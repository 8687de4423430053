"""PURE. Policies over λ: reward against cost, the area under that, and savings at equal reward.

A policy over a grid of λ is a curve of (mean cost, mean reward). Between two neighbouring points, ordered by cost, lie
the coin-flip mixtures of their two λ. Nothing is picked from a curve by its test reward: no hull is taken, so that a
policy with more points is not flattered. Below a curve's cheapest point lie mixtures with the cheapest single model,
which every pool has; beyond its dearest point it earns what it earns there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.evaluation.bootstrap import Estimates, Interval, Resamples
from erp_trainer.evaluation.contender import Contender
from erp_trainer.evaluation.table import Table


@dataclass(frozen=True, slots=True)
class Curve:
    """One policy at L values of λ, on all test prompts and in every resample.

    Attributes
    ----------
    lambdas : L, ascending; a single None where the policy does not look at cost
    reward, cost, regret : Estimates of L figures; cost is NaN where any price is unknown
    share_LM : shape (L, M)
    prompts : how many test prompts could be counted
    """

    contender: Contender
    lambdas: tuple[float | None, ...]
    reward: Estimates
    cost: Estimates
    regret: Estimates
    share_LM: np.ndarray
    prompts: int

    def at(self, lambda_: float) -> int:
        """The index of a λ of the grid; 0 where the policy does not look at cost."""
        return self.lambdas.index(lambda_) if self.contender.by_lambda else 0


@dataclass(frozen=True, slots=True)
class Line:
    """A curve as lines over cost, on all prompts (row 0) and in every resample (the other rows).

    Attributes
    ----------
    cost_RL, reward_RL : shape (1 + R, L), costs ascending in every row
    """

    cost_RL: np.ndarray
    reward_RL: np.ndarray

    @classmethod
    def of(cls, curve: Curve, cheapest: Curve) -> Line:
        """Order a curve by cost, from the cheapest single model on."""
        cost, reward = _rows(curve.cost), _rows(curve.reward)
        start_cost, start_reward = _rows(cheapest.cost), _rows(cheapest.reward)
        above = start_cost[:, 0] < cost.min(axis=1)
        # Where the curve itself goes as low, its own cheapest point is repeated, which changes nothing.
        own = np.argmin(cost, axis=1)[:, None]
        start_cost = np.where(above[:, None], start_cost, np.take_along_axis(cost, own, axis=1))
        start_reward = np.where(above[:, None], start_reward, np.take_along_axis(reward, own, axis=1))
        cost, reward = np.hstack([start_cost, cost]), np.hstack([start_reward, reward])
        order = np.argsort(cost, axis=1, kind="stable")
        return cls(np.take_along_axis(cost, order, axis=1), np.take_along_axis(reward, order, axis=1))

    def reward_at(self, cost_R: np.ndarray) -> np.ndarray:
        """Reward at one cost per row, shape (1 + R,)."""
        rows = zip(cost_R, self.cost_RL, self.reward_RL, strict=True)
        return np.array([np.interp(at, cost, reward) for at, cost, reward in rows])

    def cost_of(self, reward_R: np.ndarray) -> np.ndarray:
        """The lowest cost at which a line earns so much, per row, shape (1 + R,); NaN where it never does."""
        return np.array([_first_reach(*row) for row in zip(reward_R, self.cost_RL, self.reward_RL, strict=True)])

    def area(self, low: float, high: float) -> np.ndarray:
        """Mean reward over budgets spread evenly from ``low`` to ``high``, per row, shape (1 + R,)."""
        return np.array(
            [_area(cost, reward, low, high) for cost, reward in zip(self.cost_RL, self.reward_RL, strict=True)]
        )


def trace(
    contender: Contender,
    table: Table,
    lambdas: Sequence[float],
    resamples: Resamples,
    oracle_P: np.ndarray,
) -> Curve:
    """Measure one policy at every λ.

    Parameters
    ----------
    oracle_P : shape (P,), what regret is measured against; NaN where that is not known
    """
    grid: tuple[float | None, ...] = tuple(lambdas) if contender.by_lambda else (None,)
    outcomes = [contender.outcome(table, lambda_ or 0.0) for lambda_ in grid]
    reward_PL = np.stack([outcome.reward_P for outcome in outcomes], axis=1)
    cost_PL = np.stack([outcome.cost_P for outcome in outcomes], axis=1)
    present_PL = ~np.isnan(reward_PL)
    unknown_L = (np.isnan(cost_PL) & present_PL).any(axis=0)
    cost_PL = np.where(present_PL & ~unknown_L, cost_PL, np.nan)
    return Curve(
        contender,
        grid,
        reward=resamples.means(reward_PL),
        cost=resamples.means(cost_PL),
        regret=resamples.means(oracle_P[:, None] - reward_PL),
        share_LM=np.stack([outcome.share_M for outcome in outcomes]),
        prompts=int(present_PL[:, 0].sum()),
    )


def oracle(table: Table) -> tuple[np.ndarray, str]:
    """What the best model of each prompt earns, shape (P,), and how that was found.

    ``split-sample``: the model is chosen on one half of the samples and scored on the other, both ways, because the
    largest of noisy means is too large; NaN at prompts where a model has no two samples. ``ex-post``: the largest
    recorded mean, where no prompt has two samples of every model on record.

    Source: ours, for arXiv 2603.20217, eq. 5.
    """
    halves = table.halves()
    if halves is not None:
        first, second = halves
        whole = (np.isnan(first) == np.isnan(table.rewards_PM)) & (np.isnan(second) == np.isnan(table.rewards_PM))
        rows = whole.all(axis=1)
        if rows.any():
            found = np.full(len(table), np.nan)
            found[rows] = (_scored(first[rows], second[rows]) + _scored(second[rows], first[rows])) / 2
            return found, "split-sample"
    return np.nanmax(table.rewards_PM, axis=1), "ex-post"


def _scored(chosen_on: np.ndarray, scored_on: np.ndarray) -> np.ndarray:
    best = np.nanargmax(chosen_on, axis=1)[:, None]
    return np.take_along_axis(scored_on, best, axis=1)[:, 0]


def pareto(curves: Sequence[Curve]) -> list[np.ndarray]:
    """Which points of each curve no point of any of them beats, shape (L,), bool.

    A point is beaten by one that costs no more and earns no less, and is better in one of the two. Points without a
    known cost, and curves of kind ``bound``, neither beat nor are marked.
    """
    counted = [curve.contender.kind != "bound" for curve in curves]
    cost = np.concatenate([np.where(c, curve.cost.value_S, np.nan) for c, curve in zip(counted, curves, strict=True)])
    reward = np.concatenate([curve.reward.value_S for curve in curves])
    known = np.flatnonzero(~np.isnan(cost))
    best = np.zeros(len(cost), dtype=bool)
    for i in known:
        no_worse = (cost[known] <= cost[i]) & (reward[known] >= reward[i])
        better = (cost[known] < cost[i]) | (reward[known] > reward[i])
        best[i] = not (no_worse & better).any()
    return np.split(best, np.cumsum([len(curve.lambdas) for curve in curves])[:-1])


def mixture_vertices(cost_M: np.ndarray, reward_M: np.ndarray) -> list[int]:
    """The models whose mixtures earn most at each mean cost, by ascending cost; empty where costs are not known.

    Parameters
    ----------
    cost_M, reward_M : shape (M,), train means of the single models
    """
    known = np.flatnonzero(~np.isnan(cost_M) & ~np.isnan(reward_M))
    hull: list[int] = []
    for m in known[np.lexsort((-reward_M[known], cost_M[known]))].tolist():
        if hull and reward_M[m] <= reward_M[hull[-1]]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], m, cost_M, reward_M):
            hull.pop()
        hull.append(m)
    return hull


def _below(a: int, b: int, c: int, cost_M: np.ndarray, reward_M: np.ndarray) -> bool:
    """Whether b lies on or below the line from a to c."""
    rise = (reward_M[c] - reward_M[a]) * (cost_M[b] - cost_M[a])
    return bool((reward_M[b] - reward_M[a]) * (cost_M[c] - cost_M[a]) <= rise)


def _rows(estimates: Estimates) -> np.ndarray:
    return np.vstack([estimates.value_S[None], estimates.resampled_RS])


def as_interval(value_R: np.ndarray) -> Interval:
    """Row 0 with the interval of the other rows."""
    return Estimates(value_R[:1], value_R[1:, None]).intervals()[0]


def _first_reach(reward: float, cost_L: np.ndarray, reward_L: np.ndarray) -> float:
    enough = np.flatnonzero(reward_L >= reward)
    if not enough.size:
        return float("nan")
    first = int(enough[0])
    if first == 0 or reward_L[first] == reward_L[first - 1]:
        return float(cost_L[first])
    along = (reward - reward_L[first - 1]) / (reward_L[first] - reward_L[first - 1])
    return float(cost_L[first - 1] + along * (cost_L[first] - cost_L[first - 1]))


def _area(cost_L: np.ndarray, reward_L: np.ndarray, low: float, high: float) -> float:
    at = np.concatenate([[low], cost_L[(cost_L > low) & (cost_L < high)], [high]])
    reward = np.interp(at, cost_L, reward_L)
    return float(((reward[1:] + reward[:-1]) / 2 * np.diff(at)).sum() / (high - low))
