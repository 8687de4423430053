"""PURE. Whether routing helps, both ways: reward gained at the best single model's cost, and cost saved at its reward.

The only place that says so: of the train split out of fold, which a bundle carries, and of the test split.

A budget, or a reward, between two λ is met by giving some requests the one λ and the others the other, as serving does;
so both are read off mixtures of two points of the curve, in every resample of the prompts anew. The best of many points
is in part the luckiest. What luck adds to a gain is estimated (Efron's optimism) and taken off every point before costs
and rewards are compared, so that a curve which holds nothing but luck shows no saving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Interval, Resamples
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.words import percent, short, significant

# Shares of the best single model's reward at which costs are compared.
REWARD_SHARES = (1.0, 0.99, 0.95)
N_RESAMPLES = 500
# A smaller share of the cost is written as none.
_NO_SAVING = 0.005
_OPENINGS = {
    "both": "Routing helps, in reward and in cost",
    "gains": "Routing helps: it earns more",
    "saves": "Routing helps: it saves cost at equal reward",
    "neither": "Routing does not clearly help",
    "hurts": "Routing earns less than the best single model",
}


def judge(
    table: TrainingTable,
    lambdas: Sequence[float],
    choices: Sequence[np.ndarray],
    *,
    rows: str = "out of fold",
    best: int | None = None,
    advised: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A verdict in numbers and words.

    Parameters
    ----------
    lambdas : ascending from 0
    choices : first choices at each λ, shape (P,)
    rows : what the prompts are, in two words
    best : the best single model, where it was chosen on other prompts; None takes the table's
    advised : what was recommended by other prompts, and is kept; None recommends by these

    Returns
    -------
    helps, kind (``both``, ``gains``, ``saves``, ``neither``, ``hurts``), prompts, best_single; gain (at λ = 0),
    gain_at_equal_cost and optimism, the first two with a 95% interval; savings by share of the best single model's
    reward; recommended (λ and the budget and quality floor that lead to it), None where routing does not help; text
    """
    best = best_single(table) if best is None else best
    # What the best single model would have earned is known of the prompts that it answered alone.
    answered = ~np.isnan(table.rewards_PM[:, best])
    known, choices = table.rows(answered), [choice[answered] for choice in choices]
    resamples = Resamples.draw(known.groups_P, n_resamples=N_RESAMPLES)
    single = known.rewards_PM[:, best]
    rewards = np.stack([known.reward_of(choice) - single for choice in choices], axis=1)
    costs = np.stack([known.cost_of(choice) for choice in choices], axis=1)
    gain_L, cost_L = resamples.means(rewards), resamples.means(costs)
    base = resamples.means(np.column_stack([single, known.realised_cost_PM[:, best]]))
    reward, cost = base.column(0), base.column(1)
    gain = gain_L.interval(0)
    optimism = _optimism(gain_L)
    likely_L = _less(gain_L, optimism, [bool((choice == best).all()) for choice in choices])
    at_cost = _interval(_reward_at(cost_L, likely_L, cost)) if _known(cost_L, cost) else None
    savings = {share: _saving(cost_L, likely_L, reward, cost, share) for share in _shares(reward)} if at_cost else {}
    found: dict[str, Any] = {
        "prompts": len(known),
        "best_single": table.models[best],
        "optimism": optimism,
        "gain": gain.to_json(),
        "gain_at_equal_cost": None if at_cost is None else at_cost.to_json(),
        "savings": {f"{share:g}": saved.to_json() for share, saved in savings.items()},
        "saving_at_equal_reward": savings[1.0].mean if savings else None,
    }
    gains = max(gain.low, -np.inf if at_cost is None else at_cost.low) > 0
    saves = bool(savings) and savings[1.0].low > 0
    kind = {(True, True): "both", (True, False): "gains", (False, True): "saves"}.get((gains, saves), "neither")
    kind = "hurts" if kind == "neither" and gain.high < 0 else kind
    recommended = advised or _recommended(table, best, lambdas, gain_L.value_S, cost_L.value_S, kind)
    alone = bool((choices[0] == best).all())
    said = _sentences(table, best, found, kind, alone, rows)
    if advised is not None:
        at = int(np.argmin(np.abs(np.array(lambdas) - advised["lambda"])))
        said.append(_on_advice(advised, gain_L.interval(at), cost_L.value_S[at] / cost.value_S[0], table))
    elif recommended is not None:
        said.append(_advice(recommended, float(cost.value_S[0]) * table.cost_scale))
    helps = kind not in ("neither", "hurts")
    return {"helps": helps, "kind": kind, **found, "recommended": recommended, "text": " ".join(said)}


