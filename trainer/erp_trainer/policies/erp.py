"""PURE. Expected reward prediction: one ridge probe per model, and everything about it that is chosen.

``paper``  β = 1, one constant cost per model, no shrinkage, no safety (arXiv 2603.20217, section 3).
``best``   penalties by the error of differences between models, out of fold and with categories left out, shrinkage at
           each λ and distrust of unusual prompts by routed utility; where differences cannot be predicted, no routing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from erp_trainer.learning import differences
from erp_trainer.learning.bootstrap import interval
from erp_trainer.learning.moments import Moments
from erp_trainer.learning.ridge import (
    CrossFit,
    Penalties,
    assign_folds,
    choosing_rows,
    cross_fit,
    r_squared,
    variance_line,
)
from erp_trainer.learning.task_means import task_codes
from erp_trainer.learning.training_table import Table
from litellm_erp.bundle.probe import Probes, Uncertainty

Preset = Literal["best", "paper"]
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0, 400.0, 1000.0)
# As good as infinite: nothing is learned beyond the task means.
NO_REST = 1e6
SHRINKAGES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0)
DISTRUSTS = (0.0, 1.0, 2.0, 4.0, 8.0)
PAPER_BETA = 1.0
# Unusual prompts stand out most at a small penalty, whatever suits the probes.
LEVERAGE_BETA = 1.0
# Multiples of the λ at which the dearest and the cheapest model are worth the same on average.
FRONTIER_SCALES = (0.0, *np.geomspace(0.003, 30.0, 41).tolist())
# Where models specialise, prompts differ by more than the models' means do, and the cheapest is only reached beyond.
BEYOND, MOST_BEYOND = 3.0, 12
TUNING_SCALES = (0.0, 0.03, 0.1, 0.3, 1.0)
USUAL_QUANTILE = 0.5
# The share of what can be predicted on categories seen that penalties which suit unseen ones must keep.
KEPT = 0.9
MIN_CATEGORIES = 3
MAX_LEFT_OUT = 20


@dataclass(frozen=True, slots=True)
class FittedERP:
    """Everything a bundle records of a fitted pool."""

    probes: Probes
    uncertainty: Uncertainty
    penalties: Penalties
    mean_reward_M: np.ndarray
    constant_cost_M: np.ndarray | None
    r2_M: np.ndarray
    r2_by_category: dict[str, np.ndarray]
    frontier: dict[str, Any]
    blocks: tuple[tuple[np.ndarray, Moments], ...]
    has_tasks: bool = False

    @property
    def task_beta(self) -> float | None:
        """The penalty of the task means; None where the probes have no such part."""
        return self.penalties.task if self.has_tasks else None


def lambda_unit(table: Table) -> float:
    """The λ at which the cheapest and the dearest model are worth the same on average; 0 without costs.

    Where the dearest model is no better than the cheapest, the spread of mean rewards stands in.
    """
    cost, reward = table.mean_cost_M * table.cost_scale, table.mean_reward_M
    known = ~np.isnan(cost)
    if known.sum() < 2 or np.ptp(cost[known]) == 0:
        return 0.0
    spread = np.ptp(reward[known]) or np.nanstd(table.rewards_PM) or 1.0
    return float(spread / np.ptp(cost[known]))


def fit_erp(table: Table, *, preset: Preset, beta: float | None = None, seed: int = 0) -> FittedERP:
    """Fit a pool on training rows.

    Parameters
    ----------
    table : training rows only
    preset : see the module docstring
    beta : fixes the ridge penalty instead of choosing it

    Raises
    ------
    FitError : too few prompts or outcomes
    """
    safe = preset == "best"
    folds = assign_folds(table.groups_P, seed)
    tasks = task_codes(table.categories_P) if safe and beta is None else None
    fitted = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models, tasks)
    constant_cost = None if safe else table.mean_cost_M
    if constant_cost is not None:
        table = _with_constant_cost(table, constant_cost)
    left_out = leave_categories_out(table, tasks) if safe else None
    chosen = safe and beta is None
    penalties = choose_penalties(fitted, table, left_out) if chosen else Penalties.of(beta or PAPER_BETA)

    predicted = fitted.out_of_fold(penalties)
    leverage = fitted.out_of_fold_leverage(LEVERAGE_BETA)
    uncertainty = _uncertainty(fitted, table, predicted, leverage)
    if left_out is not None:
        distrust = choose_distrust(table, left_out, penalties, predicted, leverage, uncertainty.usual)
        uncertainty = replace(uncertainty, distrust=distrust)
    weights, intercepts = fitted.probes(penalties)
    categories = sorted(set(table.categories_P.tolist()) - {""})
    return FittedERP(
        probes=Probes(weights, intercepts),
        uncertainty=uncertainty,
        penalties=penalties,
        mean_reward_M=table.mean_reward_M,
        constant_cost_M=constant_cost,
        r2_M=r_squared(predicted, table.rewards_PM),
        r2_by_category={
            name: r_squared(predicted[rows], table.rewards_PM[rows])
            for name in categories
            for rows in [table.categories_P == name]
        },
        frontier=frontier(table, predicted, uncertainty.trust(leverage), safe=safe),
        blocks=tuple((block.columns, moments) for block, moments in zip(fitted.blocks, fitted.moments, strict=True)),
        has_tasks=fitted.has_tasks,
    )


def leave_categories_out(table: Table, tasks_P: np.ndarray | None) -> CrossFit | None:
    """A fit whose folds are categories, at most ``MAX_LEFT_OUT`` folds; None below ``MIN_CATEGORIES`` categories."""
    names, numbers = np.unique(table.categories_P, return_inverse=True)
    if len(names) < MIN_CATEGORIES:
        return None
    folds = np.random.default_rng(0).permutation(len(names))[numbers] % MAX_LEFT_OUT
    return cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models, tasks_P)


def choose_penalties(fitted: CrossFit, table: Table, left_out: CrossFit | None = None) -> Penalties:
    """Penalties by the out-of-fold error of differences between models; among equals the largest.

    With ``left_out``, among the pairs that keep ``KEPT`` of the best pair's gain over the models' means, those with
    the smallest error on the categories left out.

    Source: ours. Squared error of the rewards themselves under-shrinks; routed utility is too noisy to choose by.
    """
    betas, rows = (*BETAS, NO_REST), choosing_rows(len(table))
    found = differences.errors(fitted, table.rewards_PM, betas, rows)
    if not fitted.has_tasks:
        found = np.where(np.eye(len(betas), dtype=bool), found, np.inf)
    if left_out is not None:
        gain = found[-1, -1] - found
        found = np.where(gain >= KEPT * gain.max(), differences.errors(left_out, table.rewards_PM, betas, rows), np.inf)
    # Rounding must not decide between candidates that predict nothing.
    task, rest = np.argwhere(found <= found.min() + 1e-9 * abs(found.min()))[-1]
    return Penalties(betas[task], betas[rest])


def choose_shrinkage(
    table: Table,
    predicted_PM: np.ndarray,
    trust_P: np.ndarray,
    lambda_: float,
    mean_reward_M: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Shrinkage at one λ by out-of-fold utility, and what is then chosen, shape (P,).

    The candidates run from believing the probes to the best single model at this λ; among equals the smallest.

    Parameters
    ----------
    mean_reward_M : what predictions are shrunk towards, by default the means of the table
    """
    trusts = [shrinkage * trust_P[:, None] for shrinkage in SHRINKAGES]
    mean_reward_M = table.mean_reward_M if mean_reward_M is None else mean_reward_M
    choices = table.choose_each(predicted_PM, lambda_, trusts, mean_reward_M=mean_reward_M)
    scores = np.array([table.utility_of(choice, lambda_).mean() for choice in choices])
    best = len(scores) - 1 - int(np.argmax(scores[::-1]))
    return SHRINKAGES[best], choices[best]


