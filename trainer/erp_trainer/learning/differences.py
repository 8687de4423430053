"""PURE. How well probes predict the differences between models, out of fold: what routing rests on.

What all models share at a prompt (some prompts are hard for everybody) changes no choice, so rewards and predictions
are taken relative to their mean over the models that have an outcome for the prompt. With fewer than two such models
anywhere, they are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from erp_trainer.learning.ridge import CrossFit

_CELLS = 65_536
# How many standard errors of the paired difference the probes must be better than the models' means.
EVIDENCE = 1.645


def errors(
    fitted: CrossFit, targets_PM: np.ndarray, betas: Sequence[float], rows_R: np.ndarray | None = None
) -> np.ndarray:
    """Sum of squared out-of-fold errors of the differences between models at each of B penalties, shape (B,).

    Parameters
    ----------
    rows_R : the rows that count, by default all
    """
    total = np.zeros(len(betas))
    counted = np.arange(len(targets_PM)) if rows_R is None else rows_R
    shared = several(targets_PM)
    step = max(1, _CELLS // targets_PM.shape[1])
    for fold in range(fitted.n_folds):
        weights_DK, intercept_K = (part.reshape(*part.shape[:-2], -1) for part in fitted.at_penalties(fold, betas))
        rows = counted[fitted.folds_P[counted] == fold]
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            y = targets_PM[chunk][:, None]
            predicted = (fitted.embeddings_PD[chunk] @ weights_DK + intercept_K).reshape(len(chunk), len(betas), -1)
            total += np.square(relative(y - predicted, np.isnan(y), shared)).sum(axis=(0, 2))
    return total


def evident(predicted_PM: np.ndarray, targets_PM: np.ndarray, mean_M: np.ndarray, groups_P: np.ndarray) -> bool:
    """Whether out-of-fold predictions of the differences are clearly better than the models' means.

    Parameters
    ----------
    groups_P : shape (P,), int; duplicate prompts count as one observation
    """
    gain = np.empty(len(targets_PM))
    shared = several(targets_PM)
    step = max(1, _CELLS // targets_PM.shape[1])
    for start in range(0, len(gain), step):
        rows = slice(start, start + step)
        y = targets_PM[rows]
        stacked = np.stack([y - mean_M, y - predicted_PM[rows]], axis=1)
        found = np.square(relative(stacked, np.isnan(y)[:, None], shared)).sum(axis=2)
        gain[rows] = found[:, 0] - found[:, 1]
    _, inverse = np.unique(groups_P, return_inverse=True)
    error = np.sqrt(np.square(np.bincount(inverse, weights=gain - gain.mean())).sum()) / len(gain)
    return bool(gain.mean() > EVIDENCE * error)


def relative(values: np.ndarray, missing: np.ndarray, shared: bool = True) -> np.ndarray:
    """Values minus their mean over the last axis where not missing, and 0 where missing."""
    present = np.where(missing, 0.0, values)
    if not shared:
        return present
    count = np.maximum((~missing).sum(axis=-1, keepdims=True), 1)
    return np.where(missing, 0.0, present - present.sum(axis=-1, keepdims=True) / count)


def several(targets_PM: np.ndarray) -> bool:
    """Whether some prompt has outcomes of two models or more."""
    return bool(((~np.isnan(targets_PM)).sum(axis=1) > 1).any())
