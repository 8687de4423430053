"""Teams that have sent requests, for whoever asks for all teams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from litellm_erp.goals.tenant import Tenant

_MAX_TEAMS = 10_000


class KnownTeams:
    """Teams by account as they were last seen, without their keys."""

    def __init__(self) -> None:
        self._seen: dict[str, Tenant] = {}

    def remember(self, tenant: Tenant) -> None:
        """Keep what is known of a team; as cheap as a look once it is kept."""
        account, known = tenant.team_account, self._seen.get(tenant.team_account)
        if known is not None and known.team_metadata == tenant.team_metadata:
            return
        if account and (known is not None or len(self._seen) < _MAX_TEAMS):
            self._seen[account] = replace(tenant, key_id=None, key_metadata=None, key_models=())

    def with_named(self, names: Iterable[str]) -> list[Tenant]:
        """Teams of these names that have sent nothing, then all that have."""
        seen = list(self._seen.values())
        known = {name for tenant in seen for name in (tenant.team_id, tenant.team_alias)}
        return [Tenant(team_id=name) for name in dict.fromkeys(names) if name not in known] + seen
