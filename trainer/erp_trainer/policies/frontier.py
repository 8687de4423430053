"""PURE. frontier.json: what a pool earns and costs out of fold at every λ, and whether routing helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.learning.outcome import filled
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.learning.verdict import judge
from litellm_erp.bundle.frontier import LARGEST, Frontier

# Multiples of the λ at which the dearest and the cheapest model are worth the same on average.
FRONTIER_SCALES = (0.0, *np.geomspace(0.003, 30.0, 41).tolist())
# Where models specialise, prompts differ by more than the models' means do, and the cheapest is only reached beyond.
BEYOND, MOST_BEYOND = 3.0, 12
# Of a slope, beyond which it says nothing.
_TELLING_ERROR = 0.5


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean per prompt and its standard error; NaN where a price is unknown."""

    mean: float
    error: float

    @classmethod
    def of(cls, values_P: np.ndarray, recorded_P: np.ndarray) -> MeanEstimate:
        """The mean over all prompts; its error by those whose outcome was recorded, as the others are expectations."""
        known = values_P[recorded_P] if recorded_P.any() else values_P
        return cls(float(values_P.mean()), float(known.std() / np.sqrt(len(known))))


def frontier(table: TrainingTable, predicted_PM: np.ndarray, trust_P: np.ndarray, *, safe: bool) -> dict[str, Any]:
    """The content of frontier.json.

    Where outcomes are missing, points and single models count what is expected there, so that all are of the same
    prompts, as they are served; the verdict is on recorded outcomes alone.

    Parameters
    ----------
    predicted_PM : out-of-fold predictions
    trust_P : how far they are believed, shape (P,)
    safe : lean towards the models' means where they are not; otherwise predictions are believed whole
    """
    shrinkage = 1.0 if not safe or trust_P.any() else 0.0
    leaning: dict[str, Any] = {"mean_reward_M": table.mean_reward_M, "trust": trust_P[:, None]} if safe else {}

    whole = filled(table, predicted_PM)

    def choose(lambda_: float) -> np.ndarray:
        return whole.choose(predicted_PM, lambda_, **leaning)

    points, lambdas, choices = [], [], []
    for lambda_, choice in swept(whole, choose):
        lambdas.append(lambda_)
        choices.append(choice if whole is table else table.choose(predicted_PM, lambda_, **leaning))
        share_M = np.bincount(choice, minlength=len(table.models)) / len(choice)
        recorded = ~np.isnan(table.reward_of(choice))
        reward, cost = (MeanEstimate.of(of(choice), recorded) for of in (whole.reward_of, whole.cost_of))
        points.append(frontier_point(table.models, lambda_, shrinkage, reward, cost, share_M))
    oracle = float(np.fmax.reduce(table.rewards_PM, axis=1).mean())
    return frontier_document(whole, points, oracle, judge(table, lambdas, choices))


def frontier_point(
    models: tuple[str, ...],
    lambda_: float,
    shrinkage: float,
    reward: MeanEstimate,
    cost: MeanEstimate,
    share_M: np.ndarray,
) -> dict[str, Any]:
    """One point of frontier.json."""
    return {
        "lambda": lambda_,
        "shrinkage": shrinkage,
        "reward": reward.mean,
        "reward_se": reward.error,
        "cost_usd": number_or_none(cost.mean),
        "cost_se": number_or_none(cost.error),
        "share": {name: float(share) for name, share in zip(models, share_M, strict=True) if share > 0},
    }


def frontier_document(
    table: TrainingTable, points: list[dict[str, Any]], oracle_reward: float, found: dict[str, Any]
) -> dict[str, Any]:
    """The points, the single models beside them, and what was `found` of them, the verdict."""
    return {
        "points": points,
        "single_models": {
            name: {"reward": float(reward), "cost_usd": number_or_none(cost)} | _calibration(table, m)
            for m, (name, reward, cost) in enumerate(
                zip(table.models, table.mean_reward_M, table.mean_cost_M, strict=True)
            )
        },
        "oracle_reward": oracle_reward,
        "verdict": found,
    }


def _calibration(table: TrainingTable, m: int) -> dict[str, float | None]:
    """Mean expected cost of one model, out of fold, and the slope of realised on expected cost.

    None without either; no slope where expected costs differ too little to tell it to a half.
    """
    expected, realised = table.expected_cost_PM[:, m], table.realised_cost_PM[:, m]
    both = ~np.isnan(expected) & ~np.isnan(realised) & ~np.isnan(table.rewards_PM[:, m])
    if both.sum() < 2:
        return {"expected_cost_usd": None, "cost_slope": None}
    x, y = expected[both], realised[both]
    varies = np.ptp(x) > 1e-6 * abs(x.mean())
    slope = np.nan
    if varies:
        slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
        error = np.std(y - y.mean() - slope * (x - x.mean())) / (x.std() * np.sqrt(len(x)))
        slope = slope if error <= _TELLING_ERROR else np.nan
    return {"expected_cost_usd": float(x.mean()), "cost_slope": number_or_none(slope)}


def number_or_none(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def swept(table: TrainingTable, choose: Callable[[float], np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
    """λ and first choices at every point of a frontier, λ ascending from 0.

    It ends no earlier than every prompt has its cheapest model (or ``MOST_BEYOND`` points beyond the grid), so that a
    budget which that model fits is on the curve. No λ is larger than a bundle may hold.

    Parameters
    ----------
    choose : from λ to first choices, shape (P,)
    """
    unit = min(table.lambda_unit, LARGEST)
    grid = sorted({min(scale * unit, LARGEST) for scale in FRONTIER_SCALES})
    further = [grid[-1] * BEYOND**step for step in range(1, MOST_BEYOND + 1)] if unit else []
    beyond = [lambda_ for lambda_ in further if lambda_ <= LARGEST]
    cheapest = table.choose(np.zeros(table.rewards_PM.shape, dtype=np.float32), 1.0)
    for lambda_ in (*grid, *beyond):
        choice = choose(lambda_)
        yield lambda_, choice
        if lambda_ >= grid[-1] and not (table.expected_of(choice) > table.expected_of(cheapest)).any():
            return


def default_lambdas(frontier: Frontier) -> list[float]:
    """0, and the λ at which out-of-fold cost has come a quarter, half and three quarters of the way down."""
    cost = frontier.cost_L
    if len(cost) == 1 or np.isnan(cost).any():
        return [0.0]
    targets = cost[0] + np.array([0.25, 0.5, 0.75]) * (cost.min() - cost[0])
    found = {float(frontier.lambda_L[np.argmin(np.abs(cost - target))]) for target in targets}
    return sorted({0.0, *found})
