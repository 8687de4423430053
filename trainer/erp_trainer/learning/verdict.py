"""PURE. Whether routing helps, both ways: reward gained at the best single model's cost, and cost saved at its reward.

The only place that says so: of the train split out of fold, which a bundle carries, and of the test split.

A budget, or a reward, between two λ is met by giving some requests the one λ and the others the other, as serving does;
so both are read off mixtures of two points of the curve. The best of many λ looks better than it is. So intervals
are read off bands around the whole curve, which hold at all λ at once, never off a λ chosen anew in each resample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Resamples
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.words import percent, short, significant
from litellm_erp.bundle.frontier import upper_hull

# Shares of the best single model's reward at which costs are compared.
REWARD_SHARES = (1.0, 0.99, 0.95)
# A share of it that counts as nearly equal, where routing is also clearly above single models mixed at its cost.
_NEARLY = 0.99
N_RESAMPLES = 500
_ADVISED = ", which training recommends,"
# A smaller share of the cost is written as none.
_NO_SAVING = 0.005
# Two prompts that went elsewhere, both to no harm, prove nothing: as if so many more had differed as models differ.
_UNSEEN_CHANGES = 4
# Advice that costs so many times what the best single model costs says so.
_DEARER = 1.5
_OPENINGS = {
    "both": "Routing helps, in reward and in cost",
    "gains": "Routing helps: it earns more",
    "saves": "Routing helps: it saves cost at equal reward",
    "nearly": "Routing helps: it saves cost at nearly equal reward",
    "neither": "Routing does not clearly help",
    "hurts": "Routing earns less than the best single model",
}


@dataclass(frozen=True, slots=True)
class _Curve:
    """What is judged: a policy over λ against the best single model, on the prompts which that model answered.

    Attributes
    ----------
    gain : Estimates of L figures, reward less the best single model's
    gain_BL : shape (3, L), the lower end of the band around it, the gain, the upper end
    above_BL : shape (3, L), the same for the reward less a mixture of single models at the same cost; NaN without costs
    cost_L : shape (L,), mean cost per request
    reward, cost : of the best single model
    prompts : how many it answered
    """

    gain: Estimates
    gain_BL: np.ndarray
    above_BL: np.ndarray
    cost_L: np.ndarray
    reward: float
    cost: float
    prompts: int

    @property
    def priced(self) -> bool:
        """Whether all costs are known."""
        return bool(np.isfinite(self.cost_L).all() and np.isfinite(self.cost) and self.cost > 0)

    @property
    def nearly_L(self) -> np.ndarray:
        """Where it clearly earns nearly that model's reward, for less, and more than a mixture, shape (L,), bool."""
        least = (_NEARLY - 1.0) * max(self.reward, 0.0)
        cheaper = self.cost_L < (1.0 - _NO_SAVING) * self.cost
        return np.asarray((self.gain_BL[0] >= least) & (self.above_BL[0] > 0) & cheaper)


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
    helps, kind (``both``, ``gains``, ``saves``, ``neither``, ``hurts``), prompts, best_single; gain (at λ = 0) and
    gain_at_equal_cost, each with a 95% interval; savings by share of the best single model's reward; nearly_equal (a λ
    with nearly its reward at less cost, and more than single models mixed at that cost); recommended (λ and the budget
    and quality floor that lead to it), None where routing does not help; sentences, the first being
    the headline and what of; text, all of them
    """
    best = best_single(table) if best is None else best
    # One λ that other prompts chose is looked at by itself, and so its interval is its own.
    at = None if advised is None else int(np.argmin(np.abs(np.array(lambdas) - advised["lambda"])))
    curve = _curve(table, choices, best, at)
    gain = curve.gain.interval(0)
    at_cost = _ends(_reward_at(curve)) if curve.priced else None
    savings = {share: _ends(_saving(curve, share)) for share in _shares(curve.reward)} if curve.priced else {}
    nearly = _nearly(curve, lambdas, at) if curve.priced else None
    gains = gain.low > 0 or (at_cost is not None and at_cost["low"] > 0)
    saves = nearly is not None or _saves(savings.get(1.0))
    kind = {(True, True): "both", (True, False): "gains", (False, True): "saves"}.get((gains, saves), "neither")
    kind = "hurts" if kind == "neither" and gain.high < 0 else kind
    found: dict[str, Any] = {
        "helps": kind not in ("neither", "hurts"),
        "kind": kind,
        "prompts": curve.prompts,
        "best_single": table.models[best],
        "gain": gain.to_json(),
        "gain_at_equal_cost": at_cost,
        "savings": {f"{share:g}": saved for share, saved in savings.items()},
        "saving_at_equal_reward": savings[1.0]["mean"] if savings else None,
        "nearly_equal": nearly,
    }
    found["recommended"] = advised or (_recommended(table, best, curve, lambdas, kind) if found["helps"] else None)
    # Told where it, not the saving at equal reward, is why routing is said to save.
    told = None if _saves(savings.get(1.0)) else nearly
    is_advice = told is not None and at is not None and told["lambda"] == lambdas[at]
    alone = kind == "neither" and bool((choices[0] == best).all())
    said = _sentences(table, curve, found, rows, told, alone=alone, by=_ADVISED if is_advice else "")
    if advised is not None and at is not None:
        said += [] if is_advice else [_on_advice(advised, curve, at, table)]
    elif found["helps"]:
        said.append(_advice(found["recommended"], curve.cost * table.cost_scale))
    return found | {"sentences": said, "text": " ".join(said)}


def headline(found: Mapping[str, Any]) -> str:
    """A verdict in a few words."""
    unproven = found["kind"] == "saves" and not _saves(found["savings"].get("1"))
    return _OPENINGS["nearly" if unproven else found["kind"]]


def _saves(saving: Mapping[str, float] | None) -> bool:
    return saving is not None and saving["low"] >= _NO_SAVING


def _curve(table: TrainingTable, choices: Sequence[np.ndarray], best: int, at: int | None) -> _Curve:
    # What the best single model would have earned is known of the prompts that it answered alone.
    rows = ~np.isnan(table.rewards_PM[:, best])
    known, choices = table.rows(rows), [choice[rows] for choice in choices]
    resamples = Resamples.draw(known.groups_P, n_resamples=N_RESAMPLES)
    single, single_cost = known.rewards_PM[:, best, None], known.realised_cost_PM[:, best, None]
    gain_PL = np.stack([known.reward_of(choice) for choice in choices], axis=1) - single
    cost_PL = np.stack([known.cost_of(choice) for choice in choices], axis=1)
    others_PM = np.delete(known.rewards_PM, best, axis=1) - single
    # Of a sum of differences, as many as would not be seen.
    unseen = _UNSEEN_CHANGES * float(np.nan_to_num(others_PM**2).sum() / max((~np.isnan(others_PM)).sum(), 1))
    unseen_L = np.array([(choice != best).any() for choice in choices]) * unseen / len(known) ** 2
    gain = resamples.means(gain_PL)
    cost_L, cost = resamples.means(cost_PL).value_S, float(single_cost.mean())
    gain_BL, above_BL = _band(gain, unseen_L, at), np.full((3, len(choices)), np.nan)
    if np.isfinite(cost_L).all() and np.isfinite(cost):
        against_PM = known.rewards_PM - single, known.realised_cost_PM - single_cost
        above = _above_mixing(resamples, gain_PL, cost_PL - single_cost, *against_PM)
        above_BL = _band(above, unseen_L, at)
    return _Curve(gain, gain_BL, above_BL, cost_L, float(single.mean()), cost, len(known))


def _above_mixing(
    resamples: Resamples, gain_PL: np.ndarray, cost_PL: np.ndarray, gain_PM: np.ndarray, cost_PM: np.ndarray
) -> Estimates:
    """Reward at each λ less that of the two single models between which its cost lies, mixed to the same cost.

    Parameters
    ----------
    gain_PL, cost_PL : reward and cost at each λ less the best single model's
    gain_PM, cost_PM : the same of the single models; NaN where they have no outcome
    """
    cost_PM = np.where(np.isnan(gain_PM), np.nan, cost_PM)
    gain_M, cost_M = resamples.means(gain_PM).value_S, resamples.means(cost_PM).value_S
    # Costs may be too small to divide by.
    unit = float(np.nanmax(np.abs(cost_M))) or 1.0
    cost_M, cost_PM, cost_PL = cost_M / unit, cost_PM / unit, cost_PL / unit
    hull = upper_hull(cost_M, gain_M)
    spent_L = cost_PL.mean(axis=0)
    left_L = np.clip(np.searchsorted(cost_M[hull], spent_L, side="right") - 1, 0, len(hull) - 1)
    right_L = np.minimum(left_L + 1, len(hull) - 1)
    run, rise = np.diff(cost_M[hull], append=np.inf), np.diff(gain_M[hull], append=gain_M[hull][-1])
    between = (spent_L >= cost_M[hull][0]) & (right_L > left_L)
    slope_L = np.where(between, (rise / run)[left_L], 0.0)
    vertex_L = hull[left_L]
    return resamples.means(gain_PL - slope_L * cost_PL) - resamples.means(
        gain_PM[:, vertex_L] - slope_L * cost_PM[:, vertex_L]
    )


def _band(estimates: Estimates, unseen_L: np.ndarray, at: int | None) -> np.ndarray:
    """A 95% band around L figures, in which all of them lie at once, shape (3, L): its ends around the figures.

    Parameters
    ----------
    unseen_L : shape (L,), added to the variance of each figure
    at : a figure that was chosen on other prompts, and has an interval of its own; None for none

    Source: Romano and Wolf (2005), largest studentised deviations over bootstrap resamples.
    """
    value, off_RL = estimates.value_S, estimates.resampled_RS - estimates.value_S
    error = np.sqrt(off_RL.var(axis=0) + unseen_L)
    off_RL = np.divide(off_RL, error, out=np.zeros_like(off_RL), where=error > 0)
    above_L, below_L = (np.full(len(value), np.quantile(side.max(axis=1), 0.975)) for side in (off_RL, -off_RL))
    if at is not None:
        above_L[at], below_L[at] = (np.quantile(side[:, at], 0.975) for side in (off_RL, -off_RL))
    return np.stack([value - np.maximum(above_L, 0.0) * error, value, value + np.maximum(below_L, 0.0) * error])


def _shares(reward: float) -> tuple[float, ...]:
    # A share of a reward says something where nought is the least there is.
    return REWARD_SHARES if reward > 0 else (1.0,)


def _ends(value_B: np.ndarray) -> dict[str, float]:
    low, mean, high = value_B.tolist()
    return {"mean": mean, "low": low, "high": high}


def _reward_at(curve: _Curve) -> np.ndarray:
    """The most that mixtures of two points gain at the best single model's cost, by each end of the band, (3,)."""
    cost, gain, limit = curve.cost_L, curve.gain_BL, curve.cost
    fits = cost <= limit * (1 + 1e-9)
    if not fits.any():
        return np.asarray(gain[:, int(cost.argmin())])
    within = gain[:, fits].max(axis=1)
    across = fits[:, None] & ~fits
    weight = (limit - cost[:, None]) / np.where(across, _gap(cost[None])[0], np.inf)
    mixed = np.where(across, gain[:, :, None] + weight * _gap(gain), -np.inf).max(axis=(1, 2))
    return np.maximum(within, mixed)


