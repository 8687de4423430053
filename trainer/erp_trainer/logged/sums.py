"""PURE. What a bundle's models become when rows are added to the sums that they were fitted from.

Whatever was chosen stays: the penalty, the labellings and their scores, the weights of the parts. What follows from
sums follows from the new sums, so that with forgetting off the result is that of a fit on all rows with those choices.

With a half-life h, what is d days older than the newest row counts 2^(−d/h): forgetting as in recursive least squares
(Ljung and Söderström, 1983), by age and not by number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.moments import Moments, RidgeSolver
from erp_trainer.learning.ridge import blocks
from erp_trainer.learning.stack import Stack
from litellm_erp.bundle.features import Features
from litellm_erp.bundle.probe import Probes

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ModelSums:
    """What one model was fitted from.

    Attributes
    ----------
    shared : name of the sums over prompts that it has in common with others; models of one name have the same
    moments : of this model alone
    totals_2F : sums of rewards and counts by label
    until : when its newest row was, seconds since 1970
    mean, mean_weight : its mean reward, and over how many requests; None where those are the rows of the moments
    """

    shared: str
    moments: Moments
    totals_2F: np.ndarray
    until: float
    mean: float | None = None
    mean_weight: float | None = None


@dataclass(frozen=True, slots=True)
class NewRows:
    """N requests with rewards.

    Attributes
    ----------
    embeddings_ND : float32, L2-normalised
    rewards_NM : NaN where a model has none
    time_N : seconds since 1970
    """

    embeddings_ND: np.ndarray
    rewards_NM: np.ndarray
    time_N: np.ndarray

    def among(self, rows: np.ndarray) -> NewRows:
        """Some of them."""
        return NewRows(self.embeddings_ND[rows], self.rewards_NM[rows], self.time_N[rows])


@dataclass(frozen=True, slots=True)
class Updated:
    """Models that have new rows.

    Attributes
    ----------
    groups : columns of models whose sums over prompts are the same, with their moments
    probes, cells_FM, totals_2FM : of all M models; only those of ``columns`` are to be used
    until : of the newest row, old or new
    """

    columns: np.ndarray
    groups: tuple[tuple[np.ndarray, Moments], ...]
    probes: Probes
    cells_FM: np.ndarray
    totals_2FM: np.ndarray
    until: float


def decay(age_s: np.ndarray | float, half_life_days: float | None) -> np.ndarray:
    """How much rows of an age count; 1 without forgetting, and for what is not yet old."""
    age = np.maximum(np.asarray(age_s, dtype=np.float64), 0.0)
    return np.ones_like(age) if half_life_days is None else np.exp2(-age / _DAY_S / half_life_days)


def updated(
    sums: dict[int, ModelSums],
    n_models: int,
    rows: NewRows,
    features: Features | None,
    stack: Stack,
    half_life_days: float | None = None,
) -> Updated:
    """Add rows to sums, and solve for what follows from them.

    Parameters
    ----------
    sums : by column of model; rewards of models without are ignored
    rows : any number, none too
    """
    known = np.isin(np.arange(n_models), list(sums))
    rewards = np.where(known, rows.rewards_NM, np.nan)
    newest = _newest(sums, rows)
    weight_N = decay(newest - rows.time_N, half_life_days)
    dimension, sizes = rows.embeddings_ND.shape[1], () if features is None else features.sizes
    totals = np.zeros((2, sum(sizes), n_models))
    weights_DM, intercept_M, mean_M = np.zeros((dimension, n_models)), np.zeros(n_models), np.zeros(n_models)
    codes = _codes(rows.embeddings_ND, features)
    groups: list[tuple[np.ndarray, Moments]] = []
    for block in blocks(rewards):
        if not block.rows_P.any():
            continue
        x, y, w = rows.embeddings_ND[block.rows_P], rewards[np.ix_(block.rows_P, block.columns)], weight_N[block.rows_P]
        fresh = Moments.of(x, y, w)
        for columns, old in _by_prompts(block.columns, sums, newest, half_life_days):
            places = np.searchsorted(block.columns, columns)
            groups.append((columns, old + fresh.columns(places)))
        added = _label_totals([each[block.rows_P] for each in codes], sizes, y, w)
        for place, m in enumerate(block.columns.tolist()):
            share = float(decay(newest - sums[m].until, half_life_days))
            totals[:, :, m] = sums[m].totals_2F * share + added[:, :, place]
    for columns, moments in groups:
        weights_DM[:, columns], intercept_M[columns] = RidgeSolver(moments).solve(stack.beta)
        mean_M[columns] = moments.sum_y_M / moments.weight
    probes, cells = stack.probes(weights_DM, intercept_M, mean_M), stack.cells_of(totals, sizes, mean_M)
    changed = np.sort(np.concatenate([columns for columns, _ in groups])) if groups else np.empty(0, dtype=np.int64)
    return Updated(changed, tuple(groups), probes, cells, totals, newest)


def mean_rewards(
    sums: dict[int, ModelSums], rows: NewRows, expected_NM: np.ndarray, half_life_days: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean reward of each model that has sums over old and new requests, and how many those count as.

    A router gives a model the prompts that it is good at: the mean over those alone would flatter it.

    Parameters
    ----------
    expected_NM : what models are expected to earn, after the update; counts where they did not serve
    """
    newest = _newest(sums, rows)
    weight_N = decay(newest - rows.time_N, half_life_days)
    weight = float(weight_N.sum())
    sum_M = weight_N @ np.where(np.isnan(rows.rewards_NM), expected_NM, rows.rewards_NM)
    found, weights = np.zeros(len(sum_M)), np.zeros(len(sum_M))
    # Requests that a model did not serve count in its mean: they are as old as the newest of any model's.
    share = float(decay(newest - max(each.until for each in sums.values()), half_life_days))
    for m, each in sums.items():
        old = share * (each.moments.weight if each.mean_weight is None else each.mean_weight)
        mean = each.moments.sum_y_M[0] / each.moments.weight if each.mean is None else each.mean
        weights[m] = old + weight
        found[m] = (old * mean + sum_M[m]) / weights[m] if weights[m] > 0.0 else mean
    return found, weights


