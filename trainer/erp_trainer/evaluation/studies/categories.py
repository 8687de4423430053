"""PURE. Every category: what its models and each policy earn there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Interval, Resamples
from erp_trainer.learning.outcome import PolicyOutcome, best_single
from erp_trainer.learning.training_table import TrainingTable


def category_measures(
    test: TrainingTable,
    train: TrainingTable,
    outcomes: Mapping[str, PolicyOutcome],
    best: int,
    choice_P: np.ndarray,
    draws: Resamples,
) -> dict[str, dict[str, Any]]:
    """By category: rewards of models and policies, what the bundle chose, and its gain over the best single model.

    Parameters
    ----------
    outcomes : by policy, on the test prompts, the bundle's first
    best : the best single model on train
    choice_P : shape (P,), the bundle's choice
    """
    columns = np.column_stack([test.rewards_PM, *(outcome.reward_P for outcome in outcomes.values())])
    gain_P = next(iter(outcomes.values())).reward_P - test.rewards_PM[:, best]
    size, found = len(test.models), {}
    for name in test.categories:
        rows = test.inside(name)
        resamples, present = draws.among(rows), ~np.isnan(test.rewards_PM[rows])
        inside = resamples.means(columns[rows]).intervals()
        in_train = train.rows(train.inside(name))
        share = np.bincount(choice_P[rows], minlength=size) / len(rows)
        found[name] = {
            "test_prompts": len(rows),
            "train_prompts": len(in_train),
            "models": {
                model: {**_reward(inside[m]), "prompts": int(present[:, m].sum())}
                for m, model in enumerate(test.models)
            },
            "best_on_train": _best(in_train),
            "best_on_test": _best(test.rows(rows)),
            "policies": {key: _reward(i) for key, i in zip(outcomes, inside[size:], strict=True)},
            "share": {model: float(part) for model, part in zip(test.models, share, strict=True) if part > 0},
            "gain": resamples.mean(gain_P[rows]).to_json(),
        }
    return found


def _reward(interval: Interval) -> dict[str, Any]:
    return {"reward": interval.mean, "reward_ci": interval.ends}


def _best(inside: TrainingTable) -> str | None:
    """The best single model of some prompts; None where no model has an outcome of any."""
    return None if np.isnan(inside.rewards_PM).all() else inside.models[best_single(inside)]
