"""PURE. What the policies that choose before the call have in common: tuning, folds, and choices by one decision rule.

A policy is *tuned* (its options chosen on out-of-fold routed utility) and then *trained* with those options into a
:class:`Predictor` of one number per model. What is chosen follows from those numbers, costs and λ by ``decision.rank``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.outcome import Outcome, chosen
from erp_trainer.learning.training_table import Table
from erp_trainer.policies.erp import TUNING_SCALES
from litellm_erp.bundle.predictors import Predictor

# Options are chosen on at most so many rows, and cells of rows by models; more of them change the choice of a penalty
# less than its noise does.
MAX_TUNING_ROWS, MAX_TUNING_CELLS = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class FittedPolicy:
    """A fitted policy that chooses one model before any is called."""

    name: str
    predictor: Predictor

    def scores(self, test: Table) -> np.ndarray:
        """What the policy thinks each model would earn, shape (P, M), in reward units."""
        return self.predictor.predict(test.embeddings_PD)

    def choose(self, test: Table, lambda_: float) -> np.ndarray:
        """First choice per prompt at one λ, shape (P,), int."""
        return test.choose(self.scores(test), lambda_)

    def outcome(self, test: Table, lambda_: float) -> Outcome:
        """What the choices earned and cost."""
        return chosen(test, self.choose(test, lambda_), lambda_)


def tuning_rows(table: Table, seed: int, most: int | None = None) -> Table:
    """The table, or a seeded part of it where it has more rows than ``most``, by default as many as tune options."""
    most = min(MAX_TUNING_ROWS, MAX_TUNING_CELLS // len(table.models)) if most is None else most
    if len(table) <= most:
        return table
    kept = np.zeros(len(table), dtype=bool)
    kept[np.random.default_rng(seed).permutation(len(table))[:most]] = True
    return table.rows(kept)


def out_of_fold(table: Table, folds_P: np.ndarray, train: Callable[[Table], Predictor]) -> np.ndarray:
    """Predictions for every row by predictors trained on the other folds, shape (P, M), float32."""
    predicted = np.empty(table.rewards_PM.shape, dtype=np.float32)
    for fold in np.unique(folds_P):
        rows = folds_P == fold
        predicted[rows] = train(table.rows(~rows)).predict(table.embeddings_PD[rows])
    return predicted


def routed_utility(table: Table, predicted_PM: np.ndarray) -> float:
    """Mean utility of routing by predictions, averaged over λ from 0 to where the dearest model stops paying."""
    lambdas = sorted({scale * table.lambda_unit for scale in TUNING_SCALES})
    return float(np.mean([table.utility_of(table.choose(predicted_PM, x), x).mean() for x in lambdas]))
