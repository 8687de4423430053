"""PURE. What the models earn on each task, as a second target of the probes.

One recorded reward says little about a model; the mean over all prompts of a task says more. A probe is therefore the
sum of two ridge solutions, one of the task means and one of what is left of the rewards, each with its own penalty.
Both are linear in the embedding, so their sum is, and a prompt served later needs no task.

Source: the mixture of a reward and its tag's mean is Zooter's label enhancement (arXiv 2311.08692, section 3.3); that
the two parts are penalised separately is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from erp_trainer.learning.moments import Moments

MIN_TASK_ROWS = 5
MAX_TASKS = 500
# A task mean counts as if the model had earned its overall mean on this many more prompts of the task.
PRIOR_ROWS = 5.0
_BLOCK = 8192


def task_codes(categories_P: np.ndarray) -> np.ndarray:
    """Number the tasks, shape (P,), int from 0; prompts of rare categories, and without one, share a number."""
    names, inverse, counts = np.unique(categories_P, return_inverse=True, return_counts=True)
    return task_numbers(names, counts)[inverse]


def task_numbers(names_C: np.ndarray, counts_C: np.ndarray) -> np.ndarray:
    """The number of each category's task, shape (C,), from sorted names and how many prompts each has."""
    own = (counts_C >= MIN_TASK_ROWS) & (names_C != "")
    own[np.argsort(counts_C, kind="stable")[: max(0, len(names_C) - MAX_TASKS)]] = False
    return np.unique(np.where(own, np.cumsum(own), 0), return_inverse=True)[1]


@dataclass(frozen=True, slots=True)
class TaskSums:
    """Sums over the rows of each of C tasks; they add up and subtract as `Moments` do.

    Attributes
    ----------
    count_C : shape (C,)
    sum_x_CD : shape (C, D)
    sum_y_CM : shape (C, M)
    """

    count_C: np.ndarray
    sum_x_CD: np.ndarray
    sum_y_CM: np.ndarray

    @classmethod
    def of(cls, embeddings_PD: np.ndarray, targets_PM: np.ndarray, codes_P: np.ndarray, n_tasks: int) -> TaskSums:
        """Sums of P rows without missing targets."""
        count = np.bincount(codes_P, minlength=n_tasks).astype(np.float64)
        sum_x, sum_y = np.zeros((n_tasks, embeddings_PD.shape[1])), np.zeros((n_tasks, targets_PM.shape[1]))
        for start in range(0, len(codes_P), _BLOCK):
            rows = start + np.argsort(codes_P[start : start + _BLOCK], kind="stable")
            tasks, first = np.unique(codes_P[rows], return_index=True)
            sum_x[tasks] += np.add.reduceat(embeddings_PD[rows], first, axis=0, dtype=np.float64)
            sum_y[tasks] += np.add.reduceat(targets_PM[rows], first, axis=0, dtype=np.float64)
        return cls(count, sum_x, sum_y)

    def regrouped(self, numbers_C: np.ndarray, n_tasks: int) -> TaskSums:
        """The same sums under other numbers; those that share a number are added."""
        found = TaskSums(*(np.zeros((n_tasks, *part.shape[1:])) for part in self._parts))
        for whole, part in zip(found._parts, self._parts, strict=True):
            np.add.at(whole, numbers_C, part)
        return found

    def columns(self, models: np.ndarray) -> TaskSums:
        """The sums of some of the models, by their places."""
        return TaskSums(self.count_C, self.sum_x_CD, self.sum_y_CM[:, models])

    @property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.count_C, self.sum_x_CD, self.sum_y_CM

    def __add__(self, other: TaskSums) -> TaskSums:
        return TaskSums(*(mine + others for mine, others in zip(self._parts, other._parts, strict=True)))

    def __sub__(self, other: TaskSums) -> TaskSums:
        return TaskSums(*(mine - others for mine, others in zip(self._parts, other._parts, strict=True)))


def with_task_means(moments: Moments, sums: TaskSums) -> Moments:
    """Moments of twice as many targets: the mean of each row's task first, then the rewards themselves."""
    overall_M = moments.sum_y_M / moments.weight
    count_C1 = sums.count_C[:, None]
    mean_CM = (sums.sum_y_CM + PRIOR_ROWS * overall_M) / (count_C1 + PRIOR_ROWS)
    return replace(
        moments,
        sum_y_M=np.concatenate([(count_C1 * mean_CM).sum(axis=0), moments.sum_y_M]),
        sum_yy_M=np.concatenate([(count_C1 * mean_CM**2).sum(axis=0), moments.sum_yy_M]),
        xty_DM=np.hstack([sums.sum_x_CD.T @ mean_CM, moments.xty_DM]),
    )
