"""PURE. Whether routing helps, both ways: reward gained at the best single model's cost, and cost saved at its reward.

A budget, or a reward, between two λ is met by giving some requests the one λ and the others the other, as serving does;
so both are read off mixtures of two points of the curve, in every resample of the prompts anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Interval, Resamples
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.words import percent, significant

# Shares of the best single model's reward at which costs are compared.
REWARD_SHARES = (1.0, 0.99, 0.95)
N_RESAMPLES = 500
# A smaller share of the cost is written as none.
_NO_SAVING = 0.005


def judge(table: TrainingTable, lambdas: Sequence[float], choices: Sequence[np.ndarray]) -> dict[str, Any]:
    """A verdict in numbers and words.

    Parameters
    ----------
    lambdas : ascending from 0
    choices : first choices at each λ, shape (P,)

    Returns
    -------
    helps, kind (``both``, ``gains``, ``saves``, ``neither``), best_single; gain (at λ = 0) and gain_at_equal_cost, each
    with a 95% interval; savings by share of the best single model's reward; recommended (λ and the budget and quality
    floor that lead to it), None where routing does not help; text
    """
    best = best_single(table)
    # What the best single model would have earned is known of the prompts that it answered alone.
    rows = ~np.isnan(table.rewards_PM[:, best])
    known, choices = table.rows(rows), [choice[rows] for choice in choices]
    resamples = Resamples.draw(known.groups_P, n_resamples=N_RESAMPLES)
    single = known.rewards_PM[:, best]
    rewards = np.stack([known.reward_of(choice) - single for choice in choices], axis=1)
    costs = np.stack([known.cost_of(choice) for choice in choices], axis=1)
    gain_L, cost_L = resamples.means(rewards), resamples.means(costs)
    base = resamples.means(np.column_stack([single, known.realised_cost_PM[:, best]]))
    reward, cost = base.column(0), base.column(1)
    gain = gain_L.interval(0)
    at_cost = _interval(_reward_at(cost_L, gain_L, cost)) if _known(cost_L, cost) else None
    savings = {share: _saving(cost_L, gain_L, reward, cost, share) for share in _shares(reward)} if at_cost else {}
    found: dict[str, Any] = {
        "best_single": table.models[best],
        "gain": gain.to_json(),
        "gain_at_equal_cost": None if at_cost is None else at_cost.to_json(),
        "savings": {f"{share:g}": saved.to_json() for share, saved in savings.items()},
        "saving_at_equal_reward": savings[1.0].mean if savings else None,
    }
    gains = max(gain.low, -np.inf if at_cost is None else at_cost.low) > 0
    saves = bool(savings) and savings[1.0].low > 0
    kind = {(True, True): "both", (True, False): "gains", (False, True): "saves"}.get((gains, saves), "neither")
    recommended = _recommended(table, lambdas, gain_L.value_S, cost_L.value_S, kind)
    alone = bool((choices[0] == best).all())
    text = _text(table, best, float(cost.value_S[0]), found, kind, recommended, alone)
    return {"helps": kind != "neither", "kind": kind, **found, "recommended": recommended, "text": text}


def _known(cost_L: Estimates, cost: Estimates) -> bool:
    return bool(np.isfinite(cost_L.value_S).all() and np.isfinite(cost.value_S).all() and cost.value_S[0] > 0)


def _shares(reward: Estimates) -> tuple[float, ...]:
    # A share of a reward says something where nought is the least there is.
    return REWARD_SHARES if reward.value_S[0] > 0 else (1.0,)


def _all(estimates: Estimates) -> np.ndarray:
    """The figures on all prompts, then in every resample, shape (1 + R, S)."""
    return np.concatenate([estimates.value_S[None], estimates.resampled_RS])


def _interval(value_R: np.ndarray) -> Interval:
    return Estimates.of(value_R).interval()


def _reward_at(cost_L: Estimates, gain_L: Estimates, budget: Estimates) -> np.ndarray:
    """The most that mixtures of two points gain at a mean cost, shape (1 + R,); below all what the cheapest gains."""
    cost, gain, limit = _all(cost_L), _all(gain_L), _all(budget)
    fits = cost <= limit
    within = np.where(fits, gain, -np.inf).max(axis=1)
    across = fits[:, :, None] & ~fits[:, None]
    weight = (limit[:, :, None] - cost[:, :, None]) / np.where(across, _gap(cost), np.inf)
    mixed = np.where(across, gain[:, :, None] + weight * _gap(gain), -np.inf).max(axis=(1, 2))
    cheapest = np.take_along_axis(gain, cost.argmin(axis=1)[:, None], axis=1)[:, 0]
    return np.where(fits.any(axis=1), np.maximum(within, mixed), cheapest)


def _saving(cost_L: Estimates, gain_L: Estimates, reward: Estimates, cost: Estimates, share: float) -> Interval:
    """The share of the best single model's cost that a share of its reward does not need; 0 where it needs all."""
    spent, gain = _all(cost_L), _all(gain_L)
    target = (share - 1.0) * _all(reward)
    enough = gain >= target
    alone = np.where(enough, spent, np.inf).min(axis=1)
    across = ~enough[:, :, None] & enough[:, None]
    weight = (target[:, :, None] - gain[:, :, None]) / np.where(across, _gap(gain), np.inf)
    mixed = np.where(across, spent[:, :, None] + weight * _gap(spent), np.inf).min(axis=(1, 2))
    single = _all(cost)[:, 0]
    return _interval(1.0 - np.minimum(np.minimum(alone, mixed), single) / single)