def _newest(sums: dict[int, ModelSums], rows: NewRows) -> float:
    """When the newest row was, old or new."""
    return max([*rows.time_N.tolist(), *(each.until for each in sums.values())])


def _by_prompts(
    columns: np.ndarray, sums: dict[int, ModelSums], newest: float, half_life_days: float | None
) -> list[tuple[np.ndarray, Moments]]:
    """Models with the same old rows of the same age, and the old moments of each such group, as they count now."""
    found: dict[tuple[str, float], list[int]] = {}
    for m in columns.tolist():
        found.setdefault((sums[m].shared, sums[m].until), []).append(m)
    return [(np.array(group), _joined(group, sums, newest, half_life_days)) for group in found.values()]


def _joined(group: list[int], sums: dict[int, ModelSums], newest: float, half_life_days: float | None) -> Moments:
    first = sums[group[0]]
    mine = [sums[m].moments for m in group]
    whole = Moments(
        first.moments.weight,
        first.moments.sum_D,
        first.moments.gram_DD,
        np.concatenate([each.sum_y_M for each in mine]),
        np.concatenate([each.sum_yy_M for each in mine]),
        np.concatenate([each.xty_DM for each in mine], axis=1),
    )
    return whole if half_life_days is None else whole.scaled(float(decay(newest - first.until, half_life_days)))


def _codes(embeddings_ND: np.ndarray, features: Features | None) -> list[np.ndarray]:
    """The label of every row in each labelling: the one that it belongs to most."""
    if features is None:
        return []
    memberships = features.memberships(features.scores(embeddings_ND))
    parts = np.split(memberships, np.cumsum(features.sizes)[:-1], axis=1)
    return [part.argmax(axis=1) for part in parts]


def _label_totals(
    codes: list[np.ndarray], sizes: tuple[int, ...], rewards_RM: np.ndarray, weight_R: np.ndarray
) -> np.ndarray:
    """Weighted sums and counts by label, shape (2, F, m), of rows that all have rewards."""
    found = np.zeros((2, sum(sizes), rewards_RM.shape[1]))
    start = 0
    for code_R, size in zip(codes, sizes, strict=True):
        np.add.at(found[0], start + code_R, weight_R[:, None] * rewards_RM)
        found[1, start : start + size] = np.bincount(code_R, weight_R, size)[:, None]
        start += size
    return found
