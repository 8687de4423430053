"""PURE. 003's study on a table: which model does each score choose for a task that the router has no data of?

Source: Shnitzer et al. (2023), arXiv 2309.15789, tables 1 and 2 and figure 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from erp_trainer.evaluation.studies.tasks import Tasks, per_task
from erp_trainer.learning.training_table import Table
from erp_trainer.policies.benchmark import (
    PAPER_NEIGHBOURS,
    BenchmarkOptions,
    TaskScores,
    in_distribution_curve,
    leave_one_task_out,
    right_threshold,
    small_models,
    trust_without,
)


def benchmark_study(table: Table, seed: int = 0) -> dict[str, Any]:
    """Every score of 003 on tasks left out one by one, for the pool and its small models, and S1 against S3 over data.

    Neighbours are five, as in the paper; a reward counts as right from ``threshold`` on.

    Returns
    -------
    ``threshold``, ``neighbours``, ``rows`` (see :func:`task_score_rows`), ``in_distribution`` (see
    ``policies.benchmark.in_distribution_curve``), and ``small_models``: ``{"models", "rows"}``, None where all
    models are small or only one is
    """
    options = BenchmarkOptions(PAPER_NEIGHBOURS, False, right_threshold(table.rewards_PM))
    trusts = trust_without(table, options, seed)
    scores = leave_one_task_out(table, options, seed, trusts)
    small = small_models(table)
    studied = None
    if 1 < len(small) < len(table.models):
        part = table.columns(small)
        part = part.rows(~np.isnan(part.rewards_PM).all(axis=1))
        studied = {"models": list(part.models), "rows": task_score_rows(leave_one_task_out(part, options, seed))}
    return {
        "threshold": options.threshold,
        "neighbours": options.neighbours,
        "rows": task_score_rows(scores),
        "in_distribution": in_distribution_curve(table, options, seed=seed, trusts=trusts),
        "small_models": studied,
    }


def task_score_rows(scores: TaskScores) -> list[dict[str, Any]]:
    """One row of 003's measures per score, then for the best model on average and the oracle."""
    whole = ~np.isnan(scores.accuracy_TM).any(axis=1)
    tasks = Tasks(
        tuple(name for name, kept in zip(scores.tasks, whole, strict=True) if kept),
        (),
        scores.accuracy_TM[whole],
        scores.cost_TM[whole],
        scores.best_on_average_T[whole],
    )
    constant = np.eye(scores.accuracy_TM.shape[1])[scores.best_on_average_T]
    by_name = {"s1": scores.s1_TM, "s2": scores.s2_TM, "s3": scores.s3_TM, "s3-true-p": scores.s3_true_TM}
    by_name |= {} if scores.log_likelihood_TM is None else {"log-likelihood": scores.log_likelihood_TM}
    by_name |= {"best-on-average": constant, "task-oracle": scores.accuracy_TM}
    return [{"policy": name, **per_task(tasks, found[whole])} for name, found in by_name.items()] if whole.any() else []
