"""PURE. Nearest-neighbour verdicts for several numbers of neighbours at once, and their record on new tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle.stored.benchmark import Trust

# Prompts whose neighbours' votes are counted at a time.
_BLOCK = 512
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MIN_BANDWIDTH = 1e-3


@dataclass(frozen=True, slots=True)
class Records:
    """Training prompts and which models were right on them.

    Attributes
    ----------
    rows_ND : shape (N, D), float32, L2-normalised
    correct_NM : shape (N, M), 1 right, 0 wrong, NaN without outcome
    """

    rows_ND: np.ndarray
    correct_NM: np.ndarray

    @property
    def ballots(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether a prompt votes on a model, and whether it votes for it, each shape (N, M), float32."""
        cast = ~np.isnan(self.correct_NM)
        return cast.astype(np.float32), np.where(cast, self.correct_NM, 0.0).astype(np.float32)

    @property
    def prior_M(self) -> np.ndarray:
        """Share of right answers of each model; of all models for one without outcomes."""
        counts, right = (votes.sum(axis=0, dtype=np.float64) for votes in self.ballots)
        overall = right.sum() / max(1, counts.sum())
        return np.where(counts > 0, right / np.maximum(counts, 1), overall).astype(np.float32)

    def take(self, rows_N: np.ndarray) -> Records:
        """Some of the prompts."""
        return Records(self.rows_ND[rows_N], self.correct_NM[rows_N])

    def votes(self, embeddings_PD: np.ndarray, counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Share of right answers among the nearest prompts, and mean distance to them, for each number of neighbours.

        Returns
        -------
        share : shape (len(counts), P, M), float32; the prior where no neighbour has an outcome
        distance : shape (len(counts), P), 1 − cosine
        """
        ends = np.minimum(counts, len(self.rows_ND)) - 1
        far, nearest = nearest_rows(self.rows_ND, embeddings_PD, int(ends.max()) + 1)
        distance = np.cumsum(far, axis=1)[:, ends] / (ends + 1)
        share = np.empty((len(counts), len(embeddings_PD), self.correct_NM.shape[1]), dtype=np.float32)
        prior, (cast_NM, right_NM) = self.prior_M, self.ballots
        for part in np.array_split(np.arange(len(nearest)), len(nearest) // _BLOCK + 1):
            right = np.cumsum(right_NM[nearest[part]], axis=1)[:, ends]
            cast = np.cumsum(cast_NM[nearest[part]], axis=1)[:, ends]
            share[:, part] = np.where(cast > 0, right / np.maximum(cast, 1), prior).swapaxes(0, 1)
        return share, distance.T.astype(np.float32)


def nearest_rows(rows_ND: np.ndarray, embeddings_PD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (1 − cosine), ascending, and indices of the nearest rows, each shape (P, count)."""
    from sklearn.neighbors import NearestNeighbors  # takes most of a second to import

    if not len(embeddings_PD):  # which scikit-learn refuses
        return np.empty((0, count)), np.empty((0, count), dtype=np.intp)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute", metric="cosine").fit(rows_ND)
    far, nearest = search.kneighbors(embeddings_PD)
    return far, nearest


@dataclass(frozen=True, slots=True)
class LeftOut:
    """T tasks judged by neighbours from the other tasks.

    Attributes
    ----------
    distance_T : shape (T,), mean distance of a task's prompts to their neighbours
    s1_TM, s2_TM : shape (T, M), mean share of right neighbours, and how often it is at least 1/2
    trust_TM : shape (T, M), the true p: how often that verdict is right; 1/2 where there is no outcome
    """

    distance_T: np.ndarray
    s1_TM: np.ndarray
    s2_TM: np.ndarray
    trust_TM: np.ndarray


def leave_tasks_out(records: Records, codes_N: np.ndarray, counts: Sequence[int]) -> list[LeftOut]:
    """Judge every task by the others' prompts, for each number of neighbours; a lone task by its own.

    Parameters
    ----------
    codes_N : shape (N,), int, the task of each prompt, numbered from 0 without gaps
    """
    n_tasks, n_models = int(codes_N.max()) + 1, records.correct_NM.shape[1]
    found = [LeftOut(np.empty(n_tasks), *(np.empty((n_tasks, n_models)) for _ in range(3))) for _ in counts]
    for task in range(n_tasks):
        inside = codes_N == task
        others = records if inside.all() else records.take(~inside)
        shares, distances = others.votes(records.rows_ND[inside], counts)
        for left_out, share, distance in zip(found, shares, distances, strict=True):
            left_out.distance_T[task] = distance.mean()
            left_out.s1_TM[task] = share.mean(axis=0)
            left_out.s2_TM[task] = (share >= 0.5).mean(axis=0)
            left_out.trust_TM[task] = agreement(share, records.correct_NM[inside])
    return found


def leave_two_tasks_out(records: Records, codes_N: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Judge every task by the prompts of neither itself nor one more task, for each such other task.

    What is known of other tasks' p when a task is left out whole: its prompts judge nobody. A prompt whose nearest
    thousands all belong to the two tasks has fewer neighbours than ``count``, or the prior.

    Returns
    -------
    distance_TT, trust_TTM : entry [d, t] is task t judged without the prompts of t and d; [t, t] is as
        :func:`leave_tasks_out` has it
    """
    n_tasks, n_models = int(codes_N.max()) + 1, records.correct_NM.shape[1]
    distance, trust = np.empty((n_tasks, n_tasks)), np.empty((n_tasks, n_tasks, n_models))
    cast_NM, right_NM = records.ballots
    for task in range(n_tasks):
        inside = codes_N == task
        rows = np.flatnonzero(~inside) if not inside.all() else np.arange(len(codes_N))
        # Of so many some are left when another task's are taken out.
        kept = min(4 * count + 200, len(rows))
        far, nearest = nearest_rows(records.rows_ND[rows], records.rows_ND[inside], kept)
        nearest = rows[nearest]
        for other in range(n_tasks):
            votes = codes_N[nearest] != other if other != task else np.ones(nearest.shape, dtype=bool)
            votes &= np.cumsum(votes, axis=1) <= count
            heard = votes.sum(axis=1)
            right, cast = (np.einsum("pk,pkm->pm", votes, ballots[nearest]) for ballots in (right_NM, cast_NM))
            share = np.where(cast > 0, right / np.maximum(cast, 1.0), records.prior_M)
            distance[other, task] = (np.where(votes, far, 0.0).sum(axis=1) / np.maximum(heard, 1)).mean()
            trust[other, task] = agreement(share, records.correct_NM[inside])
    return distance, trust


def agreement(share_PM: np.ndarray, correct_PM: np.ndarray) -> np.ndarray:
    """How often a verdict of at least 1/2 is right, shape (M,); 1/2 where there is no outcome."""
    present = ~np.isnan(correct_PM)
    right, counts = (present & ((share_PM >= 0.5) == (correct_PM == 1.0))).sum(axis=0), present.sum(axis=0)
    return np.where(counts > 0, right / np.maximum(counts, 1), 0.5)


def trust_of(distance_T: np.ndarray, trust_TM: np.ndarray) -> Trust:
    """What is known of p from tasks left out, with a kernel width that suits them."""
    bandwidth = choose_bandwidth(distance_T, trust_TM)
    return Trust(distance_T.astype(np.float32), trust_TM.astype(np.float32), bandwidth)


def choose_bandwidth(distance_T: np.ndarray, trust_TM: np.ndarray) -> float:
    """Kernel width over task distances by the squared error of each task predicted from the others.

    Candidates are multiples of the median gap between tasks; with under three tasks the widest is taken.
    """
    gaps = np.abs(distance_T[:, None] - distance_T[None])
    gap = float(np.median(gaps[~np.eye(len(gaps), dtype=bool)])) if len(gaps) > 1 else 1.0
    widths = [max(gap * scale, _MIN_BANDWIDTH) for scale in BANDWIDTHS]
    if len(gaps) < 3:
        return widths[-1]
    errors = []
    for width in widths:
        exponent = -0.5 * (gaps / width) ** 2
        np.fill_diagonal(exponent, -np.inf)
        weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        predicted = weights @ trust_TM / weights.sum(axis=1, keepdims=True)
        errors.append(float(((predicted - trust_TM) ** 2).mean()))
    return widths[int(np.argmin(errors))]
