"""PURE. The bundle against one other policy, paired on the same resamples: at a λ, and over λ."""

from __future__ import annotations

from typing import Any

import numpy as np

from erp_trainer.evaluation.curves import Curve
from erp_trainer.learning.bootstrap import Estimates


def at_lambda(bundle: Curve, other: Curve, lambda_: float, cost_scale: float) -> dict[str, Any] | None:
    """The bundle's reward and utility less another policy's, both at λ; None where they were not on the same prompts.

    Parameters
    ----------
    cost_scale : turns a cost per request into what λ counts
    """
    if not _comparable(bundle, other):
        return None
    reward = bundle.reward.column(bundle.at(lambda_)) - other.reward.column(other.at(lambda_))
    utility = _utility(bundle, [lambda_], cost_scale) - _utility(other, [lambda_], cost_scale)
    return {"reward": reward.interval().to_json(), "utility": _known(utility)}


def over_lambda(bundle: Curve, other: Curve, highest: float, cost_scale: float) -> dict[str, float] | None:
    """The bundle's utility less another policy's, averaged over λ spread evenly from 0 to ``highest``.

    None where they were not on the same prompts, a cost is not known, or the grid has no second λ up to there.
    """
    lambdas = [lambda_ for lambda_ in bundle.lambdas if lambda_ is not None and lambda_ <= highest]
    if len(lambdas) < 2 or not _comparable(bundle, other):
        return None
    ahead = _utility(bundle, lambdas, cost_scale) - _utility(other, lambdas, cost_scale)
    gaps = np.diff(lambdas)
    # Trapezoids: each λ counts for half of the way to its neighbours.
    weight_L = (np.append(gaps, 0.0) + np.append(0.0, gaps)) / (2 * gaps.sum())
    return _known(Estimates(ahead.value_S[None] @ weight_L, ahead.resampled_RS @ weight_L[:, None]))


def _comparable(bundle: Curve, other: Curve) -> bool:
    """A mixture of single models has points and no λ that they belong to."""
    return bundle.prompts == other.prompts and (other.contender.by_lambda or len(other.lambdas) == 1)


def _utility(curve: Curve, lambdas: list[float], cost_scale: float) -> Estimates:
    at = [curve.at(lambda_) for lambda_ in lambdas]
    price_L = np.array(lambdas) * cost_scale
    return Estimates(
        curve.reward.value_S[at] - price_L * curve.cost.value_S[at],
        curve.reward.resampled_RS[:, at] - price_L * curve.cost.resampled_RS[:, at],
    )


def _known(estimates: Estimates) -> dict[str, float] | None:
    return None if np.isnan(estimates.value_S[0]) else estimates.interval().to_json()
