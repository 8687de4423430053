"""PURE. 003's study on a table: which model does each score choose for a task that the router has no data of?

Source: Shnitzer et al. (2023), arXiv 2309.15789, tables 1 and 2 and figure 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from erp_trainer.evaluation.table import Table
from erp_trainer.evaluation.tasks import Tasks, per_task
from erp_trainer.policies.benchmark import (
    PAPER_NEIGHBOURS,
    BenchmarkOptions,
    TaskScores,
    in_distribution_curve,
    leave_one_task_out,
    right_threshold,
    small_models,
)

LABELS: Mapping[str, str] = {
    "s1": "S1, mean share of right neighbours",
    "s2": "S2, mean verdict",
    "s3": "S3, verdicts believed as far as on other tasks",
    "s3-true": "S3 with the true p",
    "log-likelihood": "log-likelihood of the models' own answers",
    "best-on-average": "best model on the other tasks",
    "oracle": "best model of each task (hindsight)",
}


def benchmark_study(table: Table, seed: int = 0) -> dict[str, Any]:
    """Every score of 003 on tasks left out one by one, for the pool and its small models, and S1 against S3 over data.

    Neighbours are five, as in the paper; a reward counts as right from ``threshold`` on.

    Returns
    -------
    ``threshold``, ``neighbours``, ``tasks`` (names), ``rows`` (see :func:`score_rows`), ``curve`` (see
    ``policies.benchmark.in_distribution_curve``), and ``small_models``: ``{"models", "rows"}``, None where all
    models are small or only one is
    """
    options = BenchmarkOptions(PAPER_NEIGHBOURS, False, right_threshold(table.rewards_PM))
    scores = leave_one_task_out(table, options, seed)
    small = small_models(table)
    studied = None
    if 1 < len(small) < len(table.models):
        part = table.columns(small)
        part = part.rows(~np.isnan(part.rewards_PM).all(axis=1))
        studied = {"models": list(part.models), "rows": score_rows(leave_one_task_out(part, options, seed))}
    return {
        "threshold": options.threshold,
        "neighbours": options.neighbours,
        "tasks": list(scores.tasks),
        "rows": score_rows(scores),
        "curve": in_distribution_curve(table, options, seed=seed),
        "small_models": studied,
    }


def score_rows(found: TaskScores) -> list[dict[str, Any]]:
    """One row of ``tasks.per_task``'s measures per score, accuracy being the share of right answers."""
    tasks = Tasks(found.tasks, (), found.accuracy_TM, found.cost_TM, int(found.best_on_average_T[0]))
    one_hot = np.eye(found.accuracy_TM.shape[1])[found.best_on_average_T]
    scores = {
        "s1": found.s1_TM,
        "s2": found.s2_TM,
        "s3": found.s3_TM,
        "s3-true": found.s3_true_TM,
        "log-likelihood": found.log_likelihood_TM,
        "best-on-average": one_hot,
        "oracle": found.accuracy_TM,
    }
    rows = []
    for key, score_TM in scores.items():
        if score_TM is None or np.isnan(score_TM).any():
            continue
        row = {"score": key, "label": LABELS[key], **per_task(tasks, score_TM)}
        # The best model on average is another one for each task that is left out.
        row["share_best_on_average"] = float((np.argmax(score_TM, axis=1) == found.best_on_average_T).mean())
        if key == "best-on-average":
            row |= {"pearson": None, "spearman": None}
        rows.append(
            {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
        )
    return rows
