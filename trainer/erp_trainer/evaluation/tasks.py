"""PURE. Whole tasks: the best model of each, and whether a policy finds it. Tasks are the prompts' categories.

Source: "LLM Routing with Benchmark Datasets" (one model per task; its table of accuracy, ratio to best, correlations,
%BMA, size and rank), and Zooter, arXiv 2311.08692 (a model per prompt; mean task rank). Definitions of ties and means
are in docs/design/010-measures.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.evaluation.table import Table


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


def tasks_of(test: Table, best_on_average: int) -> Tasks | None:
    """The tasks of a test table; None where there are fewer than two."""
    names, rows = [], []
    for name in sorted(set(test.categories_P.tolist()) - {""}):
        inside = np.flatnonzero(test.categories_P == name)
        if not np.isnan(test.rewards_PM[inside]).all(axis=0).any():
            names.append(name)
            rows.append(inside)
    if len(names) < 2:
        return None
    reward = np.stack([np.nanmean(test.rewards_PM[inside], axis=0) for inside in rows])
    cost = np.stack([_mean_cost(test, inside) for inside in rows])
    return Tasks(tuple(names), tuple(rows), reward, cost, best_on_average)


def _mean_cost(test: Table, rows: np.ndarray) -> np.ndarray:
    present = ~np.isnan(test.rewards_PM[rows])
    return np.asarray(np.where(present, test.realised_cost_PM[rows], 0.0).sum(axis=0) / present.sum(axis=0))


def task_scores(tasks: Tasks, scores_PM: np.ndarray) -> np.ndarray:
    """A policy's mean score of each model on each task, shape (T, M)."""
    return np.stack([scores_PM[rows].mean(axis=0, dtype=np.float64) for rows in tasks.rows])


def per_task(tasks: Tasks, score_TM: np.ndarray) -> dict[str, Any]:
    """Measures of choosing one model per task by its score; ties go to the first model, as pools are sorted by name."""
    at = np.arange(len(tasks.names))
    choice = np.argmax(score_TM, axis=1)
    earned, best = tasks.reward_TM[at, choice], tasks.reward_TM.max(axis=1)
    return {
        "accuracy": float(earned.mean()),
        "ratio_to_best": float((earned / best).mean()) if (best > 0).all() else float("nan"),
        "pearson": _mean_over_tasks(score_TM, tasks.reward_TM),
        "spearman": _mean_over_tasks(_ranks(score_TM), _ranks(tasks.reward_TM)),
        "share_best_on_average": float((choice == tasks.best_on_average).mean()),
        "mean_cost_usd": float(tasks.cost_TM[at, choice].mean()),
        "rank": float(_places(tasks.reward_TM)[at, choice].mean()),
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
    above = (tasks.reward_TM[known] > earned[known, None]).sum(axis=1)
    return {
        "routed_reward": float(earned[known].mean()),
        "ranked_first": float((above == 0).mean()),
        "mean_task_rank": float(1 + above.mean()),
    }


def task_rows(
    tasks: Tasks, scores: Mapping[str, np.ndarray], rewards: Mapping[str, np.ndarray], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row of measures per policy, then the best model on average and the oracle.

    Parameters
    ----------
    scores : by policy, shape (P, M)
    rewards : by policy, shape (P,), what it earned choosing per prompt; policies may be in either or both
    """
    rows = []
    for key in dict.fromkeys([*scores, *rewards]):
        row: dict[str, Any] = {"policy": key, "label": labels[key]}
        row |= per_task(tasks, task_scores(tasks, scores[key])) if key in scores else _unknown(tasks)
        row |= per_prompt(tasks, rewards[key]) if key in rewards else {}
        rows.append(row)
    constant = np.zeros_like(tasks.reward_TM)
    constant[np.arange(len(constant)), tasks.best_on_average] = 1.0
    return [
        *rows,
        {"policy": "best-on-average", "label": "best model on average", **per_task(tasks, constant),
         "pearson": None, "spearman": None},
        {"policy": "task-oracle", "label": "best model of each task (hindsight)",
         **per_task(tasks, tasks.reward_TM)},
    ]  # fmt: skip


def _unknown(tasks: Tasks) -> dict[str, Any]:
    return dict.fromkeys(per_task(tasks, np.zeros_like(tasks.reward_TM)))


def _mean_over_tasks(score_TM: np.ndarray, true_TM: np.ndarray) -> float:
    """Mean correlation over the tasks where both vary; NaN where they vary in none."""
    found = [pearson(score, true) for score, true in zip(score_TM, true_TM, strict=True)]
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation; NaN where one of the two does not vary."""
    if not np.ptp(x) or not np.ptp(y):
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _ranks(values_TM: np.ndarray) -> np.ndarray:
    """Ascending ranks along the last axis, ties in the middle, as Spearman's correlation needs them."""
    below = (values_TM[:, :, None] > values_TM[:, None, :]).sum(axis=2)
    equal = (values_TM[:, :, None] == values_TM[:, None, :]).sum(axis=2)
    return np.asarray(below + (equal + 1) / 2)


def _places(reward_TM: np.ndarray) -> np.ndarray:
    """1 for the best model of a task, ties in the middle."""
    return reward_TM.shape[1] + 1 - _ranks(reward_TM)


def entropy_bins(test: Table, predicted_PM: np.ndarray, *, n_bins: int = 10) -> dict[str, Any] | None:
    """Quality of rankings against the entropy of the rewards over the pool; None for one model or constant rewards.

    Source: Zooter, arXiv 2311.08692, figure 3, with recorded rewards as the judge.
    """
    rewards = test.rewards_PM
    rows = np.flatnonzero(~np.isnan(rewards).any(axis=1))
    n_models = rewards.shape[1]
    sd = float(rewards[rows].std()) if len(rows) else 0.0
    if n_models < 2 or sd == 0:
        return None
    logits = rewards[rows] / sd
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    share = weights / weights.sum(axis=1, keepdims=True)
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=1) / np.log(n_models)
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
        bins.append({
            "entropy": float(entropy[inside].mean()),
            "ranking": float(ranking[known].mean()) if len(known) else None,
            "router": float(router[inside].mean()),
            "prompts": len(inside),
        })  # fmt: skip
    return {
        "bins": bins,
        "quality": "share of model pairs in the right order, a tie half: .5 is chance",
        "models": n_models,
    }


def _concordance(scores_PM: np.ndarray, judge_PM: np.ndarray) -> np.ndarray:
    """Share of a prompt's model pairs that both order alike, ties half, shape (P,)."""
    n_models = scores_PM.shape[1]
    total = np.zeros(len(scores_PM))
    pairs = n_models * (n_models - 1) // 2
    for i in range(n_models):
        for j in range(i + 1, n_models):
            agreed = np.sign(scores_PM[:, j] - scores_PM[:, i]) * np.sign(judge_PM[:, j] - judge_PM[:, i])
            total += (1 + agreed) / 2
    return np.asarray(total / pairs)


def categories_of(test: Table) -> Sequence[str]:
    """The categories of a table, sorted, without the empty one."""
    return sorted(set(test.categories_P.tolist()) - {""})
