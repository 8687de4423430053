"""Everything that would keep a proxy config from routing as its owner thinks, in one go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erp_trainer.proxy_config import read_proxy_config
from litellm_erp import bundle as bundles
from litellm_erp import settings as settings_file
from litellm_erp.budget import solve
from litellm_erp.bundle import Bundle
from litellm_erp.checks import Finding, check_router, router_view
from litellm_erp.deployments import MemberTable
from litellm_erp.embedding import embedder_from_spec
from litellm_erp.errors import ErpError, SettingsError
from litellm_erp.settings import Settings
from litellm_erp.teams import mixture_json

CALLBACK = "litellm_erp.proxy.erp_router"


def examine(config: Path) -> tuple[list[Finding], dict[str, Any]]:
    """Check a proxy config file and the bundles it names.

    Returns
    -------
    findings, and what each routable group would do

    Raises
    ------
    SettingsError : the file does not exist or is not YAML
    """
    document = read_proxy_config(config)
    findings = _check_callback(document) + _check_auth(document) + _check_router_shape(document)
    value = document.get("erp_settings")
    if value is None:
        return [*findings, Finding("error", "no erp_settings: nothing is routed")], {}
    settings, problems = _settings(value, config)
    findings += problems
    if settings is None:
        return findings, {}
    loaded: dict[str, Bundle] = {}
    for name, group in settings.groups.items():
        try:
            loaded[name] = bundles.load(group.bundle)
            _check_embedder(loaded[name], group.embedder)
        except ErpError as e:
            findings.append(Finding("error", f"group {name!r}: {e}"))
    view = router_view(document.get("model_list") or [], document.get("router_settings") or {})
    findings += check_router(view, settings, loaded, MemberTable(_model_info))
    return sorted(findings, key=lambda f: ("error", "warning", "info").index(f.level)), _summary(settings, loaded)


def _settings(value: object, config: Path) -> tuple[Settings | None, list[Finding]]:
    """Settings, or one finding for each key that is wrong: every key is also read apart from the others."""
    try:
        return settings_file.parse(value, config), []
    except SettingsError as whole:
        found: list[str] = []
        groups = value.get("groups") if isinstance(value, Mapping) else None
        for name, group in groups.items() if isinstance(groups, Mapping) else ():
            for part in _parts(group):
                try:
                    settings_file.parse({"groups": {name: part}}, config)
                except SettingsError as e:
                    found.append(str(e))
        if isinstance(value, Mapping):
            rest = {key: entry for key, entry in value.items() if key != "groups"}
            try:
                settings_file.parse({**rest, "groups": {"_": {"bundle": "_"}}}, config)
            except SettingsError as e:
                found.append(str(e))
        return None, [Finding("error", text) for text in dict.fromkeys(found or [str(whole)])]


def _parts(group: object) -> list[object]:
    """The keys of a group one by one, each with the bundle that makes it a group; teams one by one too."""
    if not isinstance(group, Mapping):
        return [group]
    bundle = {"bundle": "_"}
    teams = group.get("teams")
    apart = {key: value for key, value in group.items() if key != "teams" or not isinstance(teams, Mapping)}
    parts: list[object] = [{key: value} if key == "bundle" else {**bundle, key: value} for key, value in apart.items()]
    if isinstance(teams, Mapping):
        parts += [{**bundle, "teams": {team: entry}} for team, entry in teams.items()]
    return parts if "bundle" in group else [{}, *parts]


def _check_callback(document: Mapping[str, Any]) -> list[Finding]:
    callbacks = (document.get("litellm_settings") or {}).get("callbacks") or []
    names = [callbacks] if isinstance(callbacks, str) else list(callbacks)
    if CALLBACK in names:
        return []
    return [Finding("error", f'litellm_settings.callbacks does not name the plugin; add callbacks: ["{CALLBACK}"]')]


def _check_auth(document: Mapping[str, Any]) -> list[Finding]:
    general, litellm_settings = document.get("general_settings") or {}, document.get("litellm_settings") or {}
    if general.get("custom_auth") and not litellm_settings.get("enable_post_custom_auth_checks"):
        return [
            Finding(
                "info",
                "with custom_auth, LiteLLM checks which models a key may call only with "
                "litellm_settings.enable_post_custom_auth_checks: true",
            )
        ]
    return []


def _check_router_shape(document: Mapping[str, Any]) -> list[Finding]:
    """What LiteLLM itself refuses at start."""
    claimed: dict[str, str] = {}
    findings = []
    groups = (document.get("router_settings") or {}).get("routing_groups") or []
    deployed = {str(d.get("model_name")) for d in document.get("model_list") or [] if isinstance(d, Mapping)}
    for group in groups:
        name = str(group.get("group_name"))
        for model in group.get("models") or ():
            if model in claimed:
                text = f"model {model!r} is in routing groups {claimed[model]!r} and {name!r}; LiteLLM allows one"
                findings.append(Finding("error", text))
            claimed[model] = name
            if model not in deployed:
                findings.append(
                    Finding("warning", f"routing group {name!r} names {model!r}, which is not in model_list")
                )
    return findings


def _check_embedder(bundle: Bundle, options: settings_file.EmbedderSettings) -> None:
    # An endpoint is asked when a request needs it; whether it is up now says little.
    embedder_from_spec(
        bundle.manifest.embedder,
        url=options.url,
        directory=options.directory or bundle.embedder_directory(),
        trust_remote_code=options.trust_remote_code,
    ).close()


def _summary(settings: Settings, loaded: Mapping[str, Bundle]) -> dict[str, Any]:
    return {
        name: {
            "bundle": bundle.id,
            "lambda": mixture_json(solve(settings.groups[name].policy, bundle.frontier).mixture),
            "teams": {
                team: mixture_json(solve(entry.policy, bundle.frontier).mixture)
                for team, entry in settings.groups[name].teams.items()
            },
            "verdict": bundle.frontier.document["verdict"]["text"],
        }
        for name, bundle in loaded.items()
    }


def _model_info(model: str) -> Mapping[str, Any] | None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    try:
        return dict(litellm.get_model_info(model))
    except Exception:
        return None
