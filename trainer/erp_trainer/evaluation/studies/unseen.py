"""PURE. Tasks that training has not seen: every policy fitted without a task and measured on it.

Source: leave-one-task-out as in arXiv 2309.15789, for all policies; tasks are categories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from erp_trainer.evaluation.studies.new_tasks import benchmark_study
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import PolicySpec, Tuning
from litellm_erp.errors import FitError

MAX_TASKS = 20


def unseen_tasks(
    tuning: Tuning,
    test: TrainingTable,
    preset: str,
    lambda_: float,
    resamples: Resamples,
    *,
    rivals: bool,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any] | None:
    """Gains on left-out tasks against the single model that is best on the others; None with too few tasks or models.

    The rivals' few options are tuned once, on all tasks, which favours them a little; everything else is fitted
    without the task. Beyond ``MAX_TASKS`` tasks those with the most test prompts are taken.

    Parameters
    ----------
    tuning : holds the policies, the train split and the rivals' options
    preset : of the ERP that is fitted
    rivals : fit the other policies that a bundle can hold, too
    resamples : of the test prompts
    advance : called as tasks are done
    """
    train = tuning.train
    names = sorted(test.categories, key=lambda name: (-int((test.categories_P == name).sum()), name))[:MAX_TASKS]
    if len(set(train.categories) | set(names)) < 3 or len(test.models) < 2:
        return None
    policies = [policy for policy in tuning.policies if _is_fitted(policy, tuning, preset, rivals)]
    gains: dict[str, np.ndarray] = {}
    tasks = []
    for name in names:
        advance(1)
        rows = np.flatnonzero(test.categories_P == name)
        others, target = train.rows(train.categories_P != name), test.rows(test.categories_P == name)
        try:
            applied = {policy.key: tuning.apply(policy, target, others) for policy in policies}
        except FitError as error:
            tasks.append({"task": name, "prompts": len(rows), "skipped": str(error)})
            continue
        best = best_single(others)
        found = {}
        for key, policy in applied.items():
            earned = policy.outcome(target, lambda_).reward_P
            gain = gains.setdefault(key, np.full(len(test), np.nan))
            gain[rows] = earned - target.rewards_PM[:, best]
            inside = resamples.among(rows).mean(gain[rows])
            found[key] = {"gain": inside.to_json(), "reward": float(earned.mean())}
        tasks.append({"task": name, "prompts": len(rows), "best_single": test.models[best], "policies": found})
    return {
        "lambda": lambda_,
        "tasks": tasks,
        "overall": {key: resamples.mean(gain).to_json() for key, gain in gains.items()},
        "benchmark": _benchmark(train, tuning.seed) if rivals else None,
    }


def _is_fitted(policy: PolicySpec, tuning: Tuning, preset: str, rivals: bool) -> bool:
    is_rival = policy.servable and not policy.preset
    if policy.preset != preset and not (rivals and is_rival):
        return False
    try:
        tuning.options(policy)
    except FitError:  # what the data cannot feed is listed under missing_rivals
        return False
    return True


def _benchmark(train: TrainingTable, seed: int) -> dict[str, Any] | None:
    try:
        return benchmark_study(train, seed)
    except FitError:
        return None
