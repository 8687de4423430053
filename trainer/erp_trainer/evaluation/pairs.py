"""PURE. Two models at a time: who wins, and whether that was foreseen.

A draw compares one reward of each model on one prompt. Draws with equal rewards are ties: they have no winner, so AUROC
leaves them out, and win rates count half of them for each side. See docs/design/010-measures.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Interval, Resamples
from erp_trainer.learning.training_table import Table

MAX_BOUND_PROMPTS = 5000
_PAIRS_AT_ONCE = 32

PairScore = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class Draws:
    """How often each of two models won on each prompt.

    Attributes
    ----------
    first_P, second_P, tied_P : shape (P,), int; all 0 where one of them has no outcome
    """

    first_P: np.ndarray
    second_P: np.ndarray
    tied_P: np.ndarray


def draws(table: Table, a: int, b: int) -> Draws:
    """Sample k of one model against sample k of the other; the recorded means where samples are not on record."""
    if table.samples_PMK is None:
        difference = (table.rewards_PM[:, b] - table.rewards_PM[:, a])[:, None]
    else:
        difference = table.samples_PMK[:, b] - table.samples_PMK[:, a]
        means = table.rewards_PM[:, b] - table.rewards_PM[:, a]
        unpaired = np.isnan(difference).all(axis=1)
        difference[unpaired, 0] = means[unpaired]
    return Draws((difference < 0).sum(axis=1), (difference > 0).sum(axis=1), (difference == 0).sum(axis=1))


def auroc(score_P: np.ndarray, lost_P: np.ndarray, won_P: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the ROC curve of a score for winning, and each prompt's influence on it.

    Parameters
    ----------
    score_P : shape (P,), higher for a likelier win; NaN and infinities are not allowed
    lost_P, won_P : shape (P,), how many draws of each prompt were lost and won

    Returns
    -------
    the area, NaN where there are not both wins and losses; and shape (P,): a resample with weights w has the area
    plus Σ w · influence, to first order

    Source: Hanley and McNeil (1982); DeLong et al. (1988) for the placements.
    """
    n_lost, n_won = float(lost_P.sum()), float(won_P.sum())
    if not n_lost or not n_won:
        return float("nan"), np.full(len(score_P), np.nan)
    order = np.argsort(score_P, kind="stable")
    ranked, lost, won = score_P[order], lost_P[order].astype(np.float64), won_P[order].astype(np.float64)
    first = np.searchsorted(ranked, ranked, side="left")
    after = np.searchsorted(ranked, ranked, side="right")
    lost_below = np.concatenate([[0.0], np.cumsum(lost)])
    won_below = np.concatenate([[0.0], np.cumsum(won)])
    # Half of an equal score counts.
    beaten = (lost_below[first] + lost_below[after]) / 2 / n_lost
    beating = 1.0 - (won_below[first] + won_below[after]) / 2 / n_won
    area = float(won @ beaten) / n_won
    influence = np.empty(len(score_P))
    influence[order] = won * (beaten - area) / n_won + lost * (beating - area) / n_lost
    return area, influence


@dataclass(frozen=True, slots=True)
class _Pair:
    a: int
    b: int
    draws: Draws


def pair_measures(test: Table, scores: Mapping[str, PairScore], resamples: Resamples) -> dict[str, Any]:
    """AUROC of every scorer for every pair of models, with intervals and, paired, the difference to the first scorer.

    Parameters
    ----------
    scores : by name, from models a and b to how likely b is to win on each test prompt, shape (P,); the first is the
        bundle's ER_b - ER_a
    """
    names = list(scores)
    pairs = [_Pair(a, b, draws(test, a, b)) for a, b in combinations(range(len(test.models)), 2)]
    rows = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        rows += _rows(test, pairs[start : start + _PAIRS_AT_ONCE], scores, resamples)
    return {
        "models": list(test.models),
        "auroc": _matrix(test, rows, lambda row: row["aurocs"][names[0]].mean),
        "auroc_other": {
            name: _matrix(test, rows, lambda row, name=name: row["aurocs"][name].mean)  # type: ignore[misc]
            for name in names[1:]
        },
        "draws": _matrix(test, rows, lambda row: row["draws"]),
        "ties": _matrix(test, rows, lambda row: row["ties"]),
        "rows": [_row_json(row, names) for row in rows],
    }


