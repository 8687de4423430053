"""Deployments that stand for several pool models: which of them a request can be served by, and what is then sent.

A client's own word wins: an arm that says otherwise is no candidate, and its limit of the answer is never raised.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from litellm_erp.effort import LIMITS, effort_of, limit_of
from litellm_erp.proxy.litellm_request import call_type_of, limit_in, map_of, route_of
from litellm_erp.proxy.litellm_router import budget_of, hands_on
from litellm_erp.serving.deployments import Deployment, Member
from litellm_erp.serving.note import Note
from litellm_erp.telemetry import Once

# Those that have words for effort.
ROUTES = ("chat", "responses", "messages")
_ROUTES = {
    "completion": "chat",
    "responses": "responses",
    "anthropic_messages": "messages",
    "text_completion": "completions",
}
# Under which names a route takes a limit of the answer; what else it takes is below.
_LIMIT = {"responses": "max_output_tokens", "messages": "max_tokens", "completions": "max_tokens"}
_THINKS = ("enabled", "adaptive")
# As Anthropic documents it: what thinking does not go together with.
_LEAST_TOP_P = 0.95
_FREE_TOOLS = ("auto", "none")
_MAX_KNOWN = 4096
_once = Once()
_known: dict[tuple[object, ...], bool] = {}


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says itself of what arms differ in.

    Attributes
    ----------
    effort : as ``reasoning_effort`` and ``thinking``, in whatever words its route has for it
    limit : of its answer, in tokens; None without one
    forbids_thinking : whether it asks for something that a model does not do while it thinks
    """

    route: str
    effort: Mapping[str, Any]
    limit: float | None
    forbids_thinking: bool


def said_by(request: Mapping[str, Any]) -> Said:
    """Read a request before its deployment is chosen; what is odd counts as not there."""
    effort: dict[str, Any] = {}
    sources = (map_of(request.get("extra_body")), request)
    for source in sources:
        stated = {
            "thinking": source.get("thinking"),
            "reasoning_effort": _effort_in(source.get("reasoning_effort"))
            or map_of(source.get("reasoning")).get("effort")
            or map_of(source.get("output_config")).get("effort"),
        }
        effort |= {name: value for name, value in stated.items() if value is not None}
    route = _route(call_type_of(request), request)
    limits = [limit for source in sources if (limit := limit_in(source, route)) is not None]
    return Said(route, effort, min(limits, default=None), any(map(_forbids_thinking, sources)))


def _effort_in(stated: object) -> Any:
    """The effort that ``reasoning_effort`` states, a word or, with other things, in a map."""
    return stated.get("effort") if isinstance(stated, Mapping) else stated


class Spread(NamedTuple):
    """Deployments with their members, one for each arm that can serve a request.

    Attributes
    ----------
    is_own : whether the request leaves none, so that it goes to deployments as they are
    """

    offered: list[Deployment]
    members: list[Member]
    is_own: bool


def spread(deployments: Sequence[Deployment], members: Sequence[Member], said: Said) -> Spread:
    """Offer deployments as the pool models that they stand for; never nothing."""
    pairs = list(zip(deployments, members, strict=True))
    # Where a client says how much to think, a model that cannot be told so would refuse the request.
    able = [pair for pair in pairs if not said.effort or _takes(*pair, said.route, said.effort)] or pairs
    found = [(d, one) for d, member in able for one in (_fitting(d, member, said) if member.arms else (member,))]
    kept = found or able
    return Spread([d for d, _ in kept], [one for _, one in kept], not found)


def _fitting(deployment: Deployment, member: Member, said: Said) -> list[Member]:
    able = [arm for arm in member.arms if _serves(deployment, arm, said)]
    if not said.effort:
        return able
    agreeing = [arm for arm in able if effort_of(arm.parameters or {}) == said.effort]
    return agreeing or [arm for arm in able if not effort_of(arm.parameters or {})]


def _serves(deployment: Deployment, arm: Member, said: Said) -> bool:
    """Whether a request can be sent with an arm's parameters without being refused for them."""
    parameters = arm.parameters or {}
    if not parameters:
        return True
    thinking, model = map_of(parameters.get("thinking")), str(map_of(deployment.get("litellm_params")).get("model"))
    effort = parameters.get("reasoning_effort")
    budgets: list[Any] = [thinking.get("budget_tokens"), map_of(said.effort.get("thinking")).get("budget_tokens")]
    if effort is not None and "claude" in model:
        # LiteLLM makes a budget of it.
        budgets.append(budget_of(effort))
    budget = max([tokens for tokens in budgets if _is_limit(tokens)], default=0)
    if min(said.limit or math.inf, limit_of(parameters) or math.inf) <= budget:
        return False
    if said.forbids_thinking and (thinking.get("type") in _THINKS or (effort is not None and "claude" in model)):
        return False
    return spelled(said.route, parameters) is not None and _takes(deployment, arm, said.route, effort_of(parameters))


