"""PURE. Sufficient statistics of ridge regression: one pass over the data, memory O(D²) beyond it.

Moments add up and subtract, so the training side of a cross-validation fold is the total minus the fold, and
parts fitted on different machines can be summed. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

# Rows are taken in blocks so that a float64 copy of a float32 matrix is never as large as the matrix.
_BLOCK = 8192
_SMALL = 64
# About as many Cholesky factors as an eigendecomposition costs.
_FEW = 4


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the rows that M models share.

    Attributes
    ----------
    weight : float, Σw (the number of rows where weights are 1)
    sum_D : shape (D,), Σ w x
    gram_DD : shape (D, D), Σ w x xᵀ
    sum_y_M : shape (M,), Σ w y
    sum_yy_M : shape (M,), Σ w y²
    xty_DM : shape (D, M), Σ w x y
    """

    weight: float
    sum_D: np.ndarray
    gram_DD: np.ndarray
    sum_y_M: np.ndarray
    sum_yy_M: np.ndarray
    xty_DM: np.ndarray

    @classmethod
    def of(cls, embeddings_PD: np.ndarray, targets_PM: np.ndarray, weight_P: np.ndarray | None = None) -> Moments:
        """Moments of P rows without missing targets; both of any float type, targets finite.

        Parameters
        ----------
        weight_P : how much each row counts; by default 1
        """
        dimension, n_models = embeddings_PD.shape[1], targets_PM.shape[1]
        gram, xty = np.zeros((dimension, dimension)), np.zeros((dimension, n_models))
        sum_x, sum_y, sum_yy = np.zeros(dimension), np.zeros(n_models), np.zeros(n_models)
        for start in range(0, len(embeddings_PD), _BLOCK):
            x = embeddings_PD[start : start + _BLOCK].astype(np.float64)
            y = targets_PM[start : start + _BLOCK].astype(np.float64)
            # A weight counts once in every sum, so it goes with one of two factors.
            wx, wy = (x, y) if weight_P is None else (each * weight_P[start : start + _BLOCK, None] for each in (x, y))
            gram += wx.T @ x
            xty += wx.T @ y
            sum_x += wx.sum(axis=0)
            sum_y += wy.sum(axis=0)
            sum_yy += (wy * y).sum(axis=0)
        weight = float(len(embeddings_PD) if weight_P is None else weight_P.sum())
        return cls(weight, sum_x, gram, sum_y, sum_yy, xty)

    def scaled(self, share: float) -> Moments:
        """As if every row counted only so much."""
        return Moments(*(part * share for part in self._parts))

    def columns(self, models: np.ndarray) -> Moments:
        """The moments of some of the models, by their places."""
        return replace(
            self, sum_y_M=self.sum_y_M[models], sum_yy_M=self.sum_yy_M[models], xty_DM=self.xty_DM[:, models]
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(mine + others for mine, others in zip(self._parts, other._parts, strict=True)))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(mine - others for mine, others in zip(self._parts, other._parts, strict=True)))

    @property
    def _parts(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


class RidgeSolver:
    """Ridge solutions from the centred scatter S of some rows.

    Minimises Σᵢ (θᵀxᵢ + b − yᵢ)² + β‖θ‖² with b unpenalised: scikit-learn's ``alpha``.

    A few penalties are solved through a Cholesky factor each. After them, or once asked to (:meth:`decompose`), an
    eigendecomposition, which costs five times as much, makes each further one a diagonal scaling.
    """

    def __init__(self, moments: Moments) -> None:
        self.mean_D = moments.sum_D / moments.weight
        self.mean_y_M = moments.sum_y_M / moments.weight
        self._scatter_DD = moments.gram_DD - moments.weight * np.outer(self.mean_D, self.mean_D)
        self._centred_DM = moments.xty_DM - np.outer(self.mean_D, moments.sum_y_M)
        self._latest: tuple[float, np.ndarray] | None = None
        self._n_factors = 0
        self._eigen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def solve(self, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights, shape (D, M), and intercepts, shape (M,), at a penalty β > 0.

        Source: arXiv 2603.20217, eq. 3, in the sum form.
        """
        if self._by_factor(beta):
            whitener = self._factored(beta)
            weights = whitener @ (whitener.T @ self._centred_DM)
        else:
            eigenvalue_D, basis_DD, rotated_DM = self.decompose()
            weights = basis_DD @ (rotated_DM / (eigenvalue_D + beta)[:, None])
        return weights, self.mean_y_M - self.mean_D @ weights

    def whitener(self, beta: float) -> np.ndarray:
        """Shape (D, D): W with W Wᵀ = (S + βI)⁻¹, so that ‖xᵀW‖² is the leverage of a centred embedding x."""
        if self._by_factor(beta):
            return self._factored(beta)
        eigenvalue_D, basis_DD, _ = self.decompose()
        return basis_DD / np.sqrt(eigenvalue_D + beta)

    def decompose(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of S, and the targets in their basis; for many penalties ask for it first."""
        if self._eigen is None:
            eigenvalues, basis = np.linalg.eigh(self._scatter_DD)
            self._eigen = np.maximum(eigenvalues, 0.0), basis, basis.T @ self._centred_DM
            self._latest = None
        return self._eigen

    def _by_factor(self, beta: float) -> bool:
        return self._eigen is None and (self._n_factors < _FEW or (self._latest or (None,))[0] == beta)

    def _factored(self, beta: float) -> np.ndarray:
        if self._latest is None or self._latest[0] != beta:
            lower = np.linalg.cholesky(self._scatter_DD + beta * np.eye(len(self._scatter_DD)))
            self._latest = beta, _inverse_of_lower(lower).T
            self._n_factors += 1
        return self._latest[1]


def _inverse_of_lower(lower_DD: np.ndarray) -> np.ndarray:
    """Inverse of a lower triangular matrix by halves, so that nearly all of it is matrix products."""
    size = len(lower_DD)
    if size <= _SMALL:
        return np.tril(np.linalg.inv(lower_DD))
    half = size // 2
    first, last = _inverse_of_lower(lower_DD[:half, :half]), _inverse_of_lower(lower_DD[half:, half:])
    inverse = np.zeros_like(lower_DD)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[half:, :half] = -last @ (lower_DD[half:, :half] @ first)
    return inverse
