"""PURE. Several evaluations as one table, and a curve of rewards read off at costs that others published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.complexity_router import Compared

Payload = Mapping[str, Any]

_MIXTURE, _SINGLE = "mixture of single models", "best single model"
# What ParetoBandit reports of its router with three models, by USD per 1,000 requests: mean reward (arXiv 2604.00136).
PUBLISHED = ((0.23, 0.859), (0.65, 0.898))


def over_all(payloads: Mapping[str, Payload], beside: Mapping[str, Compared]) -> list[str]:
    """Every policy that all data sets have, as Markdown: mean ranks, and how often the bundle is clearly ahead.

    Parameters
    ----------
    payloads : of `erp-train evaluate`, by data set
    beside : LiteLLM's complexity_router on the same, by data set; it has no λ, and so no rank over budgets
    """
    at_zero = [_rewards(payload, beside.get(name)) for name, payload in payloads.items()]
    areas = [_areas(payload) for payload in payloads.values()]
    names = [name for name in at_zero[0] if all(name in found for found in at_zero)]
    names += [name for name in areas[0] if name not in names and all(name in found for found in areas)]
    ranked, ranked_area = (_mean_ranks(found, names) for found in (at_zero, areas))
    duels = [_duels(payload) for payload in payloads.values()]
    rows = sorted(names, key=lambda name: (ranked_area.get(name, np.inf), ranked.get(name, np.inf)))
    heads = ("policy", "mean rank, λ = 0", "mean rank over budgets", "ERP clearly ahead, behind: λ = 0", "over λ")
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for name in rows:
        own = all(name == next(iter(found)) for found in at_zero)
        cells = [name, _number(ranked.get(name)), _number(ranked_area.get(name))]
        cells += ["", ""] if own else [_clear(found.get(name, (None, None))[i] for found in duels) for i in (0, 1)]
        lines.append(_line([f"**{cell}**" if own and cell else cell for cell in cells]))
    return lines


def _rewards(payload: Payload, router: Compared | None) -> dict[str, float]:
    """Mean reward at λ = 0 of what could be used instead, the bundle first; a bound could not."""
    asked = [row for row in payload["policies"].values() if row["lambda"] in (0.0, None) and row["kind"] != "bound"]
    best = f"single:{payload['verdict']['best_single']}"
    found = {
        _SINGLE if row["curve"] == best else row["label"]: row["reward"]
        for row in asked
        if row["kind"] != "single" or row["curve"] == best
    }
    if router is not None:
        found |= {f"LiteLLM complexity_router, tiers {way.name}": way.reward for way in router.settings}
    own = next(iter(payload["curves"].values()))["label"]
    return {own: found.pop(own), **found}


def _areas(payload: Payload) -> dict[str, float]:
    best = f"single:{payload['verdict']['best_single']}"
    return {
        _SINGLE if key == best else curve["label"]: curve["area"]["mean"]
        for key, curve in payload["curves"].items()
        if curve["area"] is not None and curve["kind"] != "bound" and (curve["kind"] != "single" or key == best)
    }


def _duels(payload: Payload) -> dict[str, tuple[Any, Any]]:
    """The bundle's reward at λ = 0, and its utility over λ, less that of each other policy: two intervals."""
    best = f"single:{payload['verdict']['best_single']}"
    at_zero = {
        row["curve"]: (row["bundle_ahead"] or {}).get("reward")
        for row in payload["policies"].values()
        if row["lambda"] in (0.0, None)
    }
    return {
        _SINGLE if key == best else curve["label"]: (at_zero.get(key), curve["bundle_ahead"])
        for key, curve in payload["curves"].items()
    }


def _mean_ranks(found: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Mean place, 1 the best, among the names that all data sets have; equals share the middle of theirs."""
    common = [name for name in names if all(name in values for values in found)]
    ranks = []
    for values in found:
        reward = np.array([values[name] for name in common])
        above = (reward[None] > reward[:, None] + 1e-9).sum(axis=1)
        level = (np.abs(reward[None] - reward[:, None]) <= 1e-9).sum(axis=1)
        ranks.append(above + (level + 1) / 2)
    return dict(zip(common, np.mean(ranks, axis=0).tolist(), strict=True)) if common else {}


def _clear(intervals: Iterable[Any]) -> str:
    known = [interval for interval in intervals if interval is not None]
    if not known:
        return ""
    ahead, behind = sum(i["low"] > 0 for i in known), sum(i["high"] < 0 for i in known)
    return f"{ahead}, {behind} of {len(known)}"


def beside_published(payload: Payload) -> list[str]:
    """ParetoBandit's published points beside the bundle and single models mixed, at the same mean cost, as Markdown."""
    heads = ("USD per 1,000 requests", "ParetoBandit, as published", "ERP (95% interval)", _MIXTURE)
    own = next(iter(payload["curves"]))
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for cost, reward in PUBLISHED:
        ours, low, high = (_at(payload, own, cost, end) for end in ("reward", 0, 1))
        mixed = _at(payload, "mixture", cost, "reward")
        lines.append(_line([f"{cost}", f"{reward:.3f}", f"{ours:.3f} ({low:.3f} to {high:.3f})", f"{mixed:.3f}"]))
    return lines


def _at(payload: Payload, key: str, cost: float, which: str | int) -> float:
    """A curve's reward, or an end of its interval, at a mean cost, between two λ by mixing them."""
    points = payload["curves"][key]["points"]
    scale = payload["cost"]["scale"]
    values = [point["reward"] if which == "reward" else point["reward_ci"][which] for point in points]
    order = np.argsort([point["cost_usd"] for point in points], kind="stable")
    costs = np.array([point["cost_usd"] * scale for point in points])[order]
    return float(np.interp(cost, costs, np.array(values)[order]))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
