"""PURE. What each policy would have earned and cost on recorded outcomes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import interval
from erp_trainer.learning.training_table import Table


@dataclass(frozen=True, slots=True)
class Outcome:
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


def chosen(table: Table, choice_P: np.ndarray, lambda_: float | None = None) -> Outcome:
    """The outcome of a choice of one model per prompt."""
    share = np.bincount(choice_P, minlength=len(table.models)) / len(choice_P)
    return Outcome(lambda_, table.reward_of(choice_P), table.cost_of(choice_P), share)


def single(table: Table, model: int) -> Outcome:
    """Always the same model; where it has no outcome, nothing is counted."""
    share = np.zeros(len(table.models))
    share[model] = 1.0
    return Outcome(None, table.rewards_PM[:, model], table.realised_cost_PM[:, model], share)


def uniform(table: Table) -> Outcome:
    """Any model with equal chance, in expectation."""
    return _mixture(table, np.ones(len(table.models)), None)


def category_best(table: Table, train: Table, lambda_: float) -> Outcome:
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


def oracle(table: Table, lambda_: float = 0.0) -> Outcome:
    """The best recorded utility of every prompt; at one sample per prompt this is hindsight, not a policy."""
    utility = table.rewards_PM - lambda_ * table.cost_scale * np.nan_to_num(table.realised_cost_PM)
    return chosen(table, table.choose(utility, 0.0), lambda_)


def best_single(table: Table, train: Table, lambda_: float) -> Outcome:
    """The model with the best mean utility on train, for every prompt."""
    return replace(single(table, int(np.argmax(_mean_utility(train, lambda_)))), lambda_=lambda_)


def permuted(table: Table, choice_P: np.ndarray, lambda_: float | None = None) -> Outcome:
    """A policy's choices dealt to the prompts at random, in expectation: its shares of models without its insight.

    Among the models that a prompt has outcomes of, the shares are scaled to sum to 1.

    Source: arXiv 2603.20217, section 4.3.
    """
    counts = np.bincount(choice_P, minlength=len(table.models)).astype(np.float64)
    return _mixture(table, counts / counts.sum(), lambda_)


def equal_cost_mixture(table: Table, train: Table, cost: float) -> Outcome:
    """A fixed mixture of two single models that costs so much per prompt, in expectation.

    The two span ``cost`` on the concave envelope of the single models' means on train; their shares are such that the
    mixture costs ``cost`` on the table itself, where the two allow it. With unknown costs it is the best single model.

    Source: ours; what a coin flip between two models earns is what any router has to beat.
    """
    cost_M, reward_M = train.mean_cost_M, train.mean_reward_M
    if np.isnan(cost_M).any():
        return single(table, int(np.argmax(reward_M)))
    corners = _envelope(cost_M, reward_M)
    right = int(np.searchsorted(cost_M[corners], cost))
    low, high = corners[max(0, right - 1)], corners[min(right, len(corners) - 1)]
    own_M = table.mean_cost_M
    span = own_M[high] - own_M[low]
    share = float(np.clip((cost - own_M[low]) / span, 0.0, 1.0)) if span > 0 else 1.0
    weights = np.zeros(len(table.models))
    weights[low] += 1.0 - share
    weights[high] += share
    return _mixture(table, weights, None)


def _mean_utility(table: Table, lambda_: float) -> np.ndarray:
    utility = table.rewards_PM - lambda_ * table.cost_scale * np.nan_to_num(table.realised_cost_PM)
    return np.nanmean(utility, axis=0)


def _mixture(table: Table, weights_M: np.ndarray, lambda_: float | None) -> Outcome:
    """Each prompt to a model drawn by weights, in expectation."""
    present = ~np.isnan(table.rewards_PM)
    weights = np.where(present, weights_M, 0.0)
    # A prompt that none of the weighted models answered falls to any that did.
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, present)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights > 0
    reward = np.where(used, np.nan_to_num(table.rewards_PM) * weights, 0.0).sum(axis=1)
    cost = np.where(used, table.realised_cost_PM * weights, 0.0).sum(axis=1)
    return Outcome(lambda_, reward, cost, weights.mean(axis=0))


def _envelope(cost_M: np.ndarray, reward_M: np.ndarray) -> list[int]:
    """Models on the upper concave envelope of reward over cost, by rising cost, up to the best one."""
    corners: list[int] = []
    for m in np.lexsort((-reward_M, cost_M)).tolist():
        if corners and reward_M[m] <= reward_M[corners[-1]]:
            continue
        while len(corners) >= 2 and _below(corners[-2], corners[-1], m, cost_M, reward_M):
            corners.pop()
        corners.append(m)
    return corners


def _below(first: int, middle: int, last: int, cost_M: np.ndarray, reward_M: np.ndarray) -> bool:
    rise = (reward_M[last] - reward_M[first]) * (cost_M[middle] - cost_M[first])
    return (reward_M[middle] - reward_M[first]) * (cost_M[last] - cost_M[first]) <= rise


def summarise(table: Table, outcome: Outcome, baseline: Outcome | None = None) -> dict[str, Any]:
    """Mean reward with its interval, mean cost, regret and shares; paired against a baseline where one is given."""
    present = ~np.isnan(outcome.reward_P)
    groups = table.groups_P[present]
    best = np.nanmax(table.rewards_PM, axis=1)
    reward = interval(outcome.reward_P[present], groups)
    summary: dict[str, Any] = {
        "lambda": outcome.lambda_,
        "reward": reward.mean,
        "reward_ci": [reward.low, reward.high],
        "cost_usd": float(outcome.cost_P[present].mean()),
        "regret": float((best - outcome.reward_P)[present].mean()),
        "share": {name: float(share) for name, share in zip(table.models, outcome.share_M, strict=True) if share > 0},
    }
    if baseline is not None:
        both = present & ~np.isnan(baseline.reward_P)
        difference = interval((outcome.reward_P - baseline.reward_P)[both], table.groups_P[both])
        summary["against_best_single"] = difference.to_json()
    return summary