def _rows(
    test: Table, pairs: Sequence[_Pair], scores: Mapping[str, PairScore], resamples: Resamples
) -> list[dict[str, Any]]:
    areas = np.empty(len(pairs) * len(scores))
    influence = np.empty((len(test), len(areas)), dtype=np.float32)
    share = np.empty((len(test), len(pairs)))
    for i, pair in enumerate(pairs):
        total = pair.draws.first_P + pair.draws.second_P + pair.draws.tied_P
        won = pair.draws.second_P + pair.draws.tied_P / 2
        share[:, i] = np.divide(won, total, out=np.full(len(test), np.nan), where=total > 0)
        for j, score in enumerate(scores.values()):
            at = i * len(scores) + j
            areas[at], influence[:, at] = auroc(score(pair.a, pair.b), pair.draws.first_P, pair.draws.second_P)
    wins = resamples.means(share).intervals()
    known = ~np.isnan(areas)
    _, moved = resamples.sums(np.where(known, influence, np.float32(0.0)))
    resampled = np.where(known, np.clip(areas + moved, 0.0, 1.0), np.nan)
    estimates = Estimates(areas, resampled)
    intervals = estimates.intervals()
    rows = []
    for i, pair in enumerate(pairs):
        own = range(i * len(scores), (i + 1) * len(scores))
        present = ~np.isnan(share[:, i])
        er = next(iter(scores.values()))(pair.a, pair.b)[present]
        rows.append({
            "a": pair.a,
            "b": pair.b,
            "aurocs": dict(zip(scores, (intervals[at] for at in own), strict=True)),
            "differences": dict(zip(scores, _differences(estimates, own), strict=True)),
            "prompts": int(present.sum()),
            "draws": int(pair.draws.first_P.sum() + pair.draws.second_P.sum() + pair.draws.tied_P.sum()),
            "ties": int(pair.draws.tied_P.sum()),
            "predicted_win": float(((er > 0) + (er == 0) / 2).mean()) if present.any() else float("nan"),
            "true_win": wins[i],
        })  # fmt: skip
    return rows


def _differences(estimates: Estimates, own: range) -> list[Interval]:
    first = estimates.column(own[0])
    return [(first - estimates.column(at)).interval() for at in own]


