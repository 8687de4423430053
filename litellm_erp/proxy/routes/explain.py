"""``POST /erp/explain``: what would be chosen for a prompt, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from litellm_erp.budgets.book import SpendBook
from litellm_erp.choice.prompt import from_request
from litellm_erp.goals.request_goal import KEY
from litellm_erp.goals.tenant import Tenant, grant
from litellm_erp.proxy.litellm_request import CLIENT_METADATA_KEY, output_limit, request_goal_in, tenant_of_caller
from litellm_erp.proxy.routes.caller import ApiError, Teams, is_admin, tenant_named
from litellm_erp.serving.deployments import Deployment, Member, capabilities_used
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.note import Decision
from litellm_erp.serving.team_view import agreed_solution, goal_json, mixture_json

_MAX_PROMPT_CHARS = 1_000_000


class Plugin(Teams, Protocol):
    """What of the plugin a decision can be asked of."""

    groups: dict[str, RoutedGroup]
    pacer: SpendBook

    def offer(self, group: str, tenant: Tenant) -> tuple[Sequence[Deployment], list[Member]]:
        """Deployments of a group that a tenant may use, whether they are up or not, and their members."""


async def explain(plugin: Plugin, auth: Any, body: object) -> dict[str, Any]:
    """What would be chosen for a prompt, and why; no model is called.

    Parameters
    ----------
    body : ``prompt`` or ``messages``; ``group`` where there is more than one; ``team`` for admins; ``erp``, as in a
        request's metadata; ``max_tokens``, ``tools``, ``response_format`` as in a request

    Raises
    ------
    ApiError : a body that makes no sense, or a team that is not the caller's
    """
    asked = _checked(body)
    tenant = tenant_of_caller(auth)
    team = asked.get("team")
    if team is not None and team not in (tenant.team_id, tenant.team_alias):
        if not is_admin(auth):
            raise ApiError(403, "this key may ask for its own team only")
        tenant = tenant_named(plugin, team)
    group = _group(plugin, asked.get("group"))
    granted = grant(group.settings, tenant, request_goal_in({KEY: asked.get(KEY)}))
    offered, members = plugin.offer(group.settings.name, tenant)
    if not offered:
        raise ApiError(409, f"group {group.settings.name!r} has no deployment that this team may use")
    messages = asked.get("messages") or [{"role": "user", "content": asked.get("prompt")}]
    request_lambda = {draw: group.lambda_of(granted, draw) for draw in (0.0, 1.0 - 1e-9)}
    ask = Ask(capabilities_used(messages, asked), output_limit({**asked, "messages": messages}))
    decisions = [
        await group.decide(
            from_request(messages, asked),
            members,
            granted,
            ask,
            draw=draw,
            shown=len(members),
            account=tenant.account,
        )
        for draw in (request_lambda if len({found.lambda_ for found in request_lambda.values()}) > 1 else [0.0])
    ]
    scale = group.state.bundle.cost_scale
    mixture = agreed_solution(group.settings, granted, group.state.bundle.frontier, plugin.pacer).mixture
    return {
        "group": group.settings.name,
        "bundle": group.state.bundle.id,
        "team": tenant.team_id,
        "goal": goal_json(granted.goal),
        "source": granted.claim.source,
        "override_ignored": granted.refused,
        "lambda": mixture_json(mixture),
        "choices": [_choice(decision, scale) for decision in decisions],
    }


def _choice(decision: Decision, scale: float) -> dict[str, Any]:
    models = [
        {
            "model": name,
            "expected_reward": decision.expected_reward.get(name),
            "expected_cost_usd": decision.expected_cost.get(name),
            "utility": _utility(decision, name, scale),
        }
        for name in decision.models
    ]
    return {
        "lambda": decision.lambda_,
        "decided_by": decision.request_lambda.claim.source,
        "model": decision.models[0],
        "reason": decision.reason,
        "models": models,
    }


def _utility(decision: Decision, name: str, scale: float) -> float | None:
    reward, cost = decision.expected_reward.get(name), decision.expected_cost.get(name)
    return None if reward is None or cost is None else reward - decision.lambda_ * scale * cost


def _group(plugin: Plugin, name: object) -> RoutedGroup:
    if name is None and len(plugin.groups) == 1:
        return next(iter(plugin.groups.values()))
    found = plugin.groups.get(name) if isinstance(name, str) else None
    if found is None:
        raise ApiError(404, f"expected group to be one of {', '.join(plugin.groups) or 'none: nothing is routed'}")
    return found


def _checked(body: object) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise ApiError(400, "expected a JSON object with a prompt or messages")
    prompt, messages, team = body.get("prompt"), body.get("messages"), body.get("team")
    if not (isinstance(prompt, str) and prompt) and not (isinstance(messages, list) and messages):
        raise ApiError(400, "expected a prompt (text) or messages (a list)")
    if isinstance(prompt, str) and len(prompt) > _MAX_PROMPT_CHARS:
        raise ApiError(413, f"a prompt of more than {_MAX_PROMPT_CHARS} characters")
    if team is not None and not isinstance(team, str):
        raise ApiError(400, "expected team to be text")
    return {key: value for key, value in body.items() if key not in ("model", "input", CLIENT_METADATA_KEY)}
