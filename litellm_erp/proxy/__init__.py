"""The adapter between LiteLLM and the router; the only module that imports LiteLLM.

Name ``litellm_erp.proxy.erp_router`` under ``litellm_settings.callbacks`` of a proxy config, or call
:func:`attach` on a ``litellm.Router`` of your own.

It is a package, not a file, because LiteLLM executes a file that lies at the dotted path beside config.yaml
as a second, unregistered copy of the module (docs/design/003-proxy-hook.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from litellm import Router, model_cost
from litellm.integrations.custom_logger import CustomLogger

from litellm_erp import settings as settings_file
from litellm_erp.accounting import NOTE_KEY, Accounting, metadata_of, note_of
from litellm_erp.checks import Finding, check_router, router_view
from litellm_erp.deployments import MemberTable, needs, ordered
from litellm_erp.embedding import Embedder
from litellm_erp.errors import EmbeddingError, EmbeddingTimeout, ErpError, SettingsError
from litellm_erp.headers import Note, response_headers
from litellm_erp.ledger import Ledger
from litellm_erp.prompt import from_request
from litellm_erp.proxy import api
from litellm_erp.proxy.access import Access
from litellm_erp.routing import Decision, RoutedGroup
from litellm_erp.settings import Settings
from litellm_erp.telemetry import Once, log_decision, log_decisions_to_stderr, logger, logs_decisions, metrics
from litellm_erp.tenancy import Tenant, grant
from litellm_erp.terms import Pacer
from litellm_erp.wish import read_wish

__all__ = ["ErpRouter", "attach", "erp_router"]

_LOOK_EVERY_S = 10.0
_START_S = 60
_MAX_TEAMS = 10_000
_GOLDEN = (5**0.5 - 1) / 2
_once = Once()
# A router enters its own deployments into LiteLLM's map, free of charge and without capabilities where none are
# stated. What the map really knows is what it held before there was a router, when a proxy imports its callbacks.
_MAPPED = frozenset(model_cost)


class ErpRouter(CustomLogger):  # type: ignore[misc]
    """LiteLLM callback that orders the deployments of configured routing groups.

    Parameters
    ----------
    settings : validated settings; None takes them from ``ERP_SETTINGS`` or the running proxy's config file
    embedder : replaces the embedder of every bundle
    router : the one it serves; None takes the proxy's, once there is one

    Raises
    ------
    ErpError : bad settings or a bad bundle; a proxy does not start
    """

    def __init__(
        self, settings: Settings | None = None, *, embedder: Embedder | None = None, router: Router | None = None
    ) -> None:
        super().__init__()
        self._router = router
        self.groups: dict[str, RoutedGroup] = {}
        self.members = MemberTable(_model_info)
        self._embedder = embedder
        self._access = Access(self.members, lambda: self._router or _router_of_process())
        self._drawn = time.time() % 1.0
        self.ledger = Ledger()
        self.accounting = Accounting(self.groups, self.members, self.ledger, _redis_of_process)
        self.pacer: Pacer = self.accounting.book
        self._seen: dict[str, Tenant] = {}
        self._next_look = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._settings: Settings | None = None
        self._configure(settings or _settings_of_process())
        if _proxy_server() is not None:
            # A proxy imports its callbacks on its event loop, before it has a router.
            with contextlib.suppress(RuntimeError):
                self._looking = asyncio.get_running_loop().create_task(self._look_once_started())

    def _configure(self, settings: Settings | None) -> None:
        if settings is None:
            return
        loaded = {
            name: RoutedGroup(
                group, self.members, embedder=self._embedder, reload_s=settings.reload_s, pacer=self.pacer
            )
            for name, group in settings.groups.items()
        }
        self.groups.update(loaded)
        self._settings = settings
        self.accounting.redis = settings.redis
        if settings.log_decisions:
            log_decisions_to_stderr()
        for name, group in self.groups.items():
            verdict = group.state.bundle.frontier.document["verdict"]
            logger.log(logging.INFO if verdict["helps"] else logging.WARNING, "group %r: %s", name, verdict["text"])

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Order the deployments of a routed group by expected reward minus λ times cost.

        Parameters
        ----------
        model : the group's name; deployments of other groups are returned as they came
        healthy_deployments : what LiteLLM offers; never changed in place

        Returns
        -------
        copies with ``litellm_params.order`` set, without those the key or team may not use

        Never raises: an internal error leaves LiteLLM's own order, is counted, and is named in a header.
        """
        started = time.perf_counter()
        request = request_kwargs or {}
        note = Note()
        offered = healthy_deployments
        # The one place on the request path that catches broadly: no user's request fails because of routing.
        try:
            self._look_around()
            self.accounting.keep_sharing()
            group = self.groups.get(model)
            if group is None or not offered:
                return offered
            metadata = metadata_of(request)
            note = note_of(metadata)
            note.group = model
            failed = note.failed(metadata)
            tenant = Tenant.from_metadata(metadata)
            self._remember(tenant)
            members = [self.members.member(deployment) for deployment in offered]
            offered, members = self._access.permitted(model, offered, members, tenant)
            if not offered:
                note.fell_back("no-permitted-model")
                return offered
            if request.get("_target_order") is not None:
                if any(deployment["litellm_params"].get("order") is not None for deployment in offered):
                    note.fell_back("order-fallback")
                    return offered
                # Nobody configured an order, so this one came from a client and would pick a rank of ours.
                request.pop("_target_order")
            granted = grant(group.settings, tenant, read_wish(metadata))
            if granted.problem:
                _once.warn(f"group {model!r}: {granted.problem}; ignored")
            decision = await group.decide(
                from_request(messages, request),
                members,
                granted,
                needed=needs(messages, request),
                max_output_tokens=_max_output_tokens(request),
                draw=self._draw(note),
            )
            result = ordered(offered, members, {name: i + 1 for i, name in enumerate(decision.models)}, failed)
            note.decided(decision, granted, retry=bool(failed))
            self.accounting.reserve(model, note, granted, decision)
            self._record(model, note, decision, tenant, started)
        except Exception as e:
            note.fell_back(_why(e))
            metrics.decision(model, "", note.reason, time.perf_counter() - started)
            _once.warn(f"group {model!r}: LiteLLM's own order is used: {type(e).__name__}: {_safe_text(e)}")
            return offered
        return result

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Say in headers which pool model really served, and why it ranked where it did."""
        note = metadata_of(data).get(NOTE_KEY)
        if not isinstance(note, Note) or note.group not in self.groups:
            return None
        served = self.members.by_id(_served_id(data, litellm_call_info or {}))
        level = self.groups[note.group].settings.headers
        if response is None:
            # The request failed: whoever was tried last has not served it.
            return response_headers(note, note.model, "none" if level == "none" else "reason")
        return response_headers(note, None if served is None else served.pool_model, level)

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
        """Refuse a request whose budget is spent and says ``on_exhausted: reject``: HTTP 429, before any routing.

        Here, because whatever a later hook raises LiteLLM retries.
        """
        refusal = self.accounting.refusal(data)
        if refusal is not None:
            raise refusal
        return data

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Count what an answer cost; streams report once, at their end."""
        self.accounting.succeeded(kwargs, response_obj)

    async def async_post_call_failure_hook(
        self, request_data: Any, original_exception: Any, user_api_key_dict: Any, traceback_str: Any = None
    ) -> None:
        """Give back what was held for a request that failed after all its tries."""
        note = metadata_of(request_data).get(NOTE_KEY)
        if isinstance(note, Note):
            self.accounting.failed(note)

    def tenants(self) -> list[Tenant]:
        """Teams by account: those in the settings, and those that have sent requests, as they were last seen."""
        named = {
            t.team_id: t for g in self.groups.values() for t in (Tenant(team_id=name) for name in g.settings.teams)
        }
        seen = list(self._seen.values())
        known = {name for tenant in seen for name in (tenant.team_id, tenant.team_alias)}
        return [tenant for name, tenant in named.items() if name not in known] + seen

    def offer(self, group: str, tenant: Tenant) -> tuple[list[Any], list[Any]]:
        """Deployments of a group that a tenant may use, whether they are up or not, and their members."""
        router = self._router or _router_of_process()
        found = None if router is None else router.get_routing_group(group)
        names = {group} if found is None else set(found.models)
        listed = [] if router is None else [d for d in router.model_list if d["model_name"] in names]
        return self._access.permitted(group, listed, [self.members.member(d) for d in listed], tenant)

    def check(self, router: Router) -> list[Finding]:
        """What in a router keeps the configured groups from being routed as their owner thinks."""
        if self._settings is None:
            return []
        bundles = {name: group.state.bundle for name, group in self.groups.items()}
        options = {**router.get_settings(), "enable_pre_call_checks": router.enable_pre_call_checks}
        return check_router(router_view(router.model_list, options), self._settings, bundles, self.members)

    def _remember(self, tenant: Tenant) -> None:
        """Keep what is known of a team, without its key, for whoever asks for all teams."""
        account, known = tenant.team_account, self._seen.get(tenant.team_account)
        if known is not None and known.team_metadata == tenant.team_metadata:
            return
        if account and (known is not None or len(self._seen) < _MAX_TEAMS):
            self._seen[account] = replace(tenant, key_id=None, key_metadata=None, key_models=())

    def _draw(self, note: Note) -> float:
        """The request's number in [0, 1): drawn at its first pick, evenly spread over requests."""
        if note.draw is None:
            # Multiples of the golden ratio keep any share to within a request or two of itself; a client cannot
            # choose its number, as it could if it came from the prompt or from LiteLLM's call id.
            self._drawn = (self._drawn + _GOLDEN) % 1.0
            note.draw = self._drawn
        return note.draw

    def _record(self, group: str, note: Note, decision: Decision, tenant: Tenant, started: float) -> None:
        seconds = time.perf_counter() - started
        metrics.decision(group, note.model, note.reason, seconds)
        if not logs_decisions():
            return
        log_decision(
            {
                "group": group,
                "team": tenant.label,
                "policy": {decision.terms.claim.policy.goal: decision.terms.claim.policy.value},
                "policy_of": decision.terms.claim.source,
                "lambda": decision.lambda_,
                "bundle": decision.bundle_id,
                "model": note.model,
                "reason": note.reason,
                "candidates": len(decision.models),
                "expected_reward": decision.expected_reward.get(note.model),
                "expected_cost_usd": decision.expected_cost.get(note.model),
                "ms": round(seconds * 1e3, 3),
            }
        )

    def _look_around(self) -> None:
        """Every few seconds, in a thread: pick up settings that appear late, warn of what keeps a group unrouted."""
        now = time.monotonic()
        if now < self._next_look or (self._looking is not None and not self._looking.done()):
            return
        self._next_look = now + _LOOK_EVERY_S
        self._looking = asyncio.get_running_loop().create_task(asyncio.to_thread(self._look))

    def _look(self) -> None:
        try:
            if self._settings is None:
                self._configure(_settings_of_process())
            router = self._router or _router_of_process()
            if router is not None:
                for finding in self.check(router):
                    _once.warn(finding.text)
        except Exception as e:
            _once.warn(f"settings or router could not be checked: {type(e).__name__}: {e}")

    async def _look_once_started(self) -> None:
        """Say at start, not at the first request, what is wrong with the router the config has made."""
        for _ in range(_START_S):
            if _router_of_process() is not None:
                break
            await asyncio.sleep(1)
        self.accounting.keep_sharing()
        await asyncio.to_thread(self._look)


