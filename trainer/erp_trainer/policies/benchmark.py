"""PURE. Routing with benchmark data sets: nearest neighbours say which models will be right.

Rewards become right or wrong by a threshold. For a task d, given as a set of prompts, and a model m:

    S1  mean over the prompts of the share of right neighbours
    S2  mean of that share thresholded at 1/2
    S3  S2 · p + (1 − S2)(1 − p), p(d, m) being how often the thresholded share is right on d

p of a new task is not known. It is taken from the tasks of the training data by a Gaussian-kernel regression over how
far a task lies from the others' prompts, each task judged by neighbours from the others only. Where data have no
categories, clusters of embeddings are the tasks.

Source: Shnitzer et al. (2023), arXiv 2309.15789. Scoring single prompts by S3, with p at the prompt's own distance, and
choosing between S1 and S3 by cross-validation, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.ridge import assign_folds
from erp_trainer.learning.training_table import Table
from erp_trainer.policies.base import routed_utility, tuning_rows
from erp_trainer.policies.neighbours import (
    LeftOut,
    Records,
    agreement,
    choose_bandwidth,
    leave_tasks_out,
    leave_two_tasks_out,
)
from erp_trainer.policies.tagging import group_means, tasks
from litellm_erp.bundle.predictors import NeighbourPredictor, Trust

NEIGHBOURS = (5, 10, 20, 50, 100, 150)
PAPER_NEIGHBOURS = 5
# A bundle answers in about a millisecond with so many rows.
MAX_ROWS = 8192
CURVE_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """``neighbours`` vote; S3 serves where ``use_trust``, else S1; a reward of at least ``threshold`` is right."""

    neighbours: int
    use_trust: bool
    threshold: float


@dataclass(frozen=True, slots=True)
class TaskScores:
    """T tasks, each scored by neighbours from the other tasks.

    Attributes
    ----------
    tasks : T names
    prompts_T : shape (T,), int
    accuracy_TM, reward_TM, cost_TM : shape (T, M), share right, mean reward and mean realised cost; NaN unknown
    s1_TM, s2_TM, s3_TM, s3_true_TM : shape (T, M); the last with the true p
    log_likelihood_TM : shape (T, M), mean log-likelihood of the models' own answers; None where not recorded
    best_on_average_T : shape (T,), int, the model with the best mean reward on the other tasks
    threshold : of a right answer, in reward units
    """

    tasks: tuple[str, ...]
    prompts_T: np.ndarray
    accuracy_TM: np.ndarray
    reward_TM: np.ndarray
    cost_TM: np.ndarray
    s1_TM: np.ndarray
    s2_TM: np.ndarray
    s3_TM: np.ndarray
    s3_true_TM: np.ndarray
    log_likelihood_TM: np.ndarray | None
    best_on_average_T: np.ndarray
    threshold: float


def right_threshold(rewards_PM: np.ndarray) -> float:
    """The reward from which an answer counts as right: 1/2 where rewards lie in [0, 1], else their median."""
    present = rewards_PM[~np.isnan(rewards_PM)]
    inside = present.min() >= 0 and present.max() <= 1
    return 0.5 if inside else float(np.median(present))


def correctness(rewards_PM: np.ndarray, threshold: float) -> np.ndarray:
    """1 where a reward reaches the threshold, 0 where not, NaN without outcome; shape (P, M), float32."""
    return np.where(np.isnan(rewards_PM), np.nan, rewards_PM >= threshold).astype(np.float32)


def train_benchmark(table: Table, options: BenchmarkOptions, seed: int = 0) -> NeighbourPredictor:
    """Keep the training rows (a seeded part where there are more than ``MAX_ROWS``), and fit p on their tasks."""
    table = tuning_rows(table, seed, MAX_ROWS)
    records = _records(table, options.threshold)
    trust = (
        _trust(leave_tasks_out(records, tasks(table, seed)[1], [options.neighbours])[0]) if options.use_trust else None
    )
    return _predictor(table, records, options, trust)


def tune_benchmark(table: Table, seed: int = 0, threshold: float | None = None) -> BenchmarkOptions:
    """The number of neighbours, and whether S1 or S3 serves, by out-of-fold routed utility.

    Parameters
    ----------
    threshold : of a right answer; by default see :func:`right_threshold`
    """
    table = tuning_rows(table, seed, MAX_ROWS)
    at = right_threshold(table.rewards_PM) if threshold is None else threshold
    options = [BenchmarkOptions(count, trusts, at) for count in NEIGHBOURS for trusts in (False, True)]
    folds, codes = assign_folds(table.groups_P, seed), tasks(table, seed)[1]
    predicted = {option: np.empty(table.rewards_PM.shape, dtype=np.float32) for option in options}
    for fold in np.unique(folds):
        rows = folds == fold
        part = table.rows(~rows)
        records = _records(part, at)
        left_out = leave_tasks_out(records, np.unique(codes[~rows], return_inverse=True)[1], NEIGHBOURS)
        shares, distances = records.votes(table.embeddings_PD[rows], NEIGHBOURS)
        for option in options:
            k = NEIGHBOURS.index(option.neighbours)
            predictor = _predictor(part, records, option, _trust(left_out[k]) if option.use_trust else None)
            predicted[option][rows] = predictor.expected_reward(shares[k], distances[k])
    return max(options, key=lambda option: routed_utility(table, predicted[option]))


def leave_one_task_out(
    table: Table, options: BenchmarkOptions, seed: int = 0, trusts: Sequence[Trust] | None = None
) -> TaskScores:
    """Score every task of a table by the rows of its other tasks: what 003 measures.

    Parameters
    ----------
    options : of the neighbours; ``use_trust`` does not matter, all scores are given
    trusts : of :func:`trust_without`, where they are known already
    """
    trusts = trust_without(table, options, seed) if trusts is None else trusts
    table = tuning_rows(table, seed, MAX_ROWS)
    names, codes = tasks(table, seed)
    records = _records(table, options.threshold)
    left_out = leave_tasks_out(records, codes, [options.neighbours])[0]
    trust_TM = np.stack([trust.at(left_out.distance_T[task]) for task, trust in enumerate(trusts)])
    judged = table.log_likelihood_PM
    nothing = np.full(len(table.models), np.nan)
    return TaskScores(
        tasks=tuple(names),
        prompts_T=np.bincount(codes),
        accuracy_TM=group_means(correctness(table.rewards_PM, options.threshold), codes, nothing),
        reward_TM=group_means(table.rewards_PM, codes, nothing),
        cost_TM=group_means(table.realised_cost_PM, codes, nothing),
        s1_TM=left_out.s1_TM,
        s2_TM=left_out.s2_TM,
        s3_TM=mixed(left_out.s2_TM, trust_TM),
        s3_true_TM=mixed(left_out.s2_TM, left_out.trust_TM),
        log_likelihood_TM=None if judged is None else group_means(judged, codes, nothing),
        best_on_average_T=_best_on_average(table, codes),
        threshold=options.threshold,
    )


def in_distribution_curve(
    table: Table,
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
    records = _records(table, options.threshold)
    best_on_average = _best_on_average(table, codes)
    points: list[dict[str, float]] = [{"share": share, "prompts": 0.0} for share in shares]
    for task, trust in enumerate(trusts):
        own = codes == task
        target = table.rows(own & (place_P >= 0.5))
        for point in points:
            shared = own & (place_P < 0.5 * point["share"])
            rewards = _routed_task(records.take(~own | shared), target, options, trust)
            rewards["best_on_average"] = float(target.mean_reward_M[best_on_average[task]])
            for key, reward in {**rewards, "prompts": float(shared.sum())}.items():
                point[key] = point.get(key, 0.0) + reward / len(names)
    return points


def small_models(table: Table) -> list[int]:
    """Columns of the models that cost at most half of what the dearest does on average; all where costs are unknown.

    Source: arXiv 2309.15789, section 5.3, which routes among models of up to 13 billion parameters; outcomes state
    costs and no sizes.
    """
    cost_M = table.mean_cost_M
    if np.isnan(cost_M).any():
        return list(range(len(table.models)))
    return np.flatnonzero(cost_M <= 0.5 * cost_M.max()).tolist()


def mixed(s2: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """S3 = S2 · p + (1 − S2)(1 − p)."""
    return s2 * trust + (1 - s2) * (1 - trust)


def _routed_task(records: Records, target: Table, options: BenchmarkOptions, trust: Trust) -> dict[str, float]:
    share, distance = (found[0] for found in records.votes(target.embeddings_PD, [options.neighbours]))
    s2, rewards = (share >= 0.5).mean(axis=0), target.mean_reward_M
    true_trust = agreement(share, correctness(target.rewards_PM, options.threshold))
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


def _best_on_average(table: Table, codes_P: np.ndarray) -> np.ndarray:
    """The model with the best mean reward on the other tasks, shape (T,)."""
    best = []
    for task in range(int(codes_P.max()) + 1):
        others = codes_P != task
        best.append(int(np.argmax((table.rows(others) if others.any() else table).mean_reward_M)))
    return np.array(best)


def _records(table: Table, threshold: float) -> Records:
    return Records(table.embeddings_PD, correctness(table.rewards_PM, threshold))


def _trust(left_out: LeftOut) -> Trust:
    return _kernel(left_out.distance_T, left_out.trust_TM)


def _kernel(distance_T: np.ndarray, trust_TM: np.ndarray) -> Trust:
    bandwidth = choose_bandwidth(distance_T, trust_TM)
    return Trust(distance_T.astype(np.float32), trust_TM.astype(np.float32), bandwidth)


def trust_without(table: Table, options: BenchmarkOptions, seed: int = 0) -> list[Trust]:
    """For each task what is known of p from the others, none of its own prompts having a say."""
    table = tuning_rows(table, seed, MAX_ROWS)
    codes = tasks(table, seed)[1]
    distance_TT, trust_TTM = leave_two_tasks_out(_records(table, options.threshold), codes, options.neighbours)
    found = []
    for task in range(len(distance_TT)):
        others = np.arange(len(distance_TT)) != task
        others = others if others.any() else ~others
        found.append(_kernel(distance_TT[task, others], trust_TTM[task, others]))
    return found


def _predictor(table: Table, records: Records, options: BenchmarkOptions, trust: Trust | None) -> NeighbourPredictor:
    low, high = _levels(table.rewards_PM, records.correct_NM)
    return NeighbourPredictor(
        rows_ND=records.rows_ND,
        correct_NM=records.correct_NM,
        neighbours=options.neighbours,
        prior_M=records.prior_M,
        trust=trust,
        low=low,
        high=high,
    )


def _levels(rewards_PM: np.ndarray, correct_PM: np.ndarray) -> tuple[float, float]:
    """Mean reward of wrong and of right answers; the overall mean for what does not occur."""
    overall = float(np.nanmean(rewards_PM))
    wrong, right = rewards_PM[correct_PM == 0], rewards_PM[correct_PM == 1]
    return (float(wrong.mean()) if wrong.size else overall, float(right.mean()) if right.size else overall)
