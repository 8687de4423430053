"""PURE. A model's place in the estimator of a pool when it was asked only some of the pool's prompts.

Fitted by itself, from 25 to 100 noisy rewards, a newcomer costs more than it brings: it is chosen where it was lucky.
Here it is what the others are, as far as its rewards do not say otherwise. With y_i its rewards, and over the others'
means: g_i what the others earn at prompt i, e_t in label t, h(x) by their ridges, each the mean over the others:

    b     slope of y on g, as if ``SLOPE_ROWS`` more rows had said ``SLOPE``
    μ     mean of y − e_t − b (g − e_t), with the labels weighted as in the pool; shrunk to the others' mean
    cells e_t + mean over t's rows of (y − μ − e_t − b (g − e_t)), this shrunk to 0
    ridge μ + h(x) + the ridge of y − μ − h − b (g − h)

A mean of n rows with error σ²/n is shrunk by τ² / (τ² + σ²/n), with τ² its variance from model to model. As the model
is believed where it seems best, every expected reward is less by ``CAUTION`` standard errors. All of this fades as
1/n. A newcomer that was asked every prompt needs none of it: it is fitted as the others were
(`erp_trainer.learning.stack.combined_probes`).

Source: regression estimators of survey sampling (Cochran, 1977) for b and the labels' shares; empirical Bayes (Efron
and Morris, 1975) for what is shrunk; the caution is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.features import Labelling
from erp_trainer.learning.moments import Moments, RidgeSolver
from erp_trainer.learning.ridge import CrossFit
from erp_trainer.learning.stack import Stack, cell_means, left_out, present_means

SLOPE, SLOPE_ROWS = 0.8, 20.0
# As if one more model had been seen, whose mean lies off by this share of the rewards' variance.
MEAN_SPREAD = 0.1
# As if so many more rows had had the rewards' own variance.
NOISE_ROWS = 5.0
CAUTION = 0.75
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a bundle predicts of one model, cautiously, and what is expected of it.

    Attributes
    ----------
    weights_D, intercept : its linear probe
    cells_F : shape (F,), what is added by membership
    mean : what predictions lean towards: less than expected, by ``CAUTION`` standard errors
    expected_mean : its mean reward over the pool's prompts, as far as is known
    """

    weights_D: np.ndarray
    intercept: float
    cells_F: np.ndarray
    mean: float
    expected_mean: float

    def predict(self, embeddings_PD: np.ndarray, memberships_PF: np.ndarray) -> np.ndarray:
        """Expected rewards, shape (P,)."""
        linear: np.ndarray = embeddings_PD @ self.weights_D + self.intercept
        return linear + memberships_PF @ self.cells_F


@dataclass(frozen=True, slots=True)
class _Others:
    """What the others earn over their means, by prompt, by label and by ridge, and how they differ.

    Attributes
    ----------
    mean_M : shape (M,)
    at_P : shape (P,), mean over the others that answered
    effects : of each labelling, shape (C,)
    spreads : of each labelling, the variance of effects from model to model
    """

    mean_M: np.ndarray
    at_P: np.ndarray
    effects: tuple[np.ndarray, ...]
    spreads: tuple[float, ...]

    @classmethod
    def of(cls, rewards_PM: np.ndarray, labels: Sequence[Labelling]) -> _Others:
        mean_M = present_means(rewards_PM)
        over, present = np.nan_to_num(rewards_PM - mean_M), ~np.isnan(rewards_PM)
        at_P = over.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        effects, spreads = [], []
        for each in labels:
            effects_CM = cell_means(rewards_PM, each, mean_M) - mean_M
            shared_C = effects_CM.mean(axis=1)
            share_C = np.bincount(each.codes_P, minlength=each.n) / len(each.codes_P)
            # One more model, as far from the others as they are from having no effects: two say little of a variance.
            squares_C = np.square(effects_CM - shared_C[:, None]).sum(axis=1) + np.square(shared_C)
            effects.append(shared_C)
            spreads.append(float(share_C @ squares_C) / len(mean_M))
        return cls(mean_M, at_P, tuple(effects), tuple(spreads))


def fit_newcomer(
    embeddings_PD: np.ndarray,
    rewards_P: np.ndarray,
    others_PM: np.ndarray,
    labels: Sequence[Labelling],
    stack: Stack,
    ridges: tuple[np.ndarray, np.ndarray],
    variance: float | None = None,
) -> Newcomer:
    """Place one model in a pool.

    Parameters
    ----------
    rewards_P : shape (P,), the newcomer's; NaN where it was not asked, which may be anywhere but everywhere
    others_PM : shape (P, M), rewards of the M models of the pool, at least one
    stack : of the bundle
    ridges : of the others at the stack's penalty: weights, shape (D, M), and intercepts, shape (M,)
    variance : of a model's rewards, where those of the others are only what is expected of them
    """
    rows = np.flatnonzero(~np.isnan(rewards_P))
    others = _Others.of(others_PM, labels)
    y, g = rewards_P[rows].astype(np.float64), others.at_P[rows]
    if variance is None:
        variance = float(np.nanmean(np.nanvar(np.column_stack([others_PM, rewards_P]), axis=0)))
    slope = _slope(y, g, float(others.at_P.var()))
    level = y - slope * g
    noise = (np.square(level - level.mean()).sum() + NOISE_ROWS * variance) / (len(rows) - 1 + NOISE_ROWS)
    mean, mean_error = _mean(y, g, slope, rows, labels, others, noise, variance)
    cells = []
    for each, effect_C, spread, weight in zip(labels, others.effects, others.spreads, stack.weights, strict=False):
        e = effect_C[each.codes_P[rows]]
        own_C, error_C = _own_effects(y - mean - e - slope * (g - e), each.codes_P[rows], each.n, spread, noise)
        cells.append(weight * (effect_C + own_C - CAUTION * (np.hypot(mean_error, error_C) - mean_error)))
    shared_D, shared = ridges[0].mean(axis=1, dtype=np.float64), float((ridges[1] - others.mean_M).mean())
    x = embeddings_PD[rows]
    h = x @ shared_D + shared
    own_D, own = RidgeSolver(Moments.of(x, (y - mean - h - slope * (g - h))[:, None])).solve(stack.beta)
    cautious = mean - CAUTION * mean_error
    return Newcomer(
        (stack.weights[-1] * (shared_D + own_D[:, 0])).astype(np.float32),
        float(cautious + stack.weights[-1] * (shared + own[0])),
        np.concatenate([np.empty(0), *cells]).astype(np.float32),
        float(cautious),
        float(mean),
    )