def trust_where_evident(table: Table, predicted_PM: np.ndarray, trust_P: np.ndarray) -> np.ndarray:
    """The trust as it is, or 0 for every prompt where the differences between models cannot be predicted."""
    found = differences.evident(predicted_PM, table.rewards_PM, table.mean_reward_M, table.groups_P)
    return trust_P if found else np.zeros_like(trust_P)


def choose_distrust(
    table: Table,
    left_out: CrossFit,
    penalties: Penalties,
    predicted_PM: np.ndarray,
    leverage_P: np.ndarray,
    usual: float,
) -> float:
    """How fast trust falls on prompts unlike training.

    What is won on categories left out and what is lost on those seen count the same.
    """
    folds = left_out.folds_P
    unseen, unseen_leverage = left_out.out_of_fold(penalties), left_out.out_of_fold_leverage(LEVERAGE_BETA)
    rows, mean_reward_M = choosing_rows(len(table)), table.mean_reward_M
    if len(rows) < len(table):
        table, folds, predicted_PM, unseen = table.rows(rows), folds[rows], predicted_PM[rows], unseen[rows]
        leverage_P, unseen_leverage = leverage_P[rows], unseen_leverage[rows]
    share_P = 1.0 / np.bincount(folds)[folds]
    scores = np.zeros(len(DISTRUSTS))
    for lambda_ in sorted({scale * lambda_unit(table) for scale in TUNING_SCALES}):
        for row, distrust in enumerate(DISTRUSTS):
            trust_P, unseen_trust_P = (
                np.maximum(found / usual, 1.0) ** -distrust for found in (leverage_P, unseen_leverage)
            )
            shrinkage, seen = choose_shrinkage(table, predicted_PM, trust_P, lambda_, mean_reward_M)
            choice = table.choose(
                unseen, lambda_, mean_reward_M=mean_reward_M, trust=shrinkage * unseen_trust_P[:, None]
            )
            # Every category left out is one observation, however many prompts it has.
            utility = np.average(table.utility_of(choice, lambda_), weights=share_P)
            scores[row] += table.utility_of(seen, lambda_).mean() + utility
    return DISTRUSTS[int(np.argmax(scores))]


