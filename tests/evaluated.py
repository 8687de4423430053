"""Small tables whose measures can be worked out by hand."""

from typing import Any

import numpy as np

from erp_trainer.evaluation.contenders import Contender
from erp_trainer.evaluation.curves import Curve
from erp_trainer.learning.bootstrap import Estimates
from erp_trainer.learning.outcome import PolicyOutcome
from erp_trainer.learning.training_table import TrainingTable


def table(rewards: Any, costs: Any = (1.0, 2.0), categories: Any = None, **others: Any) -> TrainingTable:
    """A table of prompts by models; costs per model, or per prompt and model."""
    rewards_PM = np.array(rewards, dtype=np.float64)
    n_prompts, n_models = rewards_PM.shape
    cost = np.broadcast_to(np.resize(np.asarray(costs, dtype=np.float64), n_models), rewards_PM.shape)
    return TrainingTable(
        models=tuple("abcdefgh"[:n_models]),
        embeddings_PD=np.zeros((n_prompts, 1), dtype=np.float32),
        rewards_PM=rewards_PM,
        expected_cost_PM=cost,
        realised_cost_PM=cost,
        groups_P=np.arange(n_prompts),
        categories_P=np.array(categories or [""] * n_prompts),
        cost_scale=1.0,
        **others,
    )


def curve(points: list[tuple[float, float]], *, key: str = "x", kind: Any = "bundle") -> Curve:
    """A curve of (cost, reward) points, as sure as if every resample were the whole; λ counts the points."""
    cost, reward = np.array(points, dtype=np.float64).T
    by_lambda = len(points) > 1
    contender = Contender(key, key, kind, by_lambda, lambda table, lambda_: PolicyOutcome(lambda_, *(np.zeros(1),) * 3))
    lambdas: tuple[float | None, ...] = tuple(float(i) for i in range(len(points))) if by_lambda else (None,)
    return Curve(
        contender, lambdas, sure(reward), sure(cost), *(sure(-reward),) * 2, sure(reward), np.eye(len(points)), 1
    )


def sure(values: Any) -> Estimates:
    """Figures that are the same in both of two resamples."""
    values_S = np.asarray(values, dtype=np.float64)
    return Estimates(values_S, np.stack([values_S, values_S]))
