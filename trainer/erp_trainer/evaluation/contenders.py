"""PURE. The policies that a bundle is compared with on the test prompts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from erp_trainer.evaluation import curves
from erp_trainer.evaluation.contender import Contender
from erp_trainer.evaluation.policies import Outcome, category_best, chosen, single, uniform
from erp_trainer.evaluation.table import Table

Choose = Callable[[Table, float], np.ndarray]


def routed(
    key: str, label: str, choose: Choose, scores_PM: np.ndarray | None, *, kind: str = "bundle", servable: bool = True
) -> Contender:
    """A policy that chooses one model per prompt."""

    def outcome(table: Table, lambda_: float) -> Outcome:
        return chosen(table, choose(table, lambda_), lambda_)

    return Contender(key, label, "rival" if kind == "rival" else "bundle", True, outcome, scores_PM, servable=servable)


def baselines(test: Table, train: Table, bundle_choice: Choose) -> list[Contender]:
    """Policies that are not learned: per category, mixed, permuted, random, the oracle, and every single model."""
    found = [
        Contender("category-best", "per-category best", "baseline", True,
                  lambda table, lambda_: category_best(table, train, lambda_)),
        Contender("permutation", "erp's choices, permuted", "baseline", True,
                  lambda table, lambda_: permuted(table, bundle_choice(table, lambda_), lambda_)),
        Contender("random", "random", "baseline", False, lambda table, _: uniform(table)),
        Contender("oracle", "oracle", "bound", True, curves.oracle),
    ]  # fmt: skip
    return [*found, *(_single(test, m) for m in range(len(test.models)))]


def _single(test: Table, m: int) -> Contender:
    name = test.models[m]
    return Contender(f"single:{name}", f"single: {name}", "single", False, partial(_always, m))


def _always(m: int, table: Table, lambda_: float) -> Outcome:
    return single(table, m)


def permuted(table: Table, choice_P: np.ndarray, lambda_: float) -> Outcome:
    """The same choices dealt to the prompts at random, in expectation: the same shares, no look at the prompt.

    Source: arXiv 2603.20217, section 4.3.
    """
    share = np.bincount(choice_P, minlength=len(table.models)) / len(choice_P)
    present = ~np.isnan(table.rewards_PM)
    weights = present * share
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=present / present.sum(axis=1, keepdims=True), where=total > 0)
    reward = (np.where(present, table.rewards_PM, 0.0) * weights).sum(axis=1)
    # A model that is never chosen costs nothing, known or not.
    cost = np.where(weights > 0, table.realised_cost_PM, 0.0) * weights
    return Outcome(lambda_, reward, cost.sum(axis=1), weights.mean(axis=0))
