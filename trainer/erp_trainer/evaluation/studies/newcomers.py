"""PURE. The price of a new model: what routing earns on test after adding it with more and more of its prompts.

Each model in turn is taken out of the pool, and put back after it was asked n train prompts, chosen as ``add-model``
chooses them (``selection``), and placed among the others as ``add-model`` places it (``newcomer``), with the bundle's
stack. The other models' predictions, and how far predictions are believed at this λ, stay the bundle's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.features import Labelling, labels_of
from erp_trainer.learning.newcomer import newcomer_of
from erp_trainer.learning.ridge import assign_folds, cross_fit
from erp_trainer.learning.selection import select
from erp_trainer.learning.stack import Stack
from erp_trainer.learning.training_table import TrainingTable
from litellm_erp.bundle.features import Features

SIZES = (25, 50, 100, 200, 500, 1000, 2000)
# Models are taken by their mean reward on train; the best are those whose addition matters.
MAX_MODELS = 6
MAX_CANDIDATES = 10_000

ChooseBy = Callable[[TrainingTable, np.ndarray, np.ndarray], np.ndarray]


def price_of_adding(
    train: TrainingTable,
    test: TrainingTable,
    predicted_PM: np.ndarray,
    mean_reward_M: np.ndarray,
    choose: ChooseBy,
    stack: Stack,
    features: Features | None,
    lambda_: float,
    resamples: Resamples,
    *,
    seed: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any] | None:
    """Routed reward without each model, and with it after so many of its prompts; None for fewer than two models.

    Parameters
    ----------
    predicted_PM : shape (P, M), the bundle's predictions on test
    mean_reward_M : shape (M,), the bundle's mean rewards, which predictions lean towards
    choose : from the test table, predictions and mean rewards to first choices at λ, shape (P,)
    stack, features : of the bundle
    advance : called as models are done
    """
    if len(test.models) < 2:
        return None
    candidates = _candidates(train, seed)
    fitted = cross_fit(train.embeddings_PD, train.rewards_PM, assign_folds(train.groups_P, seed), train.models)
    labels: tuple[Labelling, ...] = ()
    memberships_PF = np.empty((len(test), 0))
    if features is not None:
        labels = labels_of(features, train.embeddings_PD, train.categories_P)
        memberships_PF = features.memberships(features.scores(test.embeddings_PD))

    @cache
    def asked(answered: bytes, size: int) -> np.ndarray:
        """Which of the train rows that a newcomer answered it is asked.

        Slow to find, and the same for all that answered the same rows.
        """
        rows = np.frombuffer(answered, dtype=candidates.dtype)
        found = select(train.embeddings_PD[rows], size, stack.beta, seed=seed)
        return rows[np.sort(np.concatenate([found.chosen, found.audit]))]

    def with_model(m: int, rows: np.ndarray) -> np.ndarray:
        """Routed reward with a model that was asked some rows."""
        rewards_PM = train.rewards_PM.copy()
        rewards_PM[np.setdiff1d(np.arange(len(train)), rows), m] = np.nan
        newcomer = newcomer_of(fitted, rewards_PM, m, np.delete(np.arange(len(train.models)), m), labels, stack)
        predicted, means = predicted_PM.copy(), mean_reward_M.copy()
        predicted[:, m] = newcomer.predict(test.embeddings_PD, memberships_PF)
        means[m] = newcomer.mean
        return test.reward_of(choose(test, predicted, means))

    rows = []
    for m in sorted(np.argsort(-train.mean_reward_M, kind="stable")[:MAX_MODELS].tolist()):
        advance(1)
        out = replace(test, rewards_PM=np.where(np.arange(len(test.models)) == m, np.nan, test.rewards_PM))
        answered = candidates[~np.isnan(train.rewards_PM[candidates, m])]
        everything = np.flatnonzero(~np.isnan(train.rewards_PM[:, m]))
        sizes = [size for size in SIZES if size < len(answered)]
        columns = [out.reward_of(choose(out, predicted_PM, mean_reward_M))]
        columns += [with_model(m, asked(answered.tobytes(), size)) for size in sizes]
        columns.append(with_model(m, everything))
        reward = np.stack(columns, axis=1)
        found = resamples.means(np.hstack([reward, reward[:, 1:] - reward[:, :1]])).intervals()
        without, *rewards = (i.to_json() for i in found[: len(columns)])
        gains = (i.to_json() for i in found[len(columns) :])
        *points, all_of_them = (
            {"prompts": size, "reward": reward, "gain": gain}
            for size, reward, gain in zip([*sizes, len(everything)], rewards, gains, strict=True)
        )
        rows.append({"model": test.models[m], "without": without, "points": points, "all": all_of_them})
    text = "each model taken out and added again; the other probes, the stack and the shrinkage are the bundle's"
    return {"lambda": lambda_, "models": rows, "text": text}


def _candidates(train: TrainingTable, seed: int) -> np.ndarray:
    """Train rows that a newcomer may be asked, at most ``MAX_CANDIDATES``, because choosing among more is slow."""
    if len(train) <= MAX_CANDIDATES:
        return np.arange(len(train))
    return np.sort(np.random.default_rng(seed).choice(len(train), MAX_CANDIDATES, replace=False))
