"""PURE. Expected reward prediction: what every model is expected to earn, and everything about it that is chosen.

``paper``  one ridge probe per model at β = 1, one constant cost per model, no safety (arXiv 2603.20217, section 3).
``best``   memberships in tasks and clusters beside the ridge, stacked (`erp_trainer.learning.stack`); prompts that
           belong nowhere lean towards the models' means; where differences between models cannot be predicted, no
           routing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from erp_trainer.learning import differences
from erp_trainer.learning.features import Labelling, labellings
from erp_trainer.learning.moments import Moments
from erp_trainer.learning.ridge import (
    CrossFit,
    assign_folds,
    choosing_rows,
    cross_fit,
    r_squared,
    r_squared_by_category,
    variance_line,
)
from erp_trainer.learning.stack import (
    Parts,
    Stack,
    choose_beta,
    choose_weights,
    combined_probes,
    discriminants,
    label_totals,
    out_of_fold_parts,
    present_means,
)
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Applied, PolicySpec, routed
from erp_trainer.policies.frontier import frontier
from litellm_erp.bundle.features import FeatureProbes, Features
from litellm_erp.bundle.probe import Probes, Uncertainty

Preset = Literal["best", "paper"]
PAPER_BETA = 1.0
# Unusual prompts stand out most at a small penalty, whatever suits the probes.
LEVERAGE_BETA = 1.0
# Shares of training prompts that may count as unusual.
UNUSUAL = (0.1, 0.2, 0.3)
MIN_TASKS = 3
TASK_FOLDS = 20
UNSEEN_SHARE = 0.2
_QUANTILES = 1000
# Below this entropy, in nats, a prompt belongs to one task (with 98%), however certain all others are.
CERTAIN = 0.1


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """A pool's estimator on its training rows, out of fold.

    Attributes
    ----------
    predicted_PM : expected rewards
    trust_P : how far each is believed, in [0, 1]; 0 for all where differences between models cannot be predicted
    features : fitted on all rows; None without labellings
    """

    ridge: CrossFit
    labels: tuple[Labelling, ...]
    stack: Stack
    features: Features | None
    predicted_PM: np.ndarray
    trust_P: np.ndarray


@dataclass(frozen=True, slots=True)
class FittedERP:
    """Everything a bundle records of a fitted pool.

    Attributes
    ----------
    cells_FM : what is added by membership, see `FeatureProbes`; F = 0 without features
    constant_cost_M : costs that stand in the place of expected ones, shape (M,); NaN where prices say more
    safe : prompts that belong nowhere lean towards the models' means
    tasks : the categories of each task, in the order of the first memberships; empty without tasks
    label_totals : what the cells follow from, see ``stack.label_totals``; None where it is not known
    """

    probes: Probes
    features: Features | None
    cells_FM: np.ndarray
    stack: Stack
    uncertainty: Uncertainty
    mean_reward_M: np.ndarray
    constant_cost_M: np.ndarray
    safe: bool
    r2_M: np.ndarray
    r2_by_category: dict[str, np.ndarray]
    frontier: dict[str, Any]
    blocks: tuple[tuple[np.ndarray, Moments], ...]
    tasks: tuple[tuple[str, ...], ...] = ()
    label_totals: np.ndarray | None = None


def fit_erp(table: TrainingTable, *, preset: Preset, beta: float | None = None, seed: int = 0) -> FittedERP:
    """Fit a pool on training rows.

    Parameters
    ----------
    table : training rows only
    preset : see the module docstring
    beta : one ridge probe per model at this penalty, and nothing beside it

    Raises
    ------
    FitError : too few prompts or outcomes
    """
    safe = preset == "best"
    stacked = safe and beta is None
    labels = labellings(table.embeddings_PD, table.categories_P, seed) if stacked else ()
    found = fit_out_of_fold(table, labels, None if stacked else Stack(beta or PAPER_BETA, (1.0,)), seed=seed)
    return _fitted(table, found, safe)


def refit_erp(fitted: FittedERP, table: TrainingTable, *, seed: int = 0) -> FittedERP:
    """The same choices, fitted on more rows: what is served is of all of them, what is reported stays as it was.

    Parameters
    ----------
    fitted : by `fit_erp` on some of the rows
    table : all rows
    """
    sizes = () if fitted.features is None else fitted.features.sizes
    has_tasks = fitted.features is not None and bool(len(fitted.features.entropy_Q))
    clusters = sizes[1:] if has_tasks else sizes
    categories_P = table.categories_P if has_tasks else np.full(len(table), "")
    labels = labellings(table.embeddings_PD, categories_P, seed, clusters) if sizes else ()
    unusual = None if fitted.features is None else fitted.features.unusual
    found = fit_out_of_fold(table, labels, fitted.stack, unusual=unusual, seed=seed)
    reported = {name: getattr(fitted, name) for name in ("r2_M", "r2_by_category", "frontier")}
    return replace(_fitted(table, found, fitted.safe), **reported)


def _fitted(table: TrainingTable, found: CrossFitted, safe: bool) -> FittedERP:
    """What is served, of all rows, and what it earned out of fold."""
    constant_cost = recorded_cost(table) if safe else table.mean_cost_M
    table = with_constant_cost(table, constant_cost)
    probes, cells = combined_probes(found.ridge, table.rewards_PM, found.labels, found.stack)
    leverage = found.ridge.out_of_fold_leverage(LEVERAGE_BETA)
    predicted, ridge = found.predicted_PM, found.ridge
    return FittedERP(
        probes=probes,
        features=found.features,
        cells_FM=cells,
        stack=found.stack,
        uncertainty=uncertainty_of(ridge, table.rewards_PM - predicted, leverage, LEVERAGE_BETA),
        mean_reward_M=table.mean_reward_M,
        constant_cost_M=constant_cost,
        safe=safe,
        r2_M=r_squared(predicted, table.rewards_PM),
        r2_by_category=r_squared_by_category(predicted, table.rewards_PM, table.categories_P),
        frontier=frontier(table, predicted, found.trust_P if safe else np.ones(len(table)), safe=safe),
        blocks=tuple((block.columns, moments) for block, moments in zip(ridge.blocks, ridge.moments, strict=True)),
        tasks=found.labels[0].names if found.labels else (),
        label_totals=label_totals(table.rewards_PM, found.labels),
    )


def fit_out_of_fold(
    table: TrainingTable,
    labels: Sequence[Labelling],
    stack: Stack | None = None,
    *,
    unusual: float | None = None,
    seed: int = 0,
) -> CrossFitted:
    """Predict every row from the other folds.

    Parameters
    ----------
    stack, unusual : as they are to be; chosen where None
    """
    rewards, mean = table.rewards_PM, present_means(table.rewards_PM)
    ridge = cross_fit(table.embeddings_PD, rewards, assign_folds(table.groups_P, seed), table.models)
    beta = choose_beta(ridge, rewards, choosing_rows(len(table))) if stack is None else stack.beta
    parts = out_of_fold_parts(ridge, rewards, labels, beta)
    stack = choose_weights(parts, rewards, mean, beta) if stack is None else stack
    predicted = stack.combined(parts.all, mean)
    features = _features(table, labels, parts, stack, unusual) if labels else None
    trust = np.ones(len(table))
    if features is not None and len(parts.entropy_P):
        trust = features.trust_at(parts.entropy_P)
    return CrossFitted(ridge, tuple(labels), stack, features, predicted, trust_where_evident(table, predicted, trust))


def _features(
    table: TrainingTable, labels: Sequence[Labelling], parts: Parts, stack: Stack, unusual: float | None
) -> Features:
    """The memberships fitted on all rows, and how far prompts are believed that belong nowhere."""
    sizes = tuple(each.n for each in labels)
    entropy_Q = parts.entropy_P
    if len(entropy_Q) > _QUANTILES:
        entropy_Q = np.quantile(entropy_Q, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    steps_Q = np.maximum(np.sort(entropy_Q), CERTAIN)
    features = Features(*discriminants(table.embeddings_PD, labels)[0], sizes, steps_Q, 0.0)
    if not len(entropy_Q):
        return features
    return replace(
        features, unusual=choose_unusual(table, labels, stack, features, parts) if unusual is None else unusual
    )


def choose_unusual(
    table: TrainingTable, labels: Sequence[Labelling], stack: Stack, features: Features, parts: Parts
) -> float:
    """The share of training prompts that count as unusual, by what is earned at λ = 0.

    As if ``UNSEEN_SHARE`` of the prompts came from tasks that training lacks; of those tasks each counts the same,
    however many prompts it has.

    Parameters
    ----------
    parts : out of fold

    Source: ours. A prompt of a task that training lacks looks uncertain to a classifier of the tasks it has.
    """
    tasks, mean = labels[0], present_means(table.rewards_PM)
    if tasks.n < MIN_TASKS:
        return UNUSUAL[0]
    folds = (np.random.default_rng(0).permutation(tasks.n) % TASK_FOLDS)[tasks.codes_P]
    ridge = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models)
    without = out_of_fold_parts(ridge, table.rewards_PM, labels, stack.beta)
    share_P = 1.0 / np.bincount(tasks.codes_P, minlength=tasks.n)[tasks.codes_P]

    def earned(found: Parts, weights: np.ndarray | None) -> np.ndarray:
        """Mean reward at each share, shape (U,)."""
        predicted = stack.combined(found.all, mean)
        trusts = [replace(features, unusual=unusual).trust_at(found.entropy_P) for unusual in UNUSUAL]
        choices = [table.choose(predicted, 0.0, mean_reward_M=mean, trust=trust[:, None]) for trust in trusts]
        return np.array([np.average(table.reward_of(choice), weights=weights) for choice in choices])

    scores = (1 - UNSEEN_SHARE) * earned(parts, None) + UNSEEN_SHARE * earned(without, share_P)
    return UNUSUAL[int(np.argmax(scores))]


def trust_where_evident(table: TrainingTable, predicted_PM: np.ndarray, trust_P: np.ndarray) -> np.ndarray:
    """The trust as it is, or 0 for every prompt where the differences between models cannot be predicted."""
    found = differences.evident(predicted_PM, table.rewards_PM, present_means(table.rewards_PM), table.groups_P)
    return trust_P if found else np.zeros_like(trust_P)


def uncertainty_of(fitted: CrossFit, errors_PM: np.ndarray, leverage_P: np.ndarray, beta: float) -> Uncertainty:
    """How errors made out of fold grow with leverage.

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
        usual=float(np.median(leverage_P)),
    )


