"""PURE. The estimator of expected rewards: memberships times what models earn by membership, and one ridge, stacked.

For model m and a prompt with embedding v, memberships p_j(v) in labelling j (`erp_trainer.learning.features`), and the
model's mean reward r̄_m:

    ER_m(v) = r̄_m + Σ_j w_j · (p_j(v)ᵀ r̄_jm − r̄_m) + w_ridge · (θ_mᵀ v + b_m − r̄_m)

r̄_jm are the model's mean rewards by label, with ``PRIOR_ROWS`` rows at r̄_m added to each. The weights are one vector
for the whole pool, so that a model can be added without touching another: non-negative least squares of the differences
between models, on out-of-fold parts.

Source: stacking (Wolpert, 1992; Breiman, 1996, for the non-negative weights); the parts and that only differences count
are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.learning import differences
from erp_trainer.learning.features import Labelling, LabelSums, concatenated, discriminant
from erp_trainer.learning.ridge import CrossFit
from litellm_erp.bundle.features import Features
from litellm_erp.bundle.probe import Probes

BETAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PRIOR_ROWS = 5.0
_NO_ENTROPY = np.empty(0)


@dataclass(frozen=True, slots=True)
class Parts:
    """What each part of the estimator says of every row, out of fold.

    Attributes
    ----------
    by_label_JPM : shape (J, P, M), float32; one of J labellings each
    ridge_PM : shape (P, M), float32
    entropy_P : of the first labelling's memberships, shape (P,); empty without tasks
    """

    by_label_JPM: np.ndarray
    ridge_PM: np.ndarray
    entropy_P: np.ndarray

    @property
    def all(self) -> list[np.ndarray]:
        """Every part, the ridge last."""
        return [*self.by_label_JPM, self.ridge_PM]


@dataclass(frozen=True, slots=True)
class Stack:
    """What is chosen for the whole pool.

    Attributes
    ----------
    beta : penalty of the ridge part
    weights : of each labelling's part, then of the ridge; all at least 0
    """

    beta: float
    weights: tuple[float, ...]

    def probes(self, weights_DM: np.ndarray, intercept_M: np.ndarray, mean_M: np.ndarray) -> Probes:
        """The linear part of the estimator, float32, from ridge solutions and mean rewards."""
        ridge = self.weights[-1]
        if len(self.weights) == 1 and ridge == 1.0:
            return Probes(weights_DM.astype(np.float32), intercept_M.astype(np.float32))
        intercept = mean_M + ridge * (intercept_M - mean_M)
        return Probes((ridge * weights_DM).astype(np.float32), intercept.astype(np.float32))

    def cells(self, rewards_PM: np.ndarray, labels: Sequence[Labelling], mean_M: np.ndarray) -> np.ndarray:
        """What the estimator adds by membership, shape (F, M), float32."""
        cells = [
            weight * (cell_means(rewards_PM, each, mean_M) - mean_M)
            for weight, each in zip(self.weights[:-1], labels, strict=True)
        ]
        return np.concatenate([np.zeros((0, len(mean_M))), *cells]).astype(np.float32)

    def cells_of(self, totals_2FM: np.ndarray, sizes: Sequence[int], mean_M: np.ndarray) -> np.ndarray:
        """As :meth:`cells`, from `label_totals`; ``sizes`` says how many labels each labelling has."""
        total_FM, count_FM = totals_2FM
        weight_F1 = np.repeat(self.weights[:-1], sizes)[:, None]
        means_FM = (total_FM + PRIOR_ROWS * mean_M) / (count_FM + PRIOR_ROWS)
        return np.asarray(weight_F1 * (means_FM - mean_M), dtype=np.float32)

    def combined(self, parts: Sequence[np.ndarray], mean_M: np.ndarray) -> np.ndarray:
        """Expected rewards, shape (P, M), from parts in the order of the weights."""
        found = np.broadcast_to(mean_M, parts[-1].shape).astype(np.float64)
        for weight, part in zip(self.weights, parts, strict=True):
            if weight:
                found = found + weight * (part - mean_M)
        return found


def cell_means(rewards_PM: np.ndarray, labels: Labelling, mean_M: np.ndarray) -> np.ndarray:
    """Mean reward of each model by label, shape (C, M), with ``PRIOR_ROWS`` rows at the model's own mean added."""
    total = LabelSums.of(rewards_PM, labels).sum_CD
    count = LabelSums.of((~np.isnan(rewards_PM)).astype(np.float32), labels).sum_CD
    means: np.ndarray = (total + PRIOR_ROWS * mean_M) / (count + PRIOR_ROWS)
    return means


def label_totals(rewards_PM: np.ndarray, labels: Sequence[Labelling]) -> np.ndarray:
    """Sums of rewards, and how many there are, by label of every labelling, shape (2, F, M): what cells follow from."""
    counted = (~np.isnan(rewards_PM)).astype(np.float32)
    parts = [
        np.concatenate([np.zeros((0, rewards_PM.shape[1])), *(LabelSums.of(values, each).sum_CD for each in labels)])
        for values in (rewards_PM, counted)
    ]
    return np.stack(parts)