def frontier(table: Table, predicted_PM: np.ndarray, trust_P: np.ndarray, *, safe: bool) -> dict[str, Any]:
    """The content of frontier.json: out-of-fold reward and cost over λ, the single models, the verdict."""
    if safe:
        trust_P = trust_where_evident(table, predicted_PM, trust_P)

    rows, mean = choosing_rows(len(table)), table.mean_reward_M
    few = len(rows) < len(table)
    judged, judged_PM, judged_P = table, predicted_PM, trust_P
    if few:
        judged, judged_PM, judged_P = table.rows(rows), predicted_PM[rows], trust_P[rows]

    def choose(lambda_: float) -> tuple[float, np.ndarray]:
        if not safe:
            return 1.0, table.choose(predicted_PM, lambda_)
        shrinkage, choice = choose_shrinkage(judged, judged_PM, judged_P, lambda_, mean)
        if few:
            trust = shrinkage * trust_P[:, None]
            choice = table.choose(predicted_PM, lambda_, mean_reward_M=mean, trust=trust)
        return shrinkage, choice

    points = []
    for lambda_, shrinkage, choice in swept(table, choose):
        if lambda_ == 0.0:
            at_zero = choice
        points.append(_point(table, lambda_, shrinkage, choice))
    single_cost, single_reward = table.mean_cost_M, table.mean_reward_M
    return {
        "points": points,
        "single_models": {
            name: {"reward": float(single_reward[m]), "cost_usd": _json_number(single_cost[m])}
            for m, name in enumerate(table.models)
        },
        "oracle_reward": float(np.fmax.reduce(table.rewards_PM, axis=1).mean()),
        "verdict": verdict(table, at_zero, points),
    }