def headline(found: Mapping[str, Any]) -> str:
    """A verdict in a few words."""
    return _OPENINGS[found["kind"]]


def _optimism(gain_L: Estimates) -> float:
    """What the best of all points gains by having been looked for, in expectation; at least 0.

    Source: Efron (1983), optimism of an apparent figure, here of a maximum.
    """
    resampled_RL = gain_L.resampled_RS
    luck_R = resampled_RL - resampled_RL.mean(axis=0)
    chosen_R = resampled_RL.argmax(axis=1)
    return max(0.0, float(np.take_along_axis(luck_R, chosen_R[:, None], axis=1).mean()))


def _less(gain_L: Estimates, optimism: float, alone_L: Sequence[bool]) -> Estimates:
    """Gains without what luck adds; the best single model by itself has no luck against itself."""
    luck_L = np.where(alone_L, 0.0, optimism)
    return Estimates(gain_L.value_S - luck_L, gain_L.resampled_RS - luck_L)


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
    table: TrainingTable, best: int, lambdas: Sequence[float], gain_L: np.ndarray, cost_L: np.ndarray, kind: str
) -> dict[str, float | None] | None:
    """Where routing saves, the highest λ that earns what the best single model earns; where it only gains, λ = 0."""
    if kind in ("neither", "hurts"):
        return None
    at = int(np.flatnonzero(gain_L >= 0)[-1]) if kind in ("both", "saves") and (gain_L >= 0).any() else 0
    known = np.where(np.isnan(table.mean_cost_M), np.inf, table.mean_cost_M)
    low, high = table.mean_reward_M[int(np.argmin(known))], table.mean_reward_M[best]
    quality = (high + gain_L[at] - low) / (high - low) if high > low else 1.0
    budget = cost_L[at] * table.cost_scale
    return {
        "lambda": float(lambdas[at]),
        "budget_usd_per_1k_requests": float(budget) if table.cost_scale > 1 and np.isfinite(budget) else None,
        "min_quality": float(min(max(quality, 0.0), 1.0)),
    }


def _sentences(
    table: TrainingTable, best: int, found: Mapping[str, Any], kind: str, alone: bool, rows: str
) -> list[str]:
    name, reward = short(table.models[best]), significant(float(table.mean_reward_M[best]))
    prompts = "1 prompt" if found["prompts"] == 1 else f"{found['prompts']:,} prompts"
    said = [f"{_OPENINGS[kind]} ({rows}, {prompts}). The best single model is {name} (mean reward {reward})."]
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
    return said


def _advice(recommended: Mapping[str, Any], single_usd: float) -> str:
    """Where to begin; ``single_usd`` is what 1,000 requests cost with the best single model, NaN unknown."""
    usd = recommended["budget_usd_per_1k_requests"]
    cost = ""
    if usd is not None:
        alone = f", {significant(single_usd)} with that model alone" if np.isfinite(single_usd) else ""
        cost = f" (about {significant(usd)} USD per 1,000 requests{alone})"
    return f"Try λ = {significant(recommended['lambda'])}{cost}."


def _on_advice(advised: Mapping[str, Any], gain: Interval, cost_share: float, table: TrainingTable) -> str:
    """What became of what training recommended."""
    said = (
        f"At λ = {significant(advised['lambda'])}, which training recommends, it earns {_span(gain.to_json(), table)}"
    )
    change = 1 - float(cost_share)
    if not np.isfinite(change):
        return f"{said}."
    if abs(change) < _NO_SAVING:
        return f"{said} at the same cost."
    return f"{said} at {percent(abs(change))} {'less' if change > 0 else 'more'} cost."


def _span(found: Mapping[str, float], table: TrainingTable) -> str:
    # What sums leave behind by rounding is nought; where all rewards are small, it is smaller.
    largest = float(np.nanmax(np.abs(table.rewards_PM)))
    digits = 6 if largest >= 0.1 or largest == 0 else 5 - math.floor(math.log10(largest))
    mean, low, high = (significant(round(found[end], digits), sign=True) for end in ("mean", "low", "high"))
    return f"{mean} (95% interval {low} to {high})"
