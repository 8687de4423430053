"""Small tables for tests of policies: rewards that follow the first dimensions of the embeddings."""

import numpy as np

from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Tuning
from erp_trainer.policies.registry import POLICIES

BY_KEY = {policy.key: policy for policy in POLICIES}


def table_of(rewards_PM, *, costs_M=None, embeddings_PD=None, categories=None, seed=0, **more) -> TrainingTable:
    """A table of given rewards; embeddings are random unit vectors where not given, costs 0.001, 0.002, …"""
    rewards = np.asarray(rewards_PM, dtype=np.float64)
    prompts, models = rewards.shape
    if embeddings_PD is None:
        embeddings_PD = unit(np.random.default_rng(seed).normal(size=(prompts, 6)))
    costs = np.broadcast_to(np.arange(1, models + 1) / 1000 if costs_M is None else costs_M, rewards.shape)
    return TrainingTable(
        models=tuple("abcdefgh"[:models]),
        embeddings_PD=np.asarray(embeddings_PD, dtype=np.float32),
        rewards_PM=rewards,
        expected_cost_PM=costs.astype(np.float64),
        realised_cost_PM=costs.astype(np.float64),
        groups_P=np.arange(prompts),
        categories_P=np.array([""] * prompts if categories is None else categories),
        **more,
    )


def planted(prompts=300, models=3, noise=0.1, seed=0) -> TrainingTable:
    """Model m is best where embedding dimension m is large; categories say which one that is."""
    rng = np.random.default_rng(seed)
    best = rng.integers(0, models, prompts)
    embeddings = unit(0.3 * rng.normal(size=(prompts, models + 3)) + 1.5 * np.eye(models + 3)[best])
    rewards = 0.3 + 0.5 * np.eye(models)[best] + noise * rng.normal(size=(prompts, models))
    return table_of(rewards, embeddings_PD=embeddings, categories=[f"task {b}" for b in best])


def unit(vectors):
    """Rows scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Fitted:
    """A policy of the registry, tuned and trained."""

    def __init__(self, key, train):
        self.policy, self.tuning = BY_KEY[key], Tuning(POLICIES, train)
        self.tuning.options(self.policy)

    def outcome(self, test, lambda_):
        """What it earns and costs."""
        return self.tuning.apply(self.policy, test).outcome(test, lambda_)

    def scores(self, test):
        """What it thinks each model would earn."""
        return self.tuning.apply(self.policy, test).scores_PM

    def choose(self, test, lambda_):
        """Which model's cost is paid for each prompt; all costs differ."""
        return (test.realised_cost_PM == self.outcome(test, lambda_).cost_P[:, None]).argmax(axis=1)