def _saving(curve: _Curve, share: float) -> np.ndarray:
    """The share of the best single model's cost that a share of its reward does not need, by each end, shape (3,)."""
    spent, gain, target = curve.cost_L, curve.gain_BL, (share - 1.0) * curve.reward
    enough = gain >= target
    alone = np.where(enough, spent, np.inf).min(axis=1)
    across = ~enough[:, :, None] & enough[:, None]
    weight = (target - gain[:, :, None]) / np.where(across, _gap(gain), np.inf)
    mixed = np.where(across, spent[:, None] + weight * _gap(spent[None]), np.inf).min(axis=(1, 2))
    return np.asarray(1.0 - np.minimum(np.minimum(alone, mixed), curve.cost) / curve.cost)


def _gap(values: np.ndarray) -> np.ndarray:
    """From each point to each other, shape (B, L, L)."""
    difference: np.ndarray = values[:, None] - values[:, :, None]
    return difference


def _nearly(curve: _Curve, lambdas: Sequence[float], advised: int | None) -> dict[str, Any] | None:
    """A λ that clearly earns nearly as much for less: the one advised, else the highest, of those that earn as much."""
    clear = curve.nearly_L & (curve.gain_BL[1] >= 0)
    clear = clear if clear.any() else curve.nearly_L
    if not clear.any():
        return None
    at = int(np.flatnonzero(clear)[-1]) if advised is None or not curve.nearly_L[advised] else advised
    return {
        "lambda": float(lambdas[at]),
        "gain": _ends(curve.gain_BL[:, at]),
        "saved": float(1.0 - curve.cost_L[at] / curve.cost),
        "against_mixture": _ends(curve.above_BL[:, at]),
    }


