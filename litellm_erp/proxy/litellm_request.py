"""What LiteLLM calls the things in a request and in its metadata.

Nothing a client sends makes a function here raise: what is odd counts as not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import litellm

from litellm_erp.choice.conversation import turns_of
from litellm_erp.conversations.memory import Conversation, conversation_of
from litellm_erp.goals.request_goal import HEADER, KEY, RequestGoal, asks_why
from litellm_erp.goals.tenant import Tenant

# The two metadata that a request may have; which is LiteLLM's own differs by route.
METADATA_KEYS = ("litellm_metadata", "metadata")
# What a client sends itself.
CLIENT_METADATA_KEY = METADATA_KEYS[-1]
CALLER_KEY = "user_api_key_auth"
# What every logger of LiteLLM is given beside a call, and the span of its request, where it traces.
SPEND_METADATA_KEY = "spend_logs_metadata"
SPAN_KEY = "litellm_parent_otel_span"
TARGET_ORDER_KEY = "_target_order"
# What requests are made of, first: asking whether a dict is a Mapping costs a walk through Python's abstract classes.
MAPPING = (dict, Mapping)
_JSON = (str, int, float, list, dict)
_NOT_PYDANTIC = object()
# The answer's limit under the one name that a route forwards; a limit under another name limits nothing.
_LIMITS = {
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "completions": ("max_tokens",),
    "chat": ("max_completion_tokens", "max_tokens"),
}
_ROUTES = {
    "responses": "responses",
    "anthropic_messages": "messages",
    "text_completion": "completions",
    "completion": "chat",
    "generate_content": "google",
    "generate_content_stream": "google",
}
_ROUTERS_OWN = ("_excluded_deployment_ids", "_retry_skipped_deployment_ids", TARGET_ORDER_KEY)
_MOST_TOKENS = 10**9
_LONGEST_NAME = 1024
_MOST_ANSWERS = 10_000
_SEVERAL, _GOOGLES_SEVERAL = ("n", "best_of"), ("candidateCount", "candidate_count")


def route_of(request: Mapping[str, Any]) -> str:
    """What kind of call a request is: ``chat``, ``completions``, ``responses``, ``messages``, ``google``, or ""."""
    name = call_type_of(request)
    known = _ROUTES.get(name) or _ROUTES.get(name.removeprefix("a"))
    if known is not None:
        return known
    if "contents" in request:
        return "google"
    return "responses" if request.get("input") is not None else "chat"


def call_type_of(request: Mapping[str, Any]) -> str:
    """LiteLLM's name of the function that a client's call is of; "" where it does not say."""
    call_type = getattr(request.get("litellm_logging_obj"), "call_type", None)
    return str(getattr(call_type, "value", call_type) or "")


def metadata_key(request: Mapping[str, Any]) -> str:
    """Under which key LiteLLM keeps its own metadata of a request."""
    return next((key for key in METADATA_KEYS if key in request), CLIENT_METADATA_KEY)


def output_limit(request: Mapping[str, Any]) -> float | None:
    """The longest answer that a request allows, in tokens; None where it states none that its route forwards."""
    route = route_of(request)
    if route == "google":
        config = request.get("config") or request.get("generationConfig")
        stated = config.get("maxOutputTokens", config.get("max_output_tokens")) if isinstance(config, Mapping) else None
        return _count(stated, _MOST_TOKENS)
    # Where LiteLLM hands an `extra_body` on, it is sent over what stands beside it: it can lift a limit, and sets none.
    limit = limit_in(request, route)
    return None if limit is None else max(limit, limit_in(map_of(request.get("extra_body")), route) or 0)


def limit_in(fields: Mapping[str, Any], route: str) -> float | None:
    """The limit of an answer that fields state in the words of a route; None where they state none."""
    stated = (_count(fields.get(name), _MOST_TOKENS) for name in _LIMITS.get(route, ()))
    return next((limit for limit in stated if limit is not None), None)


def answers_asked(messages: object, request: Mapping[str, Any]) -> int:
    """How many answers a request is charged for: ``n`` or ``best_of``, times its prompts."""
    stated = [request.get(name) for name in _SEVERAL]
    for key in ("extra_body", "config", "generationConfig"):
        if isinstance(bucket := request.get(key), MAPPING):
            stated += [bucket.get(name) for name in (*_SEVERAL, *_GOOGLES_SEVERAL)]
    several = max([_answers(number) or 1 for number in stated if number] or [1])
    return min(int(several) * _prompts_in(messages, request), _MOST_ANSWERS)


def _answers(value: object) -> float | None:
    """A number of answers; as text too, which LiteLLM hands on and lenient upstreams read."""
    if isinstance(value, str):
        try:
            value = float(value[:32])
        except ValueError:
            return None
    return _count(value, _MOST_ANSWERS)


def asks_several(request: Mapping[str, Any]) -> bool:
    """Whether LiteLLM makes several calls of a request: to a list of models, all with one metadata."""
    model = request.get("model")
    return isinstance(model, str) and "," in model


# Timed out, the client has gone, a gateway gave up waiting.
_GAVE_UP = frozenset({408, 499, 504})


def was_abandoned(error: object) -> bool:
    """Whether an error says that nobody waited for the answer, which an upstream makes and charges all the same."""
    given_up = isinstance(error, (litellm.Timeout, TimeoutError, asyncio.TimeoutError, asyncio.CancelledError))
    return given_up or getattr(error, "status_code", None) in _GAVE_UP


def last_timed_out(metadata: Mapping[str, Any]) -> bool:
    """Whether the last failure that LiteLLM lists was a time-out."""
    listed = metadata.get("previous_models")
    last = listed[-1] if isinstance(listed, (list, tuple)) and listed else None
    return "Timeout" in str(map_of(last).get("exception_type") or "")


def _prompts_in(messages: object, request: Mapping[str, Any]) -> int:
    """Prompts of a request: /v1/completions takes a list, which LiteLLM hands on as the content of one message."""
    prompts = request.get("prompt")
    if prompts is None and isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], MAPPING):
        prompts = messages[0].get("content")
    if not isinstance(prompts, list):
        return 1
    return max(1, len([item for item in prompts if isinstance(item, (str, list))]))


def call_id_of(request: Mapping[str, Any]) -> str:
    """What the client sees as ``x-litellm-call-id``, and may have chosen itself; "" where there is none."""
    found = text_of(request.get("litellm_call_id"))
    return found or text_of(getattr(request.get("litellm_logging_obj"), "litellm_call_id", None)) or ""


def session_in(request: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The session that a request is of, as its client calls it; None where it names none."""
    return text_of(request.get("litellm_session_id")) or text_of(metadata.get("session_id"))


