"""PURE. What bundles of other policies than ERP and Zooter predict with: pairs of models, and neighbours.

Everything that maps an embedding to one number per pool model is a :class:`Predictor`; ``probe.Probes`` is the linear
one. The numbers are in reward units up to what the policy can know of them, so that λ · cost can be subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from litellm_erp.errors import EmbedderMismatch

# Rows of a batch that are compared with all training rows at a time.
_BLOCK = 512
# Breaks ties of a score by another; far below anything that rewards tell apart.
_TIE_BREAK = 1e-6


class Predictor(Protocol):
    """One number per pool model from an embedding."""

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Shape (M,) or (P, M) from embeddings (D,) or (P, D), float32, L2-normalised."""
        ...


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
        _check_dimension(embeddings, self.weights_DQ.shape[0])
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


@dataclass(frozen=True, slots=True)
class Trust:
    """How often the neighbours' verdict on a model is right, by how far a task lies from the training prompts.

    Attributes
    ----------
    distance_T : shape (T,), of training tasks to the other tasks' prompts
    right_TM : shape (T, M), how often the other tasks' neighbours were right on them
    bandwidth : of the kernel over distances
    """

    distance_T: np.ndarray
    right_TM: np.ndarray
    bandwidth: float

    def at(self, distance: np.ndarray) -> np.ndarray:
        """p(d, m) at some distances, shape (…, M).

        Source: arXiv 2309.15789, the Gaussian-kernel regression over task descriptors.
        """
        exponent = -0.5 * ((np.asarray(distance)[..., None] - self.distance_T) / self.bandwidth) ** 2
        # Only ratios of weights count, and the nearest task keeps a weight however far away it is.
        weights = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
        return weights @ self.right_TM / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, slots=True)
class NeighbourPredictor:
    """Correctness of every model by its record on the nearest training prompts.

    Attributes
    ----------
    rows_ND : shape (N, D), float32, training embeddings
    correct_NM : shape (N, M), float32, 1 where the model's reward reached the threshold, else 0; NaN without outcome
    neighbours : how many prompts vote
    prior_M : shape (M,), what counts where no neighbour has an outcome
    trust : scores by S3; None scores by S1, the share of right neighbours
    low, high : mean reward of wrong and of right answers
    """

    rows_ND: np.ndarray
    correct_NM: np.ndarray
    neighbours: int
    prior_M: np.ndarray
    trust: Trust | None
    low: float
    high: float

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Expected reward, shape (M,) or (P, M): ``low`` plus the score's share of ``high − low``.

        Raises
        ------
        EmbedderMismatch : D is not the D of the training rows
        """
        share, distance = self.vote(np.atleast_2d(embeddings))
        expected = self.expected_reward(share, distance)
        return expected[0] if embeddings.ndim == 1 else expected

    def vote(self, embeddings_PD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share of right neighbours per model, shape (P, M), and mean distance (1 − cosine) to the neighbours, (P,).

        Source: Shnitzer et al. (2023), arXiv 2309.15789, the correctness predictor.
        """
        _check_dimension(embeddings_PD, self.rows_ND.shape[1])
        share = np.empty((len(embeddings_PD), self.correct_NM.shape[1]), dtype=np.float32)
        distance = np.empty(len(embeddings_PD), dtype=np.float32)
        count = min(self.neighbours, len(self.rows_ND))
        for start in range(0, len(embeddings_PD), _BLOCK):
            similar = embeddings_PD[start : start + _BLOCK] @ self.rows_ND.T
            nearest = np.argpartition(similar, -count, axis=1)[:, -count:]
            part = slice(start, start + len(similar))
            distance[part] = 1.0 - np.take_along_axis(similar, nearest, axis=1).mean(axis=1)
            share[part] = self._share(self.correct_NM[nearest])
        return share, distance

    def expected_reward(self, share_PM: np.ndarray, distance_P: np.ndarray) -> np.ndarray:
        """The score in reward units, shape (P, M).

        S3 of a single prompt is S2 · p + (1 − S2)(1 − p), S2 being 1 where at least half of the neighbours are right;
        ties of S3 go by S1.

        Source: arXiv 2309.15789, eq. 7 and 8; reward units are ours.
        """
        score = share_PM
        if self.trust is not None:
            right = self.trust.at(distance_P)
            score = np.where(share_PM >= 0.5, right, 1.0 - right) + _TIE_BREAK * share_PM
        return self.low + (self.high - self.low) * score

    def _share(self, votes_PKM: np.ndarray) -> np.ndarray:
        cast = ~np.isnan(votes_PKM)
        counts = cast.sum(axis=1)
        share = np.where(cast, votes_PKM, 0.0).sum(axis=1) / np.maximum(counts, 1)
        return np.where(counts > 0, share, self.prior_M)


def _check_dimension(embeddings: np.ndarray, dimension: int) -> None:
    if embeddings.shape[-1] != dimension:
        raise EmbedderMismatch(
            f"an embedding has {embeddings.shape[-1]} dimensions; the policy was fitted on {dimension}. "
            "Use the embedder that the bundle's manifest names."
        )
