"""Which members of a group a key and its team may use, worked out once per list of allowed models."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from litellm import Router

from litellm_erp.goals.tenant import Tenant, allowed_members
from litellm_erp.proxy.litellm_router import aliases_of, members_of
from litellm_erp.serving.deployments import Deployment, Member, MemberTable
from litellm_erp.telemetry import Once

_KEEP_S = 1.0
_MAX_LISTS = 1024
_once = Once()


@dataclass(slots=True)
class _Group:
    """What a group's access depends on, and what was found from it."""

    until: float
    members: frozenset[Member]
    ids: frozenset[str]
    aliases: tuple[str, ...]
    every_alias: tuple[tuple[str, str], ...]
    allowed: dict[object, frozenset[str] | None] = field(default_factory=dict)


class Access:
    """Allow lists of keys and teams, compared with all members of a group, those that are cooling down included.

    Walking a router's whole model list takes longer than a decision, so what it gave is kept for a second.

    Parameters
    ----------
    router : the router there is now, None before there is one
    """

    def __init__(self, members: MemberTable, router: Callable[[], Router | None]) -> None:
        self._members = members
        self._router = router
        self._groups: dict[str, _Group] = {}

    def permitted(
        self, group: str, deployments: Sequence[Deployment], members: list[Member], tenant: Tenant
    ) -> tuple[Sequence[Deployment], list[Member]]:
        """The deployments on offer that a tenant may use, and their members."""
        if not tenant.is_limited:
            return deployments, members
        known = self._known(group, members)
        lists = (tenant.key_models, tenant.team_models, tenant.aliases)
        if lists not in known.allowed:
            if len(known.allowed) >= _MAX_LISTS:
                known.allowed.clear()
            everyone = ((member.model_name, member.access_groups) for member in known.members)
            known.allowed[lists] = allowed_members(group, everyone, tenant, known.every_alias)
        allowed = known.allowed[lists]
        if allowed is None:
            return deployments, members
        kept = [i for i, member in enumerate(members) if member.model_name in allowed]
        return [deployments[i] for i in kept], [members[i] for i in kept]

    def known(self, group: str) -> tuple[frozenset[str], tuple[str, ...]]:
        """Ids of all deployments of a group, those that are down included, and its other names."""
        found = self._known(group, ())
        return found.ids, found.aliases

    def named(self, model: object, groups: Collection[str]) -> list[str]:
        """The groups that a request names: one, by an alias too, or one of several, with commas between them."""
        if not isinstance(model, str):
            return []
        names = {name.strip() for name in model.split(",")} if "," in model else {model}
        return [group for group in groups if group in names or not names.isdisjoint(self._known(group, ()).aliases)]

    def _known(self, group: str, offered: Sequence[Member]) -> _Group:
        known = self._groups.get(group)
        if known is None or time.monotonic() >= known.until or not known.members.issuperset(offered):
            known = self._groups[group] = self._look_up(group, offered)
        return known

    def _look_up(self, group: str, offered: Sequence[Member]) -> _Group:
        aliases: tuple[tuple[str, str], ...] = ()
        listed: Sequence[Deployment] = ()
        try:
            router = self._router()
            aliases = () if router is None else tuple(aliases_of(router).items())
            listed = members_of(router, group)
        except Exception as e:
            # Requests to any model ask here. What is on offer says enough, unless an allowed model is down as well.
            _once.warn(f"group {group!r}: the router could not be asked for its members: {type(e).__name__}")
        members = frozenset((*offered, *map(self._members.member, listed)))
        return _Group(
            time.monotonic() + _KEEP_S,
            members,
            frozenset([member.id for member in members]),
            tuple(alias for alias, to in aliases if to == group),
            aliases,
        )