def user_in(request: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The session or the end user of a request, by whatever name its client gives; None where it names neither."""
    session = session_in(request, metadata)
    if session is not None:
        return f"session:{session[:_LONGEST_NAME]}"
    user = text_of(metadata.get("user_api_key_end_user_id")) or text_of(request.get("user"))
    return None if user is None else f"user:{user[:_LONGEST_NAME]}"


def is_call(request: Mapping[str, Any] | None) -> bool:
    """Whether a pick is for a request; LiteLLM also picks to count tokens, and then says nothing of who asks what."""
    return bool(request)


def failures_in(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata in which LiteLLM lists failures of a request: not always that which says who asks."""
    found = (map_of(request.get(name)) for name in METADATA_KEYS)
    return next((metadata for metadata in found if metadata.get("previous_models")), {})


def is_of_nobody(request: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether a client of a proxy asks, and LiteLLM does not say which.

    Parameters
    ----------
    metadata : the request's own, see ``request_note.metadata_of``
    """
    return "proxy_server_request" in request and not is_object(metadata.get(CALLER_KEY))


def conversation_in(
    group: str, messages: object, request: Mapping[str, Any], metadata: Mapping[str, Any], tenant: Tenant
) -> Conversation | None:
    """The conversation of a request, of its caller alone; None where it has no turns."""
    turns = turns_of(messages, request)
    if not turns:
        return None
    scope = "\0".join([group, tenant.key_id or "", tenant.team_id or ""])
    session = session_in(request, metadata)
    system = request.get("system") or request.get("instructions") or request.get("systemInstruction")
    return conversation_of(turns, scope, session, system)


def bound_deployment(request: Mapping[str, Any]) -> str | None:
    """Id of the one deployment that knows what a request refers to: an earlier response, or reasoning sent back.

    LiteLLM writes the deployment into the ids that it hands out; a client can write one too.
    """
    previous = request.get("previous_response_id")
    found = _deployment_of_response(previous) if isinstance(previous, str) else None
    items = request.get("input") or request.get("messages")
    return found or next(_deployments_of_reasoning(items), None)


def _deployment_of_response(response_id: str) -> str | None:
    try:
        from litellm.responses.utils import ResponsesAPIRequestUtils

        found = ResponsesAPIRequestUtils.get_model_id_from_response_id(response_id)
    except Exception:
        return None
    return found if isinstance(found, str) and found else None


def _deployments_of_reasoning(items: object) -> Iterator[str]:
    """What LiteLLM wrapped its own ids around when it handed out encrypted reasoning: items, or blocks of messages."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, MAPPING):
            for key, names in _WRAPPED.items():
                value = item.get(key)
                if value is not None and (found := _unwrapped(value, names)):
                    yield found
            if isinstance(content := item.get("content"), list):
                yield from _deployments_of_reasoning(content)


# By key of an item: what reads it, under its older name too.
_WRAPPED = {
    "id": ("decode_encrypted_item_id", "_decode_encrypted_item_id"),
    "encrypted_content": ("unwrap_encrypted_content_with_model_id", "_unwrap_encrypted_content_with_model_id"),
    "signature": ("unwrap_encrypted_content_with_model_id", "_unwrap_encrypted_content_with_model_id"),
    "data": ("unwrap_encrypted_content_with_model_id", "_unwrap_encrypted_content_with_model_id"),
}
_MARKS = ("encitem_", "litellm_enc:")


def _unwrapped(value: object, names: tuple[str, ...]) -> str | None:
    if not isinstance(value, str) or not value.startswith(_MARKS):
        return None
    try:
        from litellm.responses.utils import ResponsesAPIRequestUtils

        read = next(r for name in names if (r := getattr(ResponsesAPIRequestUtils, name, None)) is not None)
        found: Any = read(value)
    except Exception:
        return None
    found = found.get("model_id") if isinstance(found, Mapping) else found[0] if isinstance(found, tuple) else None
    return found if isinstance(found, str) and found else None


def drop_routers_own(data: dict[str, Any]) -> None:
    """Remove from a client's request what only LiteLLM's router writes; some versions believe whoever sends it.

    A client that has deployments left out would be served by a dearer model than its goal allows.
    """
    for name in _ROUTERS_OWN:
        data.pop(name, None)


def is_object(value: object) -> bool:
    """Whether a value is none that JSON can write, and so none of a client's."""
    return value is not None and not isinstance(value, _JSON)


def tenant_in(metadata: Mapping[str, Any]) -> Tenant:
    """Who asks, by what LiteLLM's authentication wrote; what a client sends under the same names never gets there."""
    auth = metadata.get(CALLER_KEY)
    return Tenant(
        team_id=text_of(metadata.get("user_api_key_team_id")),
        team_alias=text_of(metadata.get("user_api_key_team_alias")),
        team_metadata=_map_or_none(metadata.get("user_api_key_team_metadata")),
        key_metadata=_map_or_none(metadata.get("user_api_key_metadata")),
        key_id=text_of(metadata.get("user_api_key_hash")) or text_of(metadata.get("user_api_key")),
        key_models=_names(getattr(auth, "models", None)),
        team_models=_names(getattr(auth, "team_models", None)),
        aliases=tuple(
            pair for name in ("team_model_aliases", "aliases") for pair in alias_pairs(getattr(auth, name, None))
        ),
    )


def tenant_of_caller(auth: Any) -> Tenant:
    """The tenant behind a caller of LiteLLM's app, as on a request of its own."""
    return tenant_in(
        {
            CALLER_KEY: auth,
            "user_api_key_team_id": auth.team_id,
            "user_api_key_team_alias": auth.team_alias,
            "user_api_key_team_metadata": auth.team_metadata,
            "user_api_key_metadata": auth.metadata,
            "user_api_key_hash": auth.api_key,
        }
    )


def request_goal_in(metadata: Mapping[str, Any]) -> RequestGoal | None:
    """The goal that a request states; the header counts before the body. None where it asks for nothing.

    LiteLLM keeps the request's headers in ``headers``, and the client's own metadata in ``requester_metadata``, on
    every route; a program that calls a ``litellm.Router`` itself puts ``erp`` beside them.
    """
    headers = metadata.get("headers")
    if isinstance(headers, MAPPING) and HEADER in headers:
        return RequestGoal.from_header(headers[HEADER])
    return None if (stated := _stated(metadata)) is None else RequestGoal.from_body(stated)


def wants_explanation(metadata: Mapping[str, Any]) -> bool:
    """Whether a request asks for the decision in the body of its answer."""
    return asks_why(_stated(metadata))


def _stated(metadata: Mapping[str, Any]) -> Any:
    """What the client itself says under ``erp``."""
    for source in (metadata.get("requester_metadata"), metadata):
        if isinstance(source, MAPPING) and (stated := source.get(KEY)) is not None:
            return stated
    return None


def alias_pairs(aliases: object) -> list[tuple[str, str]]:
    """Other names of models, and what each stands for."""
    if not isinstance(aliases, Mapping):
        return []
    pairs = ((name, to.get("model") if isinstance(to, Mapping) else to) for name, to in aliases.items())
    return [(name, to) for name, to in pairs if isinstance(name, str) and isinstance(to, str)]


def field_of(holder: Any, name: str) -> Any:
    """An item of a map, or an attribute of whatever else; None where there is none."""
    if isinstance(holder, MAPPING):
        return holder.get(name)
    extra: Any = getattr(holder, "__pydantic_extra__", _NOT_PYDANTIC)
    if extra is _NOT_PYDANTIC:
        return getattr(holder, name, None)
    # Asked for an attribute that it lacks, a model of pydantic's takes longer than all the rest of counting.
    found = vars(holder).get(name)
    return (extra or {}).get(name) if found is None else found


def map_of(value: object) -> Mapping[str, Any]:
    """A map, or an empty one."""
    return value if isinstance(value, MAPPING) else {}


def text_of(value: object) -> str | None:
    """Text that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def _count(value: object, most: int) -> float | None:
    """A number of something, at least 1; None for what is no such number, in whatever way."""
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
        return None
    # An integer may have more digits than a float has room for.
    return float(min(value, most))


def _map_or_none(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, MAPPING) else None


def _names(value: object) -> tuple[str, ...]:
    if not value or not isinstance(value, (list, tuple)):
        return ()
    return tuple([name for name in value if isinstance(name, str)])
