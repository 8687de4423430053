"""PURE. What every policy is to the others: how it is tuned, trained and applied, and choices by one decision rule.

A policy is *tuned* (its options chosen on out-of-fold routed utility), *trained* with those options, and *applied* to
prompts. What one chooses before the call follows from a number per model, costs and λ by ``decision.rank``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from erp_trainer.learning.outcome import PolicyOutcome, chosen
from erp_trainer.learning.training_table import TrainingTable
from litellm_erp.bundle.predictors import Predictor
from litellm_erp.errors import FitError

# Options are chosen on at most so many rows, and cells of rows by models; more of them change the choice of a penalty
# less than its noise does.
MAX_TUNING_ROWS, MAX_TUNING_CELLS = 10_000, 100_000
# Multiples of the λ at which the dearest and the cheapest model are worth the same on average.
TUNING_SCALES = (0.0, 0.03, 0.1, 0.3, 1.0)

Choose = Callable[[TrainingTable, float], np.ndarray]


@dataclass(frozen=True, slots=True)
class Applied:
    """A trained policy on the P prompts of one table.

    Attributes
    ----------
    outcome : from that table and λ to what the policy earns and costs, every call it makes paid for
    scores_PM : shape (P, M), what it believes each model earns on each prompt, comparable between models of a prompt;
        None where it has no such thing
    pair_probability : from models a and b (columns) to its probability that b earns more than a, shape (P,)
    by_lambda : whether it chooses otherwise at another λ
    sees_truth : whether it looks at the rewards that it is judged by
    """

    outcome: Callable[[TrainingTable, float], PolicyOutcome]
    scores_PM: np.ndarray | None = None
    pair_probability: Callable[[int, int], np.ndarray] | None = None
    by_lambda: bool = True
    sees_truth: bool = False


def routed(choose: Choose) -> Callable[[TrainingTable, float], PolicyOutcome]:
    """What choosing one model per prompt earns and costs."""

    def outcome(table: TrainingTable, lambda_: float) -> PolicyOutcome:
        return chosen(table, choose(table, lambda_), lambda_)

    return outcome


def apply_predictor(predictor: Predictor, test: TrainingTable) -> Applied:
    """Believe what a predictor says of each model."""
    scores_PM = predictor.predict(test.embeddings_PD)
    return Applied(routed(lambda table, lambda_: table.choose(scores_PM, lambda_)), scores_PM)


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy: all that any other module knows of it.

    Attributes
    ----------
    name, preset : ``name`` is what manifests and the command line say; one with several presets has a spec for each
    tune : from training rows and a seed to options: a frozen dataclass of numbers, or None where there are none
    train : from training rows, options and a seed to what was learned; a `Predictor` where no ``apply`` is given
    apply : what was learned, on a table of prompts
    needs : column of the outcomes without which there is no such policy
    servable : chooses before the call, so that a bundle can hold it
    """

    name: str
    label: str
    train: Callable[[TrainingTable, Any, int], Any]
    tune: Callable[[TrainingTable, int], Any] = lambda table, seed: None
    apply: Callable[[Any, TrainingTable], Applied] = apply_predictor
    preset: str = ""
    needs: str = ""
    servable: bool = True

    @property
    def key(self) -> str:
        """Unique name, such as ``zooter`` or ``erp-best``."""
        return f"{self.name}-{self.preset}" if self.preset else self.name

    def lacking(self, table: TrainingTable) -> str | None:
        """Why a table cannot feed the policy, in words; None where it can."""
        if self.needs and getattr(table, f"{self.needs}_PM") is None:
            return f"the outcomes have no column {self.needs}"
        return None


@dataclass(frozen=True, slots=True)
class Tuning:
    """Policies, with the options of each chosen once on the same training rows."""

    policies: tuple[PolicySpec, ...]
    train: TrainingTable
    seed: int = 0
    _known: dict[str, Any] = field(default_factory=dict)

    def options(self, policy: PolicySpec) -> Any:
        """What is chosen out of fold.

        Raises
        ------
        FitError : the rows are too few, or lack what the policy needs
        """
        if reason := policy.lacking(self.train):
            raise FitError(reason)
        if policy.key not in self._known:
            self._known[policy.key] = policy.tune(self.train, self.seed)
        return self._known[policy.key]

    def apply(self, policy: PolicySpec, test: TrainingTable, train: TrainingTable | None = None) -> Applied:
        """The policy with these options, trained on all rows or on those given, on other prompts."""
        fitted = policy.train(self.train if train is None else train, self.options(policy), self.seed)
        return policy.apply(fitted, test)


def tuning_rows(table: TrainingTable, seed: int, most: int | None = None) -> TrainingTable:
    """The table, or a seeded part of it where it has more rows than ``most``, by default as many as tune options."""
    most = min(MAX_TUNING_ROWS, MAX_TUNING_CELLS // len(table.models)) if most is None else most
    if len(table) <= most:
        return table
    kept = np.zeros(len(table), dtype=bool)
    kept[np.random.default_rng(seed).permutation(len(table))[:most]] = True
    return table.rows(kept)


def out_of_fold(
    table: TrainingTable, folds_P: np.ndarray, train: Callable[[TrainingTable, int], Predictor]
) -> np.ndarray:
    """Predictions for every row by predictors trained on the other folds, shape (P, M), float32.

    Parameters
    ----------
    train : from the rows of the other folds and the fold to a predictor
    """
    predicted = np.empty(table.rewards_PM.shape, dtype=np.float32)
    for fold in np.unique(folds_P).tolist():
        rows = folds_P == fold
        predicted[rows] = train(table.rows(~rows), fold).predict(table.embeddings_PD[rows])
    return predicted


def tuning_lambdas(table: TrainingTable) -> list[float]:
    """λ from 0 to where the dearest model stops paying, ascending."""
    return sorted({scale * table.lambda_unit for scale in TUNING_SCALES})


def routed_utility(table: TrainingTable, predicted_PM: np.ndarray) -> float:
    """Mean utility of routing by predictions, averaged over `tuning_lambdas`."""
    return float(np.mean([table.utility_of(table.choose(predicted_PM, x), x).mean() for x in tuning_lambdas(table)]))
