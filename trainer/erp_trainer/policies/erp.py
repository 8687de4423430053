"""PURE. Expected reward prediction: one ridge probe per model, and everything about it that is chosen.

``paper``  β = 1, one constant cost per model, no shrinkage, no safety (arXiv 2603.20217, section 3).
``best``   penalties by the error of differences between models, out of fold and with categories left out, shrinkage at
           each λ and distrust of unusual prompts by routed utility; where differences cannot be predicted, no routing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from erp_trainer.learning import differences
from erp_trainer.learning.moments import Moments
from erp_trainer.learning.ridge import (
    CrossFit,
    Penalties,
    assign_folds,
    choosing_rows,
    cross_fit,
    r_squared,
    r_squared_by_category,
    variance_line,
)
from erp_trainer.learning.task_means import task_codes
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Applied, PolicySpec, routed, tuning_lambdas
from erp_trainer.policies.frontier import choose_shrinkage, frontier
from litellm_erp.bundle.probe import Probes, Uncertainty

Preset = Literal["best", "paper"]
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0, 400.0, 1000.0)
# As good as infinite: nothing is learned beyond the task means.
NO_REST = 1e6
DISTRUSTS = (0.0, 1.0, 2.0, 4.0, 8.0)
PAPER_BETA = 1.0
# Unusual prompts stand out most at a small penalty, whatever suits the probes.
LEVERAGE_BETA = 1.0
USUAL_QUANTILE = 0.5
# The share of what can be predicted on categories seen that penalties which suit unseen ones must keep.
KEPT = 0.9
MIN_CATEGORIES = 3
MAX_LEFT_OUT = 20


@dataclass(frozen=True, slots=True)
class FittedERP:
    """Everything a bundle records of a fitted pool."""

    probes: Probes
    uncertainty: Uncertainty
    penalties: Penalties
    mean_reward_M: np.ndarray
    constant_cost_M: np.ndarray | None
    r2_M: np.ndarray
    r2_by_category: dict[str, np.ndarray]
    frontier: dict[str, Any]
    blocks: tuple[tuple[np.ndarray, Moments], ...]
    has_tasks: bool = False

    @property
    def task_beta(self) -> float | None:
        """The penalty of the task means; None where the probes have no such part."""
        return self.penalties.task if self.has_tasks else None


def fit_erp(table: TrainingTable, *, preset: Preset, beta: float | None = None, seed: int = 0) -> FittedERP:
    """Fit a pool on training rows.

    Parameters
    ----------
    table : training rows only
    preset : see the module docstring
    beta : fixes the ridge penalty instead of choosing it

    Raises
    ------
    FitError : too few prompts or outcomes
    """
    safe = preset == "best"
    folds = assign_folds(table.groups_P, seed)
    tasks = task_codes(table.categories_P) if safe and beta is None else None
    fitted = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models, tasks)
    constant_cost = None if safe else table.mean_cost_M
    if constant_cost is not None:
        table = _with_constant_cost(table, constant_cost)
    left_out = leave_categories_out(table, tasks) if safe else None
    chosen = safe and beta is None
    penalties = choose_penalties(fitted, table, left_out) if chosen else Penalties.of(beta or PAPER_BETA)

    predicted = fitted.out_of_fold(penalties)
    leverage = fitted.out_of_fold_leverage(LEVERAGE_BETA)
    uncertainty = uncertainty_of(fitted, table.rewards_PM - predicted, leverage, LEVERAGE_BETA)
    if left_out is not None:
        distrust = choose_distrust(table, left_out, penalties, predicted, leverage, uncertainty.usual)
        uncertainty = replace(uncertainty, distrust=distrust)
    trust = trust_where_evident(table, predicted, uncertainty.trust(leverage)) if safe else np.ones(len(table))
    return FittedERP(
        probes=Probes(*fitted.probes(penalties)),
        uncertainty=uncertainty,
        penalties=penalties,
        mean_reward_M=table.mean_reward_M,
        constant_cost_M=constant_cost,
        r2_M=r_squared(predicted, table.rewards_PM),
        r2_by_category=r_squared_by_category(predicted, table.rewards_PM, table.categories_P),
        frontier=frontier(table, predicted, trust, safe=safe),
        blocks=tuple((block.columns, moments) for block, moments in zip(fitted.blocks, fitted.moments, strict=True)),
        has_tasks=fitted.has_tasks,
    )


def leave_categories_out(table: TrainingTable, tasks_P: np.ndarray | None) -> CrossFit | None:
    """A fit whose folds are categories, at most ``MAX_LEFT_OUT`` folds; None below ``MIN_CATEGORIES`` categories."""
    names, numbers = np.unique(table.categories_P, return_inverse=True)
    if len(names) < MIN_CATEGORIES:
        return None
    folds = np.random.default_rng(0).permutation(len(names))[numbers] % MAX_LEFT_OUT
    return cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models, tasks_P)


def choose_penalties(fitted: CrossFit, table: TrainingTable, left_out: CrossFit | None = None) -> Penalties:
    """Penalties by the out-of-fold error of differences between models; among equals the largest.

    With ``left_out``, among the pairs that keep ``KEPT`` of the best pair's gain over the models' means, those with
    the smallest error on the categories left out.

    Source: ours. Squared error of the rewards themselves under-shrinks; routed utility is too noisy to choose by.
    """
    betas, rows = (*BETAS, NO_REST), choosing_rows(len(table))
    found = differences.errors(fitted, table.rewards_PM, betas, rows)
    if not fitted.has_tasks:
        found = np.where(np.eye(len(betas), dtype=bool), found, np.inf)
    if left_out is not None:
        gain = found[-1, -1] - found
        found = np.where(gain >= KEPT * gain.max(), differences.errors(left_out, table.rewards_PM, betas, rows), np.inf)
    # Rounding must not decide between candidates that predict nothing.
    task, rest = np.argwhere(found <= found.min() + 1e-9 * abs(found.min()))[-1]
    return Penalties(betas[task], betas[rest])


def trust_where_evident(table: TrainingTable, predicted_PM: np.ndarray, trust_P: np.ndarray) -> np.ndarray:
    """The trust as it is, or 0 for every prompt where the differences between models cannot be predicted."""
    found = differences.evident(predicted_PM, table.rewards_PM, table.mean_reward_M, table.groups_P)
    return trust_P if found else np.zeros_like(trust_P)


def choose_distrust(
    table: TrainingTable,
    left_out: CrossFit,
    penalties: Penalties,
    predicted_PM: np.ndarray,
    leverage_P: np.ndarray,
    usual: float,
) -> float:
    """How fast trust falls on prompts unlike training.

    What is won on categories left out and what is lost on those seen count the same.
    """
    folds = left_out.folds_P
    unseen, unseen_leverage = left_out.out_of_fold(penalties), left_out.out_of_fold_leverage(LEVERAGE_BETA)
    rows, mean_reward_M = choosing_rows(len(table)), table.mean_reward_M
    if len(rows) < len(table):
        table, folds, predicted_PM, unseen = table.rows(rows), folds[rows], predicted_PM[rows], unseen[rows]
        leverage_P, unseen_leverage = leverage_P[rows], unseen_leverage[rows]
    share_P = 1.0 / np.bincount(folds)[folds]
    scores = np.zeros(len(DISTRUSTS))
    for lambda_ in tuning_lambdas(table):
        for row, distrust in enumerate(DISTRUSTS):
            trust_P, unseen_trust_P = (
                np.maximum(found / usual, 1.0) ** -distrust for found in (leverage_P, unseen_leverage)
            )
            shrinkage, seen = choose_shrinkage(table, predicted_PM, trust_P, lambda_, mean_reward_M)
            choice = table.choose(
                unseen, lambda_, mean_reward_M=mean_reward_M, trust=shrinkage * unseen_trust_P[:, None]
            )
            # Every category left out is one observation, however many prompts it has.
            utility = np.average(table.utility_of(choice, lambda_), weights=share_P)
            scores[row] += table.utility_of(seen, lambda_).mean() + utility
    return DISTRUSTS[int(np.argmax(scores))]


def uncertainty_of(fitted: CrossFit, errors_PM: np.ndarray, leverage_P: np.ndarray, beta: float) -> Uncertainty:
    """How errors made out of fold grow with leverage, without distrust.

    Parameters
    ----------
    beta : the penalty that ``leverage_P`` was worked out at
    """
    noise, slope = variance_line(errors_PM, leverage_P)
    return Uncertainty(
        mean_D=fitted.widest.mean_D.astype(np.float32),
        whiten_DR=fitted.widest.whitener(beta).astype(np.float32),
        base=1.0 / max(moments.weight for moments in fitted.moments),
        noise_M=noise,
        slope_M=slope,
        usual=float(np.quantile(leverage_P, USUAL_QUANTILE)),
        distrust=0.0,
    )


def apply_erp(fitted: FittedERP, test: TrainingTable) -> Applied:
    """Route with the frontier's shrinkage and trust in each prompt, or the constant costs of the ``paper`` preset."""
    predicted = fitted.probes.predict(test.embeddings_PD)
    lambdas, shrinkage = (
        np.array([point[key] for point in fitted.frontier["points"]]) for key in ("lambda", "shrinkage")
    )
    trust_P = fitted.uncertainty.trust(fitted.uncertainty.leverage(test.embeddings_PD))

    def choose(table: TrainingTable, lambda_: float) -> np.ndarray:
        if fitted.constant_cost_M is not None:
            return _with_constant_cost(table, fitted.constant_cost_M).choose(predicted, lambda_)
        # Between two points the smaller shrinkage counts.
        right = min(int(np.searchsorted(lambdas, lambda_)), len(lambdas) - 1)
        left = right if lambdas[right] == lambda_ else max(right - 1, 0)
        trust = float(shrinkage[left : right + 1].min()) * trust_P[:, None]
        return table.choose(predicted, lambda_, mean_reward_M=fitted.mean_reward_M, trust=trust)

    return Applied(routed(choose), predicted)


def _with_constant_cost(table: TrainingTable, cost_M: np.ndarray) -> TrainingTable:
    return replace(table, expected_cost_PM=np.broadcast_to(cost_M, table.rewards_PM.shape))


def _spec(preset: Preset) -> PolicySpec:
    """Everything is chosen where it is trained, so that there is nothing to tune before."""
    return PolicySpec(
        "erp",
        f"erp ({preset} preset)",
        train=lambda table, options, seed: fit_erp(table, preset=preset, seed=seed),
        apply=apply_erp,
        preset=preset,
    )


BEST, PAPER = _spec("best"), _spec("paper")
