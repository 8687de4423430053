"""PURE. What an evaluation comes to, in sentences that need no other page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from erp_trainer.learning.bootstrap import Interval
from erp_trainer.words import percent, significant


def verdict_of(
    *,
    best_single: str,
    best_reward: float,
    gain: Interval,
    lambda_: float,
    prompts: int,
    comparison: Mapping[str, Any],
    cost: Mapping[str, Any],
    unit: str,
) -> dict[str, Any]:
    """Whether routing helps at the λ asked, and what it saves.

    Parameters
    ----------
    best_single : the model that is best on train
    gain : of the bundle at this λ against it, paired
    comparison : the bundle's entry of ``economics.compare``
    cost : ``bundle``, ``best_single`` (per request, NaN unknown), ``scale``, ``label``
    unit : of the reward
    """
    kind = "helps" if gain.low > 0 else "hurts" if gain.high < 0 else "unclear"
    saving = comparison["against"].get("best_single", {}).get("saved_at_equal_reward")
    saves = saving is not None and saving["low"] is not None and saving["low"] > 0
    does = {"helps": "helps", "hurts": "earns less", "unclear": "is not clearly better"}[kind]
    opening = (
        f"Routing {does} at λ = {lambda_:.4g}: {_gained(gain.to_json(), unit, f', {prompts:,} test prompts')} "
        f"against always using {best_single}, the best single model on train, which earns {significant(best_reward)}."
    )
    sentences = [opening, *_on_cost(cost), *_on_saving(saving, best_single), *_on_budgets(comparison, unit)]
    if kind == "unclear" and not saves:
        sentences.append(f"As far as {prompts:,} prompts can tell, {best_single} alone earns as much.")
    return {
        "kind": kind,
        "helps": kind == "helps",
        "best_single": best_single,
        "lambda": lambda_,
        "gain": gain.to_json(),
        "saved_at_equal_reward": saving,
        "text": " ".join(sentences),
        "sentences": sentences,
    }


def headline(found: Mapping[str, Any]) -> str:
    """A verdict in a few words."""
    best = found["best_single"]
    return {
        "helps": f"Routing beats always using {best}",
        "unclear": f"Routing is not clearly better than always using {best}",
        "hurts": f"Use {best}: routing does worse",
    }[found["kind"]]


def _gained(interval: Mapping[str, float], unit: str, more: str = "") -> str:
    mean, low, high = (significant(interval[end], sign=True) for end in ("mean", "low", "high"))
    return f"{mean} mean {unit} (95% interval {low} to {high}{more})"


def _on_budgets(comparison: Mapping[str, Any], unit: str) -> list[str]:
    area = comparison["against"].get("mixture", {}).get("area")
    return [] if area is None else [f"Over all budgets it earns {_gained(area, unit)} against mixing single models."]


def _on_cost(cost: Mapping[str, Any]) -> list[str]:
    ours, other = cost["bundle"] * cost["scale"], cost["best_single"] * cost["scale"]
    if math.isnan(ours) or math.isnan(other):
        return []
    change = ""
    if other and abs(ours / other - 1) >= 0.005:
        change = f", {percent(abs(1 - ours / other))} {'less' if ours < other else 'more'}"
    return [f"It costs {significant(ours)} {cost['label']} instead of {significant(other)}{change}."]


def _on_saving(saving: Mapping[str, Any] | None, best_single: str) -> list[str]:
    if saving is None or saving["mean"] is None:
        return []
    if saving["mean"] <= 0.005:
        return [f"To earn what {best_single} earns it must spend as much."]
    if saving["low"] is None:
        sure = f"in {percent(1 - saving['reached'])} of resamples it never earns that much"
    else:
        sure = f"95% interval {percent(saving['low'])} to {percent(saving['high'])}"
    return [f"At a λ at which it earns what {best_single} earns, it costs {percent(saving['mean'])} less ({sure})."]