def attach(router: Router, settings: Settings | Mapping[str, Any] | Path | str, **options: Any) -> ErpRouter:
    """Route the groups of a ``litellm.Router`` in your own program, without a proxy.

    Parameters
    ----------
    settings : the path of a YAML file, or the content of ``erp_settings``; relative paths in the latter start
        from the current folder
    options : passed to :class:`ErpRouter`

    Returns
    -------
    the callback, already registered with LiteLLM; pass it to ``litellm.callbacks.remove`` to undo

    Raises
    ------
    ErpError : bad settings or a bad bundle
    """
    import litellm

    if isinstance(settings, (str, Path)):
        loaded = settings_file.load(settings)
        if loaded is None:
            raise SettingsError(f"{settings}: found no erp_settings; expected a map under that key")
        settings = loaded
    elif not isinstance(settings, Settings):
        settings = settings_file.parse(settings, Path("erp_settings"))
    callback = ErpRouter(settings, router=router, **options)
    for finding in callback.check(router):
        logger.warning("%s", finding.text)
    litellm.callbacks.append(callback)
    return callback


def _served_id(data: Mapping[str, Any], call_info: Mapping[str, Any]) -> str:
    """Id of the deployment that answered; the logging object alone is right after a fallback, on every route."""
    params = getattr(data.get("litellm_logging_obj"), "litellm_params", None)
    info = params.get("model_info") if isinstance(params, Mapping) else None
    found = info.get("id") if isinstance(info, Mapping) else None
    return str(found or call_info.get("model_id") or "")


