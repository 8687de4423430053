"""PURE. What was really spent, by group and account, since this process started.

An account is a team, a key or the group itself (``tenancy.Claim``). Sums only ever grow; windows are pacing's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request.

    Attributes
    ----------
    model : the pool model that answered
    cost_usd : what it really cost
    best_single_usd : what the best single model is expected to have cost; None where that is not known
    """

    model: str
    cost_usd: float
    best_single_usd: float | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """Sums of one account.

    Attributes
    ----------
    by_model : requests by pool model
    compared_usd, best_single_usd : spend, and the best single model's, of the requests where both are known
    """

    requests: int = 0
    spend_usd: float = 0.0
    compared_usd: float = 0.0
    best_single_usd: float = 0.0
    by_model: Mapping[str, int] = field(default_factory=dict)

    @property
    def saved(self) -> float | None:
        """Share of the best single model's cost that routing saved; negative where it cost more."""
        return None if self.best_single_usd <= 0 else 1.0 - self.compared_usd / self.best_single_usd


class Ledger:
    """Counts in this process."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], AccountView] = {}

    def record(self, group: str, account: str, served: Served) -> None:
        """Count one request for one account."""
        old = self.view(group, account)
        known = served.best_single_usd is not None
        self._accounts[group, account] = AccountView(
            old.requests + 1,
            old.spend_usd + served.cost_usd,
            old.compared_usd + (served.cost_usd if known else 0.0),
            old.best_single_usd + (served.best_single_usd or 0.0),
            {**old.by_model, served.model: old.by_model.get(served.model, 0) + 1},
        )

    def view(self, group: str, account: str) -> AccountView:
        """An account's sums; zeros where it was never seen."""
        return self._accounts.get((group, account), AccountView())

    def accounts(self, group: str) -> tuple[str, ...]:
        """Accounts that were seen in a group."""
        return tuple(account for name, account in self._accounts if name == group)
