"""Whether LiteLLM's own router takes a config: it is made, and thrown away. Nothing is started and nobody is called."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from erp_trainer.pool.litellm_map import offline_litellm
from erp_trainer.pool.proxy_config import ProxyConfig
from litellm_erp.config_file import REFERENCE, is_reference
from litellm_erp.effort import effort_of
from litellm_erp.serving.checks import Finding, near_miss
from litellm_erp.serving.deployments import Deployment, MemberTable
from litellm_erp.shown import one_line

_TRIED = (
    "routing_groups", "routing_strategy", "model_group_alias", "fallbacks", "default_fallbacks",
    "context_window_fallbacks", "content_policy_fallbacks", "num_retries", "optional_pre_call_checks",
    "enable_pre_call_checks", "allowed_fails", "cooldown_time", "timeout",
)  # fmt: skip


def try_router(proxy: ProxyConfig) -> tuple[list[Finding], list[Deployment]]:
    """Make a ``litellm.Router`` from a config, as the proxy does.

    Returns
    -------
    one error where the installed LiteLLM refuses the config, a warning for each deployment that it leaves out; and the
    deployments that are left
    """
    settings = {key: value for key, value in proxy.router_settings.items() if key in _TRIED}
    problems: list[tuple[Deployment, str | None]] = [(entry, None) for entry in proxy.model_list]
    refused = None
    with _undone():
        if _refused(proxy.model_list, proxy, settings):
            # A proxy has its router leave out what it cannot use, but for what has not even the shape of a deployment.
            refused = _refused(proxy.model_list, proxy, {**settings, "ignore_invalid_deployments": True})
            problems = [(entry, None if refused else _refused([entry], proxy, {})) for entry in proxy.model_list]
    found = [Finding("error", f"LiteLLM refuses the config at start: {refused}")] if refused else []
    found += _unknown_keys(proxy.sections["router_settings"])
    found += [
        Finding("warning", f"LiteLLM leaves out a deployment of {str(entry['model_name'])!r}: {problem}")
        for entry, problem in problems
        if problem
    ]
    return found, [entry for entry, problem in problems if not problem]


def try_picks(proxy: ProxyConfig, deployments: Sequence[Deployment], groups: Sequence[str]) -> list[Finding]:
    """Whether the installed LiteLLM picks what a callback leaves in; no model is called.

    Parameters
    ----------
    deployments : those of the config that LiteLLM takes, each with an id
    groups : the routed groups
    """
    litellm = offline_litellm()
    from litellm_erp.proxy import litellm_router, self_test

    members = MemberTable(lambda name: None)
    settings = {key: value for key, value in proxy.router_settings.items() if key in _TRIED}
    found = []
    with _undone():
        router = litellm.Router(model_list=[_resolved(entry) for entry in deployments], **_resolved(settings))
        litellm.callbacks.append(self_test.Forcing(members))
        for group in groups:
            listed = litellm_router.members_of(router, group)
            result = asyncio.run(self_test.run(router, group, listed, members))
            if result.conclusive and not result.followed:
                found.append(Finding("error", f"group {group!r}: {result.text()}"))
        router.discard()
    return found


def try_arms(deployments: Sequence[Deployment], members: MemberTable) -> list[Finding]:
    """Where LiteLLM does not send a model what makes it an arm: there the arm is not served."""
    offline_litellm()
    from litellm_erp.proxy import arms, litellm_router

    found = []
    for entry in deployments:
        lacking: dict[str, list[str]] = {}
        for arm in members.member(entry).arms:
            parameters = arm.parameters or {}
            names = effort_of(parameters)
            for route in arms.ROUTES:
                if arms.spelled(route, parameters) is None or not litellm_router.hands_on(entry, route, names):
                    lacking.setdefault(arm.pool_model, []).append(route)
        for name, routes in lacking.items():
            text = f"{name!r} of {str(entry['model_name'])!r} is not served on {', '.join(routes)}: LiteLLM sends "
            text += f"{entry['litellm_params']['model']} no such parameters there"
            found.append(Finding("warning" if "chat" in routes else "info", text))
    return found


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    """Routers made inside leave nothing behind in LiteLLM's module, and log nothing."""
    litellm = offline_litellm()
    # A router enters its deployments into LiteLLM's map, free of charge; the doctor asks that map for prices.
    known, callbacks, level = dict(litellm.model_cost), list(litellm.callbacks), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        litellm.callbacks[:] = callbacks
        litellm.model_cost.clear()
        litellm.model_cost.update(known)


def _unknown_keys(settings: Mapping[str, Any]) -> list[Finding]:
    """Router settings that LiteLLM ignores because its router has no such argument."""
    litellm = offline_litellm()
    known: list[str] = getattr(litellm.Router, "get_valid_args", list)()
    return [
        Finding("warning", f"router_settings.{key} is no setting of LiteLLM's router{near_miss(str(key), known)}")
        for key in settings
        if known and key not in known
    ]


def _refused(model_list: Sequence[Deployment], proxy: ProxyConfig, settings: Mapping[str, Any]) -> str | None:
    """What LiteLLM says against a router, None where it makes one."""
    litellm = offline_litellm()
    try:
        litellm.Router(model_list=[_resolved(entry) for entry in model_list], **_resolved(settings)).discard()
    except Exception as e:
        return _said(e, proxy)
    return None


def _resolved(value: Any) -> Any:
    """A copy in which references to the environment are what LiteLLM makes of them."""
    if isinstance(value, Mapping):
        return {key: _resolved(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolved(entry) for entry in value]
    if is_reference(value):
        return os.environ.get(value.removeprefix(REFERENCE))
    return value


def _said(error: Exception, proxy: ProxyConfig) -> str:
    """LiteLLM's words without a value of the config that is nobody's business."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        # Pydantic's own text quotes what it was given.
        text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors())
    else:
        text = str(error)
    for entry in proxy.model_list:
        for key, value in _resolved(entry["litellm_params"]).items():
            if isinstance(value, str) and len(value) > 3 and key not in ("model", "custom_llm_provider"):
                text = text.replace(value, f"<{key}>")
    return one_line(text, 400) if text.strip() else type(error).__name__