def _slope(y: np.ndarray, g: np.ndarray, variance: float) -> float:
    """How far a newcomer shares what all find hard."""
    around = g - g.mean()
    along, across = around @ (y - y.mean()), around @ around
    return float((along + SLOPE * SLOPE_ROWS * variance) / max(across + SLOPE_ROWS * variance, _TINY))


def _mean(
    y: np.ndarray,
    g: np.ndarray,
    slope: float,
    rows: np.ndarray,
    labels: Sequence[Labelling],
    others: _Others,
    noise: float,
    variance: float,
) -> tuple[float, float]:
    """Mean reward over all of the pool's prompts, shrunk to the others', and its standard error.

    The prompts asked may have been chosen, so that some labels have more of them than their share.
    """
    e, balance = np.zeros(len(rows)), 0.0
    if labels:
        codes = labels[0].codes_P[rows]
        e = others.effects[0][codes]
        over = y - e - slope * (g - e)
        own_C, _ = _own_effects(over - over.mean(), codes, labels[0].n, others.spreads[0], noise)
        share_C = np.bincount(labels[0].codes_P, minlength=labels[0].n) / len(labels[0].codes_P)
        balance = float(share_C @ own_C - own_C[codes].mean())
    found = float((y - e - slope * (g - e)).mean()) + balance
    middle, error = float(others.mean_M.mean()), noise / len(rows)
    between = (np.square(others.mean_M - middle).sum() + MEAN_SPREAD * variance) / len(others.mean_M)
    believed = between / (between + error) if error > 0 else 1.0
    return middle + believed * (found - middle), float(np.sqrt(believed * error))


def _own_effects(
    values: np.ndarray, codes: np.ndarray, n: int, spread: float, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the values by label, shrunk to 0, and its standard error, shape (C,) each.

    Parameters
    ----------
    spread : variance of effects
    noise : variance of a value
    """
    count_C = np.bincount(codes, minlength=n)
    mean_C = np.bincount(codes, weights=values, minlength=n) / np.maximum(count_C, 1)
    believed_C = count_C * spread / np.maximum(count_C * spread + noise, _TINY)
    return believed_C * mean_C, np.sqrt(spread * (1.0 - believed_C))


def newcomer_out_of_fold(
    fitted: CrossFit, rewards_PM: np.ndarray, m: int, others: np.ndarray, labels: Sequence[Labelling], stack: Stack
) -> np.ndarray:
    """Predictions of model ``m`` for every row from rows of the other folds alone, shape (P,).

    Parameters
    ----------
    fitted : of all columns of ``rewards_PM``
    others : columns of the models that it joins
    """
    x, predicted = fitted.embeddings_PD, np.empty(len(rewards_PM))
    memberships_PF = np.zeros((len(x), sum(each.n for each in labels)))
    for side in left_out(fitted, labels) if labels else ():
        memberships_PF[side.rows] = side.memberships
    for fold in range(fitted.n_folds):
        rows, rest = np.flatnonzero(fitted.folds_P == fold), np.flatnonzero(fitted.folds_P != fold)
        if np.isnan(rewards_PM[rest, m]).all():
            # All its few rows may be in one fold; then there is no other side, and its own must do.
            rest = np.arange(len(x))
        weights, intercepts = fitted.at_penalties(fold, (stack.beta,))
        newcomer = fit_newcomer(
            x[rest],
            rewards_PM[rest, m],
            rewards_PM[np.ix_(rest, others)],
            [each.rows(rest) for each in labels],
            stack,
            (weights[:, 0, others], intercepts[0, others]),
        )
        predicted[rows] = newcomer.predict(x[rows], memberships_PF[rows])
    return predicted


def newcomer_of(
    fitted: CrossFit, rewards_PM: np.ndarray, m: int, others: np.ndarray, labels: Sequence[Labelling], stack: Stack
) -> Newcomer:
    """Model ``m`` fitted on all rows: as the others where it has all of them, else by `fit_newcomer`.

    Parameters
    ----------
    fitted : of all columns of ``rewards_PM``; that of ``m`` may miss more rows here
    others : columns of the models that it joins
    """
    weights, intercepts = fitted.probes(stack.beta)
    if np.isnan(rewards_PM[:, m]).any():
        ridges = weights[:, others], intercepts[others]
        return fit_newcomer(fitted.embeddings_PD, rewards_PM[:, m], rewards_PM[:, others], labels, stack, ridges)
    own = rewards_PM[:, [m]]
    mean_1 = present_means(own)
    probes = stack.probes(weights[:, [m]], intercepts[[m]], mean_1)
    cells_F, mean = stack.cells(own, labels, mean_1)[:, 0], float(mean_1[0])
    return Newcomer(probes.weights_DM[:, 0], float(probes.intercept_M[0]), cells_F, mean, mean)