def _max_output_tokens(request: Mapping[str, Any]) -> float | None:
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = request.get(key)
        if isinstance(value, (int, float)) and value >= 1:
            return float(value)
    return None


def _why(error: Exception) -> str:
    if isinstance(error, EmbeddingTimeout):
        return "embedding-timeout"
    return "embedding" if isinstance(error, EmbeddingError) else "error"


def _safe_text(error: Exception) -> str:
    # Only our own messages are known to hold nothing of a prompt.
    return str(error) if isinstance(error, ErpError) else "see the metric erp_decisions"


def _model_info(model: str) -> Mapping[str, Any] | None:
    """LiteLLM's model map: prices and capabilities of a provider's model, None where it does not know it."""
    import litellm

    try:
        info = dict(litellm.get_model_info(model))
    except Exception:
        return None
    return info if info["key"] in _MAPPED else None


def _proxy_server() -> Any:
    return sys.modules.get("litellm.proxy.proxy_server")


def _redis_of_process() -> Any:
    """LiteLLM's own Redis: the proxy's (REDIS_* or ``cache_params``), else the router's (``router_settings``)."""
    found = getattr(_proxy_server(), "redis_usage_cache", None)
    return found or getattr(getattr(_router_of_process(), "cache", None), "redis_cache", None)


