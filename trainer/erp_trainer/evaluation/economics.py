"""PURE. What a policy is worth in money: areas, savings at equal reward, gains at equal cost.

Definitions are in docs/design/010-measures.md; curves between points are those of ``curves.Line``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.evaluation.curves import Curve, Line
from erp_trainer.learning.bootstrap import Estimates, difference, outer_bounds


@dataclass(frozen=True, slots=True)
class Market:
    """What policies are compared with.

    Attributes
    ----------
    cheapest, best : curves of the single models that are cheapest and best on train
    low, high : mean cost of the cheapest and the dearest single model on test
    references : curves to compare with, by name
    """

    cheapest: Curve
    best: Curve
    low: float
    high: float
    references: Mapping[str, Curve]

    def line(self, curve: Curve) -> Line | None:
        """A curve over cost; None where a cost is not known."""
        if np.isnan(curve.cost.value_S).any() or np.isnan(self.cheapest.cost.value_S).any():
            return None
        if np.isnan(curve.reward.resampled_RS).any() or np.isnan(self.cheapest.reward.resampled_RS).any():
            return None
        return Line.of(curve, self.cheapest)

    def area(self, line: Line | None) -> np.ndarray | None:
        """Mean reward over budgets, on all prompts and in every resample; None where all models cost the same."""
        return None if line is None or not self.high > self.low else line.area(self.low, self.high)


def compare(curve: Curve, market: Market, lambda_: float) -> dict[str, Any]:
    """Area of a curve, and its comparison with every reference.

    Parameters
    ----------
    lambda_ : the λ asked, at which a curve is compared with another curve
    """
    line = market.line(curve)
    area = market.area(line)
    against: dict[str, Any] = {}
    for name, reference in market.references.items():
        against[name] = {"gained_at_equal_cost": None, "saved_at_equal_reward": None, "area": None}
        other = market.line(reference)
        if line is None or other is None:
            continue
        if len(reference.lambdas) == 1:
            instead, reward = reference.point(0)
            gained, spent = difference(line.reward_at(instead), reward), line.cost_of(reward)
        else:
            spent, reward = curve.point(curve.at(lambda_))
            gained, instead = difference(reward, other.reward_at(spent)), other.cost_of(reward)
        against[name] |= {"gained_at_equal_cost": _interval(gained), "saved_at_equal_reward": _saving(spent, instead)}
        if (other_area := market.area(other)) is not None and area is not None:
            against[name]["area"] = _interval(difference(area, other_area))
    return {"area": None if area is None else _interval(area), "against": against}


def gained_on(curve: Curve, market: Market, reference: str, at: int) -> dict[str, float] | None:
    """Reward of one point of a curve less that of a reference curve at the same cost; None where costs are unknown."""
    if reference not in market.references or market.line(curve) is None:
        return None
    other = market.line(market.references[reference])
    if other is None:
        return None
    cost, reward = curve.point(at)
    return _interval(difference(reward, other.reward_at(cost)))


def _interval(value_R: np.ndarray) -> dict[str, float]:
    return Estimates.of(value_R).interval().to_json()


def _saving(spent_R: np.ndarray, instead_R: np.ndarray) -> dict[str, Any] | None:
    """Share of the other's cost that is saved; a resample in which the reward is not reached is the worst there is."""
    paid = instead_R > 0
    saved = 1.0 - np.divide(spent_R, instead_R, out=np.full(len(spent_R), np.nan), where=paid)
    reached = float((~np.isnan(saved[1:])).mean())
    if not reached:
        return None
    low, high = outer_bounds(saved[1:], -np.inf)
    return {"mean": None if np.isnan(saved[0]) else float(saved[0]), "low": low, "high": high, "reached": reached}
