"""PURE. Policies over λ: reward against cost, the area under that, and savings at equal reward.

A policy over a grid of λ is a curve of (mean cost, mean reward). Between two neighbouring points, ordered by cost, lie
the coin-flip mixtures of their two λ. Nobody has to spend a budget to its end: where a dearer point earns less, a
cheaper one counts instead, and what a policy earns never falls as the budget grows. No concave hull is taken, which
would flatter a policy with more points. Below a curve's cheapest point lie mixtures with the cheapest single model,
which every pool has; beyond its dearest point it earns the most it earns anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.evaluation.contenders import Contender, OracleBracket
from erp_trainer.learning.bootstrap import Estimates, Resamples, difference
from erp_trainer.learning.training_table import TrainingTable


@dataclass(frozen=True, slots=True)
class Curve:
    """One policy at L values of λ, on all test prompts and in every resample.

    Attributes
    ----------
    lambdas : L, ascending; a single None where the policy does not look at cost
    reward, cost : Estimates of L figures; cost is NaN where any price is unknown
    regret_low, regret_high : Estimates of L figures, the oracle's bracket less the reward, never below 0
    gain : Estimates of L figures, reward less the best single model's on the same prompts
    share_LM : shape (L, M)
    prompts : how many test prompts could be counted
    """

    contender: Contender
    lambdas: tuple[float | None, ...]
    reward: Estimates
    cost: Estimates
    regret_low: Estimates
    regret_high: Estimates
    gain: Estimates
    share_LM: np.ndarray
    prompts: int

    def at(self, lambda_: float) -> int:
        """The index of a λ of the grid; 0 where the policy does not look at cost."""
        return self.lambdas.index(lambda_) if self.contender.by_lambda else 0

    def point(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Cost and reward at one λ, on all prompts and then in every resample, shape (1 + R,) each."""
        cost, reward = _rows(self.cost), _rows(self.reward)
        return cost[:, index], reward[:, index]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve as lines over cost, on all prompts (row 0) and in every resample (the other rows).

    Attributes
    ----------
    cost_RL, reward_RL : shape (1 + R, L), costs ascending in every row, and rewards never falling
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
        reward = np.maximum.accumulate(np.take_along_axis(reward, order, axis=1), axis=1)
        return cls(np.take_along_axis(cost, order, axis=1), reward)

    def reward_at(self, cost_R: np.ndarray) -> np.ndarray:
        """Reward at one cost per row, shape (1 + R,); beyond either end, that end's."""
        at = (self.cost_RL <= cost_R[:, None]).sum(axis=1)
        left, right = np.clip(at - 1, 0, None), np.clip(at, None, self.cost_RL.shape[1] - 1)
        start, end = _pick(self.cost_RL, left), _pick(self.cost_RL, right)
        along = np.divide(cost_R - start, end - start, out=np.zeros(len(cost_R)), where=end > start)
        low, high = _pick(self.reward_RL, left), _pick(self.reward_RL, right)
        return np.asarray(low + np.clip(along, 0.0, 1.0) * (high - low))

    def cost_of(self, reward_R: np.ndarray) -> np.ndarray:
        """The lowest cost at which a line earns so much, per row, shape (1 + R,); NaN where it never does."""
        enough = self.reward_RL >= reward_R[:, None]
        right = enough.argmax(axis=1)
        left = np.clip(right - 1, 0, None)
        low, high = _pick(self.reward_RL, left), _pick(self.reward_RL, right)
        along = np.divide(reward_R - low, high - low, out=np.ones(len(reward_R)), where=high > low)
        start, end = _pick(self.cost_RL, left), _pick(self.cost_RL, right)
        # The first point is reached without coming from anywhere.
        found = np.where(right == 0, end, start + along * (end - start))
        return np.where(enough.any(axis=1), found, np.nan)

    def area(self, low: float, high: float) -> np.ndarray:
        """Mean reward over budgets spread evenly from ``low`` to ``high``, per row, shape (1 + R,)."""
        cost, reward = self.cost_RL, self.reward_RL
        run = np.diff(cost, axis=1)
        slope = np.divide(np.diff(reward, axis=1), run, out=np.zeros_like(run), where=run > 0)
        inside = np.clip(cost, low, high)
        start, end = inside[:, :-1], inside[:, 1:]
        middle = reward[:, :-1] + ((start + end) / 2 - cost[:, :-1]) * slope
        total = (middle * (end - start)).sum(axis=1)
        total += (inside[:, 0] - low) * reward[:, 0] + (high - inside[:, -1]) * reward[:, -1]
        return np.asarray(total / (high - low))


def trace(
    contender: Contender,
    table: TrainingTable,
    lambdas: Sequence[float],
    resamples: Resamples,
    bracket: OracleBracket,
    baseline_P: np.ndarray,
) -> Curve:
    """Measure one policy at every λ.

    Parameters
    ----------
    bracket : what regret is measured against
    baseline_P : shape (P,), what the best single model earned; NaN where it has no outcome
    """
    grid: tuple[float | None, ...] = tuple(lambdas) if contender.by_lambda else (None,)
    outcomes = [contender.outcome(table, lambda_ or 0.0) for lambda_ in grid]
    reward_PL = np.stack([outcome.reward_P for outcome in outcomes], axis=1)
    cost_PL = np.stack([outcome.cost_P for outcome in outcomes], axis=1)
    present_PL = ~np.isnan(reward_PL)
    unknown_L = (np.isnan(cost_PL) & present_PL).any(axis=0)
    cost_PL = np.where(present_PL & ~unknown_L, cost_PL, np.nan)
    regrets = [difference(end_P[:, None], reward_PL) for end_P in (bracket.low_P, bracket.high_P)]
    figures = [reward_PL, cost_PL, *regrets, difference(reward_PL, baseline_P[:, None])]
    reward, cost, low, high, gain = _split(resamples.means(np.hstack(figures)), len(grid))
    return Curve(
        contender,
        grid,
        reward,
        cost,
        low.from_nought(),
        high.from_nought(),
        gain,
        share_LM=np.stack([outcome.share_M for outcome in outcomes]),
        prompts=int(present_PL[:, 0].sum()),
    )


def _split(estimates: Estimates, size: int) -> list[Estimates]:
    """Estimates of consecutive figures, ``size`` of them at a time."""
    starts = range(0, len(estimates.value_S), size)
    return [Estimates(estimates.value_S[i : i + size], estimates.resampled_RS[:, i : i + size]) for i in starts]


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


def _rows(estimates: Estimates) -> np.ndarray:
    return np.vstack([estimates.value_S[None], estimates.resampled_RS])


def _pick(values_RL: np.ndarray, at_R: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values_RL, at_R[:, None], axis=1)[:, 0]
