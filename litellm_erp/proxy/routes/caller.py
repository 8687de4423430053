"""Who may see what on our routes."""

from __future__ import annotations

from typing import Any, Protocol

from litellm_erp.goals.tenant import Tenant

_ADMINS = frozenset({"proxy_admin", "proxy_admin_viewer"})


class Teams(Protocol):
    """Who knows the teams."""

    def tenants(self) -> list[Tenant]:
        """Every team that is known of."""


class ApiError(Exception):
    """A request that gets an answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def is_admin(auth: Any) -> bool:
    """Whether a caller sees every team."""
    return str(getattr(auth.user_role, "value", auth.user_role)) in _ADMINS


def tenant_named(teams: Teams, team: str) -> Tenant:
    """A team by its id or alias.

    Raises
    ------
    ApiError : there is none that is known of
    """
    for tenant in teams.tenants():
        if team in (tenant.team_id, tenant.team_alias):
            return tenant
    raise ApiError(404, f"no team {team[:80]!r} in the settings, and none of that name has sent a request")
