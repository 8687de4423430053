"""PURE. Tasks and clusters of prompts, and discriminants that tell from an embedding which of them a prompt belongs to.

A *labelling* gives every training prompt one label: its task, or the cluster it fell into. Memberships follow from
sums alone, of the rows of each label and of the scatter of all rows:

    p(c | v) ∝ n_c · exp(vᵀ S⁻¹ m_c − ½ m_cᵀ S⁻¹ m_c)

with m_c the mean embedding of label c, n_c its prompts and S the scatter within labels, shrunk towards the identity.

Source: linear discriminant analysis (Fisher, 1936; Friedman, 1989, for the shrinkage). That clusters are sought where
tasks are told apart best, and are told by the same formula, is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle.features import Features

MIN_LABEL_ROWS = 5
MAX_LABELS = 500
CLUSTERS = (20, 60)
# Prompts that a cluster must have on average, and that clusters are sought on.
_ROWS_PER_CLUSTER, _CLUSTERED_ROWS = 25, 6000
# How far the scatter within labels is shrunk, in units of its mean eigenvalue.
TASK_SHRINKAGE, CLUSTER_SHRINKAGE = 1.0, 3.0
# A label's mean embedding counts as if one more prompt lay at the mean of all.
_PRIOR_ROWS = 1.0
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Labelling:
    """One label per prompt.

    Attributes
    ----------
    codes_P : shape (P,), int from 0
    n : how many labels there are
    shrinkage : of the scatter within labels
    names : of the tasks by number, each with every category that shares it; empty for clusters
    """

    codes_P: np.ndarray
    n: int
    shrinkage: float
    names: tuple[tuple[str, ...], ...] = ()

    def rows(self, rows: np.ndarray) -> Labelling:
        """The labels of some of the prompts; the numbers stay."""
        return Labelling(self.codes_P[rows], self.n, self.shrinkage, self.names)


def labellings(
    embeddings_PD: np.ndarray, categories_P: np.ndarray, seed: int = 0, clusters: Sequence[int] | None = None
) -> tuple[Labelling, ...]:
    """Tasks, where prompts have at least two, then clusters: none where there are too few prompts.

    Parameters
    ----------
    categories_P : shape (P,), str; ``""`` for none. Rare ones, and none, share one task
    clusters : how many each labelling has, in order; by default as many as the prompts allow
    """
    tasks = _tasks(categories_P)
    found = [] if tasks is None else [tasks]
    space = embeddings_PD if tasks is None else embeddings_PD @ task_space(embeddings_PD, tasks)
    if clusters is None:
        allowed = sorted({min(n, len(space) // _ROWS_PER_CLUSTER) for n in CLUSTERS})
        clusters = [n for n in allowed if n >= 2]
    return (*found, *(_clusters(space, n, seed) for n in clusters))


def labels_of(
    features: Features,
    embeddings_PD: np.ndarray,
    categories_P: np.ndarray,
    names: Sequence[Sequence[str]] = (),
) -> tuple[Labelling, ...]:
    """The labels of the prompts that a bundle's features were fitted on.

    Tasks follow from categories. Which cluster a prompt fell into is not on record; that it belongs to most stands in.

    Parameters
    ----------
    names : the categories of each task, as the bundle has them; where it has none, tasks are told by their number
    """
    memberships = features.memberships(features.scores(embeddings_PD))
    has_tasks = bool(len(features.entropy_Q))
    tasks = _tasks(categories_P) if has_tasks and not names else None
    if has_tasks and len(names) == features.sizes[0]:
        # Some of the prompts may have gone with a model: a task that is rare now is still the bundle's.
        numbers = {name: number for number, each in enumerate(names) for name in each}
        likely_P = memberships[:, : len(names)].argmax(axis=1)
        codes = [numbers.get(name, int(guess)) for name, guess in zip(categories_P.tolist(), likely_P, strict=True)]
        tasks = Labelling(np.array(codes), len(names), TASK_SHRINKAGE, tuple(map(tuple, names)))
    found: list[Labelling] = []
    start = 0
    for n in features.sizes:
        if not found and tasks is not None and tasks.n == n:
            found.append(tasks)
        else:
            found.append(Labelling(memberships[:, start : start + n].argmax(axis=1), n, CLUSTER_SHRINKAGE))
        start += n
    return tuple(found)


def _tasks(categories_P: np.ndarray) -> Labelling | None:
    names_C, inverse, counts_C = np.unique(categories_P, return_inverse=True, return_counts=True)
    own = (counts_C >= MIN_LABEL_ROWS) & (names_C != "")
    own[np.argsort(counts_C, kind="stable")[: max(0, len(names_C) - MAX_LABELS)]] = False
    numbers_C = np.unique(np.where(own, np.cumsum(own), 0), return_inverse=True)[1]
    n = int(numbers_C.max()) + 1
    if n < 2:
        return None
    names = tuple(tuple(names_C[numbers_C == number].tolist()) for number in range(n))
    return Labelling(numbers_C[inverse], n, TASK_SHRINKAGE, names)


def _clusters(space_PR: np.ndarray, n: int, seed: int) -> Labelling:
    from scipy.cluster.vq import kmeans2, vq

    space = space_PR.astype(np.float64)
    sample = np.sort(np.random.default_rng(seed).permutation(len(space))[:_CLUSTERED_ROWS])
    # Prompts that differ in nothing cannot start two clusters; a cluster that loses all its prompts goes.
    n = min(n, len(np.unique(space[sample], axis=0)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        centres, _ = kmeans2(space[sample], n, iter=30, minit="++", missing="warn", seed=seed)
    used, codes = np.unique(vq(space, centres)[0], return_inverse=True)
    return Labelling(codes, len(used), CLUSTER_SHRINKAGE)


@dataclass(frozen=True, slots=True)
class LabelSums:
    """Sums over the rows of each of C labels; they add up and subtract.

    Attributes
    ----------
    count_C : shape (C,)
    sum_CD : shape (C, D)
    """

    count_C: np.ndarray
    sum_CD: np.ndarray

    @classmethod
    def of(cls, values_PD: np.ndarray, labels: Labelling) -> LabelSums:
        """Sums of rows; values that are NaN count as 0."""
        count = np.bincount(labels.codes_P, minlength=labels.n).astype(np.float64)
        total = np.zeros((labels.n, values_PD.shape[1]))
        for start in range(0, len(labels.codes_P), _BLOCK):
            rows = start + np.argsort(labels.codes_P[start : start + _BLOCK], kind="stable")
            present, first = np.unique(labels.codes_P[rows], return_index=True)
            total[present] += np.add.reduceat(np.nan_to_num(values_PD[rows]), first, axis=0, dtype=np.float64)
        return cls(count, total)

    def __add__(self, other: LabelSums) -> LabelSums:
        return LabelSums(self.count_C + other.count_C, self.sum_CD + other.sum_CD)

    def __sub__(self, other: LabelSums) -> LabelSums:
        return LabelSums(self.count_C - other.count_C, self.sum_CD - other.sum_CD)


def discriminant(gram_DD: np.ndarray, sums: LabelSums, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights, shape (D, C), and biases, shape (C,), of the scores whose softmax is the membership.

    Parameters
    ----------
    gram_DD : Σ x xᵀ over the rows of ``sums``
    """
    mean_CD, scatter_DD = _means_and_scatter(gram_DD, sums, shrinkage)
    weights = np.linalg.solve(scatter_DD, mean_CD.T)
    with np.errstate(divide="ignore"):
        # Nothing belongs to a label that no row has.
        prior_C = np.log(sums.count_C / sums.count_C.sum())
    return weights, prior_C - 0.5 * np.einsum("cd,dc->c", mean_CD, weights)


