"""A goal solved on a bundle's frontier, as people want to read it, and the curve it was read off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from erp_trainer.console import paragraph
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import FORMS, Goal
from litellm_erp.goals.solve import reachable, solve
from litellm_erp.serving.team_view import expectation, mixture_json

WIDTH, HEIGHT = 64, 16


def calibrate(bundle: Bundle, policy: Goal) -> dict[str, Any]:
    """Solve a goal on a bundle.

    Returns
    -------
    JSON values: the λ or the two, expected reward and cost with intervals, the mix, the curve, and, where the goal
    cannot be reached, what can

    Raises
    ------
    SettingsError : a budget in USD on a bundle whose costs are relative
    """
    relative = bundle.manifest.cost_kind != "usd"
    form = FORMS[policy.form]
    if relative and form.money:
        raise SettingsError(
            f"{bundle.path}: {policy.form} is in USD, and the bundle's costs are relative; use "
            f"{' or '.join(form.option for form in FORMS.values() if form.option and not form.money)}, or fit with "
            "--prices in USD"
        )
    frontier = bundle.frontier
    solution = solve(policy, frontier)
    payload: dict[str, Any] = {
        "bundle": bundle.id,
        "goal": {policy.form: policy.value},
        "lambda": mixture_json(solution.mixture),
        "expected": expectation(solution, frontier, bundle.cost_scale),
        "out_of_fold": True,
        "reward_unit": bundle.manifest.reward.get("unit", "reward"),
        "cost_unit": "relative cost of 1,000 requests" if relative else "USD per 1,000 requests",
        "curve": _curve(frontier),
        "single_models": frontier.document["single_models"],
        "remedy": reachable(policy, frontier, cost_kind=bundle.manifest.cost_kind),
    }
    if form.floor is not None:
        payload["floor_reward"] = form.floor(frontier, policy.value)
    return payload


def _curve(frontier: Frontier) -> list[dict[str, Any]]:
    on_envelope = set(frontier.envelope.tolist())
    return [
        {
            "lambda": float(frontier.lambda_L[i]),
            "reward": float(frontier.reward_L[i]),
            "cost_per_1k": float(frontier.cost_L[i] * 1000.0),
            "envelope": i in on_envelope,
        }
        for i in range(len(frontier.lambda_L))
    ]


def curve_lines(payload: Mapping[str, Any]) -> list[str]:
    """The curve as lines of text: ``·`` points, ``o`` on the envelope, ``+`` single models, ``X`` the goal."""
    expected = payload["expected"]
    at = (_cost(expected), expected["reward"])
    marks = [(p["cost_per_1k"], p["reward"], "o" if p["envelope"] else "·") for p in payload["curve"]]
    lowest = min(reward for _, reward, _ in marks)
    # Models far below the curve would flatten it.
    marks += [
        (model["cost_usd"] * 1000.0, model["reward"], "+")
        for model in payload["single_models"].values()
        if model["cost_usd"] is not None and model["reward"] >= lowest
    ]
    marks = [mark for mark in marks if np.isfinite(mark[:2]).all()]
    if not marks or at[0] is None:
        return []
    marks.append((at[0], at[1], "X"))
    xs, ys = (np.array([mark[axis] for mark in marks], dtype=np.float64) for axis in (0, 1))
    # Prices span orders of magnitude; a free model has no logarithm.
    scaled = np.log(xs) if xs.min() > 0 and xs.max() > 5 * xs.min() else xs
    columns, rows = _cells(scaled, WIDTH), _cells(ys, HEIGHT)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    # Drawn in this order, so that what matters more lies on top.
    for wanted in "·+oX":
        for (_, _, sign), x, y in zip(marks, columns, rows, strict=True):
            if sign == wanted:
                grid[HEIGHT - 1 - y][x] = sign
    lines = ["".join(line) for line in grid]
    labels = [f"{ys.max():.4g}", *[""] * (HEIGHT - 2), f"{ys.min():.4g}"]
    axis = f"{xs.min():.3g}".ljust(WIDTH - 8) + f"{xs.max():.3g}".rjust(8)
    return [f"{label:>8} │{line}" for label, line in zip(labels, lines, strict=True)] + [
        f"{'':>8} └{'─' * WIDTH}",
        f"{'':>10}{axis}",
        f"{'':>10}{payload['cost_unit']}{' (log)' if scaled is not xs else ''}; "
        "X the goal, o envelope, · other λ, + single models (not those below)",
    ]


def _cost(expected: Mapping[str, Any]) -> float | None:
    found: float | None = expected.get("usd_per_1k_requests", expected.get("cost_per_1k"))
    return found


def _cells(values: np.ndarray, n: int) -> list[int]:
    span = np.ptp(values) or 1.0
    cells: list[int] = np.minimum((values - values.min()) / span * n, n - 1).astype(int).tolist()
    return cells


def calibration_text(payload: Mapping[str, Any]) -> str:
    """The payload as readable lines, the curve below them."""
    expected, goal = payload["expected"], payload["goal"]
    lambda_ = payload["lambda"]
    if "lambda" in lambda_:
        said = f"λ = {lambda_['lambda']:.6g} for every request"
    else:
        high = lambda_["share_high"]
        said = (
            f"λ = {lambda_['lambda_high']:.6g} for {high:.1%} of the requests, {lambda_['lambda_low']:.6g} for the "
            f"other {1 - high:.1%}"
        )
    cost = _cost(expected)
    unit = "" if payload["reward_unit"] == "reward" else f" {payload['reward_unit']}"
    lines = [
        f"{next(iter(goal))} {next(iter(goal.values())):g} on bundle {payload['bundle']}",
        said,
        f"expected reward {expected['reward']:.4f}{_interval(expected['reward_ci'])}{unit}",
        f"expected cost   {'unknown' if cost is None else f'{cost:.5g}'}{_interval(expected['cost_ci'])} "
        f"{payload['cost_unit']}",
        "mix             " + ", ".join(f"{name} {part:.1%}" for name, part in expected["share"].items()),
    ]
    if "floor_reward" in payload:
        lines.append(f"floor           mean reward {payload['floor_reward']:.4f}")
    if payload["remedy"]:
        lines.append(paragraph(payload["remedy"]))
    return "\n".join([*lines, "", *curve_lines(payload)])


def _interval(found: list[float] | None) -> str:
    return "" if found is None else f" (95% interval {found[0]:.4g} to {found[1]:.4g})"
