"""PURE. Expected reward prediction: one ridge probe per model, and everything about it that is chosen.

``paper``  β = 1, one constant cost per model, no shrinkage, no safety (arXiv 2603.20217, section 3).
``best``   β, the shrinkage at each λ and the distrust of unusual prompts are chosen by routed utility out of
           fold, each by the one-standard-error rule towards the best single model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from erp_trainer.evaluation.bootstrap import interval
from erp_trainer.evaluation.table import Table
from erp_trainer.fitting import (
    CrossFit,
    assign_folds,
    cross_fit,
    one_standard_error,
    r_squared,
    variance_line,
)
from erp_trainer.moments import Moments
from litellm_erp.probe import Probes, Uncertainty

Preset = Literal["best", "paper"]
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0, 400.0, 1000.0)
SHRINKAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
DISTRUSTS = (0.0, 0.5, 1.0, 2.0, 4.0)
PAPER_BETA = 1.0
# Multiples of the λ at which the dearest and the cheapest model are worth the same on average.
FRONTIER_SCALES = (0.0, *np.geomspace(0.003, 30.0, 41).tolist())
TUNING_SCALES = (0.0, 0.03, 0.1, 0.3, 1.0)
USUAL_QUANTILE = 0.99
MIN_CATEGORIES = 3


@dataclass(frozen=True, slots=True)
class FittedERP:
    """Everything a bundle records of a fitted pool."""

    probes: Probes
    uncertainty: Uncertainty
    beta: float
    mean_reward_M: np.ndarray
    constant_cost_M: np.ndarray | None
    r2_M: np.ndarray
    r2_by_category: dict[str, np.ndarray]
    frontier: dict[str, Any]
    blocks: tuple[tuple[np.ndarray, Moments], ...]


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
    folds = assign_folds(table.groups_P, seed)
    fitted = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models)
    constant_cost = table.mean_cost_M if preset == "paper" else None
    if constant_cost is not None:
        table = _with_constant_cost(table, constant_cost)
    if beta is None:
        beta = PAPER_BETA if preset == "paper" else choose_beta(fitted, table)

    predicted = fitted.out_of_fold(beta)
    leverage = fitted.out_of_fold_leverage(beta)
    safe = preset == "best"
    usual = float(np.quantile(leverage, USUAL_QUANTILE))
    uncertainty = _uncertainty(fitted, table, beta, predicted, leverage, usual)
    if safe:
        uncertainty = _with_distrust(uncertainty, choose_distrust(table, beta, usual))
    weights, intercepts = fitted.probes(beta)
    categories = sorted(set(table.categories_P.tolist()) - {""})
    return FittedERP(
        probes=Probes(weights, intercepts),
        uncertainty=uncertainty,
        beta=beta,
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
    )


def choose_beta(fitted: CrossFit, table: Table) -> float:
    """β by cross-validated routed utility, averaged over λ; the largest within one standard error of the best.

    Source: ours. Squared error under-shrinks: routing needs the differences between models.
    """
    unit = lambda_unit(table)
    lambdas = sorted({scale * unit for scale in TUNING_SCALES})
    scores = np.empty((len(BETAS), len(table)))
    for row, beta in enumerate(BETAS):
        predicted = fitted.out_of_fold(beta)
        scores[row] = np.mean(
            [table.utility_of(table.choose(predicted, lambda_), lambda_) for lambda_ in lambdas], axis=0
        )
    return BETAS[one_standard_error(scores, table.groups_P)]


def choose_shrinkage(
    table: Table, predicted_PM: np.ndarray, trust_P: np.ndarray, lambda_: float
) -> tuple[float, np.ndarray]:
    """Shrinkage at one λ by out-of-fold utility, and what is then chosen, shape (P,).

    The candidates run from believing the probes to the best single model at this λ.
    """
    trusts = [shrinkage * trust_P[:, None] for shrinkage in SHRINKAGES]
    choices = table.choose_each(predicted_PM, lambda_, trusts, mean_reward_M=table.mean_reward_M)
    scores = np.stack([table.utility_of(choice, lambda_) for choice in choices])
    best = one_standard_error(scores, table.groups_P)
    return SHRINKAGES[best], choices[best]


def choose_distrust(table: Table, beta: float, usual: float) -> float:
    """How fast trust falls on prompts unlike training, by leaving whole categories out.

    Without at least ``MIN_CATEGORIES`` categories there is nothing to learn it from, and it is 0.
    """
    names, folds = np.unique(table.categories_P, return_inverse=True)
    if len(names) < MIN_CATEGORIES:
        return 0.0
    left_out = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models)
    predicted, leverage = left_out.out_of_fold(beta), left_out.out_of_fold_leverage(beta)
    lambdas = sorted({scale * lambda_unit(table) for scale in TUNING_SCALES})
    scores = np.empty(len(DISTRUSTS))
    for row, distrust in enumerate(DISTRUSTS):
        trust = np.maximum(leverage / usual, 1.0)[:, None] ** -distrust
        scores[row] = np.mean(
            [
                table.utility_of(
                    table.choose(predicted, lambda_, mean_reward_M=table.mean_reward_M, trust=trust), lambda_
                ).mean()
                for lambda_ in lambdas
            ]
        )
    return DISTRUSTS[int(np.argmax(scores))]


def frontier(table: Table, predicted_PM: np.ndarray, trust_P: np.ndarray, *, safe: bool) -> dict[str, Any]:
    """The content of frontier.json: out-of-fold reward and cost over λ, the single models, the verdict."""
    points = []
    unit = lambda_unit(table)
    for lambda_ in sorted({scale * unit for scale in FRONTIER_SCALES}):
        if safe:
            shrinkage, choice = choose_shrinkage(table, predicted_PM, trust_P, lambda_)
        else:
            shrinkage, choice = 1.0, table.choose(predicted_PM, lambda_)
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
        "share": {name: float(counts[m]) for m, name in enumerate(table.models) if counts[m] > 0},
    }


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _with_constant_cost(table: Table, cost_M: np.ndarray) -> Table:
    return replace(table, expected_cost_PM=np.broadcast_to(cost_M, table.rewards_PM.shape))


def _uncertainty(
    fitted: CrossFit,
    table: Table,
    beta: float,
    predicted: np.ndarray,
    leverage: np.ndarray,
    usual: float,
) -> Uncertainty:
    noise, slope = variance_line(table.rewards_PM - predicted, leverage)
    solver = fitted.widest
    rows = max(moments.weight for moments in fitted.moments)
    return Uncertainty(
        mean_D=solver.mean_D.astype(np.float32),
        whiten_DR=solver.whitener(beta).astype(np.float32),
        base=1.0 / rows,
        noise_M=noise,
        slope_M=slope,
        usual=usual,
        distrust=0.0,
    )


def _with_distrust(uncertainty: Uncertainty, distrust: float) -> Uncertainty:
    return replace(uncertainty, distrust=distrust)
