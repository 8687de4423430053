"""What a team gets and why, in words and numbers that people read: for the command line and for the proxy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from litellm_erp.budgets.account import WindowStatus
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.totals import AccountView, Sharing
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.curve import Mixture, Solution
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.lambda_of import Pacer, agreed_mixture
from litellm_erp.goals.request_goal import RequestGoal
from litellm_erp.goals.settings import GroupSettings, Override
from litellm_erp.goals.solve import at_lambdas, solve
from litellm_erp.goals.tenant import GROUP_ACCOUNT, Claim, Grant, Tenant, grant, mode_of

Z95 = 1.959964


_PROBE = RequestGoal(Goal("lambda", 0.0))


def team_view(
    group: GroupSettings,
    frontier: Frontier,
    tenant: Tenant,
    *,
    cost_scale: float = 1000.0,
    spent: AccountView | None = None,
    pacer: SpendBook | None = None,
    sharing: Sharing | None = None,
) -> dict[str, Any]:
    """One team in one group: its goal and who stated it, its λ now, what the frontier expects, what was spent.

    ``lambda`` is what requests get while there is money: within bounds, and never below that of a budget above; and
    ``expected`` is what the frontier expects at just that λ. Without a pacer both are what a proxy starts with.

    Parameters
    ----------
    tenant : the team, or a key of it
    cost_scale : costs per unit of λ, as ``Bundle.cost_scale``
    spent : the account's sums; None leaves them out
    sharing : whose sums these are
    """
    granted = grant(group, tenant)
    mode, mode_problem = mode_of(group, tenant)
    claim = granted.claim
    solution = agreed_solution(group, granted, frontier, pacer)
    account = None if pacer is None else pacer.tick(group.name, claim, frontier)
    status = None if account is None else account.status()
    view: dict[str, Any] = {
        "group": group.name,
        "team": tenant.team_id,
        "alias": tenant.team_alias,
        "goal": goal_json(claim.goal),
        "source": claim.source,
        "why": _why(granted),
        "lambda": mixture_json(solution.mixture),
        "paced": account is not None and account.mixture is not None,
        "expected": expectation(solution, frontier, cost_scale),
        "allow_override": override_json(override_of(group, tenant)),
        "mode": mode.to_json(),
        "baseline": mode.baseline,
    }
    if problem := granted.problem or mode_problem:
        view["problem"] = problem
    if spent is not None:
        view["spent"] = account_json(spent)
        if sharing is not None:
            view["spent"] |= sharing.to_json()
    if status is not None:
        view["window"] = window_json(status)
    return view


def agreed_solution(group: GroupSettings, granted: Grant, frontier: Frontier, pacer: Pacer | None = None) -> Solution:
    """λ of a grant's requests while there is money, and what the frontier expects of it.

    The only place that answers this for people: the proxy's routes, the doctor and the command line ask it.
    """
    own = solve(granted.goal, frontier)
    parts = agreed_mixture(group.name, granted, frontier, lambda goal: solve(goal, frontier).mixture, pacer)
    found = at_lambdas(frontier, parts, reached=own.reached)
    # A goal that nothing moves is met exactly, on the line between two points of the curve.
    return own if _same(found.mixture, own.mixture) else found


def _same(a: Mixture, b: Mixture) -> bool:
    return a.low == b.low and a.high == b.high and math.isclose(a.share_high, b.share_high, abs_tol=1e-9)


def expectation(solution: Solution, frontier: Frontier, cost_scale: float) -> dict[str, Any]:
    """What the out-of-fold curve expects of a solution, with 95% intervals where the bundle recorded standard errors.

    Two λ are measured on the same prompts, so the standard error of their mixture is at most the mixture of theirs;
    that bound is what is given.
    """
    points = frontier.document["points"]

    def spread(key: str) -> float | None:
        found = [points[i].get(key) for i, _ in solution.points]
        if any(value is None for value in found):
            return None
        return Z95 * sum(value * weight for value, (_, weight) in zip(found, solution.points, strict=True))

    return {
        "reached": solution.reached,
        "reward": solution.reward,
        "reward_ci": _around(solution.reward, spread("reward_se"), 1.0),
        "cost_per_1k" if cost_scale == 1.0 else "usd_per_1k_requests": _number(solution.cost * 1000.0),
        "cost_ci": _around(solution.cost, spread("cost_se"), 1000.0),
        "share": share(solution, frontier),
    }


def share(solution: Solution, frontier: Frontier) -> dict[str, float]:
    """Share of requests by pool model, largest first."""
    found: dict[str, float] = {}
    for point, weight in solution.points:
        for name, part in frontier.document["points"][point]["share"].items():
            found[name] = found.get(name, 0.0) + weight * part
    return dict(sorted(((n, s) for n, s in found.items() if s > 0), key=lambda item: -item[1]))


def goal_json(goal: Goal) -> dict[str, Any]:
    """A goal as it stands in settings."""
    window = goal.window
    options = (
        {} if window is None else {name: getattr(window, name) for name in ("per", "timezone", "on_exhausted", "count")}
    )
    return {goal.form: goal.value, **options}


def mixture_json(mixture: Mixture) -> dict[str, float]:
    """A mixture by name; one λ where there is only one."""
    if mixture.low == mixture.high or mixture.share_high in (0.0, 1.0):
        return {"lambda": mixture.at(0.0)}
    return {"lambda_low": mixture.low, "lambda_high": mixture.high, "share_high": mixture.share_high}


def mixture_text(mixture: Mapping[str, float]) -> str:
    """``mixture_json`` for a reader."""
    if "lambda" in mixture:
        return f"λ = {mixture['lambda']:.4g}"
    high = mixture["share_high"]
    return (
        f"λ = {mixture['lambda_high']:.4g} for {high:.0%}, {mixture['lambda_low']:.4g} for {1 - high:.0%} of requests"
    )


def mode_text(view: Mapping[str, Any]) -> str:
    """Whether what is decided serves, for a reader."""
    mode, baseline = view["mode"], view["baseline"]
    others = f"the model {baseline}" if baseline else "LiteLLM's own order"
    if mode == "route":
        return "what is decided serves"
    if mode == "shadow":
        return f"shadow: decided and recorded; {others} serves"
    return f"what is decided serves {mode['percent']:g}% of users; {others} serves the others"


def cost_text(expected: Mapping[str, Any]) -> str | None:
    """The cost of an ``expectation`` for a reader, with its unit; None where it is not known."""
    usd, relative = expected.get("usd_per_1k_requests"), expected.get("cost_per_1k")
    if usd is not None:
        return f"{usd:.4g} USD per 1,000 requests"
    return None if relative is None else f"a relative cost of {relative:.4g} per 1,000 requests"


def override_json(override: Override) -> bool | list[float | None]:
    """Bounds as they stand in settings; no upper bound is null."""
    if not override.allowed:
        return False
    return [override.low, None if math.isinf(override.high) else override.high]


def override_of(group: GroupSettings, tenant: Tenant) -> Override:
    """What a key or a request of a tenant may still move; nothing where nobody gave leave."""
    probe = grant(group, tenant, request_goal=_PROBE)
    return Override() if probe.claim.source != "request" or probe.bounds is None else probe.bounds


def account_json(spent: AccountView) -> dict[str, Any]:
    """An account's sums, and what follows from them."""
    return {
        "requests": spent.requests,
        "usd": spent.spend_usd,
        "usd_per_1k_requests": 1000.0 * spent.spend_usd / spent.requests if spent.requests else None,
        "saved_against_best_single": spent.saved,
        "share": _shares(spent.by_model, spent.requests),
    }


