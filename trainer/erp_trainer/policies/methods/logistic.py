"""PURE. Logistic regressions with soft labels, many at once.

Both losses have a Hessian that is bounded whatever the weights are: c · XᵀX + β, with c = 1/4 for a binary one and 1/2
for a multinomial one. One inverse of that bound serves every step and every output, so a step costs two products with
X. Steps are accelerated, and the acceleration starts again where it overshoots.

scikit-learn knows soft labels as rows repeated with weights only, takes each pair of models by itself, and no model may
be absent from its softmax. On 4,486 prompts of 320 dimensions, 36 pairs and β from 0.1 to 100 it took 9 times as long
and more, mostly hundreds of times, and ended at losses up to 0.03 % above these and never 1e-7 of them below.

Source: Böhning (1992), Multinomial logistic regression algorithm; O'Donoghue and Candès (2015) for the restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BINARY_CURVATURE = 0.25
MULTINOMIAL_CURVATURE = 0.5
_MAX_STEPS = 100
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights (D, Q) and unpenalised intercepts (Q,) of Q outputs."""

    weights_DQ: np.ndarray
    intercept_Q: np.ndarray

    def logits(self, embeddings_PD: np.ndarray) -> np.ndarray:
        """Shape (P, Q)."""
        return embeddings_PD @ self.weights_DQ.astype(embeddings_PD.dtype) + self.intercept_Q


def softmax(logits_PM: np.ndarray, present_PM: np.ndarray) -> np.ndarray:
    """Probabilities over the models that are present, shape (P, M); 0 for the others."""
    masked = np.where(present_PM, logits_PM, -np.inf)
    powers = np.exp(masked - masked.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The logistic function; large logits do not overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def fit_multinomial(
    embeddings_PD: np.ndarray, targets_PM: np.ndarray, beta: float, start: Linear | None = None
) -> Linear:
    """Minimise the cross-entropy to soft targets plus β/2 ‖W‖²: KL distillation into a linear softmax.

    Parameters
    ----------
    embeddings_PD : shape (P, D), float32 or float64
    targets_PM : shape (P, M), rows sum to 1; NaN where a model is absent, which then has no probability there
    start : weights to start from

    Source: Lu et al. (2023), arXiv 2311.08692, with a linear function of the prompt.
    """
    present, targets = ~np.isnan(targets_PM), np.nan_to_num(targets_PM)

    def residual(logits: np.ndarray) -> np.ndarray:
        return softmax(logits, present) - targets

    return _minimise(embeddings_PD, residual, targets.shape[1], beta, MULTINOMIAL_CURVATURE, start)


def fit_binary(embeddings_PD: np.ndarray, labels_PQ: np.ndarray, beta: float, start: Linear | None = None) -> Linear:
    """Q independent logistic regressions with soft labels and a penalty β/2 ‖w‖² each.

    Parameters
    ----------
    labels_PQ : shape (P, Q), in [0, 1]; NaN where a row does not count
    """

    def residual(logits: np.ndarray) -> np.ndarray:
        return np.nan_to_num(sigmoid(logits) - labels_PQ)

    return _minimise(embeddings_PD, residual, labels_PQ.shape[1], beta, BINARY_CURVATURE, start)


def _minimise(
    embeddings_PD: np.ndarray,
    residual: Callable[[np.ndarray], np.ndarray],
    n_outputs: int,
    beta: float,
    curvature: float,
    start: Linear | None,
) -> Linear:
    """Accelerated steps with the fixed bound of the Hessian, from ``start`` until they change next to nothing."""
    dtype = embeddings_PD.dtype
    x = np.hstack([embeddings_PD, np.ones((len(embeddings_PD), 1), dtype)])
    penalty = np.full(x.shape[1], beta)
    # The intercept is free; what is added only keeps the factor regular.
    penalty[-1] = 0.0
    bound = curvature * (x.T @ x).astype(np.float64)
    inverse = np.linalg.inv(bound + np.diag(penalty + 1e-9 * max(1.0, float(len(x)))))
    current = np.zeros((x.shape[1], n_outputs))
    if start is not None:
        current = np.vstack([start.weights_DQ, start.intercept_Q])
    ahead, momentum, first = current, 1.0, 0.0
    for _ in range(_MAX_STEPS):
        gradient = (x.T @ residual(x @ ahead.astype(dtype)).astype(dtype)) + penalty[:, None] * ahead
        step = -(inverse @ gradient)
        moved = ahead + step
        size = float(-(step * gradient).sum())
        first = max(first, size)
        if size <= _TOLERANCE**2 * first or size < 1e-12:
            current = moved
            break
        if float((gradient * (moved - current)).sum()) > 0:
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / following * (moved - current)
        current, momentum = moved, following
    return Linear(current[:-1], current[-1])