def apply_erp(fitted: FittedERP, test: TrainingTable) -> Applied:
    """Route as the bundle would, or by the constant costs of the ``paper`` preset."""
    predicted, trust_P = served_predictions(fitted, test.embeddings_PD)
    evident = fitted.frontier["points"][0]["shrinkage"]

    def choose(table: TrainingTable, lambda_: float) -> np.ndarray:
        table = with_constant_cost(table, fitted.constant_cost_M)
        if not fitted.safe:
            return table.choose(predicted, lambda_)
        return table.choose(predicted, lambda_, mean_reward_M=fitted.mean_reward_M, trust=evident * trust_P[:, None])

    return Applied(routed(choose), predicted)


def served_predictions(fitted: FittedERP, embeddings_PD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected rewards, shape (P, M), and how far they are believed, shape (P,), as a bundle predicts."""
    probes, features = fitted.probes, fitted.features
    if features is None:
        return probes.predict(embeddings_PD), np.ones(len(embeddings_PD))
    whole = FeatureProbes(probes, features, fitted.cells_FM)
    return whole.predict(embeddings_PD), features.trust(features.memberships(features.scores(embeddings_PD)))


def with_constant_cost(table: TrainingTable, cost_M: np.ndarray) -> TrainingTable:
    """The table with costs, shape (M,), in the place of expected ones; those that are NaN leave them."""
    cost_PM = np.where(np.isnan(cost_M), table.expected_cost_PM, cost_M)
    return replace(table, expected_cost_PM=cost_PM)


def recorded_cost(table: TrainingTable) -> np.ndarray:
    """Mean recorded cost of the models without a price, shape (M,); NaN for the others, and where none is recorded."""
    return np.where(np.isnan(table.expected_cost_PM).all(axis=0), table.mean_cost_M, np.nan)


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
