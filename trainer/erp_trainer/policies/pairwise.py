"""PURE. Pairwise preference: a logistic regression per pair of models, and the mean probability of winning.

A label is 1 where the first model of a pair earned more, 0 where less, and 1/2 where both earned the same: a draw says
that there is nothing to choose, and leaving draws out would say that whoever sometimes wins wins always.

With more than two models a prompt's score of a model is the mean over the others of σ(logit), its Borda count in
probabilities. Costs are in money, so a probability has to become a reward first: one factor for the pool, the slope of
recorded reward differences on differences of scores, out of fold.

Source: the preference router of arXiv 2603.20217, section 4.2; the aggregation and the factor are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from erp_trainer.learning.ridge import assign_folds
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Applied, PolicySpec, apply_predictor, out_of_fold, routed_utility, tuning_rows
from erp_trainer.policies.methods.logistic import Linear, fit_binary
from litellm_erp.bundle.stored.pairwise import PairPredictor
from litellm_erp.errors import FitError

BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MAX_MODELS = 64


@dataclass(frozen=True, slots=True)
class PairwiseOptions:
    """Penalty of every regression, sum form, and reward units per unit of the mean probability of winning."""

    beta: float
    scale: float


def preferences(rewards_PM: np.ndarray, samples_PMK: np.ndarray | None = None) -> np.ndarray:
    """Labels of every pair (i, j), i < j, shape (P, Q): 1, 0, or 1/2 for a draw; NaN where one has no outcome.

    Where single rewards are on record, a label is the mean over samples drawn together.

    Raises
    ------
    FitError : more than 64 models
    """
    n_models = rewards_PM.shape[1]
    if n_models > MAX_MODELS:
        raise FitError(
            f"{n_models} models make {n_models * (n_models - 1) // 2} pairs, each with a regression of its own; "
            f"pairwise takes at most {MAX_MODELS} models. Fit --policy erp, which needs one probe per model"
        )
    first, second = np.triu_indices(n_models, 1)
    label = 0.5 * (np.sign(rewards_PM[:, first] - rewards_PM[:, second]) + 1.0)
    if samples_PMK is not None:
        total, counts = np.zeros(label.shape), np.zeros(label.shape)
        for sample in np.moveaxis(samples_PMK, 2, 0):
            edge = sample[:, first] - sample[:, second]
            total += np.where(np.isnan(edge), 0.0, 0.5 * (np.sign(edge) + 1.0))
            counts += ~np.isnan(edge)
        label = np.where(counts > 0, total / np.maximum(counts, 1), label)
    return label.astype(np.float32)


def train_pairwise(table: TrainingTable, options: PairwiseOptions, seed: int = 0) -> PairPredictor:
    """Fit every pair on all rows."""
    return _predictor(_fit(table, options.beta, None), table, options.scale)


def tune_pairwise(table: TrainingTable, seed: int = 0) -> PairwiseOptions:
    """β by out-of-fold routed utility, and the factor from the same predictions."""
    table = tuning_rows(table, seed)
    folds = assign_folds(table.groups_P, seed)
    starts: dict[int, Linear] = {}
    best = (-np.inf, PairwiseOptions(BETAS[-1], 0.0))
    # From strong penalties to weak ones, each fit starts where the last one ended.
    for beta in BETAS[::-1]:

        def train(part: TrainingTable, fold: int, beta: float = beta) -> PairPredictor:
            starts[fold] = _fit(part, beta, starts.get(fold))
            return replace(_predictor(starts[fold], part, 1.0), level=0.0)

        predicted = out_of_fold(table, folds, train)
        scale = reward_slope(predicted, table.rewards_PM)
        best = max(best, (routed_utility(table, scale * predicted), PairwiseOptions(beta, scale)), key=lambda b: b[0])
    return best[1]


def reward_slope(scores_PM: np.ndarray, rewards_PM: np.ndarray) -> float:
    """Least-squares slope, at least 0, of reward differences between the models of a prompt on score differences."""
    present = ~np.isnan(rewards_PM)
    scores = np.where(present, scores_PM, np.nan)
    scores = np.nan_to_num(scores - np.nanmean(scores, axis=1, keepdims=True))
    rewards = np.nan_to_num(rewards_PM - np.nanmean(rewards_PM, axis=1, keepdims=True))
    square = float((scores**2).sum())
    return max(float((scores * rewards).sum()) / square, 0.0) if square > 0 else 0.0


def _fit(table: TrainingTable, beta: float, start: Linear | None) -> Linear:
    return fit_binary(table.embeddings_PD, preferences(table.rewards_PM, table.samples_PMK), beta, start)


def _predictor(fitted: Linear, table: TrainingTable, scale: float) -> PairPredictor:
    return PairPredictor(
        weights_DQ=fitted.weights_DQ.astype(np.float32),
        intercept_Q=fitted.intercept_Q.astype(np.float32),
        n_models=len(table.models),
        level=float(table.mean_reward_M.mean()),
        scale=scale,
    )


def apply_pairwise(predictor: PairPredictor, test: TrainingTable) -> Applied:
    """Also what the regression of each pair says of it."""

    def probability(a: int, b: int) -> np.ndarray:
        low, high = sorted((a, b))
        pair = low * predictor.n_models - low * (low + 1) // 2 + high - low - 1
        wins = predictor.win_probability(test.embeddings_PD, slice(pair, pair + 1))[:, 0]
        return wins if b < a else 1.0 - wins

    return replace(apply_predictor(predictor, test), pair_probability=probability)


PAIRWISE = PolicySpec("pairwise", "pairwise preference", train_pairwise, tune_pairwise, apply_pairwise)