def _row_json(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    true = row["true_win"]
    return {
        **{key: row[key] for key in ("a", "b", "prompts", "draws", "ties", "predicted_win")},
        "true_win": true.mean,
        "true_win_ci": true.ends,
        "auroc": row["aurocs"][names[0]].to_json(),
        "auroc_other": {name: row["aurocs"][name].to_json() for name in names[1:]},
        "difference": {name: row["differences"][name].to_json() for name in names[1:]},
    }


def _matrix(
    test: Table, rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> list[list[float | None]]:
    """Entry [i][j] is about model j against model i; AUROC and draws are the same either way round."""
    size = len(test.models)
    matrix: list[list[float | None]] = [[None] * size for _ in range(size)]
    for row in rows:
        matrix[row["a"]][row["b"]] = matrix[row["b"]][row["a"]] = value(row)
    return matrix


def win_rates(test: Table, predicted_PM: np.ndarray, resamples: Resamples) -> dict[str, Any]:
    """How often each model is the best of the pool, and better than each other one: predicted and true.

    A tie for the best is shared equally, a tie of two is half a win. Category ``""`` is all prompts.
    """
    rewards = test.rewards_PM
    predicted = np.where(np.isnan(rewards), np.nan, predicted_PM)
    best, foreseen = _shares_of_best(rewards), _shares_of_best(predicted)
    names = ["", *test.categories]
    keys = ("prompts", "predicted", "predicted_ci", "true", "true_ci", "pairwise_predicted", "pairwise_true")
    found: dict[str, Any] = {"models": list(test.models), **{key: {} for key in keys}}
    for name in names:
        rows = test.inside(name)
        shares = resamples.among(rows).means(np.hstack([best[rows], foreseen[rows]])).intervals()
        true, predicted_shares = shares[: len(test.models)], shares[len(test.models) :]
        found["prompts"][name] = len(rows)
        for key, intervals in (("predicted", predicted_shares), ("true", true)):
            found[key][name] = [interval.mean for interval in intervals]
            found[f"{key}_ci"][name] = [interval.ends for interval in intervals]
        found["pairwise_predicted"][name] = _pairwise(predicted[rows])
        found["pairwise_true"][name] = _pairwise(rewards[rows])
    return found


def _shares_of_best(values_PM: np.ndarray) -> np.ndarray:
    best = values_PM == np.nanmax(values_PM, axis=1, keepdims=True)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


def _pairwise(values_PM: np.ndarray) -> np.ndarray:
    """Shape (M, M): [i, j] is how often j is above i, a tie half; NaN on the diagonal and without common prompts."""
    n_models = values_PM.shape[1]
    rates = np.full((n_models, n_models), np.nan)
    for i, j in combinations(range(n_models), 2):
        difference = values_PM[:, j] - values_PM[:, i]
        known = ~np.isnan(difference)
        if known.any():
            rates[i, j] = ((difference > 0).sum() + (difference == 0).sum() / 2) / known.sum()
            rates[j, i] = 1.0 - rates[i, j]
    return rates


def bound_tightness(test: Table, resamples: Resamples, *, seed: int = 0) -> dict[str, Any] | None:
    """Proposition 4.1's lower bound on a win against the share of sample pairs won; None without two samples.

    Beyond ``MAX_BOUND_PROMPTS`` prompts a seeded sample of them is taken.

    Source: arXiv 2603.20217, proposition 4.1; the larger sample variance stands in for the variance proxy.
    """
    if test.samples_PMK is None:
        return None
    taken = np.arange(len(test))
    if len(test) > MAX_BOUND_PROMPTS:
        taken = np.sort(np.random.default_rng(seed).choice(len(test), MAX_BOUND_PROMPTS, replace=False))
    samples = test.samples_PMK[taken].astype(np.float64)
    counts = (~np.isnan(samples)).sum(axis=2)
    several = np.where(counts > 1, 1.0, np.nan)
    mean = np.nansum(samples, axis=2) / np.maximum(counts, 1) * several
    squares = np.nansum((samples - mean[:, :, None]) ** 2, axis=2)
    variance = squares / np.maximum(counts - 1, 1) * several
    pairs, bounds, shares, prompts = [], [], [], []
    for a, b in combinations(range(samples.shape[1]), 2):
        rows = np.flatnonzero(~np.isnan(mean[:, [a, b]]).any(axis=1))
        bound, won = _bound(samples[rows, a], samples[rows, b], mean[rows][:, [a, b]], variance[rows][:, [a, b]])
        if len(bound):
            pairs.append({"a": a, "b": b, **_tightness(bound, won)})
            bounds.append(bound)
            shares.append(won)
            prompts.append(rows)
    if not pairs:
        return None
    bound, won = np.concatenate(bounds), np.concatenate(shares)
    edges = np.linspace(0.0, 1.0, 11)
    bins = np.clip(np.searchsorted(edges, bound, side="right") - 1, 0, 9)
    return {
        "overall": _tightness(bound, won) | _tightness_ci(bound, won, np.concatenate(prompts), resamples.among(taken)),
        "bins": [_tightness(bound[bins == i], won[bins == i]) for i in range(10) if (bins == i).any()],
        "pairs": pairs,
        "variance": "the larger of the two sample variances stands in for the variance proxy",
    }


def _bound(
    first_PK: np.ndarray, second_PK: np.ndarray, mean_P2: np.ndarray, variance_P2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bound, and share of sample pairs won by whichever model has the higher mean; both have two samples everywhere."""
    gap, proxy = mean_P2[:, 1] - mean_P2[:, 0], variance_P2.max(axis=1)
    # Without any spread the better model always wins, and between equals nothing is promised.
    exponent = np.divide(gap**2, 4 * proxy, out=np.where(gap != 0, np.inf, 0.0), where=proxy > 0)
    difference = second_PK[:, :, None] - first_PK[:, None, :]
    known = (~np.isnan(difference)).sum(axis=(1, 2))
    won = ((difference > 0).sum(axis=(1, 2)) + (difference == 0).sum(axis=(1, 2)) / 2) / known
    return 1.0 - np.exp(-exponent), np.where(gap >= 0, won, 1.0 - won)


def _tightness(bound: np.ndarray, won: np.ndarray) -> dict[str, Any]:
    return {
        "bound": float(bound.mean()),
        "won": float(won.mean()),
        "slack": float((won - bound).mean()),
        "held": float((won >= bound - 1e-12).mean()),
        "instances": len(bound),
    }


def _tightness_ci(
    bound_N: np.ndarray, won_N: np.ndarray, prompt_N: np.ndarray, resamples: Resamples
) -> dict[str, list[float]]:
    """Intervals of the same figures; all instances of a prompt are resampled together."""
    kept = (won_N >= bound_N - 1e-12).astype(np.float64)
    columns = (bound_N, won_N, won_N - bound_N, kept, np.ones(len(bound_N)))
    size = len(resamples.cluster_P)
    sums = np.stack([np.bincount(prompt_N, weights=column, minlength=size) for column in columns], axis=1)
    bounds = resamples.ratios(sums[:, :-1], sums[:, -1:]).bounds()
    return {f"{key}_ci": ends.tolist() for key, ends in zip(("bound", "won", "slack", "held"), bounds, strict=True)}