def _gap(values: np.ndarray) -> np.ndarray:
    """From each point to each other, shape (1 + R, L, L)."""
    difference: np.ndarray = values[:, None] - values[:, :, None]
    return difference


def _recommended(
    table: TrainingTable, lambdas: Sequence[float], gain_L: np.ndarray, cost_L: np.ndarray, kind: str
) -> dict[str, float | None] | None:
    """Where routing saves, the highest λ that earns what the best single model earns; where it only gains, λ = 0."""
    if kind == "neither":
        return None
    at = int(np.flatnonzero(gain_L >= 0)[-1]) if kind in ("both", "saves") and (gain_L >= 0).any() else 0
    best = best_single(table)
    known = np.where(np.isnan(table.mean_cost_M), np.inf, table.mean_cost_M)
    low, high = table.mean_reward_M[int(np.argmin(known))], table.mean_reward_M[best]
    quality = (high + gain_L[at] - low) / (high - low) if high > low else 1.0
    budget = cost_L[at] * table.cost_scale
    return {
        "lambda": float(lambdas[at]),
        "budget_usd_per_1k_requests": float(budget) if table.cost_scale > 1 and np.isfinite(budget) else None,
        "min_quality": float(min(max(quality, 0.0), 1.0)),
    }


def _text(
    table: TrainingTable,
    best: int,
    single_cost: float,
    found: dict[str, Any],
    kind: str,
    recommended: dict[str, Any] | None,
    alone: bool,
) -> str:
    name, reward = table.models[best], significant(float(table.mean_reward_M[best]))
    opening = {
        "both": "Routing helps, in reward and in cost",
        "gains": "Routing helps: it earns more",
        "saves": "Routing helps: it saves cost at equal reward",
        "neither": "Routing does not clearly help",
    }[kind]
    said = [f"{opening}. The best single model is {name} (mean reward {reward})."]
    if kind == "neither" and alone:
        said.append("Every prompt goes to it at λ = 0.")
    else:
        said.append(f"At λ = 0 routing earns {_span(found['gain'], table)} against it.")
    at_cost = found["gain_at_equal_cost"]
    if kind in ("both", "gains") and found["gain"]["low"] <= 0 < at_cost["low"]:
        # Then this, not the gain at λ = 0, is why routing is said to earn more.
        said.append(f"At that model's cost it earns {_span(at_cost, table)}.")
    saving = found["savings"].get("1")
    if saving is not None:
        least = [f"{percent(float(share))} of it at {percent(found['savings'][share]['mean'])} less"
                 for share in ("0.99", "0.95")
                 if share in found["savings"] and found["savings"][share]["mean"] >= _NO_SAVING]  # fmt: skip
        ends = f"{percent(saving['low'])} to {percent(saving['high'])}"
        whole = (
            f"at {percent(saving['mean'])} less cost (95% interval {ends})"
            if saving["mean"] >= _NO_SAVING
            else "at no less cost"
        )
        said.append("; ".join([f"Routing earns that reward {whole}", ", ".join(least)]).rstrip("; ") + ".")
    if recommended is not None:
        said.append(
            f"Try λ = {significant(recommended['lambda'])}{_budget(recommended, single_cost * table.cost_scale)}."
        )
    return " ".join(said)


def _budget(recommended: dict[str, Any], single_cost: float) -> str:
    usd = recommended["budget_usd_per_1k_requests"]
    if usd is None:
        return ""
    alone = f", {significant(single_cost)} with that model alone" if np.isfinite(single_cost) else ""
    return f" (about {significant(usd)} USD per 1,000 requests{alone})"


def _span(found: dict[str, float], table: TrainingTable) -> str:
    # What sums leave behind by rounding is nought; where all rewards are small, it is smaller.
    largest = float(np.nanmax(np.abs(table.rewards_PM)))
    digits = 6 if largest >= 0.1 or largest == 0 else 5 - math.floor(math.log10(largest))
    mean, low, high = (significant(round(found[end], digits), sign=True) for end in ("mean", "low", "high"))
    return f"{mean} (95% interval {low} to {high})"
