"""PURE. Single rewards behind the means of an outcomes table, in memory and as the column ``sample_rewards``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from erp_trainer.outcomes.columns import Lists, fail_where

# Enough for half-sample oracles and win rates, and a bound on memory.
MAX_KEPT_SAMPLES = 32


def check_lists(lists: Lists, reward_N: np.ndarray, n_samples_N: np.ndarray, at: Callable[[int], str]) -> None:
    """Where single rewards are listed, the row's reward must be their mean and its n_samples their number.

    A list of ``MAX_KEPT_SAMPLES`` may be the first of more.
    """
    first_of_more_N = (lists.sizes_N == MAX_KEPT_SAMPLES) & (n_samples_N > MAX_KEPT_SAMPLES)
    listed_N = (lists.sizes_N > 0) & ~first_of_more_N
    starts = np.cumsum(lists.sizes_N) - lists.sizes_N
    filled_N = lists.sizes_N > 0
    mean_N, spread_N = reward_N.copy(), np.abs(reward_N)
    if lists.values.size:
        mean_N[filled_N] = np.add.reduceat(lists.values, starts[filled_N]) / lists.sizes_N[filled_N]
        spread_N[filled_N] = np.maximum.reduceat(np.abs(lists.values), starts[filled_N])
    fail_where(
        # Not "greater than", so that a NaN in a list fails too.
        listed_N & ~(np.abs(mean_N - reward_N) <= 1e-4 * (1.0 + spread_N)),
        lambda i: (
            f"{at(i)}: reward is {reward_N[i]:g}, the mean of its sample_rewards {mean_N[i]:g}; expected the same. "
            "Drop the column sample_rewards, or state the mean"
        ),
    )
    fail_where(
        listed_N & ~np.isnan(n_samples_N) & (n_samples_N != lists.sizes_N),
        lambda i: (
            f"{at(i)}: n_samples is {n_samples_N[i]:g}, and sample_rewards holds {lists.sizes_N[i]}; expected as many"
        ),
    )


def by_cell(cell_S: np.ndarray, reward_S: np.ndarray, n_cells: int) -> np.ndarray | None:
    """Single rewards by cell, shape (n_cells, K), float32, NaN where a cell has fewer; None where none has two.

    Parameters
    ----------
    cell_S : shape (S,), int; the cell of each reward; those of a cell stand in sample order
    """
    if not cell_S.size:
        return None
    order = np.argsort(cell_S, kind="stable")
    cell_S, reward_S = cell_S[order], reward_S[order]
    _, first, size = np.unique(cell_S, return_index=True, return_counts=True)
    if size.max() < 2:
        return None
    place_S = np.arange(cell_S.size) - np.repeat(first, size)
    kept = place_S < MAX_KEPT_SAMPLES
    samples = np.full((n_cells, min(int(size.max()), MAX_KEPT_SAMPLES)), np.nan, dtype=np.float32)
    samples[cell_S[kept], place_S[kept]] = reward_S[kept]
    return samples
