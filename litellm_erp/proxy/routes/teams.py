"""``GET /erp/teams`` and ``GET /erp/teams/{team}``: what a team's goals mean, and what it has spent."""

from __future__ import annotations

from typing import Any, Protocol

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.totals import Sharing, Totals
from litellm_erp.goals.tenant import Tenant
from litellm_erp.proxy.litellm_request import tenant_of_caller
from litellm_erp.proxy.routes.caller import ApiError, Teams, is_admin, tenant_named
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.team_view import account_of, team_view


class SharedBudgets(Protocol):
    """Sums that other processes may add to."""

    async def refresh(self) -> None:
        """Ask for them now."""

    def status(self) -> Sharing:
        """Whose they are."""


class Plugin(Teams, Protocol):
    """What of the plugin is shown of teams."""

    groups: dict[str, RoutedGroup]
    totals: Totals
    pacer: SpendBook

    @property
    def sharing(self) -> SharedBudgets:
        """Whose spend is known."""


def every_team(plugin: Plugin, auth: Any) -> list[dict[str, Any]]:
    """What an admin sees of all teams: those in the settings and those that have sent requests; else one's own."""
    if not is_admin(auth):
        return _views(plugin, tenant_of_caller(auth))
    tenants = {tenant.team_account: tenant for tenant in plugin.tenants()}
    return [view for tenant in tenants.values() for view in _views(plugin, tenant)]


def one_team(plugin: Plugin, auth: Any, team: str) -> list[dict[str, Any]]:
    """One team in every group.

    Raises
    ------
    ApiError : the caller is neither an admin nor of that team, or there is no such team
    """
    own = tenant_of_caller(auth)
    if team in (own.team_id, own.team_alias):
        return _views(plugin, own)
    if not is_admin(auth):
        raise ApiError(403, f"this key may see its own team only, not {team[:80]!r}")
    return _views(plugin, tenant_named(plugin, team))


def _views(plugin: Plugin, tenant: Tenant) -> list[dict[str, Any]]:
    return [
        team_view(
            group.settings,
            group.state.bundle.frontier,
            tenant,
            cost_scale=group.state.bundle.cost_scale,
            spent=plugin.totals.view(name, account_of(tenant)),
            pacer=plugin.pacer,
            sharing=plugin.sharing.status(),
        )
        for name, group in plugin.groups.items()
    ]
