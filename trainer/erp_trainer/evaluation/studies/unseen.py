"""PURE. Tasks that training has not seen: every policy fitted without a task and measured on it.

Source: leave-one-task-out as in arXiv 2309.15789, for all policies; tasks are categories.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from erp_trainer.evaluation.contender import Contender
from erp_trainer.evaluation.rivals import by_scores, erp_contender
from erp_trainer.evaluation.studies.new_tasks import benchmark_study
from erp_trainer.evaluation.studies.tasks import categories_of
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.training_table import Table
from erp_trainer.policies.erp import Preset, fit_erp
from erp_trainer.policies.registry import SERVED, Tuning
from litellm_erp.errors import FitError

MAX_TASKS = 20


def unseen_tasks(
    tuning: Tuning, test: Table, preset: Preset, lambda_: float, resamples: Resamples, *, rivals: bool
) -> dict[str, Any] | None:
    """Gains on left-out tasks against the single model that is best on the others; None with fewer than three tasks.

    The rivals' few options are tuned once, on all tasks, which favours them a little; everything else is fitted
    without the task. Beyond ``MAX_TASKS`` tasks those with the most test prompts are taken.

    Parameters
    ----------
    tuning : holds the train split and the rivals' options
    preset : of the ERP that is fitted
    resamples : of the test prompts
    """
    train, seed = tuning.train, tuning.seed
    names = sorted(categories_of(test), key=lambda name: (-int((test.categories_P == name).sum()), name))[:MAX_TASKS]
    if len(set(categories_of(train)) | set(names)) < 3:
        return None
    options = _options(tuning) if rivals else {}
    gains: dict[str, np.ndarray] = {}
    tasks = []
    for name in names:
        rows = np.flatnonzero(test.categories_P == name)
        others, target = train.rows(train.categories_P != name), test.rows(test.categories_P == name)
        try:
            fitted = [erp_contender(fit_erp(others, preset=preset, seed=seed), target, preset)]
            fitted += [_rival(key, others, target, found, seed) for key, found in options.items()]
        except FitError as error:
            tasks.append({"task": name, "prompts": len(rows), "skipped": str(error)})
            continue
        best = int(np.nanargmax(others.mean_reward_M))
        policies = {}
        for contender in fitted:
            earned = contender.outcome(target, lambda_).reward_P
            gain = gains.setdefault(contender.key, np.full(len(test), np.nan))
            gain[rows] = earned - target.rewards_PM[:, best]
            inside = resamples.among(rows).mean(gain[rows])
            policies[contender.key] = {"gain": inside.to_json(), "reward": float(earned.mean())}
        tasks.append({"task": name, "prompts": len(rows), "best_single": test.models[best], "policies": policies})
    return {
        "lambda": lambda_,
        "tasks": tasks,
        "overall": {key: resamples.mean(gain).to_json() for key, gain in gains.items()},
        "benchmark": _benchmark(train, seed) if rivals else None,
    }


def _options(tuning: Tuning) -> dict[str, Any]:
    found = {}
    for key in SERVED:
        with suppress(FitError):  # what the data cannot feed is listed under missing_rivals
            found[key] = tuning.options(key)
    return found


def _rival(key: str, train: Table, test: Table, options: Any, seed: int) -> Contender:
    policy = SERVED[key]
    return by_scores(key, policy.label, policy.train(train, options, seed).predict(test.embeddings_PD))


def _benchmark(train: Table, seed: int) -> dict[str, Any] | None:
    try:
        return benchmark_study(train, seed)
    except FitError:
        return None