def _takes(deployment: Deployment, member: Member, route: str, names: Collection[str]) -> bool:
    """As ``hands_on``, which takes LiteLLM long to say."""
    key = (member, route, *names)
    if key not in _known:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = hands_on(deployment, route, names)
        if not _known[key] and member.parameters:
            said = f"deployment {member.id!r}: LiteLLM sends its model no {' and no '.join(names)} on route {route!r}"
            _once.warn(f"{said}, so {member.pool_model!r} is not served there (docs/configuration.md says what helps)")
    return _known[key]


def spelled(route: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """An arm's parameters in the words of a route; None where it has none for them.

    LiteLLM drops without a word what a route does not know by name.
    """
    effort, limit = effort_of(parameters), limit_of(parameters)
    if route == "chat":
        return dict(parameters)
    if route not in _LIMIT:
        return None if parameters else {}
    fields: dict[str, Any] = {} if limit is None else {_LIMIT[route]: limit}
    if route == "messages":
        return fields | effort
    if route == "responses" and not effort.keys() - {"reasoning_effort"}:
        return fields | ({"reasoning": {"effort": effort["reasoning_effort"]}} if effort else {})
    return None if effort else fields


def with_parameters(
    kwargs: Mapping[str, Any], call_type: object, note: Note, deployment_id: str, *, is_picked: bool
) -> dict[str, Any] | None:
    """A call of a deployment as the arm that a pick left in, noted as such; None where it is called as it is.

    Parameters
    ----------
    is_picked : whether it is called for the group that was picked for; after a fallback another group's deployments
        are called as they are, also where they are the same ones
    """
    arm = note.left_as.get(deployment_id) if is_picked else None
    outer = call_type_of(kwargs)
    inner = str(getattr(call_type, "value", call_type) or outer)
    if arm is not None and outer and inner.removeprefix("a") != outer.removeprefix("a"):
        # LiteLLM has translated the route into another, with the parameters that were put in before.
        return None
    fields = None if arm is None else spelled(_route(inner, kwargs), arm.parameters or {})
    if arm is None or fields is None:
        note.calls_plainly(deployment_id)
        return None
    note.calls_as(arm)
    return {**kwargs, **_within(kwargs, fields)}


def _within(kwargs: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that raise no limit, and leave what else a field says."""
    found = dict(fields)
    if "reasoning" in found:
        found["reasoning"] = {**map_of(kwargs.get("reasoning")), **found["reasoning"]}
    if isinstance(stated := kwargs.get("reasoning_effort"), Mapping) and "reasoning_effort" in found:
        found["reasoning_effort"] = {**stated, "effort": found["reasoning_effort"]}
    extra = map_of(kwargs.get("extra_body"))
    for name in (*LIMITS, "max_output_tokens"):
        if name in fields:
            limit = found.pop(name)
            names = LIMITS if name in LIMITS else (name,)
            lowered, lowered_extra = _lowered(kwargs, names, limit), _lowered(extra, names, limit)
            found |= lowered
            if lowered_extra:
                # It is sent over what stands beside it.
                extra = {**extra, **lowered_extra}
                found["extra_body"] = extra
            elif not lowered:
                found[name] = limit
    return found


def _lowered(stated: Mapping[str, Any], names: Iterable[str], limit: float) -> dict[str, Any]:
    """The limits that are stated, none above another; what is no limit is the client's to be told of."""
    found = {name: value for name in names if (value := stated.get(name)) is not None}
    return {name: min(value, limit) if _is_limit(value) else value for name, value in found.items()}


def _is_limit(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1


def _route(call_type: str, request: Mapping[str, Any]) -> str:
    """The route of a kind of call; "" of what is no conversation. Without a proxy LiteLLM does not say the kind."""
    if not call_type:
        return route_of(request)
    return _ROUTES.get(call_type) or _ROUTES.get(call_type.removeprefix("a"), "")


def _forbids_thinking(request: Mapping[str, Any]) -> bool:
    choice = request.get("tool_choice")
    choice = map_of(choice).get("type") if isinstance(choice, Mapping) else choice
    top_p = request.get("top_p")
    return (
        request.get("temperature") not in (None, 1)
        or request.get("top_k") is not None
        or (isinstance(top_p, (int, float)) and top_p < _LEAST_TOP_P)
        or not (choice is None or choice in _FREE_TOOLS)
    )
