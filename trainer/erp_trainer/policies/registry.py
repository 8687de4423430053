"""PURE. Every policy beside ERP by name: what it needs, how it is tuned and trained, and what a bundle can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from erp_trainer.learning.outcome import Outcome, ranked_by_likelihood, ranked_by_reward
from erp_trainer.learning.training_table import Table
from erp_trainer.policies.base import FittedPolicy
from erp_trainer.policies.benchmark import train_benchmark, tune_benchmark
from erp_trainer.policies.cascade import fit_cascade
from erp_trainer.policies.pairwise import train_pairwise, tune_pairwise
from erp_trainer.policies.zooter import train_zooter, tune_zooter
from litellm_erp.bundle.predictors import PairPredictor, Predictor
from litellm_erp.errors import FitError


class Fitted(Protocol):
    """What fitting any policy gives."""

    @property
    def name(self) -> str:
        """The policy's key."""
        ...

    def outcome(self, test: Table, lambda_: float) -> Outcome:
        """What the policy earns and costs on test rows at one λ, every call it makes paid for."""
        ...


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """A policy that chooses before the call, so that a bundle can hold it.

    Attributes
    ----------
    tune : from training rows and a seed to options, a frozen dataclass of numbers, chosen out of fold
    train : from training rows, options and a seed to a predictor
    """

    name: str
    label: str
    tune: Callable[[Table, int], Any]
    train: Callable[[Table, Any, int], Predictor]


@dataclass(frozen=True, slots=True)
class _AfterTheCalls:
    """A policy that asks several models and keeps one answer; it has nothing to fit."""

    name: str
    rule: Callable[[Table], Outcome]

    def outcome(self, test: Table, lambda_: float) -> Outcome:
        """The same at every λ."""
        return self.rule(test)


SERVED: Mapping[str, ServedPolicy] = {
    policy.name: policy
    for policy in (
        ServedPolicy("zooter", "Zooter", tune_zooter, train_zooter),
        ServedPolicy("benchmark", "benchmark data sets (kNN)", tune_benchmark, train_benchmark),
        ServedPolicy("pairwise", "pairwise preference", tune_pairwise, train_pairwise),
    )
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """Policies that a bundle can hold, the options of each chosen once on the same training rows."""

    train: Table
    seed: int = 0
    _known: dict[str, Any] = field(default_factory=dict)

    def options(self, name: str) -> Any:
        """What is chosen out of fold for a policy of ``SERVED``."""
        if name not in self._known:
            self._known[name] = SERVED[name].tune(self.train, self.seed)
        return self._known[name]

    def fit(self, name: str) -> FittedPolicy:
        """The policy with these options, on all rows."""
        return FittedPolicy(name, SERVED[name].train(self.train, self.options(name), self.seed))


UNSERVED: Mapping[str, str] = {
    "frugalgpt": "cascade by reward (FrugalGPT)",
    "automix": "cascade by self-check (AutoMix)",
    "reward-ranking": "reward-model ranking",
    "log-likelihood": "log-likelihood ranking",
}
POLICIES: Mapping[str, str] = {**{name: policy.label for name, policy in SERVED.items()}, **UNSERVED}


def unusable(name: str, table: Table) -> str | None:
    """Why a table cannot feed a policy, in words; None where it can."""
    if name == "automix" and table.self_check_PM is None:
        return "the outcomes have no column self_check"
    if name == "log-likelihood" and table.log_likelihood_PM is None:
        return "the outcomes have no column log_likelihood"
    return None


def fit_policy(name: str, train: Table, seed: int = 0) -> Fitted:
    """Tune and train a policy on training rows.

    Raises
    ------
    FitError : unknown name, or the table lacks what the policy needs
    """
    if name not in POLICIES:
        raise FitError(f"no policy {name!r}; expected one of {', '.join(POLICIES)}")
    if reason := unusable(name, train):
        raise FitError(f"policy {name}: {reason}. Import outcomes with it, or leave the policy out")
    if name in SERVED:
        return Tuning(train, seed).fit(name)
    if name in ("frugalgpt", "automix"):
        return fit_cascade(train, "reward" if name == "frugalgpt" else "self_check")
    return _AfterTheCalls(name, ranked_by_reward if name == "reward-ranking" else ranked_by_likelihood)


def win_probability(fitted: FittedPolicy, test: Table, first: int, second: int) -> np.ndarray:
    """What the pairwise policy thinks of the first model earning more than the second, shape (P,).

    Raises
    ------
    FitError : the policy is another one
    """
    if not isinstance(fitted.predictor, PairPredictor):
        raise FitError(f"policy {fitted.name} compares no pairs; fit pairwise")
    low, high = sorted((first, second))
    n_models = fitted.predictor.n_models
    pair = low * n_models - low * (low + 1) // 2 + high - low - 1
    wins = fitted.predictor.win_probability(test.embeddings_PD, slice(pair, pair + 1))[:, 0]
    return wins if first < second else 1.0 - wins
