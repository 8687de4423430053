"""PURE. Rankings of answers: every model answers, one answer is kept, and all of them are paid for."""

from __future__ import annotations

import numpy as np

from erp_trainer.learning.outcome import PolicyOutcome, shares
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Applied, PolicySpec


def ranked_by_reward(table: TrainingTable) -> PolicyOutcome:
    """Keep the answer with the highest reward; the reward model's own cost is not counted.

    Where single rewards are on record, one sample of each model competes and the rest are averaged over; a maximum of
    means would forget that the best of several draws is better than the best mean. ``share_M`` says whose answer is
    kept.
    """
    reward = np.nanmax(table.rewards_PM, axis=1)
    if table.samples_PMK is not None:
        any_sample = ~np.isnan(table.samples_PMK).all(axis=1)
        best_PK = np.where(any_sample, np.max(np.nan_to_num(table.samples_PMK, nan=-np.inf), axis=1), 0.0)
        counts = any_sample.sum(axis=1)
        reward = np.where(counts > 0, best_PK.sum(axis=1) / np.maximum(counts, 1), reward)
    return _kept(table, np.nanargmax(table.rewards_PM, axis=1), reward)


def ranked_by_likelihood(table: TrainingTable) -> PolicyOutcome:
    """Keep the answer that its own model finds likeliest.

    Source: Shnitzer et al. (2023), arXiv 2309.15789, the LL baseline, per prompt.
    """
    # Without a likelihood a model's answer is kept only where no other model answered.
    likelihood = np.nan_to_num(np.asarray(table.log_likelihood_PM), nan=np.finfo(np.float64).min)
    kept = np.argmax(np.where(np.isnan(table.rewards_PM), -np.inf, likelihood), axis=1)
    return _kept(table, kept, table.reward_of(kept))


def _kept(table: TrainingTable, kept_P: np.ndarray, reward_P: np.ndarray) -> PolicyOutcome:
    cost = np.where(np.isnan(table.rewards_PM), 0.0, table.realised_cost_PM).sum(axis=1)
    return PolicyOutcome(None, reward_P, cost, shares(table, kept_P))


REWARD_RANKING = PolicySpec(
    "reward-ranking",
    "reward-model ranking",
    train=lambda table, options, seed: None,
    apply=lambda _, test: Applied(lambda table, lambda_: ranked_by_reward(table), by_lambda=False, sees_truth=True),
    servable=False,
)
LOG_LIKELIHOOD = PolicySpec(
    "log-likelihood",
    "log-likelihood ranking",
    train=lambda table, options, seed: None,
    apply=lambda _, test: Applied(lambda table, lambda_: ranked_by_likelihood(table), by_lambda=False),
    needs="log_likelihood",
    servable=False,
)