def task_space(embeddings_PD: np.ndarray, tasks: Labelling) -> np.ndarray:
    """Shape (D, R), R < the number of tasks: where tasks lie apart, and prompts of one task have unit scatter."""
    x = embeddings_PD.astype(np.float64)
    mean_CD, scatter_DD = _means_and_scatter(x.T @ x, LabelSums.of(embeddings_PD, tasks), tasks.shrinkage)
    eigenvalues, basis = np.linalg.eigh(scatter_DD)
    whiten = basis / np.sqrt(eigenvalues)
    _, spread, directions = np.linalg.svd((mean_CD - mean_CD.mean(axis=0)) @ whiten, full_matrices=False)
    return whiten @ directions[: max(1, int((spread > 1e-9).sum()))].T


def _means_and_scatter(gram_DD: np.ndarray, sums: LabelSums, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    total = sums.count_C.sum()
    count_C1 = sums.count_C[:, None]
    mean_CD = (sums.sum_CD + _PRIOR_ROWS * sums.sum_CD.sum(axis=0) / total) / (count_C1 + _PRIOR_ROWS)
    scatter = (gram_DD - (sums.sum_CD / np.maximum(count_C1, 1.0)).T @ sums.sum_CD) / total
    scatter[np.diag_indices(len(scatter))] += shrinkage * max(np.trace(scatter) / len(scatter), 1e-12)
    return mean_CD, scatter


def concatenated(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Discriminants side by side, float32."""
    return (
        np.concatenate([weights for weights, _ in parts], axis=1).astype(np.float32),
        np.concatenate([bias for _, bias in parts]).astype(np.float32),
    )
