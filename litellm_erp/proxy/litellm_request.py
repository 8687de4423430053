"""Every name of LiteLLM's that the plugin reads: request shapes, metadata keys, router members old and new.

What a version has is asked of the object at hand, never of a version number. Nothing a client sends makes a function
here raise: what is odd counts as not there.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import litellm
from litellm import Router
from litellm.integrations.custom_logger import CustomLogger

from litellm_erp import litellm_releases as releases
from litellm_erp.goals.tenant import alias_pairs
from litellm_erp.serving.answer_cost import MAPPING
from litellm_erp.serving.deployments import Deployment
from litellm_erp.serving.note import Note
from litellm_erp.serving.spend import METADATA_KEYS, NOTE_KEY, is_object, metadata_of, note_of, noted, tenant_of
from litellm_erp.telemetry import Once

__all__ = ["NOTE_KEY", "metadata_of", "note_of", "tenant_of"]

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
# LiteLLM's default.
_RETRIES = 2
_ROUTERS_OWN = ("_excluded_deployment_ids", "_retry_skipped_deployment_ids", "_target_order")
_MOST_TOKENS = 10**9
_MOST_ANSWERS = 10_000
_SEVERAL, _GOOGLES_SEVERAL = ("n", "best_of"), ("candidateCount", "candidate_count")
# Checks that keep a conversation where it is; they choose among the replicas that routing has left in.
_AFFINITY_CHECKS = ("DeploymentAffinityCheck", "EncryptedContentAffinityCheck", "PromptCachingDeploymentCheck")
_once = Once()


# --- Requests -------------------------------------------------------------------------------------------------------


def route_of(request: Mapping[str, Any]) -> str:
    """What kind of call a request is: ``chat``, ``completions``, ``responses``, ``messages``, ``google``, or ""."""
    call_type = getattr(request.get("litellm_logging_obj"), "call_type", None)
    name = str(getattr(call_type, "value", call_type) or "")
    known = _ROUTES.get(name) or _ROUTES.get(name.removeprefix("a"))
    if known is not None:
        return known
    if "contents" in request:
        return "google"
    return "responses" if request.get("input") is not None else "chat"


def output_limit(request: Mapping[str, Any]) -> float | None:
    """The longest answer that a request allows, in tokens; None where it states none that its route forwards."""
    route = route_of(request)
    if route == "google":
        config = request.get("config") or request.get("generationConfig")
        stated = config.get("maxOutputTokens", config.get("max_output_tokens")) if isinstance(config, Mapping) else None
        return _count(stated, _MOST_TOKENS)
    for name in _LIMITS.get(route, ()):
        if (limit := _count(request.get(name), _MOST_TOKENS)) is not None:
            return limit
    return None


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
    return "Timeout" in str(_map(last).get("exception_type") or "")


def _prompts_in(messages: object, request: Mapping[str, Any]) -> int:
    """Prompts of a request: /v1/completions takes a list, which LiteLLM hands on as the content of one message."""
    prompts = request.get("prompt")
    if prompts is None and isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], MAPPING):
        prompts = messages[0].get("content")
    if not isinstance(prompts, list):
        return 1
    return max(1, len([item for item in prompts if isinstance(item, (str, list))]))


def is_call(request: Mapping[str, Any] | None) -> bool:
    """Whether a pick is for a request; LiteLLM also picks to count tokens, and then says nothing of who asks what."""
    return bool(request)


def failures_in(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata in which LiteLLM lists failures of a request: not always that which says who asks."""
    found = (_map(request.get(name)) for name in METADATA_KEYS)
    return next((metadata for metadata in found if metadata.get("previous_models")), {})