def _recommended(
    table: TrainingTable, best: int, curve: _Curve, lambdas: Sequence[float], kind: str
) -> dict[str, float | None]:
    """Where routing saves, the highest λ that earns what the best single model earns; else where it gains most.

    That is at λ = 0, unless more than nothing is clearly gained at no more than the best single model's cost.
    """
    gain = curve.gain_BL[1]
    within = (curve.cost_L <= curve.cost) & (curve.gain_BL[0] > 0)
    enough = gain >= 0 if (gain >= 0).any() else curve.nearly_L
    at = int(np.where(within, gain, -np.inf).argmax()) if within.any() else 0
    if kind in ("both", "saves") and enough.any():
        at = int(np.flatnonzero(enough)[-1])
    known = np.where(np.isnan(table.mean_cost_M), np.inf, table.mean_cost_M)
    low, high = table.mean_reward_M[int(np.argmin(known))], table.mean_reward_M[best]
    quality = (high + gain[at] - low) / (high - low) if high > low else 1.0
    budget = float(curve.cost_L[at] * table.cost_scale)
    return {
        "lambda": float(lambdas[at]),
        "budget_usd_per_1k_requests": budget if table.cost_scale > 1 and np.isfinite(budget) else None,
        "times_best_single_cost": float(curve.cost_L[at] / curve.cost) if curve.priced else None,
        "min_quality": float(min(max(quality, 0.0), 1.0)),
    }


