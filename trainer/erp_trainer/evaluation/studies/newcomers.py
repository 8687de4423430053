"""PURE. The price of a new model: what routing earns on test after adding it with more and more of its prompts.

Each model in turn is taken out of the pool, and put back with a probe fitted on n train prompts, chosen as
``add-model`` chooses them (``selection``), and fitted as ``add-model`` fits it, at the bundle's penalties. The other
models' predictions, and how far predictions are believed at this λ, stay the bundle's; the newcomer's mean reward is
estimated from its random prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.ridge import Penalties, assign_folds, cross_fit
from erp_trainer.learning.selection import select
from erp_trainer.learning.task_means import task_codes
from erp_trainer.learning.training_table import Table
from litellm_erp.bundle.probe import Probes

SIZES = (25, 50, 100, 200, 500, 1000, 2000)
# Models are taken by their mean reward on train; the best are those whose addition matters.
MAX_MODELS = 6
MAX_CANDIDATES = 10_000

Choose = Callable[[Table, np.ndarray, np.ndarray], np.ndarray]


def price_of_adding(
    train: Table,
    test: Table,
    predicted_PM: np.ndarray,
    mean_reward_M: np.ndarray,
    choose: Choose,
    penalties: Penalties,
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
    penalties : of the bundle's probes; two different ones where they have a part for task means
    """
    if len(test.models) < 2:
        return None
    order = np.argsort(-train.mean_reward_M, kind="stable")[:MAX_MODELS]
    candidates = _candidates(train, seed)
    selected = _Selected(train, seed)
    fitting = _Fitting.of(train, penalties, seed)

    def added(m: int, asked: np.ndarray, audit: np.ndarray) -> np.ndarray:
        probes, mean = fitting.fit(m, asked, audit)
        predicted_P = probes.predict(test.embeddings_PD)[:, 0]
        return _with(test, predicted_PM, mean_reward_M, choose, m, predicted_P, mean)

    rows = []
    for m in sorted(order.tolist()):
        answered = candidates[~np.isnan(train.rewards_PM[candidates, m])]
        sizes = [size for size in SIZES if size < len(answered)]
        columns = [_reward(_without(test, m), predicted_PM, mean_reward_M, choose)]
        for size in sizes:
            columns.append(added(m, *selected.of(answered, size, penalties.rest)))
            advance(1)
        everything = np.flatnonzero(~np.isnan(train.rewards_PM[:, m]))
        columns.append(added(m, everything, everything))
        reward = np.stack(columns, axis=1)
        found = resamples.means(np.hstack([reward, reward[:, 1:] - reward[:, :1]])).intervals()
        rewards, gains = [i.to_json() for i in found[: len(columns)]], [i.to_json() for i in found[len(columns) :]]
        rows.append({
            "model": test.models[m],
            "without": rewards[0],
            "points": [{"prompts": size, "reward": rewards[i + 1], "gain": gains[i]} for i, size in enumerate(sizes)],
            "all": {"prompts": len(everything), "reward": rewards[-1], "gain": gains[-1]},
        })  # fmt: skip
    text = "each model taken out and added again; the other probes, the penalties and the shrinkage are the bundle's"
    return {"lambda": lambda_, "models": rows, "text": text}


@dataclass(frozen=True, slots=True)
class _Selected:
    """Which train rows a newcomer is asked: slow to find, and the same for all that answered the same rows."""

    train: Table
    seed: int
    known: dict[tuple[bytes, int, float], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def of(self, answered: np.ndarray, size: int, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """All rows it is asked, and the random ones among them, which judge it."""
        key = (answered.tobytes(), size, beta)
        if key not in self.known:
            found = select(self.train.embeddings_PD[answered], size, beta, seed=self.seed)
            asked = np.sort(np.concatenate([found.chosen, found.audit]))
            self.known[key] = answered[asked], answered[found.audit]
        return self.known[key]


def _candidates(train: Table, seed: int) -> np.ndarray:
    """Train rows that a newcomer may be asked, at most ``MAX_CANDIDATES``, because choosing among more is slow."""
    if len(train) <= MAX_CANDIDATES:
        return np.arange(len(train))
    return np.sort(np.random.default_rng(seed).choice(len(train), MAX_CANDIDATES, replace=False))


@dataclass(frozen=True, slots=True)
class _Fitting:
    """How a newcomer is fitted: at the bundle's penalties, on the folds and tasks of the whole train split."""

    train: Table
    penalties: Penalties
    folds_P: np.ndarray
    tasks_P: np.ndarray | None

    @classmethod
    def of(cls, train: Table, penalties: Penalties, seed: int) -> _Fitting:
        tasks = None if penalties.task == penalties.rest else task_codes(train.categories_P)
        return cls(train, penalties, assign_folds(train.groups_P, seed), tasks)

    def fit(self, m: int, asked: np.ndarray, audit: np.ndarray) -> tuple[Probes, float]:
        """A newcomer's probe on the rows it was asked, and its mean reward by the difference estimator."""
        targets = np.full((len(self.train), 1), np.nan)
        targets[asked, 0] = self.train.rewards_PM[asked, m]
        name = (self.train.models[m],)
        fitted = cross_fit(self.train.embeddings_PD, targets, self.folds_P, name, self.tasks_P)
        predicted = fitted.out_of_fold(self.penalties)
        mean = float(predicted.mean() + (targets[audit] - predicted[audit]).mean())
        return Probes(*fitted.probes(self.penalties)), mean


def _with(
    test: Table,
    predicted_PM: np.ndarray,
    mean_reward_M: np.ndarray,
    choose: Choose,
    m: int,
    predicted_P: np.ndarray,
    mean: float,
) -> np.ndarray:
    predicted, means = predicted_PM.copy(), mean_reward_M.copy()
    predicted[:, m], means[m] = predicted_P, mean
    return _reward(test, predicted, means, choose)


def _without(test: Table, m: int) -> Table:
    out = np.arange(len(test.models)) == m
    return replace(test, rewards_PM=np.where(out, np.nan, test.rewards_PM))


def _reward(table: Table, predicted_PM: np.ndarray, mean_reward_M: np.ndarray, choose: Choose) -> np.ndarray:
    return table.reward_of(choose(table, predicted_PM, mean_reward_M))
