"""Every policy of an evaluation as a curve over λ, and what the payload says of curves and of their points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.evaluation.contenders import Contender, OracleBracket
from erp_trainer.evaluation.curves import Curve, pareto, trace
from erp_trainer.evaluation.duels import at_lambda, over_lambda
from erp_trainer.evaluation.economics import Market, compare, gained_on
from erp_trainer.evaluation.evaluation import Evaluation
from erp_trainer.learning.bootstrap import Estimates
from erp_trainer.learning.outcome import best_single
from litellm_erp.bundle.frontier import upper_hull


@dataclass(frozen=True, slots=True)
class Traced:
    """All curves of an evaluation; the bundle's is the first. ``best`` is the best single model on train."""

    curves: Mapping[str, Curve]
    market: Market
    best: int
    bracket: OracleBracket

    @property
    def bundle(self) -> Curve:
        """The bundle's own curve."""
        return next(iter(self.curves.values()))


def traced(ev: Evaluation, advance: Callable[[int], None] = lambda steps: None) -> Traced:
    """Measure every policy at every λ, paired on the same resamples; ``advance`` is called as policies are done."""
    train_reward, train_cost = ev.train.mean_reward_M, ev.train.mean_cost_M
    best = best_single(ev.train)
    cheapest = best if np.isnan(train_cost).all() else int(np.nanargmin(train_cost))
    baseline_P = ev.test.rewards_PM[:, best]
    bracket = OracleBracket.of(ev.test, [ev.contenders[0].outcome(ev.test, 0.0).reward_P, baseline_P])
    found = {}
    for contender in ev.contenders:
        found[contender.key] = trace(contender, ev.test, ev.grid, ev.resamples, bracket, baseline_P)
        advance(1)
    singles = [found[f"single:{name}"] for name in ev.test.models]
    references = {"best_single": singles[best]}
    if len(hull := upper_hull(train_cost, train_reward)) > 1:
        found["mixture"] = references["mixture"] = _mixture([singles[m] for m in hull.tolist()])
    references["category_best"] = found["category-best"]
    costs = [cost for curve in singles if not np.isnan(cost := float(curve.cost.value_S[0]))] or [float("nan")]
    return Traced(found, Market(singles[cheapest], singles[best], min(costs), max(costs), references), best, bracket)


def _mixture(vertices: list[Curve]) -> Curve:
    """Single models as the points of one curve, between which lie their mixtures."""

    def joined(which: str) -> Estimates:
        parts: list[Estimates] = [getattr(curve, which) for curve in vertices]
        return Estimates(*(np.hstack([getattr(part, name) for part in parts]) for name in ("value_S", "resampled_RS")))

    contender = Contender("mixture", "mixture of single models", "baseline", False, vertices[0].contender.outcome)
    return Curve(
        contender,
        (None,) * len(vertices),
        *(joined("reward"), joined("cost"), joined("regret_low"), joined("regret_high"), joined("gain")),
        np.vstack([curve.share_LM for curve in vertices]),
        min(curve.prompts for curve in vertices),
    )


def curve_entries(ev: Evaluation, found: Traced) -> dict[str, Any]:
    """Every policy over λ, by key."""
    highest, scale = ev.train.lambda_unit, ev.test.cost_scale
    return {
        key: {
            "label": curve.contender.label,
            "kind": curve.contender.kind,
            "servable": curve.contender.servable,
            "sees_truth": curve.contender.kind == "bound",
            "prompts": curve.prompts,
            "points": [
                {"lambda": lambda_, **_point(ev, found, curve, i), "pareto": bool(best[i])}
                for i, lambda_ in enumerate(curve.lambdas)
            ],
            "bundle_ahead": over_lambda(found.bundle, curve, highest, scale),
            **compare(curve, found.market, ev.lambdas[0]),
        }
        for (key, curve), best in zip(found.curves.items(), pareto(list(found.curves.values())), strict=True)
    }


def policy_rows(ev: Evaluation, found: Traced) -> dict[str, dict[str, Any]]:
    """Every policy at every λ asked, by its label; those that do not look at cost once."""
    rows = {"best single model": _policy(ev, found, found.market.best, None)}
    for lambda_ in ev.lambdas:
        for curve in found.curves.values():
            if curve.contender.by_lambda:
                rows[f"{curve.contender.label} λ={lambda_:.4g}"] = _policy(ev, found, curve, lambda_)
    for key, curve in found.curves.items():
        if not curve.contender.by_lambda and key != "mixture":
            rows[curve.contender.label] = _policy(ev, found, curve, None)
    return rows


def _policy(ev: Evaluation, found: Traced, curve: Curve, lambda_: float | None) -> dict[str, Any]:
    at = 0 if lambda_ is None else curve.at(lambda_)
    other = found.curves["category-best"]
    against_category_best = None
    if lambda_ is not None and curve.prompts == other.prompts:
        difference = curve.reward.column(at) - other.reward.column(other.at(lambda_))
        against_category_best = difference.interval().to_json()
    asked = ev.lambdas[0] if lambda_ is None else lambda_
    return {
        "lambda": lambda_,
        **_point(ev, found, curve, at),
        "curve": curve.contender.key,
        "label": curve.contender.label,
        "kind": curve.contender.kind,
        "sees_truth": curve.contender.kind == "bound",
        "prompts": curve.prompts,
        "against_mixture": gained_on(curve, found.market, "mixture", at),
        "against_category_best": against_category_best,
        "bundle_ahead": at_lambda(found.bundle, curve, asked, ev.test.cost_scale),
    }


def _point(ev: Evaluation, found: Traced, curve: Curve, at: int) -> dict[str, Any]:
    low, high = curve.regret_low.interval(at), curve.regret_high.interval(at)
    if curve.contender.key == "oracle":
        # What it lacks of itself: nothing at λ = 0, wherever in the bracket it lies.
        own = curve.reward.column(curve.at(0.0)) - curve.reward.column(at)
        low = high = own.from_nought().interval()
    # Against hindsight at one sample, as nothing better is known.
    regret = low if found.bracket.kind == "split-sample" else high
    point: dict[str, Any] = {}
    for name, key, figure in (
        ("reward", "reward", curve.reward.interval(at)),
        ("cost", "cost_usd", curve.cost.interval(at)),
        ("regret", "regret", regret),
    ):
        point |= {key: figure.mean, f"{name}_ci": figure.ends}
    return point | {
        "regret_bracket": [low.low, high.high],
        "share": shares_by_name(ev.test.models, curve.share_LM[at]),
        "against_best_single": curve.gain.interval(at).to_json(),
    }


def shares_by_name(models: tuple[str, ...], share_M: np.ndarray) -> dict[str, float]:
    """The models that are chosen, and how often."""
    return {name: float(share) for name, share in zip(models, share_M, strict=True) if share > 0}
