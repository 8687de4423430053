"""PURE. Which model does each score of ``policies.benchmark`` choose for a task that the router has no data of?

Source: Shnitzer et al. (2023), arXiv 2309.15789, tables 1 and 2 and figure 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from erp_trainer.evaluation.studies.tasks import Tasks, per_task
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import tuning_rows
from erp_trainer.policies.benchmark import MAX_ROWS, BenchmarkOptions, records_of, right_threshold
from erp_trainer.policies.methods.neighbours import Records, agreement, leave_tasks_out, leave_two_tasks_out, trust_of
from erp_trainer.policies.methods.prompt_groups import group_means, tasks
from litellm_erp.bundle.stored.benchmark import Trust

PAPER_NEIGHBOURS = 5
CURVE_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def benchmark_study(table: TrainingTable, seed: int = 0) -> dict[str, Any]:
    """Every score on tasks left out one by one, for the pool and its small models, and S1 against S3 over data.

    Neighbours are five, as in the paper; a reward counts as right from ``threshold`` on.

    Returns
    -------
    ``threshold``, ``neighbours``, ``rows`` (see :func:`task_score_rows`), ``in_distribution`` (see
    :func:`in_distribution_curve`), and ``small_models``: ``{"models", "rows"}``, None where all models are small or
    only one is
    """
    options = BenchmarkOptions(PAPER_NEIGHBOURS, False, right_threshold(table.rewards_PM))
    trusts = trust_without(table, options, seed)
    rows = task_score_rows(*leave_one_task_out(table, options, seed, trusts))
    small = small_models(table)
    studied = None
    if 1 < len(small) < len(table.models):
        part = table.columns(small)
        part = part.rows(~np.isnan(part.rewards_PM).all(axis=1))
        studied = {"models": list(part.models), "rows": task_score_rows(*leave_one_task_out(part, options, seed))}
    return {
        "threshold": options.threshold,
        "neighbours": options.neighbours,
        "rows": rows,
        "in_distribution": in_distribution_curve(table, options, seed=seed, trusts=trusts),
        "small_models": studied,
    }


def task_score_rows(judged: Tasks, scores: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row of the paper's measures per score, then for the best model on average and the oracle."""
    constant = np.eye(judged.reward_TM.shape[1])[judged.best_on_average]
    by_name = {**scores, "best-on-average": constant, "task-oracle": judged.reward_TM}
    whole = ~np.isnan(judged.reward_TM).any(axis=1)
    if not whole.any():
        return []
    known = Tasks((), (), judged.reward_TM[whole], judged.cost_TM[whole], np.asarray(judged.best_on_average)[whole])
    return [{"policy": name, **per_task(known, found[whole])} for name, found in by_name.items()]


def leave_one_task_out(
    table: TrainingTable, options: BenchmarkOptions, seed: int = 0, trusts: Sequence[Trust] | None = None
) -> tuple[Tasks, dict[str, np.ndarray]]:
    """Score every task of a table by the rows of its other tasks.

    Parameters
    ----------
    options : of the neighbours; ``use_trust`` does not matter, all scores are given
    trusts : of :func:`trust_without`, where they are known already

    Returns
    -------
    the tasks, whose reward is the share of right answers, NaN unknown, and whose best model on average is that of the
    other tasks; and each score by name, shape (T, M): S1, S2, S3, S3 with the true p, and the mean log-likelihood of
    the models' own answers where it is on record
    """
    trusts = trust_without(table, options, seed) if trusts is None else trusts
    table = tuning_rows(table, seed, MAX_ROWS)
    names, codes = tasks(table, seed)
    records = records_of(table, options.threshold)
    left_out = leave_tasks_out(records, codes, [options.neighbours])[0]
    trust_TM = np.stack([trust.at(left_out.distance_T[task]) for task, trust in enumerate(trusts)])
    scores = {
        "s1": left_out.s1_TM,
        "s2": left_out.s2_TM,
        "s3": mixed(left_out.s2_TM, trust_TM),
        "s3-true-p": mixed(left_out.s2_TM, left_out.trust_TM),
    }
    nothing = np.full(len(table.models), np.nan)
    if table.log_likelihood_PM is not None:
        scores["log-likelihood"] = group_means(table.log_likelihood_PM, codes, nothing)
    accuracy, cost = (group_means(values, codes, nothing) for values in (records.correct_NM, table.realised_cost_PM))
    return Tasks(tuple(names), (), accuracy, cost, _best_on_average(table, codes)), scores


