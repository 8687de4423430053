"""The plugin's own routes on LiteLLM's app: ``GET /erp/teams``, ``GET /erp/teams/{team}``, ``POST /erp/explain``.

Who calls is LiteLLM's to say (its own dependency checks the key). An admin's key sees every team, any other its own
team only. Nothing here calls a model, and no prompt is logged or kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.totals import Totals
from litellm_erp.choice.prompt import from_request
from litellm_erp.errors import ErpError
from litellm_erp.goals.request_goal import KEY
from litellm_erp.goals.tenant import Tenant, grant
from litellm_erp.proxy.litellm_request import CLIENT_METADATA_KEY, output_limit, request_goal_in, tenant_of_caller
from litellm_erp.serving.deployments import Deployment, Member, capabilities_used
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.note import Decision
from litellm_erp.serving.sharing import BudgetSharing
from litellm_erp.serving.team_view import account_of, agreed_solution, goal_json, mixture_json, team_view

# As FastAPI has them: a team's id may hold a slash.
ROUTES = ("/erp/teams", "/erp/teams/{team:path}", "/erp/explain")
_ADMINS = frozenset({"proxy_admin", "proxy_admin_viewer"})
_MAX_PROMPT_CHARS = 1_000_000


class Plugin(Protocol):
    """What the routes show."""

    groups: dict[str, RoutedGroup]
    totals: Totals
    pacer: SpendBook
    sharing: BudgetSharing

    def tenants(self) -> list[Tenant]:
        """Every team that is known of."""

    def offer(self, group: str, tenant: Tenant) -> tuple[Sequence[Deployment], list[Member]]:
        """Deployments of a group that a tenant may use, whether they are up or not, and their members."""


class ApiError(Exception):
    """A request that gets an answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def mount(plugin: Plugin) -> None:
    """Add the routes to the app of this process's proxy.

    LiteLLM refuses unknown routes to keys that are not an admin's, unless they stand among those whose function
    decides itself who may call it.
    """
    from fastapi import APIRouter, Body, Depends
    from fastapi.responses import JSONResponse, Response
    from litellm.proxy._types import LiteLLMRoutes
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

    app = sys.modules["litellm.proxy.proxy_server"].app
    for route in ROUTES:
        if route not in LiteLLMRoutes.self_managed_routes.value:
            LiteLLMRoutes.self_managed_routes.value.append(route)
    routes = APIRouter(prefix="/erp", tags=["expected reward routing"])
    caller, sent = Depends(user_api_key_auth), Body(None)

    def answer(content: object, status: int = 200) -> Response:
        # In ASCII, since no UTF-8 can be made of a name with a lone surrogate.
        return Response(json.dumps(content, allow_nan=False), status, media_type=JSONResponse.media_type)

    @routes.get("/teams")
    async def teams(auth: Any = caller) -> Response:
        # Looking names the accounts that are to be asked for.
        every_team(plugin, auth)
        await plugin.sharing.refresh()
        return answer({"teams": every_team(plugin, auth)})

    @routes.get("/teams/{team:path}")
    async def team(team: str, auth: Any = caller) -> Response:
        try:
            one_team(plugin, auth, team)
            await plugin.sharing.refresh()
            return answer({"teams": one_team(plugin, auth, team)})
        except ApiError as e:
            return answer({"error": {"message": e.message}}, e.status)

    @routes.post("/explain")
    async def explain_route(body: Any = sent, auth: Any = caller) -> Response:
        try:
            return answer(await explain(plugin, auth, body))
        except ApiError as e:
            return answer({"error": {"message": e.message}}, e.status)
        except ErpError as e:
            return answer({"error": {"message": str(e)}}, 503)

    app.include_router(routes)


def is_admin(auth: Any) -> bool:
    """Whether a caller sees every team."""
    return str(getattr(auth.user_role, "value", auth.user_role)) in _ADMINS


def every_team(plugin: Plugin, auth: Any) -> list[dict[str, Any]]:
    """What an admin sees of all teams: those in the settings and those that have sent requests; else one's own."""
    if not is_admin(auth):
        return _views(plugin, tenant_of_caller(auth))
    tenants = {tenant.team_account: tenant for tenant in plugin.tenants()}
    return [view for tenant in tenants.values() for view in _views(plugin, tenant)]


def one_team(plugin: Plugin, auth: Any, team: str) -> list[dict[str, Any]]:
    """One team in every group.

    Raises
    ------
    ApiError : the caller is neither an admin nor of that team, or there is no such team
    """
    own = tenant_of_caller(auth)
    if team in (own.team_id, own.team_alias):
        return _views(plugin, own)
    if not is_admin(auth):
        raise ApiError(403, f"this key may see its own team only, not {team[:80]!r}")
    return _views(plugin, _named(plugin, team))


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
        tenant = _named(plugin, team)
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


def _views(plugin: Plugin, tenant: Tenant) -> list[dict[str, Any]]:
    return [
        team_view(
            group.settings,
            group.state.bundle.frontier,
            tenant,
            cost_scale=group.state.bundle.cost_scale,
            spent=plugin.totals.view(name, account_of(tenant)),
            pacer=plugin.pacer,
            sharing=plugin.sharing.status(),
        )
        for name, group in plugin.groups.items()
    ]


def _named(plugin: Plugin, team: str) -> Tenant:
    for tenant in plugin.tenants():
        if team in (tenant.team_id, tenant.team_alias):
            return tenant
    raise ApiError(404, f"no team {team[:80]!r} in the settings, and none of that name has sent a request")


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