def swept(
    table: Table, choose: Callable[[float], tuple[float, np.ndarray]]
) -> Iterator[tuple[float, float, np.ndarray]]:
    """λ, shrinkage and first choices at every point of a frontier, λ ascending from 0.

    It ends no earlier than every prompt has its cheapest model (or ``MOST_BEYOND`` points beyond the grid), so that a
    budget which that model fits is on the curve.

    Parameters
    ----------
    choose : from λ to shrinkage and first choices, shape (P,)
    """
    unit = lambda_unit(table)
    grid = sorted({scale * unit for scale in FRONTIER_SCALES})
    beyond = [grid[-1] * BEYOND**step for step in range(1, MOST_BEYOND + 1)] if unit else []
    cheapest = table.choose(np.zeros(table.rewards_PM.shape, dtype=np.float32), 1.0)
    for lambda_ in (*grid, *beyond):
        shrinkage, choice = choose(lambda_)
        yield lambda_, shrinkage, choice
        if lambda_ >= grid[-1] and not (table.expected_of(choice) > table.expected_of(cheapest)).any():
            return


def verdict(table: Table, choice_P: np.ndarray, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether routing helps at λ = 0, in numbers and in words; out of fold, paired by prompt.

    Where it does not, the words say what the best single model is, and what its reward costs when routed.
    """
    best = int(np.argmax(table.mean_reward_M))
    gain = np.nan_to_num(table.reward_of(choice_P) - table.rewards_PM[:, best])
    found = interval(gain, table.groups_P)
    helps = found.low > 0
    share = float((choice_P == best).mean())
    base = f"the best single model is {table.models[best]} (mean reward {table.mean_reward_M[best]:.4g})"
    spread = f"{found.mean:+.4g}, 95% interval {found.low:+.4g} to {found.high:+.4g}, out of fold"
    if helps:
        text = f"Routing helps: {base}; at λ = 0 routing adds {spread}."
    elif share == 1.0:
        text = f"Routing does not help at λ = 0: {base}, and every prompt goes to it."
    else:
        text = f"Routing is not clearly better at λ = 0: {base}; routing adds {spread}."
    saving = _saving(table, best, points)
    if saving is not None and saving > 0:
        text += f" At no lower mean reward than that model's, routing costs {saving:.0%} less."
    return {
        "helps": bool(helps),
        "best_single": table.models[best],
        "gain": found.to_json(),
        "saving_at_equal_reward": saving,
        "text": text,
    }


def _saving(table: Table, best: int, points: list[dict[str, Any]]) -> float | None:
    cost = table.mean_cost_M[best]
    if np.isnan(cost) or cost == 0:
        return None
    enough = [p["cost_usd"] for p in points if p["reward"] >= table.mean_reward_M[best] and p["cost_usd"] is not None]
    return float(1 - min(enough) / cost) if enough else None


def _point(table: Table, lambda_: float, shrinkage: float, choice: np.ndarray) -> dict[str, Any]:
    reward, cost = table.reward_of(choice), table.cost_of(choice)
    counts = np.bincount(choice, minlength=len(table.models)) / len(choice)
    return {
        "lambda": lambda_,
        "shrinkage": shrinkage,
        "reward": float(reward.mean()),
        "reward_se": float(reward.std() / np.sqrt(len(reward))),
        "cost_usd": _json_number(cost.mean()),
        "cost_se": _json_number(cost.std() / np.sqrt(len(cost))),
        "share": {name: float(counts[m]) for m, name in enumerate(table.models) if counts[m] > 0},
    }


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _with_constant_cost(table: Table, cost_M: np.ndarray) -> Table:
    return replace(table, expected_cost_PM=np.broadcast_to(cost_M, table.rewards_PM.shape))


def _uncertainty(fitted: CrossFit, table: Table, predicted: np.ndarray, leverage: np.ndarray) -> Uncertainty:
    noise, slope = variance_line(table.rewards_PM - predicted, leverage)
    solver = fitted.widest
    rows = max(moments.weight for moments in fitted.moments)
    return Uncertainty(
        mean_D=solver.mean_D.astype(np.float32),
        whiten_DR=solver.whitener(LEVERAGE_BETA).astype(np.float32),
        base=1.0 / rows,
        noise_M=noise,
        slope_M=slope,
        usual=float(np.quantile(leverage, USUAL_QUANTILE)),
        distrust=0.0,
    )
