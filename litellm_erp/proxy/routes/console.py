"""``GET /erp``: the console's page and files, which hold no data, and the two routes that only it asks.

``GET /erp/groups`` gives frontier, bundle, verdict and sums of each group, and ``GET /erp/decisions`` the last
decisions of this process. The page is anybody's; what it shows it asks for with the key that is typed into it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.totals import EVERYONE, AccountView, Totals
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.tenant import Tenant
from litellm_erp.proxy.litellm_request import tenant_of_caller
from litellm_erp.proxy.routes.caller import Teams, is_admin
from litellm_erp.serving.deployments import Deployment, Member
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.recent import RecentDecisions
from litellm_erp.serving.team_view import account_of, team_view

ROUTES = ("/erp/groups", "/erp/decisions")
PAGE = "index.html"
# Nothing is served that does not stand here, whatever path is asked for.
MEDIA_TYPES = {
    "console.css": "text/css",
    "theme.js": "text/javascript",
    "app.js": "text/javascript",
    "dom.js": "text/javascript",
    "frontier.js": "text/javascript",
    "teams.js": "text/javascript",
    "decisions.js": "text/javascript",
    "explain.js": "text/javascript",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
MOST_DECISIONS = 200


class Plugin(Teams, Protocol):
    """What of the plugin the console shows."""

    groups: dict[str, RoutedGroup]
    totals: Totals
    pacer: SpendBook
    recent: RecentDecisions

    def offer(self, group: str, tenant: Tenant) -> tuple[Sequence[Deployment], list[Member]]:
        """Deployments of a group that a tenant may use, and their members."""


@cache
def asset(name: str) -> bytes | None:
    """One of the console's files; None where there is none of that name."""
    if name != PAGE and name not in MEDIA_TYPES:
        return None
    return (files("litellm_erp") / "console" / name).read_bytes()


def decisions(plugin: Plugin, auth: Any, limit: int) -> dict[str, Any]:
    """The last decisions of this process that a caller may see, newest first, and which process this is."""
    tenant = None if is_admin(auth) else tenant_of_caller(auth)
    found = plugin.recent.of(tenant, max(0, min(limit, MOST_DECISIONS)))
    return {"worker": os.getpid(), "decisions": found}


def every_group(plugin: Plugin, auth: Any) -> dict[str, Any]:
    """The groups that a caller may use; an admin also sees where the group's own goal stands."""
    admin, own = is_admin(auth), tenant_of_caller(auth)
    shown = [
        _group(plugin, name, group, EVERYONE if admin else account_of(own), admin)
        for name, group in plugin.groups.items()
        if admin or plugin.offer(name, own)[0]
    ]
    return {"admin": admin, "team": None if admin else own.label, "worker": os.getpid(), "groups": shown}


def _group(plugin: Plugin, name: str, group: RoutedGroup, account: str, admin: bool) -> dict[str, Any]:
    bundle = group.state.bundle
    frontier, scale = bundle.frontier, bundle.cost_scale
    whole = team_view(group.settings, frontier, Tenant(), cost_scale=scale, pacer=plugin.pacer) if admin else None
    return {
        "group": name,
        "bundle": bundle.id,
        "cost_unit": "relative" if scale == 1.0 else "usd",
        "verdict": frontier.document["verdict"],
        "points": _points(frontier),
        "single_models": {
            model: {"reward": _finite(reward), "cost_per_1k": _finite(1000.0 * cost)}
            for model, reward, cost in zip(
                [m.name for m in bundle.manifest.models], frontier.single_reward_M, frontier.single_cost_M, strict=True
            )
        },
        "stands": whole and {key: whole[key] for key in ("goal", "lambda", "expected")},
        "spent": _sums(plugin.totals.view(name, account)),
    }


def _points(frontier: Frontier) -> list[dict[str, Any]]:
    points = frontier.document["points"]
    return [
        {
            "lambda": float(lambda_),
            "reward": _finite(reward),
            "reward_se": _finite(point.get("reward_se")),
            "cost_per_1k": _finite(1000.0 * cost),
            "share": point["share"],
        }
        for lambda_, reward, cost, point in zip(
            frontier.lambda_L, frontier.reward_L, frontier.cost_L, points, strict=True
        )
    ]


def _sums(view: AccountView) -> dict[str, Any]:
    saved = view.saved
    return {
        "requests": view.requests,
        "usd": view.spend_usd,
        "saved_usd": None if saved is None else view.best_single_usd - view.compared_usd,
        "saved": saved,
        "by_model": dict(view.by_model),
    }


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