def in_distribution_curve(
    table: TrainingTable,
    options: BenchmarkOptions,
    shares: tuple[float, ...] = CURVE_SHARES,
    seed: int = 0,
    trusts: Sequence[Trust] | None = None,
) -> list[dict[str, float]]:
    """How much data of a task itself it takes until S1 chooses better than S3.

    Half of each task's prompts is scored; a share of the other half joins the other tasks' prompts as training data. p
    stays that of the other tasks.

    Parameters
    ----------
    trusts : of :func:`trust_without`, where they are known already

    Returns
    -------
    one point per share: ``share``, ``prompts`` (mean per task), and means over tasks of the reward, on the scored half,
    of the model chosen for the whole task by ``s1``, ``s3`` and ``s3_true``, of the ``best``, and of the
    ``best_on_average`` over the other tasks

    Source: arXiv 2309.15789, section 5.1: reducing the gap to the new task.
    """
    trusts = trust_without(table, options, seed) if trusts is None else trusts
    table = tuning_rows(table, seed, MAX_ROWS)
    names, codes = tasks(table, seed)
    place_P = _place_in_task(codes, seed)
    records = records_of(table, options.threshold)
    best_on_average = _best_on_average(table, codes)
    points: list[dict[str, float]] = [{"share": share, "prompts": 0.0} for share in shares]
    # Of a task of one prompt nothing is left to score; nor of one whose other half some model did not answer.
    scored = [task for task in range(len(names)) if _is_scored(table.rewards_PM[(codes == task) & (place_P >= 0.5)])]
    if not scored:
        return []
    for task in scored:
        own, trust = codes == task, trusts[task]
        target = table.rows(own & (place_P >= 0.5))
        for point in points:
            shared = own & (place_P < 0.5 * point["share"])
            rewards = _routed_task(records.take(~own | shared), target, options, trust)
            rewards["best_on_average"] = float(target.mean_reward_M[best_on_average[task]])
            for key, reward in {**rewards, "prompts": float(shared.sum())}.items():
                point[key] = point.get(key, 0.0) + reward / len(scored)
    return points


def _is_scored(rewards_PM: np.ndarray) -> bool:
    """Whether every model has an outcome of some of these prompts."""
    return bool((~np.isnan(rewards_PM)).any(axis=0).all())


def small_models(table: TrainingTable) -> list[int]:
    """Columns of the models that cost at most half of what the dearest does on average; all where costs are unknown.

    Source: arXiv 2309.15789, section 5.3, which routes among models of up to 13 billion parameters; outcomes state
    costs and no sizes.
    """
    cost_M = table.mean_cost_M
    if np.isnan(cost_M).any():
        return list(range(len(table.models)))
    return np.flatnonzero(cost_M <= 0.5 * cost_M.max()).tolist()


def trust_without(table: TrainingTable, options: BenchmarkOptions, seed: int = 0) -> list[Trust]:
    """For each task what is known of p from the others, none of its own prompts having a say."""
    table = tuning_rows(table, seed, MAX_ROWS)
    codes = tasks(table, seed)[1]
    distance_TT, trust_TTM = leave_two_tasks_out(records_of(table, options.threshold), codes, options.neighbours)
    found = []
    for task in range(len(distance_TT)):
        others = np.arange(len(distance_TT)) != task
        others = others if others.any() else ~others
        found.append(trust_of(distance_TT[task, others], trust_TTM[task, others]))
    return found


def mixed(s2: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """S3 = S2 · p + (1 − S2)(1 − p)."""
    return s2 * trust + (1 - s2) * (1 - trust)


def _routed_task(records: Records, target: TrainingTable, options: BenchmarkOptions, trust: Trust) -> dict[str, float]:
    share, distance = (found[0] for found in records.votes(target.embeddings_PD, [options.neighbours]))
    s2, rewards = (share >= 0.5).mean(axis=0), target.mean_reward_M
    true_trust = agreement(share, records_of(target, options.threshold).correct_NM)
    return {
        "s1": float(rewards[np.argmax(share.mean(axis=0))]),
        "s3": float(rewards[np.argmax(mixed(s2, trust.at(distance.mean())))]),
        "s3_true": float(rewards[np.argmax(mixed(s2, true_trust))]),
        "best": float(rewards.max()),
    }


def _place_in_task(codes_P: np.ndarray, seed: int) -> np.ndarray:
    """A random place in [0, 1) of each prompt among its task's, evenly spaced, shape (P,)."""
    shuffled = np.random.default_rng(seed).permutation(len(codes_P))
    place = np.empty(len(codes_P))
    for task in np.unique(codes_P):
        rows = shuffled[codes_P[shuffled] == task]
        place[rows] = np.arange(len(rows)) / len(rows)
    return place


def _best_on_average(table: TrainingTable, codes_P: np.ndarray) -> np.ndarray:
    """The model with the best mean reward on the other tasks, shape (T,)."""
    best = []
    for task in range(int(codes_P.max()) + 1):
        others = codes_P != task
        best.append(best_single(table.rows(others) if others.any() else table))
    return np.array(best)
