"""PURE. frontier.json: the curve a bundle's λ are solved on, and every field that serving reads of it, checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from litellm_erp.budget import Frontier
from litellm_erp.errors import BundleError
from litellm_erp.manifest import LARGEST, MAX_POINTS, entries, readable
from litellm_erp.section import Section

_REMEDY = ". Fit the bundle again"
_MAX_VERDICT = 10_000
# Shares are means of counts; their last digit may stand above one.
_MAX_SHARE = 1.0 + 1e-6


def parse_frontier(document: Any, models: Sequence[str], where: str) -> Frontier:
    """Check and read a frontier.

    Parameters
    ----------
    document : the JSON value
    models : the pool, in the manifest's order; shares, single models and the verdict may name no others

    Raises
    ------
    BundleError : a field is missing, of another type or out of range; names it
    """
    top = Section(document, f"{where}:", BundleError, remedy=_REMEDY)
    points, pool = entries(top, "points", MAX_POINTS), frozenset(models)
    for point in points:
        _check_share(point, pool)
    _check_verdict(top.section("verdict"), pool)
    lambda_L = np.array([point.number("lambda", low=0.0, high=LARGEST) for point in points])
    if not len(lambda_L) or lambda_L[0] != 0 or (np.diff(lambda_L) <= 0).any():
        raise BundleError(f"{where}: the λ of its points must ascend from 0{_REMEDY}")
    single = top.section("single_models", pool)
    singles = [single.section(name) for name in models]
    return Frontier(
        lambda_L=lambda_L,
        reward_L=np.array([_reward(point) for point in points]),
        cost_L=np.array([_cost(point) for point in points]),
        shrinkage_L=np.array([point.number("shrinkage", low=0.0, high=1.0) for point in points]),
        single_reward_M=np.array([_reward(entry) for entry in singles]),
        single_cost_M=np.array([_cost(entry) for entry in singles]),
        document=document,
    )


def _reward(entry: Section) -> float:
    return entry.number("reward", low=-LARGEST, high=LARGEST)


def _cost(entry: Section) -> float:
    found = entry.optional_number("cost_usd", low=0.0, high=LARGEST)
    return np.nan if found is None else found


def _check_share(point: Section, pool: Collection[str]) -> None:
    share = point.section("share", pool)
    for name in share:
        share.number(name, low=0.0, high=_MAX_SHARE)
    for key in ("reward_se", "cost_se"):
        point.optional_number(key, low=0.0, high=LARGEST)


def _check_verdict(verdict: Section, pool: Collection[str]) -> None:
    verdict.boolean("helps")
    if verdict.get("best_single") is not None:  # bundles of before it was recorded
        verdict.choice("best_single", pool)
    readable(verdict, "text", _MAX_VERDICT)
