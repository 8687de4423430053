"""PURE. What bundles of the policy ``benchmark`` predict with: the record of models on the nearest training prompts.

Stored: rows (N, D) as int8 with a scale per row; correct (N, M), 1, 0, or −1 without an outcome; prior (M,),
neighbours, low, high; for S3 also task_distance (T,), task_right (T, M), bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle.predictors import StoredTensors, check_dimension

# Rows of a batch that are compared with all training rows at a time.
_BLOCK = 512
# Breaks ties of a score by another; far below anything that rewards tell apart.
_TIE_BREAK = 1e-6
_LEVELS = 127
# Distances are 1 − cosine; a narrower kernel than this would divide by zero.
_MAX_DISTANCE, _MIN_BANDWIDTH = 4.0, 1e-9


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

    @classmethod
    def read(cls, tensors: StoredTensors, models: int) -> Trust | None:
        """The stored one; None where scores go by S1."""
        if "task_distance" not in tensors:
            return None
        distance, bandwidth = tensors.array("task_distance", None), tensors.number("bandwidth")
        if not len(distance) or bandwidth < _MIN_BANDWIDTH or np.abs(distance).max() > _MAX_DISTANCE:
            raise tensors.wrong(
                f"{len(distance)} tasks and bandwidth {bandwidth:g}; expected some, at distances of up to "
                f"{_MAX_DISTANCE:g}, and at least {_MIN_BANDWIDTH:g}"
            )
        return cls(distance, tensors.array("task_right", len(distance), models), bandwidth)


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
        check_dimension(embeddings_PD, self.rows_ND.shape[1])
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

    def tensors(self) -> dict[str, np.ndarray]:
        """What is stored."""
        scale = np.abs(self.rows_ND).max(axis=1, keepdims=True) / _LEVELS
        scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
        stored = {
            "rows": np.rint(self.rows_ND / scale).astype(np.int8),
            "row_scale": scale[:, 0],
            "correct": np.where(np.isnan(self.correct_NM), -1, self.correct_NM).astype(np.int8),
            "prior": self.prior_M.astype(np.float32),
            "neighbours": np.array([float(self.neighbours)]),
            "low": np.array([self.low]),
            "high": np.array([self.high]),
        }
        if self.trust is not None:
            stored["task_distance"], stored["task_right"] = self.trust.distance_T, self.trust.right_TM
            stored["bandwidth"] = np.array([self.trust.bandwidth])
        return stored

    @classmethod
    def read(cls, tensors: StoredTensors, models: int, dimension: int) -> NeighbourPredictor:
        """The predictor of a stored one.

        Raises
        ------
        BundleError : tensors that are not as they must be
        """
        rows = tensors.array("rows", None, dimension, integers=True)
        scale = tensors.array("row_scale", len(rows))
        correct = tensors.array("correct", len(rows), models, integers=True).astype(np.float32)
        neighbours = tensors.number("neighbours")
        if not len(rows) or neighbours < 1 or neighbours != int(neighbours) or not np.isin(correct, (-1, 0, 1)).all():
            raise tensors.wrong(
                f"found {len(rows)} rows and {neighbours:g} neighbours; expected rows, a whole number of at "
                "least 1, and correct to hold 1, 0 and -1 only"
            )
        return cls(
            rows_ND=rows.astype(np.float32) * scale[:, None].astype(np.float32),
            correct_NM=np.where(correct < 0, np.float32(np.nan), correct),
            neighbours=int(neighbours),
            prior_M=tensors.array("prior", models),
            trust=Trust.read(tensors, models),
            low=tensors.number("low"),
            high=tensors.number("high"),
        )


PREDICTOR = NeighbourPredictor
