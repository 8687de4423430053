"""What ``erp_settings`` ask for that the rest of a config, or this machine, cannot give."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from erp_trainer.pool.proxy_config import ProxyConfig
from litellm_erp.goals.settings import Settings
from litellm_erp.serving.checks import Finding
from litellm_erp.serving.sharing import IN_MEMORY, has_window

# Of general_settings; each of them lets LiteLLM know whose key a request has.
_KNOWS_KEYS = ("master_key", "custom_auth", "enable_jwt_auth", "enable_oauth2_auth", "enable_oauth2_proxy_auth")


def check_settings(settings: Settings, proxy: ProxyConfig) -> list[Finding]:
    """All findings, in the order of the settings' documentation."""
    return [*_check_budgets(settings, proxy), *_check_folders(settings), *_check_teams(settings, proxy)]


def _check_budgets(settings: Settings, proxy: ProxyConfig) -> Iterator[Finding]:
    kept = settings.budget_file is not None or settings.redis.url is not None or _has_redis(proxy)
    if not kept and any(map(has_window, settings.groups.values())):
        yield Finding("warning", IN_MEMORY)


def _has_redis(proxy: ProxyConfig) -> bool:
    """Whether LiteLLM itself may have a Redis, wherever it takes one from."""
    sections = proxy.sections
    named = [*sections["router_settings"], *sections["general_settings"], *os.environ]
    if any("redis" in str(name).lower() for name in named):
        return True
    params = sections["litellm_settings"].get("cache_params")
    kind = params.get("type", "redis") if isinstance(params, Mapping) else "redis"
    return sections["litellm_settings"].get("cache") is True and str(kind).startswith("redis")


def _check_folders(settings: Settings) -> Iterator[Finding]:
    folder, file = settings.decision_log.path, settings.budget_file
    if folder is not None and (why := _not_writable(folder)):
        yield Finding("warning", f"erp_settings.decision_log.path: {folder}: {why}; what was decided is not kept")
    if file is not None and (why := _not_writable(file.parent, made=False)):
        yield Finding("warning", f"erp_settings.budget_file: {file}: {why}; budgets are kept in memory only")


def _not_writable(folder: Path, *, made: bool = True) -> str | None:
    """Why this user cannot write into a folder.

    Parameters
    ----------
    made : whether the proxy makes the folder where it is not there
    """
    if not folder.exists() and not made:
        return "its folder is not there; make it"
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        return f"{there} is no folder; name another"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"this user may not write in {there}; let the proxy's user write there, or name another"
    return None


def _check_teams(settings: Settings, proxy: ProxyConfig) -> Iterator[Finding]:
    general = proxy.sections["general_settings"]
    if any(general.get(name) for name in _KNOWS_KEYS) or os.environ.get("LITELLM_MASTER_KEY"):
        return
    for name, group in settings.groups.items():
        if teams := sorted({*group.teams, *group.modes}):
            yield Finding(
                "warning",
                f"group {name!r}: teams ({', '.join(teams[:3])}{', …' if len(teams) > 3 else ''}) never apply, because "
                "LiteLLM asks nobody for a key; set general_settings.master_key, or custom_auth",
            )
