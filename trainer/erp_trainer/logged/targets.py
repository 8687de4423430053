"""PURE. Policies that a log can be asked about, each as probabilities, requests × models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from litellm_erp.choice.decision import REQUESTS_PER_LAMBDA_UNIT, first_choices, name_order

Kind = Literal["served", "routed", "lambda", "single", "mixture"]
# Models beyond which only the notable ones are shown by themselves.
_MOST_SINGLES = 12


@dataclass(frozen=True, slots=True)
class Target:
    """A policy.

    Attributes
    ----------
    policy_PM : shape (P, M), rows sum to 1
    lambda_ : of a policy that has one
    """

    key: str
    label: str
    kind: Kind
    policy_PM: np.ndarray
    lambda_: float | None = None


def one_hot(chosen_P: np.ndarray, n_models: int) -> np.ndarray:
    """Probabilities of a policy that always takes one model."""
    return (chosen_P[:, None] == np.arange(n_models)).astype(np.float64)


def chosen_at(expected_PM: np.ndarray, cost_PM: np.ndarray, lambda_: float, models: Sequence[str]) -> np.ndarray:
    """Shape (P,), int: the model of highest ER − λ · cost, by the rules by which the proxy chooses."""
    return first_choices(
        expected_PM, cost_PM, lambda_, [np.ones((len(expected_PM), 1))], tie_order_M=name_order(models)
    )[0]


def single(m: int, expected_PM: np.ndarray, otherwise_P: np.ndarray) -> np.ndarray:
    """Always one model; where it was no candidate, what would be chosen otherwise."""
    return one_hot(np.where(np.isnan(expected_PM[:, m]), otherwise_P, m), expected_PM.shape[1])


def shown_singles(reward_M: np.ndarray, cost_M: np.ndarray, served_M: np.ndarray) -> list[int]:
    """Which models are compared with by themselves, the best first: all, or the notable ones of a large pool."""
    order = np.lexsort((np.nan_to_num(cost_M, nan=np.inf), -np.nan_to_num(reward_M, nan=-np.inf)))
    known = [int(m) for m in order if not np.isnan(reward_M[m])]
    if len(known) <= _MOST_SINGLES:
        return known
    cheap = sorted(known, key=lambda m: np.nan_to_num(cost_M[m], nan=np.inf))[:2]
    busy = sorted(known, key=lambda m: -served_M[m])[:3]
    return list(dict.fromkeys([*known[:3], *cheap, *busy]))


def mixture(cost_usd: float, reward_M: np.ndarray, cost_M: np.ndarray) -> dict[int, float] | None:
    """Two single models, drawn at random, that earn most at a mean cost; None where none cost as little.

    Source: ours; the upper hull of the single models is what routing must beat.
    """
    known = [int(m) for m in np.flatnonzero(~np.isnan(reward_M) & ~np.isnan(cost_M))]
    found: tuple[float, dict[int, float]] | None = None
    for low in known:
        for high in known:
            if not cost_M[low] <= cost_usd:
                continue
            if low == high or cost_M[high] <= cost_M[low]:
                share = 0.0
            else:
                share = min(1.0, (cost_usd - cost_M[low]) / (cost_M[high] - cost_M[low]))
            reward = (1 - share) * reward_M[low] + share * reward_M[high]
            if found is None or reward > found[0] + 1e-12:
                found = reward, {low: 1 - share, high: share} if share > 0 and low != high else {low: 1.0}
    return None if found is None else {m: part for m, part in found[1].items() if part > 0}


def default_lambdas(lambda_P: np.ndarray, expected_PM: np.ndarray, cost_PM: np.ndarray) -> list[float]:
    """λ worth a look where none is asked for: 0, and around the one at work; by the pool's spread where it is 0."""
    known = lambda_P[~np.isnan(lambda_P)]
    middle = float(np.median(known)) if len(known) else 0.0
    if middle == 0:
        dear = _spread(cost_PM) * REQUESTS_PER_LAMBDA_UNIT
        middle = float(f"{_spread(expected_PM) / dear / 4:.1g}") if dear > 0 else 0.0
    return sorted({0.0, middle / 4, middle, middle * 4})


def _spread(values_PM: np.ndarray) -> float:
    """Mean difference of the highest and the lowest model, over requests where any is known; 0 where none is."""
    known = ~np.isnan(values_PM)
    low = np.where(known, values_PM, np.inf).min(axis=1)
    high = np.where(known, values_PM, -np.inf).max(axis=1)
    rows = known.any(axis=1)
    return float((high - low)[rows].mean()) if rows.any() else 0.0
