"""What a proxy config says outside ``erp_settings`` that keeps it from starting, routing or answering."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from erp_trainer.pool.proxy_config import SECTIONS, ProxyConfig, info_of, is_deployment
from litellm_erp import litellm_releases as releases
from litellm_erp.config_file import REFERENCE
from litellm_erp.effort import ARMS_KEY, PARAMETERS
from litellm_erp.serving.checks import Finding, near_miss
from litellm_erp.serving.deployments import Deployment

CALLBACK = "litellm_erp.proxy.erp_router"
_AFFINITY = frozenset({"responses_api_deployment_check", "deployment_affinity", "session_affinity"})
ModelInfo = Callable[[str], Mapping[str, Any] | None]


def check_shape(document: Mapping[str, Any], proxy: ProxyConfig) -> Iterator[Finding]:
    """What has not the shape that LiteLLM expects, and what its routing groups contradict."""
    for name in SECTIONS:
        found = document.get(name)
        if found is not None and not isinstance(found, Mapping):
            text = f"{name}: found a {type(found).__name__}; expected a map"
            # The one section that LiteLLM skips where it is something else.
            yield Finding("error", f"{text}; LiteLLM ignores it") if name == "router_settings" else _error(text)
    listed = document.get("model_list")
    if listed is not None and not isinstance(listed, list):
        yield _error(f"model_list: found a {type(listed).__name__}; expected a list")
    for number, entry in enumerate(listed if isinstance(listed, list) else []):
        if not is_deployment(entry):
            yield _error(f"model_list[{number}]: expected a map with model_name and litellm_params.model")
    yield from _check_groups(proxy.sections["router_settings"], {str(d["model_name"]) for d in proxy.model_list})


def _check_groups(router: Mapping[str, Any], deployed: set[str]) -> Iterator[Finding]:
    groups = router.get("routing_groups")
    if groups is not None and not isinstance(groups, list):
        yield _error(f"router_settings.routing_groups: found a {type(groups).__name__}; expected a list")
        return
    claimed: dict[str, str] = {}
    names: set[str] = set()
    for number, group in enumerate(groups or []):
        models = group.get("models") if isinstance(group, Mapping) else None
        if not isinstance(models, list) or not group.get("group_name") or not group.get("routing_strategy"):
            text = "expected group_name, models (a list) and routing_strategy"
            yield _error(f"router_settings.routing_groups[{number}]: {text}")
            continue
        name = str(group["group_name"])
        if name in names:
            yield Finding(
                "error", f"routing group {name!r} stands twice; LiteLLM allows one and does not start with two"
            )
        names.add(name)
        for model in map(str, models):
            # Those of a priority group may be in others too.
            owner = name if group["routing_strategy"] == "priority" else claimed.setdefault(model, name)
            if owner != name:
                text = f"model {model!r} is in routing groups {owner!r} and {name!r}; LiteLLM allows one"
                yield Finding("error", f"{text} and does not start with two")
            if model not in deployed:
                text = f"routing group {name!r} names {model!r}, which is not in model_list{near_miss(model, deployed)}"
                yield Finding("warning", text)


def check_config(document: Mapping[str, Any], proxy: ProxyConfig, model_info: ModelInfo) -> list[Finding]:
    """All findings that need nothing but the config, LiteLLM's model map and the environment.

    Parameters
    ----------
    model_info : what LiteLLM's map says of a provider's model, None where it does not know it
    """
    return [
        *check_shape(document, proxy),
        *_check_release(),
        *_check_callback(proxy),
        *_check_auth(proxy),
        *_check_references(document, proxy),
        *cached_answers(proxy),
        *_check_affinity(proxy),
        *_check_names(proxy),
        *_check_priorities(document, proxy),
        *_check_windows(proxy, model_info),
        *_check_dropping(proxy),
    ]


def _check_release() -> Iterator[Finding]:
    release = releases.installed()
    if release is not None and (text := releases.warning(release)) is not None:
        yield Finding("warning" if releases.standing(release) == "untried" else "error", text)


def _check_callback(proxy: ProxyConfig) -> Iterator[Finding]:
    callbacks = proxy.sections["litellm_settings"].get("callbacks") or []
    names = [callbacks] if isinstance(callbacks, str) else callbacks
    if not isinstance(names, list):
        yield _error(f"litellm_settings.callbacks: found a {type(names).__name__}; expected a list")
    elif CALLBACK not in names:
        yield Finding("error", f'litellm_settings.callbacks does not name the plugin; add callbacks: ["{CALLBACK}"]')


def _check_auth(proxy: ProxyConfig) -> Iterator[Finding]:
    general, settings = proxy.sections["general_settings"], proxy.sections["litellm_settings"]
    if general.get("custom_auth") and not settings.get("enable_post_custom_auth_checks"):
        yield Finding(
            "info",
            "with custom_auth, LiteLLM checks which models a key may call only with "
            "litellm_settings.enable_post_custom_auth_checks: true",
        )


def _check_references(document: Mapping[str, Any], proxy: ProxyConfig) -> Iterator[Finding]:
    """References to the environment that are resolved to nothing; names only, never a value."""
    if proxy.sections["general_settings"].get("key_management_system"):
        return  # A secret manager may have what the environment lacks.
    places: dict[str, list[str]] = {}
    for place, reference in _references({k: v for k, v in document.items() if k != "erp_settings"}, ""):
        variable = reference.removeprefix(REFERENCE)
        if "\0" in variable or variable not in os.environ:
            places.setdefault(variable, []).append(place)
    for variable, found in places.items():
        text = f"environment variable {variable} is not set: {', '.join(found[:3])}"
        text += f" and {len(found) - 3} more" if len(found) > 3 else ""
        if variable in proxy.sections["environment_variables"]:
            text += " (LiteLLM reads references before it sets the config's environment_variables)"
        if any(place.endswith("litellm_params.model") for place in found):
            yield _error(f"{text}: a deployment without a model")
        elif any(place.endswith("general_settings.master_key") for place in found):
            yield _error(f"{text}; LiteLLM refuses to start, and older releases ask nobody for a key")
        else:
            yield Finding("warning", f"{text}; LiteLLM goes on as if the setting were absent")


def _references(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Where LiteLLM resolves references: values of maps, and of maps in lists; not the texts of a list."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            inner = f"{place}.{key}" if place else str(key)
            if isinstance(entry, str) and entry.startswith(REFERENCE):
                yield inner, entry
            else:
                yield from _references(entry, inner)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            if isinstance(entry, Mapping):
                name = entry.get("model_name")
                yield from _references(entry, f"{place}[{number}]" + (f" ({name})" if isinstance(name, str) else ""))


def cached_answers(proxy: ProxyConfig) -> Iterator[Finding]:
    """What LiteLLM's cache of answers means for routing; the one place that says so."""
    settings = proxy.sections["litellm_settings"]
    if settings.get("cache") is True:
        yield Finding(
            "info",
            "litellm_settings.cache is on: a repeated prompt gets the cached answer of the model that is chosen for it "
            "now, where there is one; it costs nothing and counts in no budget",
        )
    elif settings.get("cache_params") is not None:
        yield Finding("info", "litellm_settings.cache_params do nothing without litellm_settings.cache: true")


