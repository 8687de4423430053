"""PURE. Nearest-neighbour verdicts for several numbers of neighbours at once, and their record on new tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MIN_BANDWIDTH = 1e-3
_BLOCK = 512


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
    def prior_M(self) -> np.ndarray:
        """Share of right answers of each model; of all models for one without outcomes."""
        present = ~np.isnan(self.correct_NM)
        right, counts = np.where(present, self.correct_NM, 0.0).sum(axis=0), present.sum(axis=0)
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
        limited = [min(count, len(self.rows_ND)) for count in counts]
        most, ends = max(limited), np.array(limited) - 1
        share = np.empty((len(counts), len(embeddings_PD), self.correct_NM.shape[1]), dtype=np.float32)
        distance = np.empty(share.shape[:2], dtype=np.float32)
        prior = self.prior_M
        cast_NM = ~np.isnan(self.correct_NM)
        right_NM = np.where(cast_NM, self.correct_NM, 0.0).astype(np.float32)
        for start in range(0, len(embeddings_PD), _BLOCK):
            similar = embeddings_PD[start : start + _BLOCK] @ self.rows_ND.T
            part = slice(start, start + len(similar))
            nearest = np.argpartition(similar, -most, axis=1)[:, -most:]
            order = np.argsort(-np.take_along_axis(similar, nearest, axis=1), axis=1, kind="stable")
            nearest = np.take_along_axis(nearest, order, axis=1)
            far = 1.0 - np.take_along_axis(similar, nearest, axis=1)
            distance[:, part] = (np.cumsum(far, axis=1)[:, ends] / (ends + 1)).T
            right = np.cumsum(right_NM[nearest], axis=1)[:, ends]
            cast = np.cumsum(cast_NM[nearest], axis=1)[:, ends]
            share[:, part] = np.where(cast > 0, right / np.maximum(cast, 1), prior).swapaxes(0, 1)
        return share, distance


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
    cast_NM = ~np.isnan(records.correct_NM)
    right_NM = np.where(cast_NM, records.correct_NM, 0.0).astype(np.float32)
    for task in range(n_tasks):
        inside = codes_N == task
        rows = np.flatnonzero(~inside) if not inside.all() else np.arange(len(codes_N))
        similar = records.rows_ND[inside] @ records.rows_ND[rows].T
        kept = min(4 * count + 200, len(rows))
        nearest = np.argpartition(similar, -kept, axis=1)[:, -kept:]
        order = np.argsort(-np.take_along_axis(similar, nearest, axis=1), axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, axis=1)
        far, nearest = 1.0 - np.take_along_axis(similar, nearest, axis=1), rows[nearest]
        for other in range(n_tasks):
            votes = codes_N[nearest] != other if other != task else np.ones(nearest.shape, dtype=bool)
            votes &= np.cumsum(votes, axis=1) <= count
            share = _share(votes, right_NM[nearest], cast_NM[nearest], records.prior_M)
            heard = votes.sum(axis=1)
            distance[other, task] = (np.where(votes, far, 0.0).sum(axis=1) / np.maximum(heard, 1)).mean()
            trust[other, task] = agreement(share, records.correct_NM[inside])
    return distance, trust


def _share(votes_PK: np.ndarray, right_PKM: np.ndarray, cast_PKM: np.ndarray, prior_M: np.ndarray) -> np.ndarray:
    right = np.einsum("pk,pkm->pm", votes_PK.astype(np.float32), right_PKM)
    cast = np.einsum("pk,pkm->pm", votes_PK.astype(np.float32), cast_PKM.astype(np.float32))
    return np.where(cast > 0, right / np.maximum(cast, 1.0), prior_M)


def agreement(share_PM: np.ndarray, correct_PM: np.ndarray) -> np.ndarray:
    """How often a verdict of at least 1/2 is right, shape (M,); 1/2 where there is no outcome."""
    present = ~np.isnan(correct_PM)
    right = np.where(present, (share_PM >= 0.5) == (correct_PM == 1.0), False).sum(axis=0)
    counts = present.sum(axis=0)
    return np.where(counts > 0, right / np.maximum(counts, 1), 0.5)


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
