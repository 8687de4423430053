"""LiteLLM itself, its proxy and its routers: what they are called, by old and new releases.

What a release has is asked of the object at hand, never of a version number.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import litellm
from litellm import Router, model_cost
from litellm.integrations.custom_logger import CustomLogger

from litellm_erp import litellm_releases as releases
from litellm_erp.proxy.litellm_request import alias_pairs, map_of, metadata_key, route_of
from litellm_erp.serving.deployments import Deployment
from litellm_erp.telemetry import Once

# LiteLLM's default.
_RETRIES = 2
_LAST_WORDS_S = 3.0
# Calls of a router on which LiteLLM asks no callback which deployment to take.
SYNCHRONOUS = ("completion", "text_completion", "embedding", "responses", "generate_content", "image_generation")
# Checks that keep a conversation where it is; they choose among the replicas that routing has left in.
_AFFINITY_CHECKS = ("DeploymentAffinityCheck", "EncryptedContentAffinityCheck", "PromptCachingDeploymentCheck")
# A router enters its own deployments into LiteLLM's map, free of charge and without capabilities where none are
# stated. What the map really knows is what it held before there was a router, when a proxy imports its callbacks.
_MAPPED = frozenset(model_cost)
# LiteLLM's probability of each deployment; or why nobody knows it.
Shares = Sequence[float] | str
_once = Once()


def version() -> str:
    """LiteLLM's release; "0" where it is not installed as a package."""
    return releases.installed() or "0"


def model_info(model: str) -> Mapping[str, Any] | None:
    """LiteLLM's model map: prices and capabilities of a provider's model, None where it does not know it."""
    info = _mapped(model)
    return info if info is not None and info["key"] in _MAPPED else None


def window(model: str) -> object:
    """The input window that LiteLLM's own check believes of a model: another deployment's, where only that says so."""
    return map_of(_mapped(model)).get("max_input_tokens")


def _mapped(model: str) -> dict[str, Any] | None:
    try:
        return dict(litellm.get_model_info(model))
    except Exception:
        return None


def count_tokens(text: str) -> int:
    """Tokens of a text as LiteLLM's own context checks count them; blocks."""
    return int(litellm.token_counter(model="", text=text))


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


def hands_on(deployment: Mapping[str, Any], route: str, names: Collection[str]) -> bool:
    """Whether LiteLLM sends a deployment's model what tells it how much to think; it refuses the request elsewise.

    Parameters
    ----------
    names : of ``reasoning_effort`` and ``thinking``
    """
    if not names:
        return True
    params = map_of(deployment.get("litellm_params"))
    try:
        own, base = params.get("custom_llm_provider"), params.get("api_base")
        name, provider, _, _ = litellm.get_llm_provider(
            model=str(params.get("model")), custom_llm_provider=own, api_base=base
        )
        if route != "chat" and provider == "openai":
            # A router tells LiteLLM's map what a deployment says of itself.
            stated = map_of(deployment.get("model_info")).get("supports_reasoning")
            return stated is True or bool(litellm.supports_reasoning(model=name, custom_llm_provider=provider))
        supported = litellm.get_supported_openai_params(model=name, custom_llm_provider=provider)
    except Exception:
        # LiteLLM will say so itself.
        return True
    allowed = params.get("allowed_openai_params") or ()
    return supported is None or all(name in supported or name in allowed for name in names)


def budget_of(effort: str) -> object:
    """The tokens for thinking that LiteLLM makes of an effort where a model wants a budget; None where it does not say.

    Source: ``litellm/constants.py``.
    """
    return getattr(litellm.constants, f"DEFAULT_REASONING_EFFORT_{effort.upper()}_THINKING_BUDGET", None)


def proxy_server() -> Any:
    """LiteLLM's proxy module in a proxy's process, else None."""
    return sys.modules.get("litellm.proxy.proxy_server")


def router_of_process() -> Router | None:
    """The proxy's router, None before there is one."""
    return getattr(proxy_server(), "llm_router", None)


def config_path_of_process() -> str | None:
    """The config file that this process's proxy was started with, where it is on disk."""
    return getattr(proxy_server(), "user_config_file_path", None)


def at_shutdown(last: Callable[[], Awaitable[None]]) -> None:
    """Have something done when the proxy ends, after all that is still to be logged.

    uvicorn ends its process by the signal that it was sent: no task is cancelled first, and nothing runs at exit.
    """
    server = proxy_server()
    ends = getattr(server, "proxy_shutdown_event", None)
    if not inspect.iscoroutinefunction(ends):
        return

    @functools.wraps(ends)
    async def after_ours(*args: Any, **kwargs: Any) -> Any:
        for step in (_all_logged, last):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(step(), _LAST_WORDS_S)
        return await ends(*args, **kwargs)

    server.proxy_shutdown_event = after_ours


async def _all_logged() -> None:
    """Until every answer so far has been reported to the callbacks, which LiteLLM does behind the answer's back."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    await GLOBAL_LOGGING_WORKER.flush()


def redis_of_process() -> Callable[[], Awaitable[Any]] | None:
    """Connects to LiteLLM's own Redis: the proxy's (REDIS_* or ``cache_params``), else the router's; None without."""
    found = getattr(proxy_server(), "redis_usage_cache", None)
    cache = found or getattr(getattr(router_of_process(), "cache", None), "redis_cache", None)
    if cache is None:
        return None

    async def connect() -> Any:
        return cache.init_async_client()

    return connect


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


def shares_of(router: Router | None, group: str, offered: Sequence[Deployment], request: Mapping[str, Any]) -> Shares:
    """How LiteLLM itself shares requests out among deployments: evenly, or by the first of weight, rpm and tpm stated.

    Source: LiteLLM's ``router_strategy/simple_shuffle.py``; what its other strategies do depends on what went before.
    """
    settings = {} if router is None else settings_of(router)
    strategy = settings.get("routing_strategy")
    for entry in settings.get("routing_groups") or ():
        stated = entry if isinstance(entry, Mapping) else vars(entry)
        if stated.get("group_name") == group:
            strategy = stated.get("routing_strategy")
    strategy = str(getattr(strategy, "value", strategy) or _SHUFFLE)
    if strategy != _SHUFFLE:
        return f"the group's routing_strategy is {strategy}, whose choice depends on what went before"
    checks = {type(entry).__name__ for entry in getattr(router, "optional_callbacks", None) or ()}
    if checks.intersection(_BINDING_CHECKS) or settings.get("optional_pre_call_checks"):
        return "router_settings.optional_pre_call_checks may bind a request to a deployment"
    if request.get("_router_weights") is not None:
        return "the request's key or team has router weights of its own"
    params = [map_of(deployment.get("litellm_params")) for deployment in offered]
    infos = [map_of(deployment.get("model_info")) for deployment in offered]
    if any(of.get("order") is not None for of in (*params, *infos)):
        return "litellm_params.order of a deployment decides before chance does"
    for metric in _METRICS:
        weights = [_weight(of.get(metric)) for of in params]
        if max(weights, default=0.0) > 0.0:
            return [weight / sum(weights) for weight in weights]
    return [1.0 / len(offered) for _ in offered]


_SHUFFLE = "simple-shuffle"
_METRICS = ("weight", "rpm", "tpm")
# The third of the affinity checks binds only what refers to an answer's encrypted reasoning.
_BINDING_CHECKS = ("DeploymentAffinityCheck", "PromptCachingDeploymentCheck")


def _weight(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


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
        options: dict[str, Any] = {"model": group, "request_kwargs": request}
        options |= {"metadata_variable_name": metadata_key(request)}
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
