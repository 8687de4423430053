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
    """Sum of squared out-of-fold errors of the differences between models, for every pair of penalties.

    An error is target − task part − rest, so that all pairs follow from the inner products of these columns.

    Parameters
    ----------
    rows_R : the rows that count, by default all

    Returns
    -------
    shape (B, B): penalty of the task part (without tasks it makes no difference), penalty of the rest
    """
    n = len(betas)
    n_task = n if fitted.has_tasks else 1
    products = np.zeros((1 + n_task + n,) * 2)
    counted = np.arange(len(targets_PM)) if rows_R is None else rows_R
    shared = _several(targets_PM)
    step = max(1, _CELLS // targets_PM.shape[1])
    for fold in range(fitted.n_folds):
        task_w, task_b, rest_w, rest_b = (part.reshape(*part.shape[:-2], -1) for part in fitted.parts(fold, betas))
        rows = counted[fitted.folds_P[counted] == fold]
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            x, y = fitted.embeddings_PD[chunk], targets_PM[chunk]
            task = x @ task_w + task_b if fitted.has_tasks else np.broadcast_to(task_b[: y.shape[1]], y.shape)
            stacked = np.concatenate([y[:, None], _by_beta(task, n_task), _by_beta(x @ rest_w + rest_b, n)], axis=1)
            columns = relative(stacked, np.isnan(y)[:, None], shared).transpose(1, 0, 2).reshape(len(products), -1)
            products += columns @ columns.T
    task, rest = slice(1, n_task + 1), slice(n_task + 1, None)
    own = np.diag(products)
    found = (
        own[0]
        + (own[task] - 2 * products[0, task])[:, None]
        + (own[rest] - 2 * products[0, rest])[None, :]
        + 2 * products[task, rest]
    )
    return np.broadcast_to(found, (n, n))


def evident(predicted_PM: np.ndarray, targets_PM: np.ndarray, mean_M: np.ndarray, groups_P: np.ndarray) -> bool:
    """Whether out-of-fold predictions of the differences are clearly better than the models' means.

    Parameters
    ----------
    groups_P : shape (P,), int; duplicate prompts count as one observation
    """
    gain = np.empty(len(targets_PM))
    shared = _several(targets_PM)
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


def _several(targets_PM: np.ndarray) -> bool:
    return bool(((~np.isnan(targets_PM)).sum(axis=1) > 1).any())


def _by_beta(values: np.ndarray, n: int) -> np.ndarray:
    return values.reshape(len(values), n, -1)
