"""PURE. Outcomes as arrays in, probes out, with everything chosen out of fold.

A pool whose models saw different prompts is fitted in groups of models that saw the same ones
(:class:`Block`); a complete table is a single block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.moments import Moments, RidgeSolver
from erp_trainer.learning.training_table import category_names
from litellm_erp.errors import FitError

N_FOLDS = 5
# Choosing among a few dozen candidates gains nothing from more rows than this.
CHOOSING_ROWS = 20_000
MIN_ROWS = 10


@dataclass(frozen=True, slots=True)
class Block:
    """Models that have outcomes for exactly the same prompts.

    Attributes
    ----------
    rows_P : shape (P,), bool
    columns : shape (m,), int; indices of the models
    """

    rows_P: np.ndarray
    columns: np.ndarray


def blocks(targets_PM: np.ndarray) -> list[Block]:
    """Group the columns of a table by which of their rows are present (not NaN)."""
    present_PM = ~np.isnan(targets_PM)
    by_pattern: dict[bytes, list[int]] = {}
    for column in range(targets_PM.shape[1]):
        by_pattern.setdefault(np.packbits(present_PM[:, column]).tobytes(), []).append(column)
    return [Block(present_PM[:, found[0]], np.array(found)) for found in by_pattern.values()]


def assign_folds(groups_P: np.ndarray, seed: int, n_folds: int = N_FOLDS) -> np.ndarray:
    """Shape (P,), int: a random fold per prompt, with the prompts of one group in one fold.

    Raises
    ------
    FitError : fewer groups than folds
    """
    unique, inverse = np.unique(groups_P, return_inverse=True)
    if len(unique) < n_folds:
        raise FitError(
            f"{len(unique)} distinct training prompts found; cross-validation needs at least {n_folds}. Add prompts."
        )
    rng = np.random.default_rng(seed)
    folds = np.arange(len(unique)) % n_folds
    return rng.permutation(folds)[inverse]


def choosing_rows(n_rows: int) -> np.ndarray:
    """Which rows to choose on, ascending, int: all of them, or ``CHOOSING_ROWS`` at random."""
    if n_rows <= CHOOSING_ROWS:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(0).choice(n_rows, CHOOSING_ROWS, replace=False))


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Solvers of every fold's training side and of all rows, block by block."""

    embeddings_PD: np.ndarray
    folds_P: np.ndarray
    n_models: int
    blocks: tuple[Block, ...]
    fold_solvers: tuple[tuple[RidgeSolver, ...], ...]
    full_solvers: tuple[RidgeSolver, ...]
    moments: tuple[Moments, ...]

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return len(self.fold_solvers[0])

    def out_of_fold(self, beta: float) -> np.ndarray:
        """Predictions for every row from probes that did not see its fold.

        A model that missed a prompt is predicted there too, from the other folds' rows.

        Returns
        -------
        shape (P, M), float32
        """
        predicted = np.empty((len(self.embeddings_PD), self.n_models), dtype=np.float32)
        for fold in range(self.n_folds):
            rows = np.flatnonzero(self.folds_P == fold)
            embeddings = self.embeddings_PD[rows]
            for block, solvers in zip(self.blocks, self.fold_solvers, strict=True):
                weights, intercept = solvers[fold].solve(beta)
                found = embeddings @ weights.astype(np.float32)
                found += intercept.astype(np.float32)
                predicted[rows if len(block.columns) == self.n_models else np.ix_(rows, block.columns)] = found
        return predicted

    def at_penalties(self, fold: int, betas: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Probes that did not see a fold at each of B penalties: weights, shape (D, B, M), and intercepts, (B, M)."""
        weights = np.empty((self.embeddings_PD.shape[1], len(betas), self.n_models), dtype=np.float32)
        intercepts = np.empty((len(betas), self.n_models), dtype=np.float32)
        for block, solvers in zip(self.blocks, self.fold_solvers, strict=True):
            solvers[fold].decompose()
            for b, beta in enumerate(betas):
                weights[:, b, block.columns], intercepts[b, block.columns] = solvers[fold].solve(beta)
        return weights, intercepts

    def out_of_fold_leverage(self, beta: float) -> np.ndarray:
        """Leverage of every row with respect to the other folds, shape (P,), from the largest block."""
        largest = int(np.argmax([moment.weight for moment in self.moments]))
        leverage = np.empty(len(self.embeddings_PD))
        for fold, solver in enumerate(self.fold_solvers[largest]):
            rows = self.folds_P == fold
            trained_on = max(1.0, float((self.blocks[largest].rows_P & ~rows).sum()))
            centred = self.embeddings_PD[rows] - solver.mean_D.astype(np.float32)
            whitened = centred @ solver.whitener(beta).astype(np.float32)
            leverage[rows] = 1.0 / trained_on + np.einsum("pd,pd->p", whitened, whitened)
        return leverage

    def probes(self, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (D, M) and intercepts (M,) fitted on all rows, float32."""
        weights = np.empty((self.embeddings_PD.shape[1], self.n_models), dtype=np.float32)
        intercepts = np.empty(self.n_models, dtype=np.float32)
        for block, solver in zip(self.blocks, self.full_solvers, strict=True):
            weights[:, block.columns], intercepts[block.columns] = solver.solve(beta)
        return weights, intercepts

    @property
    def widest(self) -> RidgeSolver:
        """The solver of the block with most rows; it stands for the pool where one basis must serve."""
        return self.full_solvers[int(np.argmax([moment.weight for moment in self.moments]))]


def cross_fit(
    embeddings_PD: np.ndarray,
    targets_PM: np.ndarray,
    folds_P: np.ndarray,
    models: Sequence[str],
) -> CrossFit:
    """Gather moments per fold and block in one pass over the rows, and factorise them.

    Parameters
    ----------
    embeddings_PD : shape (P, D), float32, L2-normalised
    targets_PM : shape (P, M), NaN where a model has no outcome
    folds_P : shape (P,), int, see :func:`assign_folds`
    models : M names, for messages

    Raises
    ------
    FitError : a model has fewer than ``MIN_ROWS`` outcomes
    """
    rows_per_model = (~np.isnan(targets_PM)).sum(axis=0)
    for name, rows in zip(models, rows_per_model, strict=True):
        if rows < MIN_ROWS:
            raise FitError(f"model {name!r} has {rows} training outcomes; a probe needs at least {MIN_ROWS}")
    found = tuple(blocks(targets_PM))
    fold_solvers, full_solvers, totals = [], [], []
    for block in found:
        parts = []
        for fold in range(int(folds_P.max()) + 1):
            rows = np.flatnonzero(block.rows_P & (folds_P == fold))
            parts.append(Moments.of(embeddings_PD[rows], targets_PM[np.ix_(rows, block.columns)]))
        total = sum(parts[1:], start=parts[0])
        solvers = [RidgeSolver(side) for side in (*(_training_side(total, part) for part in parts), total)]
        fold_solvers.append(tuple(solvers[:-1]))
        full_solvers.append(solvers[-1])
        totals.append(total)
    return CrossFit(
        embeddings_PD,
        folds_P,
        targets_PM.shape[1],
        found,
        tuple(fold_solvers),
        tuple(full_solvers),
        tuple(totals),
    )


def _training_side(total: Moments, part: Moments) -> Moments:
    # A model may have all its few rows in one fold; then there is no other side, and its own must do.
    return total if total.weight - part.weight < 1 else total - part


def variance_line(residuals_PM: np.ndarray, leverage_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit variance = noise + slope · leverage to squared out-of-fold residuals, both at least 0.

    Parameters
    ----------
    residuals_PM : shape (P, M), NaN where there is no outcome
    leverage_P : shape (P,)

    Returns
    -------
    noise_M, slope_M : shape (M,); scaled so that standardised residuals have unit variance

    Source: ours; a two-term non-negative least squares per model.
    """
    noise, slope = np.zeros(residuals_PM.shape[1]), np.zeros(residuals_PM.shape[1])
    for column, residuals in enumerate(residuals_PM.T):
        present = ~np.isnan(residuals)
        squared, leverage = residuals[present] ** 2, leverage_P[present]
        spread = leverage - leverage.mean()
        rise = float(spread @ squared / max(float(spread @ spread), 1e-300))
        rise = min(max(rise, 0.0), squared.mean() / max(leverage.mean(), 1e-300))
        flat = max(squared.mean() - rise * leverage.mean(), 0.0)
        variance = flat + rise * leverage
        scale = np.mean(squared / np.maximum(variance, 1e-300)) if squared.mean() > 0 else 1.0
        noise[column], slope[column] = flat * scale, rise * scale
    return noise, slope


def r_squared(predicted_PM: np.ndarray, targets_PM: np.ndarray) -> np.ndarray:
    """R² per model over its present rows, shape (M,); NaN where the targets do not vary."""
    count, mean = _present_means(targets_PM)
    residual, total = np.zeros(len(count)), np.zeros(len(count))
    for rows in _row_chunks(targets_PM):
        present = ~np.isnan(targets_PM[rows])
        residual += np.square(np.where(present, predicted_PM[rows] - targets_PM[rows], 0.0)).sum(axis=0)
        total += np.square(np.where(present, targets_PM[rows] - mean, 0.0)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 1 - residual / total, np.nan)


def r_squared_by_category(
    predicted_PM: np.ndarray, targets_PM: np.ndarray, categories_P: np.ndarray
) -> dict[str, np.ndarray]:
    """`r_squared` on the prompts of each category."""
    masks = {name: categories_P == name for name in category_names(categories_P)}
    return {name: r_squared(predicted_PM[rows], targets_PM[rows]) for name, rows in masks.items()}


def mean_squared_error(predicted_PM: np.ndarray, targets_PM: np.ndarray) -> float:
    """Mean squared error over all present cells."""
    total, count = 0.0, 0
    for rows in _row_chunks(targets_PM):
        error = np.nan_to_num(predicted_PM[rows] - targets_PM[rows])
        total += float(np.square(error, dtype=np.float64).sum())
        count += np.count_nonzero(~np.isnan(targets_PM[rows]))
    return total / count


def _present_means(targets_PM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many rows of each column are present, and their mean (0 where there is none)."""
    count, total = np.zeros(targets_PM.shape[1]), np.zeros(targets_PM.shape[1])
    for rows in _row_chunks(targets_PM):
        count += (~np.isnan(targets_PM[rows])).sum(axis=0)
        total += np.nan_to_num(targets_PM[rows]).sum(axis=0, dtype=np.float64)
    return count, total / np.maximum(count, 1)


def _row_chunks(array_PM: np.ndarray) -> Iterator[slice]:
    # Small enough for a core's cache, so that temporaries are never of the size of the table.
    step = max(1, 65_536 // array_PM.shape[1])
    return (slice(start, start + step) for start in range(0, len(array_PM), step))
