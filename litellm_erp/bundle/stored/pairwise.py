"""PURE. What bundles of the policy ``pairwise`` predict with: a logistic regression per pair of models.

Stored: weights (D, Q), intercept (Q,) of the pairs of models; level, scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle.predictors import StoredTensors, check_dimension

# Every pair has its regression, and every request asks them all.
MAX_PAIRED = 128


@dataclass(frozen=True, slots=True)
class PairPredictor:
    """A logistic regression per pair of models, and the mean probability of beating another model.

    Attributes
    ----------
    weights_DQ, intercept_Q : float32, of the pairs (i, j), i < j, in the order of ``np.triu_indices(M, 1)``; a logit
        above 0 says that i earns more than j
    n_models : M
    level : mean reward of the pool
    scale : reward units per unit of the mean probability of winning
    """

    weights_DQ: np.ndarray
    intercept_Q: np.ndarray
    n_models: int
    level: float
    scale: float

    def win_probability(self, embeddings: np.ndarray, pairs: slice = slice(None)) -> np.ndarray:
        """P(i earns more than j) of some pairs, by default all, shape (Q,) or (P, Q).

        Raises
        ------
        EmbedderMismatch : D is not the D the regressions were fitted on
        """
        check_dimension(embeddings, self.weights_DQ.shape[0])
        logits = embeddings @ self.weights_DQ[:, pairs] + self.intercept_Q[pairs]
        return 0.5 * (1.0 + np.tanh(0.5 * logits))

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """``level`` plus ``scale`` times the mean over the other models of P(win) − 1/2.

        Source: Borda counts of probabilities; the scale is ours, see erp_trainer.policies.pairwise.
        """
        edge = self.win_probability(embeddings) - 0.5
        first, second = np.triu_indices(self.n_models, 1)
        incidence_QM = np.zeros((len(first), self.n_models), dtype=edge.dtype)
        rows = np.arange(len(first))
        incidence_QM[rows, first], incidence_QM[rows, second] = 1.0, -1.0
        return self.level + self.scale / max(1, self.n_models - 1) * (edge @ incidence_QM)

    def tensors(self) -> dict[str, np.ndarray]:
        """What is stored."""
        return {
            "weights": self.weights_DQ,
            "intercept": self.intercept_Q,
            "level": np.array([self.level]),
            "scale": np.array([self.scale]),
        }

    @classmethod
    def read(cls, tensors: StoredTensors, models: int, dimension: int) -> PairPredictor:
        """The predictor of a stored one.

        Raises
        ------
        BundleError : too many models, or tensors that are not as they must be
        """
        if models > MAX_PAIRED:
            raise tensors.wrong(f"policy pairwise of {models} models; expected at most {MAX_PAIRED}")
        pairs, scale = models * (models - 1) // 2, tensors.number("scale")
        if scale < 0:
            raise tensors.wrong(f"scale is {scale}; expected at least 0")
        return cls(
            weights_DQ=tensors.array("weights", dimension, pairs),
            intercept_Q=tensors.array("intercept", pairs),
            n_models=models,
            level=tensors.number("level"),
            scale=scale,
        )


PREDICTOR = PairPredictor
