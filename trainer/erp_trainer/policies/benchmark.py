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

from dataclasses import dataclass

import numpy as np

from erp_trainer.learning.ridge import assign_folds
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import PolicySpec, routed_utility, tuning_rows
from erp_trainer.policies.methods.neighbours import Records, leave_tasks_out, trust_of
from erp_trainer.policies.methods.prompt_groups import tasks
from litellm_erp.bundle.stored.benchmark import NeighbourPredictor, Trust

NEIGHBOURS = (5, 10, 20, 50, 100, 150)
# A bundle answers in about a millisecond with so many rows.
MAX_ROWS = 8192


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """``neighbours`` vote; S3 serves where ``use_trust``, else S1; a reward of at least ``threshold`` is right."""

    neighbours: int
    use_trust: bool
    threshold: float


def right_threshold(rewards_PM: np.ndarray) -> float:
    """The reward from which an answer counts as right: 1/2 where rewards lie in [0, 1], else their median."""
    present = rewards_PM[~np.isnan(rewards_PM)]
    inside = present.min() >= 0 and present.max() <= 1
    return 0.5 if inside else float(np.median(present))


def records_of(table: TrainingTable, threshold: float) -> Records:
    """The rows of a table, and where rewards reach the threshold."""
    correct = np.where(np.isnan(table.rewards_PM), np.nan, table.rewards_PM >= threshold)
    return Records(table.embeddings_PD, correct.astype(np.float32))


def train_benchmark(table: TrainingTable, options: BenchmarkOptions, seed: int = 0) -> NeighbourPredictor:
    """Keep the training rows (a seeded part where there are more than ``MAX_ROWS``), and fit p on their tasks."""
    table = tuning_rows(table, seed, MAX_ROWS)
    records, trust = records_of(table, options.threshold), None
    if options.use_trust:
        left_out = leave_tasks_out(records, tasks(table, seed)[1], [options.neighbours])[0]
        trust = trust_of(left_out.distance_T, left_out.trust_TM)
    return _predictor(table, records, options, trust)


def tune_benchmark(table: TrainingTable, seed: int = 0) -> BenchmarkOptions:
    """The number of neighbours, and whether S1 or S3 serves, by out-of-fold routed utility."""
    table = tuning_rows(table, seed, MAX_ROWS)
    threshold = right_threshold(table.rewards_PM)
    options = [BenchmarkOptions(count, trusts, threshold) for count in NEIGHBOURS for trusts in (False, True)]
    folds, codes = assign_folds(table.groups_P, seed), tasks(table, seed)[1]
    predicted = {option: np.empty(table.rewards_PM.shape, dtype=np.float32) for option in options}
    for fold in np.unique(folds):
        rows = folds == fold
        part = table.rows(~rows)
        records = records_of(part, threshold)
        left_out = leave_tasks_out(records, np.unique(codes[~rows], return_inverse=True)[1], NEIGHBOURS)
        shares, distances = records.votes(table.embeddings_PD[rows], NEIGHBOURS)
        for option in options:
            k = NEIGHBOURS.index(option.neighbours)
            trust = trust_of(left_out[k].distance_T, left_out[k].trust_TM) if option.use_trust else None
            predictor = _predictor(part, records, option, trust)
            predicted[option][rows] = predictor.expected_reward(shares[k], distances[k])
    return max(options, key=lambda option: routed_utility(table, predicted[option]))


def _predictor(
    table: TrainingTable, records: Records, options: BenchmarkOptions, trust: Trust | None
) -> NeighbourPredictor:
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


BENCHMARK = PolicySpec("benchmark", "benchmark data sets (kNN)", train_benchmark, tune_benchmark)
