"""``GET /erp/health``: whether this process routes; asked by probes, so it takes no key and says no name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from litellm import Router

from litellm_erp.proxy.litellm_router import members_of


class Plugin(Protocol):
    """What of the plugin its health depends on."""

    @property
    def groups(self) -> Collection[str]:
        """Names of the routed groups."""

    @property
    def follows(self) -> Mapping[str, bool] | None:
        """What the self-test found, by group; None until it was tried."""

    def router(self) -> Router | None:
        """The router it serves, None before there is one."""


def health(plugin: Plugin, shared: bool) -> tuple[dict[str, Any], int]:
    """The body and the status: 200 where requests are routed, else 503 and why.

    A store that is lost is no failure: budgets go on by local counts, and a proxy that is taken out answers nobody.

    Parameters
    ----------
    shared : whether budgets are shared with other processes just now
    """
    if why := _why_not(plugin):
        return {"status": "not routing", "why": why}, 503
    budgets = "shared" if shared else "of this process"
    return {"status": "routing", "why": f"groups {len(plugin.groups)}, budgets {budgets}"}, 200


def _why_not(plugin: Plugin) -> str:
    follows = plugin.follows
    if follows is None:
        return "starting"
    if not plugin.groups:
        return "no group in erp_settings"
    router = plugin.router()
    if not any(members_of(router, name) for name in plugin.groups):
        return "no group has a deployment in the router"
    if not all(follows.values()):
        return "this LiteLLM does not follow what is decided; the log says more"
    return ""