def present_means(rewards_PM: np.ndarray) -> np.ndarray:
    """Mean reward of each model over its rows, shape (M,); 0 for one without any."""
    count = (~np.isnan(rewards_PM)).sum(axis=0)
    total = np.asarray(np.nansum(rewards_PM, axis=0, dtype=np.float64))
    return np.divide(total, count, out=np.zeros(len(total)), where=count > 0)


def discriminants(
    embeddings_PD: np.ndarray, labels: Sequence[Labelling], without: Sequence[np.ndarray] = (np.empty(0, dtype=int),)
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights, shape (D, F), and biases, shape (F,), of all labellings together.

    Parameters
    ----------
    without : rows to leave out, by default none; one pair of arrays for each such set

    Memory: nothing larger than the embeddings is made.
    """
    gram, sums = _gram(embeddings_PD), [LabelSums.of(embeddings_PD, each) for each in labels]
    found = []
    for rows in without:
        left_out = embeddings_PD[rows]
        rest = gram - _gram(left_out)
        parts = [
            discriminant(rest, total - LabelSums.of(left_out, each.rows(rows)), each.shrinkage)
            for each, total in zip(labels, sums, strict=True)
        ]
        found.append(concatenated(parts))
    return found


def _gram(embeddings_PD: np.ndarray) -> np.ndarray:
    x = embeddings_PD.astype(np.float64)
    product: np.ndarray = x.T @ x
    return product


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One fold, and what the others say of its memberships.

    Attributes
    ----------
    rows, rest : rows in the fold, and all others, ascending, int
    features : fitted on the rest
    memberships : of the rows in the fold, shape (R, F)
    """

    rows: np.ndarray
    rest: np.ndarray
    features: Features
    memberships: np.ndarray


def left_out(fitted: CrossFit, labels: Sequence[Labelling]) -> Iterator[LeftOut]:
    """Each fold of a cross-fit in turn; at least one labelling."""
    x, sizes = fitted.embeddings_PD, tuple(each.n for each in labels)
    folds = [np.flatnonzero(fitted.folds_P == fold) for fold in range(fitted.n_folds)]
    for rows, found in zip(folds, discriminants(x, labels, folds), strict=True):
        features = Features(*found, sizes, _NO_ENTROPY, 0.0)
        rest = np.setdiff1d(np.arange(len(x)), rows, assume_unique=True)
        yield LeftOut(rows, rest, features, features.memberships(features.scores(x[rows])))


def out_of_fold_parts(fitted: CrossFit, rewards_PM: np.ndarray, labels: Sequence[Labelling], beta: float) -> Parts:
    """Every part, for each row from rows of the other folds alone.

    Parameters
    ----------
    fitted : the ridge's cross-fit, whose folds count
    """
    parts = np.empty((len(labels), *rewards_PM.shape), dtype=np.float32)
    entropy = np.empty(len(rewards_PM)) if labels and labels[0].names else _NO_ENTROPY
    for fold in left_out(fitted, labels) if labels else ():
        if len(entropy):
            entropy[fold.rows] = fold.features.entropy(fold.memberships)
        mean_M, start = present_means(rewards_PM[fold.rest]), 0
        for j, each in enumerate(labels):
            cells_CM = cell_means(rewards_PM[fold.rest], each.rows(fold.rest), mean_M)
            parts[j, fold.rows] = fold.memberships[:, start : start + each.n] @ cells_CM
            start += each.n
    return Parts(parts, fitted.out_of_fold(beta), entropy)


def combined_probes(
    fitted: CrossFit, rewards_PM: np.ndarray, labels: Sequence[Labelling], stack: Stack
) -> tuple[Probes, np.ndarray]:
    """The estimator fitted on all rows: one linear probe per model, and what is added by membership, shape (F, M)."""
    mean_M = present_means(rewards_PM)
    probes = stack.probes(*fitted.probes(stack.beta), mean_M)
    return probes, stack.cells(rewards_PM, labels, mean_M)


def choose_beta(fitted: CrossFit, rewards_PM: np.ndarray, rows_R: np.ndarray) -> float:
    """The penalty of the ridge part: of least out-of-fold error of differences between models, the largest of equals.

    Parameters
    ----------
    rows_R : the rows that count
    """
    errors = differences.errors(fitted, rewards_PM, BETAS, rows_R)
    return BETAS[int(np.flatnonzero(errors <= errors.min() + 1e-9 * abs(errors.min()))[-1])]


def choose_weights(parts: Parts, rewards_PM: np.ndarray, mean_M: np.ndarray, beta: float) -> Stack:
    """The weights of least squared error of the differences between models, none negative."""
    from scipy.optimize import nnls

    missing = np.isnan(rewards_PM)
    shared = differences.several(rewards_PM)
    target = differences.relative(rewards_PM - mean_M, missing, shared).ravel()
    columns = np.stack([differences.relative(part - mean_M, missing, shared).ravel() for part in parts.all])
    gram, along = columns @ columns.T, columns @ target
    if not gram.any():
        return Stack(beta, (0.0,) * len(columns))
    # A part that says what another says must not make the factor singular.
    root = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    weights, _ = nnls(root.T, np.linalg.solve(root, along))
    return Stack(beta, tuple(weights.tolist()))