def _router_of_process() -> Router | None:
    return getattr(_proxy_server(), "llm_router", None)


def _settings_of_process() -> Settings | None:
    """Settings from ``ERP_SETTINGS`` or from the config file that this process's proxy was started with."""
    path = os.environ.get(settings_file.SETTINGS_ENV) or getattr(_proxy_server(), "user_config_file_path", None)
    if path is None:
        if _proxy_server() is not None:
            _once.warn(f"no config file on disk and no {settings_file.SETTINGS_ENV}: nothing is routed yet")
        return None
    found = settings_file.load(Path(path).resolve())
    if found is None:
        _once.warn(f"{path} has no erp_settings: nothing is routed")
    return found


def _mount(plugin: ErpRouter) -> None:
    try:
        api.mount(plugin)
    except Exception as e:
        # Routing needs none of these routes.
        logger.warning("no /erp routes on this version of LiteLLM: %s: %s", type(e).__name__, e)


def _start() -> ErpRouter:
    try:
        plugin = ErpRouter()
        if _proxy_server() is not None:
            _mount(plugin)
        return plugin
    except ErpError as e:
        if _proxy_server() is None:
            raise
        # The proxy stops; its last line should be the message, not three hundred lines of traceback.
        sys.tracebacklimit = 0
        raise e from None


erp_router = _start()
