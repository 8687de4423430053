"""What could have been made of a simulated month by somebody who knew it: the yardsticks of the pacing benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.pacing.month import DAY_S, DAYS, START_S, Month, World
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.goal import Window
from litellm_erp.goals.windows import span

# A window may be overspent by so much.
ALLOWED = 0.02


@dataclass(frozen=True, eq=False)
class Hindsight:
    """A month under a spend window, with what every λ of a frontier's envelope would have brought.

    Attributes
    ----------
    window_R : shape (R,), int; which of the W windows a request falls into
    first_at_W : shape (W,), Unix seconds, a window's first request
    cost_OR, reward_OR : shape (O, R), of O ways to route: the cheapest model for everything, then λ from high to low
    """

    window: Window
    budget_usd: float
    window_R: np.ndarray
    first_at_W: np.ndarray
    cost_OR: np.ndarray
    reward_OR: np.ndarray

    @classmethod
    def of(cls, window: Window, budget_usd: float, drawn: Month, world: World, frontier: Frontier) -> Hindsight:
        """Route the month at every λ."""
        p, rows = drawn.prompt_R, np.arange(len(drawn.at_R))
        options = [world.cheapest_P, *(world.choice[float(frontier.lambda_L[i])] for i in frontier.envelope)]
        cost = np.stack([world.cost_PM[p, m[p]] * drawn.factor_RM[rows, m[p]] for m in options])
        reward = np.stack([world.reward_PM[p, m[p]] for m in options])
        window_R = windows(window, drawn.at_R)
        first_at_W = drawn.at_R[np.unique(window_R, return_index=True)[1]]
        return cls(window, budget_usd, window_R, first_at_W, cost, reward)

    def by_window(self, value_R: np.ndarray) -> np.ndarray:
        """Sums, shape (W,)."""
        return np.bincount(self.window_R, value_R)

    def so_far(self, value_R: np.ndarray) -> np.ndarray:
        """Sum of a request's window up to and with it, shape (R,)."""
        total_R = np.cumsum(value_R)
        starts = np.unique(self.window_R, return_index=True)[1]
        return np.asarray(total_R - (total_R - value_R)[starts][self.window_R])

    @property
    def cheapest_W(self) -> np.ndarray:
        """What the cheapest model alone would have spent, shape (W,)."""
        return self.by_window(self.cost_OR[0])

    @property
    def meetable_W(self) -> np.ndarray:
        """Whether the cheapest model alone, from a window's first request, would have kept its budget."""
        return self.cheapest_W <= self.budget_usd

    @property
    def whole_W(self) -> np.ndarray:
        """Whether a window lies in the month with both ends, shape (W,)."""
        spans = [span(self.window.per, self.window.timezone, at) for at in self.first_at_W.tolist()]
        return np.array([s.start_s >= START_S and s.end_s <= START_S + DAYS * DAY_S for s in spans])

    @property
    def spendable_W(self) -> np.ndarray:
        """What could have been spent of each budget, shape (W,): the dearest routing may not reach it."""
        return np.minimum(self.by_window(self.cost_OR[-1]), self.budget_usd)

    def fixed(self) -> tuple[float, float]:
        """Reward of the cheapest model, and of the best fixed λ among those that keep the windows that can be kept.

        Returns
        -------
        the two sums, equal where no λ does better than the cheapest model
        """
        found = [self._enforced(o) for o in range(len(self.cost_OR))]
        return found[0][0], max(reward for i, (reward, spent_W) in enumerate(found) if i == 0 or self._keeps(spent_W))

    def _keeps(self, spent_W: np.ndarray) -> bool:
        return bool(np.all(spent_W[self.meetable_W] <= (1 + ALLOWED) * self.budget_usd))

    def _enforced(self, option: int) -> tuple[float, np.ndarray]:
        """Reward and spend by window of one λ, with ``on_exhausted`` once a window's money is gone."""
        cost_R, reward_R = self.cost_OR[option], self.reward_OR[option]
        gone_R = self.so_far(cost_R) - cost_R >= self.budget_usd
        instead = (0.0, 0.0) if self.window.on_exhausted == "reject" else (self.cost_OR[0], self.reward_OR[0])
        cost_R, reward_R = np.where(gone_R, instead[0], cost_R), np.where(gone_R, instead[1], reward_R)
        return float(reward_R.sum()), self.by_window(cost_R)

    def ideal(self) -> float:
        """Reward of the best mixture of two λ for every window of its own."""
        cost = np.stack([self.by_window(c) for c in self.cost_OR])
        reward = np.stack([self.by_window(r) for r in self.reward_OR])
        return sum(_best_mixture(cost[:, w], reward[:, w], self.budget_usd) for w in range(cost.shape[1]))


def windows(window: Window, at_R: np.ndarray) -> np.ndarray:
    """Shape (R,), int: which window each moment falls into; moments ascend."""
    starts = [span(window.per, window.timezone, float(at_R[0])).start_s]
    while (end := span(window.per, window.timezone, starts[-1]).end_s) <= at_R[-1]:
        starts.append(end)
    return np.unique(np.searchsorted(starts, at_R, side="right"), return_inverse=True)[1]


def _best_mixture(cost: np.ndarray, reward: np.ndarray, budget: float) -> float:
    """Highest mean of one or two points whose cost fits; the cheapest point's reward where none does."""
    if cost.min() > budget:
        return float(reward[np.argmin(cost)])
    best = float(reward[cost <= budget].max())
    for i in np.flatnonzero(cost <= budget):
        for j in np.flatnonzero(cost > budget):
            share = (budget - cost[i]) / (cost[j] - cost[i])
            best = max(best, float(reward[i] + share * (reward[j] - reward[i])))
    return best