def _sentences(
    table: TrainingTable,
    curve: _Curve,
    found: Mapping[str, Any],
    rows: str,
    nearly: Mapping[str, Any] | None,
    *,
    alone: bool,
    by: str,
) -> list[str]:
    """What was found.

    Parameters
    ----------
    nearly : the λ at which nearly as much is earned, to be told, and ``by`` whom it is recommended
    alone : every prompt goes to the best single model at λ = 0
    """
    prompts = "1 prompt" if found["prompts"] == 1 else f"{found['prompts']:,} prompts"
    name, reward = short(found["best_single"]), significant(curve.reward)
    said = [f"{headline(found)} ({rows}, {prompts}).", f"The best single model is {name} (mean reward {reward})."]
    if alone:
        said.append("Every prompt goes to it at λ = 0.")
    else:
        said.append(f"At λ = 0 routing earns {_span(found['gain'], table)} against it.")
    at_cost, saving = found["gain_at_equal_cost"], found["savings"].get("1")
    if found["kind"] in ("both", "gains") and found["gain"]["low"] <= 0 < at_cost["low"]:
        # Then this, not the gain at λ = 0, is why routing is said to earn more.
        said.append(f"At that model's cost it earns {_span(at_cost, table)}.")
    if nearly is not None:
        said.append(
            f"At λ = {significant(nearly['lambda'])}{by} it earns {_span(nearly['gain'], table)} at "
            f"{percent(nearly['saved'])} less cost, and {_span(nearly['against_mixture'], table)} against single "
            "models mixed at that cost."
        )
    return said if saving is None else [*said, _on_saving(found["savings"], saving)]


def _on_saving(savings: Mapping[str, Mapping[str, float]], saving: Mapping[str, float]) -> str:
    least = [f"{percent(float(share))} of it at {percent(savings[share]['mean'])} less"
             for share in ("0.99", "0.95")
             if share in savings and savings[share]["mean"] >= _NO_SAVING]  # fmt: skip
    ends = f"{percent(saving['low'])} to {percent(saving['high'])}"
    whole = (
        f"at {percent(saving['mean'])} less cost (95% interval {ends})"
        if saving["mean"] >= _NO_SAVING
        else "at no less cost"
    )
    return "; ".join([f"Routing earns that reward {whole}", ", ".join(least)]).rstrip("; ") + "."


def _advice(recommended: Mapping[str, Any], single_usd: float) -> str:
    """Where to begin; ``single_usd`` is what 1,000 requests cost with the best single model, NaN unknown."""
    usd, times = recommended["budget_usd_per_1k_requests"], recommended["times_best_single_cost"]
    cost = []
    if usd is not None:
        cost.append(f"about {significant(usd)} USD per 1,000 requests")
        cost += [f"{significant(single_usd)} with that model alone"] if np.isfinite(single_usd) else []
    if times is not None and (usd is None or times >= _DEARER):
        cost.append(f"{significant(times)} times that model's cost")
    beside = f" ({', '.join(cost)})" if cost else ""
    return f"Try λ = {significant(recommended['lambda'])}{beside}."


def _on_advice(advised: Mapping[str, Any], curve: _Curve, at: int, table: TrainingTable) -> str:
    """What became of what training recommended."""
    gain = _ends(curve.gain_BL[:, at])
    said = f"At λ = {significant(advised['lambda'])}{_ADVISED} it earns {_span(gain, table)}"
    change = 1 - float(curve.cost_L[at] / curve.cost) if curve.priced else math.nan
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
