"""PURE. Whole tasks: the best model of each, and whether a policy finds it. Tasks are the prompts' categories.

Source: "LLM Routing with Benchmark Datasets" (one model per task; its table of accuracy, ratio to best, correlations,
%BMA, size and rank), and Zooter, arXiv 2311.08692 (a model per prompt; mean task rank). Definitions of ties and means
are in docs/design/010-measures.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy as entropy_of
from scipy.stats import rankdata

from erp_trainer.learning.bootstrap import Estimates, Resamples
from erp_trainer.learning.training_table import TrainingTable


@dataclass(frozen=True, slots=True)
class Tasks:
    """T tasks on which every one of M models has an outcome.

    Attributes
    ----------
    names : T
    rows : T arrays of prompts
    reward_TM, cost_TM : shape (T, M), true means of each model on each task; costs NaN where unknown
    best_on_average : the model with the highest mean reward on train; or one per task, shape (T,)
    """

    names: tuple[str, ...]
    rows: tuple[np.ndarray, ...]
    reward_TM: np.ndarray
    cost_TM: np.ndarray
    best_on_average: int | np.ndarray


def tasks_of(test: TrainingTable, best_on_average: int) -> Tasks | None:
    """The tasks of a test table; None where there are fewer than two."""
    names, rows = [], []
    for name in test.categories:
        inside = test.inside(name)
        if not np.isnan(test.rewards_PM[inside]).all(axis=0).any():
            names.append(name)
            rows.append(inside)
    if len(names) < 2:
        return None
    reward = np.stack([np.nanmean(test.rewards_PM[inside], axis=0) for inside in rows])
    cost = np.stack([_mean_cost(test, inside) for inside in rows])
    return Tasks(tuple(names), tuple(rows), reward, cost, best_on_average)


def _mean_cost(test: TrainingTable, rows: np.ndarray) -> np.ndarray:
    present = ~np.isnan(test.rewards_PM[rows])
    return np.asarray(np.where(present, test.realised_cost_PM[rows], 0.0).sum(axis=0) / present.sum(axis=0))


def task_scores(tasks: Tasks, scores_PM: np.ndarray) -> np.ndarray:
    """A policy's mean score of each model on each task, shape (T, M)."""
    return np.stack([scores_PM[rows].mean(axis=0, dtype=np.float64) for rows in tasks.rows])


def per_task(tasks: Tasks, score_TM: np.ndarray) -> dict[str, Any]:
    """Measures of choosing one model per task by its score; ties go to the first model, as pools are sorted by name."""
    found = _per_task(tasks.reward_TM, tasks.cost_TM, tasks.best_on_average, score_TM)
    return {key: float(value) for key, value in found.items()}


def _per_task(
    reward_TM: np.ndarray, cost_TM: np.ndarray, best_on_average: int | np.ndarray, score_TM: np.ndarray
) -> dict[str, np.ndarray]:
    """The measures; arrays may have one more axis in front, of resamples, and so have the results then."""
    choice = np.argmax(score_TM, axis=-1)

    def of_choice(values_TM: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values_TM, choice[..., None], axis=-1)[..., 0]

    earned, best = of_choice(reward_TM), reward_TM.max(axis=-1)
    ratio = np.divide(earned, best, out=np.full(best.shape, np.nan), where=best > 0)
    return {
        "accuracy": earned.mean(axis=-1),
        "ratio_to_best": ratio.mean(axis=-1),
        "pearson": _mean_over_tasks(pearson(score_TM, reward_TM)),
        "spearman": _mean_over_tasks(pearson(rankdata(score_TM, axis=-1), rankdata(reward_TM, axis=-1))),
        "share_best_on_average": (choice == best_on_average).mean(axis=-1),
        "mean_cost_usd": of_choice(cost_TM).mean(axis=-1),
        "rank": of_choice(rankdata(-reward_TM, axis=-1)).mean(axis=-1),
    }


def per_prompt(tasks: Tasks, reward_P: np.ndarray) -> dict[str, Any]:
    """Measures of choosing a model per prompt, against the single models on each task.

    Parameters
    ----------
    reward_P : shape (P,), what the policy earned; NaN where it could not be counted
    """
    earned = np.array([np.nanmean(reward_P[rows]) if not np.isnan(reward_P[rows]).all() else np.nan
                       for rows in tasks.rows])  # fmt: skip
    known = ~np.isnan(earned)
    if not known.any():
        return {"routed_reward": float("nan"), "ranked_first": float("nan"), "mean_task_rank": float("nan")}
    return {key: float(value) for key, value in _per_prompt(tasks.reward_TM[known], earned[known]).items()}


def _per_prompt(reward_TM: np.ndarray, earned_T: np.ndarray) -> dict[str, np.ndarray]:
    above = (reward_TM > earned_T[..., None]).sum(axis=-1)
    return {
        "routed_reward": earned_T.mean(axis=-1),
        "ranked_first": (above == 0).mean(axis=-1),
        "mean_task_rank": 1 + above.mean(axis=-1),
    }


