"""The λ that meets a goal. Everything is solved on a bundle's frontier, so nothing here looks at a request."""

from __future__ import annotations

from collections.abc import Sequence

from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.curve import Mixture, Solution, one_lambda
from litellm_erp.goals.goal import FORMS, Goal


def solve(goal: Goal, frontier: Frontier) -> Solution:
    """Find the λ of a goal on a frontier. Where no point meets it, the nearest is taken; ``reached`` is False then."""
    return FORMS[goal.form].solve(frontier, goal.value)


def at_lambdas(frontier: Frontier, parts: Sequence[tuple[float, float]], *, reached: bool = True) -> Solution:
    """What a frontier expects of several λ, each for a share of the requests.

    Parameters
    ----------
    parts : each λ and its share, highest λ first; shares sum to 1
    """
    found = [(one_lambda(frontier, lambda_), share) for lambda_, share in parts]
    points: dict[int, float] = {}
    for solution, share in found:
        for point, weight in solution.points:
            points[point] = points.get(point, 0.0) + share * weight
    return Solution(
        # Between the highest and the lowest there may be one more, where a budget stands above a budget.
        Mixture(parts[-1][0], parts[0][0], 0.0 if len(parts) == 1 else 1.0 - parts[-1][1]),
        reward=float(sum(share * solution.reward for solution, share in found)),
        cost=float(sum(share * solution.cost for solution, share in found)),
        reached=reached,
        points=tuple(points.items()),
    )


def reachable(goal: Goal, frontier: Frontier, *, cost_kind: str) -> str | None:
    """What can be reached, where a goal cannot; None where it can.

    Parameters
    ----------
    cost_kind : of the bundle; ``usd`` or relative
    """
    if solve(goal, frontier).reached:
        return None
    hull = frontier.envelope
    if len(hull) == 0:
        return f"{goal.form} {goal.value:g} cannot be met: no cost is known; fit with --prices"
    unit = "USD per 1,000 requests" if cost_kind == "usd" else "relative cost of 1,000 requests"
    cheap, best = (
        f"{frontier.cost_L[i] * 1000:.4g} {unit} at mean reward {frontier.reward_L[i]:.4g}" for i in (hull[0], hull[-1])
    )
    return f"{goal.form} {goal.value:g} cannot be reached; what can: from {cheap} to {best}"
