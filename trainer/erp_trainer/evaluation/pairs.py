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

from erp_trainer.learning.bootstrap import Estimates, Resamples
from erp_trainer.learning.training_table import TrainingTable

MAX_BOUND_PROMPTS = 5000
_PAIRS_AT_ONCE = 32
_FIGURES = ("bound", "won", "slack", "held")

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


def draws(table: TrainingTable, a: int, b: int) -> Draws:
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


def pair_measures(test: TrainingTable, scores: Mapping[str, PairScore], resamples: Resamples) -> dict[str, Any]:
    """AUROC of every scorer for every pair of models, with intervals and, paired, the difference to the first scorer.

    Parameters
    ----------
    scores : by name, from models a and b to how likely b is to win on each test prompt, shape (P,); the first is the
        bundle's ER_b - ER_a
    """
    pairs = list(combinations(range(len(test.models)), 2))
    rows: list[dict[str, Any]] = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        rows += _rows(test, pairs[start : start + _PAIRS_AT_ONCE], scores, resamples)

    def matrix(value: Callable[[Mapping[str, Any]], float]) -> list[list[float | None]]:
        """Entry [i][j] is about model j against model i; these figures are the same either way round."""
        size = len(test.models)
        found: list[list[float | None]] = [[None] * size for _ in range(size)]
        for row in rows:
            found[row["a"]][row["b"]] = found[row["b"]][row["a"]] = value(row)
        return found

    def other(name: str) -> list[list[float | None]]:
        return matrix(lambda row: row["auroc_other"][name]["mean"])

    return {
        "models": list(test.models),
        "auroc": matrix(lambda row: row["auroc"]["mean"]),
        "auroc_other": {name: other(name) for name in list(scores)[1:]},
        "draws": matrix(lambda row: row["draws"]),
        "ties": matrix(lambda row: row["ties"]),
        "rows": rows,
    }


def _rows(
    test: TrainingTable, pairs: Sequence[tuple[int, int]], scores: Mapping[str, PairScore], resamples: Resamples
) -> list[dict[str, Any]]:
    drawn = [draws(test, a, b) for a, b in pairs]
    first, *others = scores
    areas = np.empty(len(pairs) * len(scores))
    influence = np.empty((len(test), len(areas)), dtype=np.float32)
    share = np.full((len(test), len(pairs)), np.nan)
    for i, ((a, b), found) in enumerate(zip(pairs, drawn, strict=True)):
        total = found.first_P + found.second_P + found.tied_P
        np.divide(found.second_P + found.tied_P / 2, total, out=share[:, i], where=total > 0)
        for at, score in enumerate(scores.values(), start=i * len(scores)):
            areas[at], influence[:, at] = auroc(score(a, b), found.first_P, found.second_P)
    known = ~np.isnan(areas)
    _, moved = resamples.sums(np.where(known, influence, np.float32(0.0)))
    estimates = Estimates(areas, np.where(known, np.clip(areas + moved, 0.0, 1.0), np.nan))
    intervals = [interval.to_json() for interval in estimates.intervals()]
    rows = []
    for i, ((a, b), found, won) in enumerate(zip(pairs, drawn, resamples.means(share).intervals(), strict=True)):
        own = i * len(scores)
        present = ~np.isnan(share[:, i])
        foreseen = scores[first](a, b)[present]
        rows.append({
            "a": a,
            "b": b,
            "prompts": int(present.sum()),
            "draws": int(found.first_P.sum() + found.second_P.sum() + found.tied_P.sum()),
            "ties": int(found.tied_P.sum()),
            "predicted_win": float(((foreseen > 0) + (foreseen == 0) / 2).mean()) if present.any() else float("nan"),
            "true_win": won.mean,
            "true_win_ci": won.ends,
            "auroc": intervals[own],
            "auroc_other": {name: intervals[at] for at, name in enumerate(others, start=own + 1)},
            "difference": {
                name: (estimates.column(own) - estimates.column(at)).interval().to_json()
                for at, name in enumerate(others, start=own + 1)
            },
        })  # fmt: skip
    return rows


def win_rates(test: TrainingTable, predicted_PM: np.ndarray, resamples: Resamples) -> dict[str, Any]:
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


def bound_tightness(test: TrainingTable, resamples: Resamples, *, seed: int = 0) -> dict[str, Any] | None:
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
    pairs, parts, prompts = [], [], []
    for a, b in combinations(range(samples.shape[1]), 2):
        rows = np.flatnonzero(~np.isnan(mean[:, [a, b]]).any(axis=1))
        if len(rows):
            found = _bound(samples[rows, a], samples[rows, b], mean[rows][:, [a, b]], variance[rows][:, [a, b]])
            pairs.append({"a": a, "b": b, **_means(found)})
            parts.append(found)
            prompts.append(rows)
    if not pairs:
        return None
    found_4N, prompt_N = np.hstack(parts), np.concatenate(prompts)
    # All instances of a prompt are resampled together.
    summed = [np.bincount(prompt_N, weights=row, minlength=len(taken)) for row in (*found_4N, np.ones(len(prompt_N)))]
    sums = np.stack(summed, axis=1)
    ends = resamples.among(taken).ratios(sums[:, :-1], sums[:, -1:]).bounds()
    bins = np.clip((10 * found_4N[0]).astype(int), 0, 9)
    return {
        "overall": _means(found_4N) | {f"{key}_ci": end.tolist() for key, end in zip(_FIGURES, ends, strict=True)},
        "bins": [_means(found_4N[:, bins == i]) for i in np.unique(bins)],
        "pairs": pairs,
        "variance": "the larger of the two sample variances stands in for the variance proxy",
    }


def _bound(first_PK: np.ndarray, second_PK: np.ndarray, mean_P2: np.ndarray, variance_P2: np.ndarray) -> np.ndarray:
    """By ``_FIGURES``, shape (4, P): the bound, the share of sample pairs won by whichever model has the higher mean,
    the second less the first, and whether the bound held; both models have two samples everywhere."""
    gap, proxy = mean_P2[:, 1] - mean_P2[:, 0], variance_P2.max(axis=1)
    # Without any spread the better model always wins, and between equals nothing is promised.
    exponent = np.divide(gap**2, 4 * proxy, out=np.where(gap != 0, np.inf, 0.0), where=proxy > 0)
    difference = second_PK[:, :, None] - first_PK[:, None, :]
    known = (~np.isnan(difference)).sum(axis=(1, 2))
    won = ((difference > 0).sum(axis=(1, 2)) + (difference == 0).sum(axis=(1, 2)) / 2) / known
    bound, won = 1.0 - np.exp(-exponent), np.where(gap >= 0, won, 1.0 - won)
    return np.stack([bound, won, won - bound, won >= bound - 1e-12])


def _means(found_4N: np.ndarray) -> dict[str, Any]:
    return dict(zip(_FIGURES, found_4N.mean(axis=1).tolist(), strict=True)) | {"instances": found_4N.shape[1]}