def _check_affinity(proxy: ProxyConfig) -> Iterator[Finding]:
    checks = proxy.sections["router_settings"].get("optional_pre_call_checks")
    if not (isinstance(checks, list) and _AFFINITY & {check for check in checks if isinstance(check, str)}):
        yield Finding(
            "info",
            "a routed group keeps /v1/responses with previous_response_id where the earlier response is; LiteLLM does "
            "so for other groups, and marks encrypted reasoning for any, only with router_settings."
            'optional_pre_call_checks: ["responses_api_deployment_check", "encrypted_content_affinity"]',
        )


def _check_names(proxy: ProxyConfig) -> Iterator[Finding]:
    members, seen = proxy.members, dict[str, str]()
    for entry in proxy.model_list:
        name = str(entry["model_name"])
        if name in members and ("*" in name or "*" in entry["litellm_params"]["model"]):
            text = f"model {name!r} of a routing group is a wildcard, which stands for no single model; name each model"
            yield Finding("warning", text)
        deployment = info_of(entry).get("id")
        if deployment is None:
            continue
        if str(deployment) in seen:
            text = f"model_info.id {str(deployment)!r} stands at {seen[str(deployment)]!r} and at {name!r}"
            yield Finding("warning", f"{text}; LiteLLM keeps one deployment of an id")
        seen[str(deployment)] = name


def _check_priorities(document: Mapping[str, Any], proxy: ProxyConfig) -> Iterator[Finding]:
    settings = document.get("erp_settings")
    routed = settings.get("groups") if isinstance(settings, Mapping) else None
    for group in proxy.groups:
        name = group.get("group_name")
        if isinstance(routed, Mapping) and name in routed and group.get("routing_strategy") == "priority":
            yield Finding(
                "info", f"model_priorities of routing group {name!r} do not count: the ranking takes their place"
            )


def _check_windows(proxy: ProxyConfig, model_info: ModelInfo) -> Iterator[Finding]:
    """Deployments of which nobody knows how long a prompt they take."""
    names = [str(d["model_name"]) for d in proxy.model_list if not _has_window(d, model_info)]
    if unknown := ", ".join(dict.fromkeys(name for name in names if name in proxy.members)):
        yield Finding(
            "info",
            f"how long a prompt may be is not known of {unknown}; whether one fits cannot be judged. State "
            "model_info.max_input_tokens",
        )


def _check_dropping(proxy: ProxyConfig) -> Iterator[Finding]:
    """Deployments of several pool models whose parameters LiteLLM may drop without a word."""
    everywhere = proxy.sections["litellm_settings"].get("drop_params") is True
    for entry in proxy.model_list:
        params = entry["litellm_params"]
        dropped = params.get("additional_drop_params")
        named = [name for name in dropped if name in PARAMETERS] if isinstance(dropped, list) else []
        if info_of(entry).get(ARMS_KEY) is None or not (everywhere or params.get("drop_params") is True or named):
            continue
        what = f"additional_drop_params drop {', '.join(named)}" if named else "drop_params is on"
        yield Finding(
            "warning",
            f"{what} for {str(entry['model_name'])!r}, whose {ARMS_KEY} are told apart by such parameters; without "
            "them all are one model, and headers, log and costs are of another",
        )


def _has_window(deployment: Deployment, model_info: ModelInfo) -> bool:
    own = info_of(deployment)
    known = model_info(str(own.get("base_model") or deployment["litellm_params"]["model"])) or {}
    return any(isinstance(source.get("max_input_tokens"), int) for source in (own, deployment["litellm_params"], known))


def _error(text: str) -> Finding:
    return Finding("error", f"{text}; LiteLLM does not start with it")