def window_json(status: WindowStatus) -> dict[str, Any]:
    """The state of a budget."""
    left = status.budget_usd - status.spent_usd - status.reserved_usd
    return {
        "budget_usd": status.budget_usd,
        "spent_usd": status.spent_usd,
        "reserved_usd": status.reserved_usd,
        "remaining_usd": left,
        "starts": _number(status.starts),
        "ends": _number(status.ends),
        "lambda": status.lambda_,
    }


def account_of(tenant: Tenant) -> str:
    """The account a team's spend is counted under."""
    return tenant.account or GROUP_ACCOUNT


def _why(granted: Grant) -> str:
    claim: Claim = granted.claim
    said = {
        "settings": "erp_settings name the team",
        "team": "the team's metadata in LiteLLM",
        "key": "the key's metadata in LiteLLM",
        "group": "nothing is set for the team: the group's policy",
        "request": "the request asked for it",
    }[claim.source]
    if granted.bounds is not None:
        said += f", within λ from {granted.bounds.low:g} to {granted.bounds.high:g}"
    if granted.floors:
        said += "; never below the λ of the budget above it"
    if granted.refused:
        said += "; what the key states is ignored: nothing above allows it"
    return said


def _shares(by_model: Mapping[str, int], requests: int) -> dict[str, float]:
    return {name: n / requests for name, n in sorted(by_model.items(), key=lambda item: -item[1])}


def _around(value: float, half: float | None, scale: float) -> list[float] | None:
    return None if half is None or math.isnan(value) else [(value - half) * scale, (value + half) * scale]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
