"""PURE. Ridge probes: expected reward and its standard error from an embedding.

Invariant: embeddings are L2-normalised float32 rows of the embedder the probes were fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from litellm_erp.errors import EmbedderMismatch


@dataclass(frozen=True, slots=True)
class Probes:
    """One linear probe per pool model.

    Attributes
    ----------
    weights_DM : shape (D, M), float32
    intercept_M : shape (M,), float32
    """

    weights_DM: np.ndarray
    intercept_M: np.ndarray

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Predicted target of every pool model.

        Parameters
        ----------
        embeddings : shape (D,) or (P, D), float32, L2-normalised

        Returns
        -------
        shape (M,) or (P, M), in the unit of the targets, columns in pool order

        Raises
        ------
        EmbedderMismatch : D is not the D the probes were fitted on

        Source: arXiv 2603.20217, eq. 3.
        """
        dimension = self.weights_DM.shape[0]
        if embeddings.shape[-1] != dimension:
            raise EmbedderMismatch(
                f"an embedding has {embeddings.shape[-1]} dimensions; the probes were fitted on {dimension}. "
                "Use the embedder that the bundle's manifest names."
            )
        return _times(embeddings, self.weights_DM) + self.intercept_M


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How sure the probes are of a prompt, shared by the pool.

    The leverage of a prompt x is h(x) = 1/n + (v(x) − v̄)ᵀ (S + βI)⁻¹ (v(x) − v̄), S the centred scatter of
    the n training embeddings: how little the training prompts say about x.

    Attributes
    ----------
    mean_D : shape (D,), float32, mean training embedding
    whiten_DR : shape (D, R), float32, a square root of (S + βI)⁻¹: it times its transpose is that inverse
    base : float, 1/n
    noise_M : shape (M,), variance at leverage 0, in squared reward units
    slope_M : shape (M,), variance per unit of leverage; both fitted out of fold
    usual : the median of the training prompts' leverages, out of fold; 0 where that is not known
    """

    mean_D: np.ndarray
    whiten_DR: np.ndarray
    base: float
    noise_M: np.ndarray
    slope_M: np.ndarray
    usual: float = 0.0

    def leverage(self, embeddings: np.ndarray) -> np.ndarray:
        """Leverage of each prompt, shape () or (P,), dimensionless.

        Source: the hat value of ridge regression (Hoerl and Kennard, 1970), with a penalty.
        """
        whitened = _times(embeddings - self.mean_D, self.whiten_DR)
        # One prompt's squares are added by the same library that multiplied; two calls less to fetch from memory.
        squares = whitened.dot(whitened) if whitened.ndim == 1 else np.square(whitened).sum(axis=-1)
        return self.base + squares

    def std_error(self, leverage: np.ndarray) -> np.ndarray:
        """Standard error of a predicted reward against the observed mean of the samples it was fitted on.

        It holds the noise of the observation too, so that (observed − predicted) / std_error has unit
        variance out of fold.

        Parameters
        ----------
        leverage : shape () or (P,)

        Returns
        -------
        shape (M,) or (P, M), in reward units

        Source: ours; the ridge predictive variance with both terms rescaled out of fold.
        """
        return np.sqrt(self.noise_M + np.asarray(leverage)[..., None] * self.slope_M)


def _times(embeddings: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    # For one vector both end in the same call of BLAS; ``dot`` goes there straight, which shows where caches are cold.
    product: np.ndarray = embeddings.dot(matrix) if embeddings.ndim == 1 else embeddings @ matrix
    return product
