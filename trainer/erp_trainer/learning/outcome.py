"""PURE. What each policy would have earned and cost on recorded outcomes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from erp_trainer.learning.training_table import TrainingTable


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """One policy on P prompts.

    Attributes
    ----------
    lambda_ : the λ it chose at; None for policies that do not look at cost
    reward_P, cost_P : shape (P,), recorded reward and realised cost of what it chose
    share_M : shape (M,), how often it chose each model; sums to 1
    """

    lambda_: float | None
    reward_P: np.ndarray
    cost_P: np.ndarray
    share_M: np.ndarray


def best_single(table: TrainingTable) -> int:
    """The model with the highest mean reward; among equals the cheaper one, then the first by name.

    Means are equal that differ by no more than the rounding of their sums.
    """
    reward_M = np.nan_to_num(table.mean_reward_M, nan=-np.inf)
    return best_of(reward_M, table.mean_cost_M, table.tie_order_M)


def best_of(reward_M: np.ndarray, cost_M: np.ndarray, order_M: np.ndarray) -> int:
    """The highest of M rewards; among equals the lowest cost (unknown last), then the first in an order."""
    top = np.nanmax(reward_M)
    equal = np.flatnonzero(np.isclose(reward_M, top, rtol=1e-12, atol=0.0))
    dear = np.nan_to_num(cost_M[equal], nan=np.inf)
    return int(equal[np.lexsort((order_M[equal], dear))[0]])


def filled(table: TrainingTable, predicted_PM: np.ndarray) -> TrainingTable:
    """The table with what is expected of the outcomes that are missing, so that all models count on the same prompts.

    Per model, the line from predictions to its rewards where it has some, and expected costs times what its answers
    cost against them. Models without predictions or costs stay as they are. A table that misses nothing is returned.

    Parameters
    ----------
    predicted_PM : out of fold, in any unit
    """
    missing = np.isnan(table.rewards_PM)
    if not missing.any():
        return table
    rewards, costs = table.rewards_PM.astype(np.float64), table.realised_cost_PM.astype(np.float64)
    for m in np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)):
        gap, known = missing[:, m], ~missing[:, m]
        rewards[gap, m] = _on_line(predicted_PM[known, m], rewards[known, m], predicted_PM[gap, m])
        expected = table.expected_cost_PM[:, m]
        spent = expected[known].mean()
        costs[gap, m] = expected[gap] * (costs[known, m].mean() / spent if spent else 1.0)
    return replace(table, rewards_PM=rewards, realised_cost_PM=costs)


def _on_line(x_K: np.ndarray, y_K: np.ndarray, x_N: np.ndarray) -> np.ndarray:
    """The least squares line through known points, elsewhere; level where it would fall, and within what is known."""
    centred = x_K - x_K.mean()
    spread = float(centred @ centred)
    slope = max(float(centred @ y_K) / spread, 0.0) if spread > 0 else 0.0
    return np.asarray(np.clip(y_K.mean() + slope * (x_N - x_K.mean()), y_K.min(), y_K.max()))


def chosen(table: TrainingTable, choice_P: np.ndarray, lambda_: float | None = None) -> PolicyOutcome:
    """The outcome of a choice of one model per prompt."""
    return PolicyOutcome(lambda_, table.reward_of(choice_P), table.cost_of(choice_P), shares(table, choice_P))


def shares(table: TrainingTable, choice_P: np.ndarray) -> np.ndarray:
    """How often a choice is each model, shape (M,)."""
    return np.bincount(choice_P, minlength=len(table.models)) / len(choice_P)


def single(table: TrainingTable, model: int) -> PolicyOutcome:
    """Always the same model; where it has no outcome, nothing is counted."""
    share = np.zeros(len(table.models))
    share[model] = 1.0
    return PolicyOutcome(None, table.rewards_PM[:, model], table.realised_cost_PM[:, model], share)


def uniform(table: TrainingTable) -> PolicyOutcome:
    """Any model with equal chance, in expectation."""
    return _mixture(table, np.ones(len(table.models)), None)


def category_best(table: TrainingTable, train: TrainingTable, lambda_: float) -> PolicyOutcome:
    """The model with the best mean utility in the prompt's category on train; it knows the category.

    A category that train lacks gets the best model overall. Source: arXiv 2603.20217, section 4.3.
    """
    utility = train.rewards_PM - lambda_ * train.cost_scale * np.nan_to_num(train.realised_cost_PM)
    overall = np.nanmean(utility, axis=0)
    predicted = np.broadcast_to(overall, table.rewards_PM.shape).copy()
    for name in np.unique(train.categories_P):
        inside = utility[train.categories_P == name]
        counts = (~np.isnan(inside)).sum(axis=0)
        means = np.where(counts > 0, np.nansum(inside, axis=0) / np.maximum(counts, 1), overall)
        predicted[table.categories_P == name] = means
    # Cost is already in the means, so it must not be subtracted again.
    return chosen(table, table.choose(predicted, 0.0), lambda_)


def permuted(table: TrainingTable, choice_P: np.ndarray, lambda_: float | None = None) -> PolicyOutcome:
    """A policy's choices dealt to the prompts at random, in expectation: its shares of models without its insight.

    Among the models that a prompt has outcomes of, the shares are scaled to sum to 1.

    Source: arXiv 2603.20217, section 4.3.
    """
    counts = np.bincount(choice_P, minlength=len(table.models)).astype(np.float64)
    return _mixture(table, counts / counts.sum(), lambda_)


def _mixture(table: TrainingTable, weights_M: np.ndarray, lambda_: float | None) -> PolicyOutcome:
    """Each prompt to a model drawn by weights, in expectation."""
    present = ~np.isnan(table.rewards_PM)
    weights = np.where(present, weights_M, 0.0)
    # A prompt that none of the weighted models answered falls to any that did.
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, present)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights > 0
    reward = np.where(used, np.nan_to_num(table.rewards_PM) * weights, 0.0).sum(axis=1)
    cost = np.where(used, table.realised_cost_PM * weights, 0.0).sum(axis=1)
    return PolicyOutcome(lambda_, reward, cost, weights.mean(axis=0))
