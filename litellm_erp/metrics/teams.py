"""Which teams have a label of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from litellm_erp.metrics.definitions import OTHER

MAX_TEAMS = 100
_MAX_CHARS = 200


class Team(Protocol):
    """Who asks."""

    @property
    def team_account(self) -> str:
        """``team:<id>`` or ``alias:<alias>``; "" without a team."""

    @property
    def team_alias(self) -> str | None:
        """What the settings may know it by."""


class TeamLabels:
    """Labels of teams by account: no more than a limit, and the same for an account for as long as a process runs.

    Parameters
    ----------
    most : teams with a label of their own
    """

    def __init__(self, most: int = MAX_TEAMS) -> None:
        self._most = most
        self._named: set[str] = set()
        self._labels: dict[str, str] = {}

    def configure(self, names: Iterable[str]) -> None:
        """Keep labels for teams of these names, ids or aliases, that may send requests later."""
        for name in names:
            if len(self._named) < self._most:
                self._named.add(name)

    def of(self, team: Team) -> str:
        """A team's label; "" where there is none."""
        account = team.team_account
        if not account:
            return ""
        found = self._labels.get(account)
        return self._admitted(account, team.team_alias) if found is None else found

    def _admitted(self, account: str, alias: str | None) -> str:
        name = account.partition(":")[2]
        known = name if name in self._named else alias if alias in self._named else None
        if known is not None:
            # Its place is taken by the label that it gets now.
            self._named.discard(known)
        elif len(self._labels) + len(self._named) >= self._most:
            return OTHER
        label = self._labels[account] = name[:_MAX_CHARS]
        return label