def task_rows(
    tasks: Tasks,
    scores: Mapping[str, np.ndarray],
    rewards: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
    test: TrainingTable,
    resamples: Resamples,
) -> list[dict[str, Any]]:
    """One row of measures per policy, then the best model on average and the oracle; ``KEY_ci`` is a figure's interval.

    Parameters
    ----------
    scores : by policy, shape (P, M)
    rewards : by policy, shape (P,), what it earned choosing per prompt; policies may be in either or both
    test, resamples : of the same P prompts
    """
    present = ~np.isnan(test.rewards_PM)
    parts = [test.rewards_PM, np.where(present, test.realised_cost_PM, np.nan), *scores.values()]
    parts += [earned[:, None] for earned in rewards.values()]
    true, cost, *others = _resampled(tasks, parts, resamples)
    scored = dict(zip(scores, others, strict=False))
    earned = {key: found[..., 0] for key, found in zip(rewards, others[len(scores) :], strict=True)}
    best = tasks.best_on_average

    def chosen(score_TM: np.ndarray, score_RTM: np.ndarray) -> dict[str, Any]:
        return _with_intervals(per_task(tasks, score_TM), _per_task(true, cost, best, score_RTM))

    rows = []
    for key in dict.fromkeys([*scores, *rewards]):
        row: dict[str, Any] = {"policy": key, "label": labels[key]}
        row |= chosen(task_scores(tasks, scores[key]), scored[key]) if key in scores else _unknown(tasks)
        if key in rewards:
            row |= _with_intervals(per_prompt(tasks, rewards[key]), _per_prompt(true, earned[key]))
        rows.append(row)
    constant = np.zeros_like(tasks.reward_TM)
    constant[np.arange(len(constant)), best] = 1.0
    return [
        *rows,
        {"policy": "best-on-average", "label": "best model on average",
         **chosen(constant, np.broadcast_to(constant, true.shape)), "pearson": None, "spearman": None},
        {"policy": "task-oracle", "label": "best model of each task (hindsight)", **chosen(tasks.reward_TM, true)},
    ]  # fmt: skip


def _resampled(tasks: Tasks, parts_PS: Sequence[np.ndarray], resamples: Resamples) -> list[np.ndarray]:
    """Means of every column on every task in every resample, shape (R, T, S) for each part."""
    values = np.hstack([part.astype(np.float32) for part in parts_PS])
    found = np.stack([resamples.among(rows).means(values[rows]).resampled_RS for rows in tasks.rows], axis=1)
    return np.split(found, np.cumsum([part.shape[1] for part in parts_PS])[:-1], axis=2)


def _with_intervals(figures: Mapping[str, float], resampled: Mapping[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in figures.items():
        bounds = Estimates(np.array([value]), resampled[key][:, None]).bounds()[0]
        row |= {key: value, f"{key}_ci": None if np.isnan(value) or np.isnan(bounds).any() else bounds.tolist()}
    return row


def _unknown(tasks: Tasks) -> dict[str, Any]:
    return dict.fromkeys(per_task(tasks, np.zeros_like(tasks.reward_TM)))


def _mean_over_tasks(correlation_T: np.ndarray) -> np.ndarray:
    """Mean correlation over the tasks where both vary; NaN where they vary in none."""
    known = ~np.isnan(correlation_T)
    total, number = np.where(known, correlation_T, 0.0).sum(axis=-1), known.sum(axis=-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation along the last axis; NaN where one of the two does not vary."""
    varies = (np.ptp(x, axis=-1) != 0) & (np.ptp(y, axis=-1) != 0)
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (x, y))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    found = np.divide((x * y).sum(axis=-1), scale, out=np.full(varies.shape, np.nan), where=varies & (scale > 0))
    return np.asarray(np.clip(found, -1.0, 1.0))


def entropy_bins(
    test: TrainingTable, predicted_PM: np.ndarray, resamples: Resamples, *, n_bins: int = 10
) -> dict[str, Any] | None:
    """Quality of rankings against the entropy of the rewards over the pool; None for one model or constant rewards.

    Source: Zooter, arXiv 2311.08692, figure 3, with recorded rewards as the judge.
    """
    rewards = test.rewards_PM
    rows = np.flatnonzero(~np.isnan(rewards).any(axis=1))
    n_models = rewards.shape[1]
    sd = float(rewards[rows].std()) if len(rows) else 0.0
    if n_models < 2 or sd == 0:
        return None
    entropy = entropy_of(softmax(rewards[rows] / sd, axis=1), base=n_models, axis=1)
    router = _concordance(predicted_PM[rows], rewards[rows])
    halves = test.halves()
    ranking = np.full(len(rows), np.nan) if halves is None else _concordance(halves[0][rows], halves[1][rows])
    n_bins = int(np.clip(len(rows) // 20, 1, n_bins))
    # Equal entropies stay together, however few different ones there are.
    edges = np.unique(np.quantile(entropy, np.arange(1, n_bins) / n_bins))
    codes = np.searchsorted(edges, entropy)
    bins = []
    for code in np.unique(codes):
        inside = np.flatnonzero(codes == code)
        known = inside[~np.isnan(ranking[inside])]
        ranked = resamples.among(rows[known]).mean(ranking[known]) if len(known) else None
        routed = resamples.among(rows[inside]).mean(router[inside])
        bins.append({
            "entropy": float(entropy[inside].mean()),
            "ranking": ranked and ranked.mean,
            "router": routed.mean,
            "ranking_ci": ranked and ranked.ends,
            "router_ci": routed.ends,
            "prompts": len(inside),
        })  # fmt: skip
    return {
        "bins": bins,
        "quality": "share of model pairs in the right order, a tie half: .5 is chance",
        "models": n_models,
    }


def _concordance(scores_PM: np.ndarray, judge_PM: np.ndarray) -> np.ndarray:
    """Share of a prompt's model pairs that both order alike, ties half, shape (P,)."""
    pairs = list(combinations(range(scores_PM.shape[1]), 2))
    total = np.zeros(len(scores_PM))
    for i, j in pairs:
        agreed = np.sign(scores_PM[:, j] - scores_PM[:, i]) * np.sign(judge_PM[:, j] - judge_PM[:, i])
        total += (1 + agreed) / 2
    return total / len(pairs)