def is_of_nobody(request: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether a client of a proxy asks, and LiteLLM does not say which.

    Parameters
    ----------
    metadata : the request's own, see ``metadata_of``
    """
    return "proxy_server_request" in request and not is_object(metadata.get("user_api_key_auth"))


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


def called(kwargs: Mapping[str, Any]) -> tuple[Note | None, str]:
    """The note of a request whose deployment is about to be called, and the deployment's id."""
    note, _ = noted(kwargs)
    return note, str(_map(kwargs.get("model_info")).get("id") or "")


def with_cache_of(kwargs: dict[str, Any], model: str) -> dict[str, Any] | None:
    """The call with a part of LiteLLM's cache of its own; None where nothing is cached."""
    if litellm.cache is None:
        return None
    controls = kwargs.get("cache", {})
    if not isinstance(controls, Mapping):
        # LiteLLM fails before it looks anything up: with its own error, not with an answer it would not give.
        return None
    controls = dict(controls)
    own = controls.get("namespace")
    # The route, because some versions take an answer of one route for another's.
    controls["namespace"] = f"{own if isinstance(own, str) else ''}:erp:{route_of(kwargs)}:{model}"
    return {**kwargs, "cache": controls}


def count_tokens(text: str) -> int:
    """Tokens of a text as LiteLLM's own context checks count them; blocks."""
    return int(litellm.token_counter(model="", text=text))


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered a request.

    Attributes
    ----------
    note : the request's; None where no routed group was asked
    deployment_id : "" where LiteLLM does not say
    group : the model group it asked last; None where it does not say
    cached : whether it came from LiteLLM's cache, and so from no deployment
    """

    note: Note | None
    deployment_id: str
    group: str | None
    cached: bool

    @classmethod
    def of_event(cls, kwargs: Mapping[str, Any]) -> Answer:
        """From the arguments of a logging hook."""
        params = _map(kwargs.get("litellm_params"))
        note, metadata = noted(params)
        return cls(
            note,
            _answered_by(note, _map(params.get("model_info")).get("id")),
            _name(metadata.get("model_group")),
            kwargs.get("cache_hit") is True,
        )

    @classmethod
    def of_response(cls, note: Note, data: Mapping[str, Any], response: object, call_info: Mapping[str, Any]) -> Answer:
        """From the arguments of the headers hook; the logging object alone is right after a fallback."""
        logged = data.get("litellm_logging_obj")
        params = _map(getattr(logged, "litellm_params", None))
        details = _map(getattr(logged, "model_call_details", None))
        return cls(
            note,
            _answered_by(note, _map(params.get("model_info")).get("id") or call_info.get("model_id")),
            _name(noted(params)[1].get("model_group")),
            details.get("cache_hit") is True
            or _map(getattr(response, "_hidden_params", None)).get("cache_hit") is True,
        )


def _answered_by(note: object, stated: object) -> str:
    named = str(stated or "")
    return note.answered_by(named) if isinstance(note, Note) else named


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, MAPPING) else {}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object, most: int) -> float | None:
    """A number of something, at least 1; None for what is no such number, in whatever way."""
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
        return None
    # An integer may have more digits than a float has room for.
    return float(min(value, most))


# --- LiteLLM itself -------------------------------------------------------------------------------------------------


def version() -> str:
    """LiteLLM's release; "0" where it is not installed as a package."""
    return releases.installed() or "0"


def mapped(model: str) -> dict[str, Any] | None:
    """What LiteLLM's model map says of a provider's model; None where it does not know it."""
    try:
        return dict(litellm.get_model_info(model))
    except Exception:
        return None


# --- Routers --------------------------------------------------------------------------------------------------------


def proxy_server() -> Any:
    """LiteLLM's proxy module in a proxy's process, else None."""
    return sys.modules.get("litellm.proxy.proxy_server")


def router_of_process() -> Router | None:
    """The proxy's router, None before there is one."""
    return getattr(proxy_server(), "llm_router", None)


def config_path_of_process() -> str | None:
    """The config file that this process's proxy was started with, where it is on disk."""
    return getattr(proxy_server(), "user_config_file_path", None)


def redis_of_process() -> Any:
    """LiteLLM's own Redis: the proxy's (REDIS_* or ``cache_params``), else the router's (``router_settings``)."""
    found = getattr(proxy_server(), "redis_usage_cache", None)
    return found or getattr(getattr(router_of_process(), "cache", None), "redis_cache", None)


# Calls of a router on which LiteLLM asks no callback which deployment to take.
SYNCHRONOUS = ("completion", "text_completion", "embedding", "responses", "generate_content", "image_generation")


def deployments_of(router: Router) -> Sequence[Deployment]:
    """Every deployment of a router."""
    registry = getattr(router, "registry", None)
    return registry().all() if callable(registry) else router.model_list


def aliases_of(router: Router) -> Mapping[str, str]:
    """Other names of model groups, and what they stand for."""
    registry = getattr(router, "registry", None)
    return dict(alias_pairs(registry().aliases() if callable(registry) else router.model_group_alias))


def settings_of(router: Router) -> dict[str, Any]:
    """A router's settings, as ``router_settings`` of a config names them."""
    settings = getattr(router, "settings", None)
    return dict(settings().as_dict()) if callable(settings) else dict(router.get_settings())


def is_foreign(router: Router | None, offered: Sequence[Deployment]) -> bool:
    """Whether a pick is for another router: all routers of a process ask the same callbacks.

    A program may have several, and LiteLLM makes one of a client's own ``user_config`` where that is allowed.
    """
    has = getattr(router, "has_model_id", None)
    if not callable(has):
        return False
    ids = ((deployment.get("model_info") or {}).get("id") for deployment in offered)
    return not any(name is None or has(name) for name in ids)


def retries_of(router: Router | None) -> int:
    """How often a router tries again."""
    stated = None if router is None else settings_of(router).get("num_retries")
    return stated if isinstance(stated, int) else _RETRIES


def members_of(router: Router | None, group: str) -> list[Deployment]:
    """The deployments behind a group's name, whether they are up or not."""
    if router is None:
        return []
    names = {group}
    for entry in settings_of(router).get("routing_groups") or ():
        stated = entry if isinstance(entry, Mapping) else vars(entry)
        if stated.get("group_name") == group:
            names = set(stated.get("models") or ())
    return [deployment for deployment in deployments_of(router) if deployment.get("model_name") in names]


def place_callback(callback: CustomLogger) -> None:
    """Put a callback behind LiteLLM's limits and before its affinity checks, where it is behind the latter.

    Limits take out what must not be used, so they go first; affinity keeps a conversation on one replica of what was
    chosen, so it goes last. LiteLLM registers both after the callbacks of a config.
    """
    listed = litellm.callbacks
    own = next((i for i, entry in enumerate(listed) if entry is callback), None)
    if own is None:
        return
    filters = [i for i, entry in enumerate(listed) if i > own and _filters(entry) and not _is_affinity(entry)]
    if filters:
        # One slice, so that a request that walks the list meanwhile sees every callback.
        last = filters[-1]
        listed[own : last + 1] = [*listed[own + 1 : last + 1], callback]


def _filters(entry: object) -> bool:
    return (
        isinstance(entry, CustomLogger)
        and type(entry).async_filter_deployments is not CustomLogger.async_filter_deployments
    )


def _is_affinity(entry: object) -> bool:
    return any(base.__name__ in _AFFINITY_CHECKS for base in type(entry).__mro__)


async def left_later(
    router: Router | None, group: str, offered: Sequence[Deployment], messages: object, request: dict[str, Any]
) -> Sequence[Deployment]:
    """Those deployments that LiteLLM's own filters, which run after the pick, will leave; none where it will refuse.

    Ids to leave out come from a weighted failover, and regions from a team's settings; some versions take either from
    a client too. Where it is not certain that nothing will be left, all are.
    """
    left = _not_excluded(offered, request.get("_excluded_deployment_ids"))
    inside = _in_region(router, left, request.get("allowed_model_region"))
    if not inside and messages is not None:
        return []
    return await _by_tags(router, group, inside or left, request)


def _not_excluded(offered: Sequence[Deployment], ids: object) -> Sequence[Deployment]:
    excluded = {i for i in ids if isinstance(i, str)} if isinstance(ids, (list, tuple, set, frozenset)) else ()
    if not excluded:
        return offered
    return [d for d in offered if (d.get("model_info") or {}).get("id") not in excluded] or offered


def _in_region(router: Router | None, offered: Sequence[Deployment], region: object) -> Sequence[Deployment]:
    if region is None:
        return offered
    settings = getattr(router, "settings", None)
    # Some versions leave this one out of what `settings_of` asks for.
    if getattr(settings() if callable(settings) else router, "enable_pre_call_checks", None) is not True:
        return offered
    return [d for d in offered if (d.get("litellm_params") or {}).get("region_name") == region]


async def _by_tags(
    router: Router | None, group: str, offered: Sequence[Deployment], request: dict[str, Any]
) -> Sequence[Deployment]:
    if router is None or not _filters_by_tag(router, offered, request):
        return offered
    try:
        from litellm.router_strategy.tag_based_routing import get_deployments_for_tag

        accepted = inspect.signature(get_deployments_for_tag).parameters
        key = "litellm_metadata" if "litellm_metadata" in request else "metadata"
        options: dict[str, Any] = {"model": group, "request_kwargs": request, "metadata_variable_name": key}
        options |= {"request_deployments": offered} if "request_deployments" in accepted else {}
        owner: Any = router
        if "ctx" in accepted:
            from litellm.router_api import RoutingContext

            owner = RoutingContext(router)
        left = await get_deployments_for_tag(owner, healthy_deployments=list(offered), **options)
    except Exception as e:
        # Where nothing fits the tags, LiteLLM says so itself.
        _once.warn(f"group {group!r}: tags could not be looked at: {type(e).__name__}")
        return offered
    return left if isinstance(left, (list, tuple)) and left else offered


def _filters_by_tag(router: Router, offered: Sequence[Deployment], request: Mapping[str, Any]) -> bool:
    return (
        request.get("enable_tag_filtering") is True
        or getattr(router, "enable_tag_filtering", None) is True
        or any((deployment.get("model_info") or {}).get("enable_tag_filtering") is True for deployment in offered)
    )
