"""PURE. The learned policies a bundle is compared with, fitted on the same train split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from erp_trainer.evaluation.contender import Contender, Kind
from erp_trainer.learning.outcome import Outcome, chosen
from erp_trainer.learning.training_table import Table
from erp_trainer.policies.base import FittedPolicy
from erp_trainer.policies.erp import FittedERP, Preset, fit_erp
from erp_trainer.policies.registry import (
    POLICIES,
    SERVED,
    UNSERVED,
    Fitted,
    Tuning,
    fit_policy,
    unusable,
    win_probability,
)
from litellm_erp.errors import FitError

Choose = Callable[[Table, float], np.ndarray]


def rivals_of(policy: str, preset: str, tuning: Tuning, test: Table) -> tuple[list[Contender], dict[str, str]]:
    """Every other policy that the data can feed, and why others are missing.

    Parameters
    ----------
    policy, preset : of the bundle, which is not its own rival
    tuning : holds the train split
    """
    train, seed = tuning.train, tuning.seed
    found, missing = [], {}
    presets: tuple[Preset, ...] = ("best", "paper")
    for other in presets:
        if (policy, preset) == ("erp", other):
            continue
        try:
            found.append(erp_contender(fit_erp(train, preset=other, seed=seed), test, other))
        except FitError as error:
            missing[f"erp-{other}"] = str(error)
    for name in POLICIES:
        if name == policy:
            continue
        if reason := unusable(name, test):
            missing[name] = reason
            continue
        try:
            fitted = tuning.fit(name) if name in SERVED else fit_policy(name, train, seed)
            found.append(_contender(name, fitted, test))
        except FitError as error:
            missing[name] = str(error)
    return found, missing


def erp_contender(fitted: FittedERP, test: Table, preset: str) -> Contender:
    """ERP as ``fit_erp`` gives it: with the frontier's shrinkage, or the constant costs of the ``paper`` preset."""
    predicted = fitted.probes.predict(test.embeddings_PD)
    points = fitted.frontier["points"]
    lambdas = np.array([point["lambda"] for point in points])
    shrinkage = np.array([point["shrinkage"] for point in points])
    constant = fitted.constant_cost_M
    trust_P = fitted.uncertainty.trust(fitted.uncertainty.leverage(test.embeddings_PD))

    def choose(table: Table, lambda_: float) -> np.ndarray:
        if constant is not None:
            fixed = replace(table, expected_cost_PM=np.broadcast_to(constant, table.rewards_PM.shape))
            return fixed.choose(predicted, lambda_)
        right = min(int(np.searchsorted(lambdas, lambda_)), len(lambdas) - 1)
        nearest = shrinkage[max(right - 1, 0) : right + 1] if lambdas[right] != lambda_ else shrinkage[[right]]
        trust = float(nearest.min()) * trust_P[:, None]
        return table.choose(predicted, lambda_, mean_reward_M=fitted.mean_reward_M, trust=trust)

    return routed(f"erp-{preset}", f"erp ({preset} preset)", choose, predicted, kind="rival")


def routed(
    key: str, label: str, choose: Choose, scores_PM: np.ndarray | None, *, kind: Kind, servable: bool = True
) -> Contender:
    """A policy that chooses one model per prompt."""

    def outcome(table: Table, lambda_: float) -> Outcome:
        return chosen(table, choose(table, lambda_), lambda_)

    return Contender(key, label, kind, True, outcome, scores_PM, servable=servable)


def _contender(name: str, fitted: Fitted, test: Table) -> Contender:
    if name in SERVED and isinstance(fitted, FittedPolicy):
        found = by_scores(name, SERVED[name].label, fitted.scores(test))
        if name != "pairwise":
            return found
        return replace(found, pair_probability=lambda a, b: win_probability(fitted, test, b, a))
    # What looks at the reward it is judged by is no router where that reward is the truth itself.
    sees_truth = name == "reward-ranking" or (name == "frugalgpt" and _is_verdict(test))
    by_lambda = name in ("frugalgpt", "automix")
    return Contender(name, UNSERVED[name], "bound" if sees_truth else "rival", by_lambda, fitted.outcome)


def by_scores(key: str, label: str, scores_PM: np.ndarray) -> Contender:
    """A rival that believes its scores."""
    return routed(key, label, partial(_best_score, scores_PM), scores_PM, kind="rival")


def _best_score(scores_PM: np.ndarray, table: Table, lambda_: float) -> np.ndarray:
    return table.choose(scores_PM, lambda_)


def _is_verdict(table: Table) -> bool:
    """Whether rewards are right or wrong, which no reward model knows when it serves."""
    return bool(np.isin(table.rewards_PM[~np.isnan(table.rewards_PM)], (0.0, 1.0)).mean() > 0.5)
