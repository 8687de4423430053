"""What was really spent, by group and account, by all processes that share their counters.

An account is a team, a key or the group itself (``goals.tenant.Claim``). Sums only ever grow; windows are the budgets'.
They are kept in the same counters as these, so that they are shared and survive where budgets do, and are forgotten
once nobody has asked for an account in three months.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from litellm_erp.budgets.amounts import NANO, nano_usd
from litellm_erp.budgets.counters import DAY_S, Counters, key_of

_KEPT_S = 90 * DAY_S
_MAX_ACCOUNTS = 10_000
_MAX_LISTED = 2_000
_MAX_CHARS = 200
_KEY = "key:"
# All requests of a group, with a team or without.
EVERYONE = "everyone"
# A counter's name must not end in the mark of what is taken back, as a model's may.
_MODEL, _END = "m:", ":"
_ALONE = "sums of this process only: they start anew with it; state erp_settings.redis or budget_file"


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
class Sharing:
    """Whose spend this process knows.

    Attributes
    ----------
    workers : processes that it adds up, this one included
    shared : whether there is a store, and it answers
    """

    workers: int = 1
    shared: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands beside sums."""
        return {"workers": self.workers, "shared": self.shared, **({} if self.shared else {"note": _ALONE})}


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


class Totals:
    """Sums by account.

    Parameters
    ----------
    counters : shared with other processes, or not; by default their own
    clock, steady : Unix seconds, and seconds of a clock that nobody sets
    """

    def __init__(
        self,
        counters: Counters | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = counters or Counters("alone")
        self._clock = clock
        self._steady = steady
        self._names: dict[tuple[str, bool], set[str]] = {}

    def record(self, group: str, account: str, served: Served) -> None:
        """Count one request for an account and for everyone; accounts beyond ten thousand of a kind share one."""
        cost = nano_usd(served.cost_usd)
        counted = {"n": 1, "s": cost, f"{_MODEL}{served.model[:_MAX_CHARS]}{_END}": 1}
        if served.best_single_usd is not None:
            counted |= {"c": cost, "b": nano_usd(served.best_single_usd)}
        for key in (_key(group, self._admitted(group, account)), _key(group, EVERYONE)):
            self._add(key, counted)

    def view(self, group: str, account: str) -> AccountView:
        """An account's sums; zeros where it was never seen. It is asked for at the next exchange."""
        key = _key(group, account)
        self.counters.watch(key, expires_s=self._clock() + _KEPT_S, now_s=self._steady())
        sums = self.counters.totals(key)
        models = {name[len(_MODEL) : -1]: n for name, n in sums.items() if name.startswith(_MODEL) and n}
        usd = {name: sums.get(name, 0) / NANO for name in "scb"}
        return AccountView(sums.get("n", 0), usd["s"], usd["c"], usd["b"], models)

    def accounts(self, group: str) -> tuple[str, ...]:
        """Accounts that were seen in a group by any process, without those of single keys."""
        key = _list_key(group)
        self.counters.watch(key, expires_s=self._clock() + _KEPT_S, now_s=self._steady())
        return tuple(name[: -len(_END)] for name in self.counters.totals(key))

    def _admitted(self, group: str, account: str) -> str:
        is_key = account.startswith(_KEY)
        names = self._names.setdefault((group, is_key), set())
        if account in names:
            return account
        if len(names) >= _MAX_ACCOUNTS:
            return f"{_KEY}other" if is_key else "other"
        names.add(account)
        if not is_key and len(names) <= _MAX_LISTED:
            self._add(_list_key(group), {account[:_MAX_CHARS] + _END: 1})
        return account

    def _add(self, key: str, counted: Mapping[str, int]) -> None:
        expires_s, now_s = self._clock() + _KEPT_S, self._steady()
        for name, amount in counted.items():
            if amount:
                self.counters.add(key, name, amount, expires_s=expires_s, now_s=now_s)


def _key(group: str, account: str) -> str:
    return key_of("total", group, account)


def _list_key(group: str) -> str:
    return key_of("accounts", group)
