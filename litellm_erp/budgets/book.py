"""What every budget has spent, and the pace that follows from it.

One :class:`SpendBook` serves all groups of a process: it finds the account of a claim, and brings it to the present
moment before anybody looks at it (:meth:`SpendBook.tick`). Everything is answered at once from memory; other processes'
spend arrives in the counters from time to time (``shared_counters.py``). The clocks are given, so that a simulation of
a month runs the code that serves.

A request goes through it in this order; the first two may come twice, and none waits:

1. ``tick`` for each of its claims: the λ that is in force, and whether the money is gone;
2. ``hold`` before it is decided, ``reserve`` once it is; ``arrived`` where it is refused instead;
3. ``settle``, ``release`` or ``abandon``, in whatever order they are reported (``holds.py``).

``charge`` counts spend that nothing was held for. Windows are named by the wall clock, which may be set. A clock set
back returns an account to the window it left, with all that was spent there.

Budgets of teams and groups are as many as an admin makes. Those that keys state are bounded by team: one whose window
has seen no spend makes room for another, and where none has room, the newcomers share one account. Spend is never
dropped while its window lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

from litellm_erp.budgets.account import Account, Now
from litellm_erp.budgets.amounts import NANO, answers, nano_usd
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.holds import InFlight, Ticket
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.goal import MONEY, Goal
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant

_MAX_KEYS = 10_000
_MAX_GOALS = 8
_LOOKED_AT = 8
_ASKED_FOR_S = 60.0


class SpendBook:
    """Budgets of one process.

    Parameters
    ----------
    counters : this process's, shared with others or not
    clock : Unix seconds
    steady : seconds of a clock that nobody sets; by default the system's, or ``clock`` where that is a simulation's
    """

    def __init__(
        self,
        counters: Counters,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self.counters = counters
        self._clock = clock
        self._steady = steady or (time.monotonic if clock is time.time else clock)
        self._in_flight = InFlight(counters)
        self._accounts: dict[tuple[str, str, Goal], Account] = {}
        self._goals: dict[tuple[str, str], list[Goal]] = {}
        self._keys: dict[tuple[str, str], dict[str, None]] = {}

    def tick(self, group: str, claim: Claim, frontier: Frontier | None = None) -> Account | None:
        """Bring a claim's account to the present moment; the account, to be looked at.

        Requests that nobody reported the end of in time are counted, the account goes into the window that it is time
        for, and pacing puts its λ in force, which it does at most every half second.

        Parameters
        ----------
        frontier : of the bundle that routes; without one, the λ stays as it was

        Returns
        -------
        None for a claim that counts no money: another goal's, or a single request's own
        """
        if not claim.account or claim.goal.form not in MONEY:
            return None
        account = self._at(group, claim, self._now())
        if frontier is not None:
            account.step(frontier)
        return account

    def hold(self, group: str, claims: Iterable[Claim], count: int = 1, ticket: Ticket | None = None) -> Ticket:
        """Hold back what a request is likely to cost, before it is decided: the target that is in force.

        Parameters
        ----------
        count : answers that are asked for: choices, or prompts of a list
        ticket : the request's, where it has one
        """
        now = self._now()
        ticket = ticket or Ticket(now.steady_s)
        ticket.count = answers(count)
        holds = [a.hold(a.likely_usd * ticket.count) for a in self._arrive(group, claims, ticket, now)]
        return self._in_flight.hold(ticket, holds, now.steady_s)

    def reserve(
        self,
        group: str,
        grant: Grant,
        request_lambda: RequestLambda,
        usd: float,
        ticket: Ticket | None,
        count: int | None = None,
    ) -> Ticket:
        """Hold back what a request is expected to cost; on a later pick of the same request, in place of the earlier.

        Parameters
        ----------
        usd : of one answer, on the bundle's scale; budgets correct it by what they have learned
        ticket : the request's, from :meth:`hold` or an earlier pick
        count : answers that are asked for; None keeps what the ticket says
        """
        now = self._now()
        ticket = ticket or Ticket(now.steady_s)
        ticket.count = ticket.count if count is None else answers(count)
        usd = nano_usd(usd) / NANO * ticket.count
        holds = [
            a.hold(usd * a.bias, planned_usd=_planned(a, request_lambda, ticket.count))
            for a in self._arrive(group, grant.claims, ticket, now)
        ]
        return self._in_flight.hold(ticket, holds, now.steady_s)

    def settle(self, ticket: Ticket, usd: float | None, answer: str = "") -> bool:
        """Count what a request cost, in place of what was held back or had been assumed; see :class:`InFlight`."""
        return self._in_flight.settle(ticket, usd, self._steady(), answer)

    def release(self, ticket: Ticket) -> None:
        """Give back what was held: the request failed."""
        self._in_flight.release(ticket, self._steady())

    def abandon(self, ticket: Ticket, usd: float | None = None) -> None:
        """Count what a request is known to have cost whose client went away; None counts its estimate."""
        self._in_flight.abandon(ticket, usd, self._steady())

    def charge(self, group: str, claims: Iterable[Claim], usd: float, *, own: bool) -> None:
        """Count spend that no ticket stands for.

        Parameters
        ----------
        own : it was for the routed group, which then could not route it; else only budgets that count everything do
        """
        for account in self._charged(group, claims, self._now()):
            window = account.goal.window
            if own or (window is not None and window.count == "everything"):
                account.charge(nano_usd(usd))

    def arrived(self, group: str, claims: Iterable[Claim], ticket: Ticket | None = None) -> Ticket:
        """Count a request as traffic, also where it is refused; once for each group that its ticket asks."""
        now = self._now()
        ticket = ticket or Ticket(now.steady_s)
        self._arrive(group, claims, ticket, now)
        return ticket

    def now(self) -> float:
        """The book's time, Unix seconds."""
        return self._clock()

    def in_flight(self) -> dict[str, int]:
        """Nano-dollars held back by this process at the present moment, by window: of all asked for lately."""
        now_s = self._steady()
        self._in_flight.expire(now_s)
        self._in_flight.forget_others(now_s)
        lately = {a.key: 0 for a in self._accounts.values() if abs(now_s - a.now.steady_s) <= _ASKED_FOR_S}
        return lately | self._in_flight.by_window()

    def in_flight_elsewhere(self, name: str, nano_usd: int) -> None:
        """Take in what other processes hold back in a window."""
        self._in_flight.take_in(name, nano_usd, self._steady())

    def _now(self) -> Now:
        return Now(self._clock(), self._steady())

    def _at(self, group: str, claim: Claim, now: Now) -> Account:
        account = self._accounts.get((group, claim.account, claim.goal)) or self._open(group, claim, now)
        account.roll(now)
        self._in_flight.expire(now.steady_s)
        return account

    def _charged(self, group: str, claims: Iterable[Claim], now: Now) -> list[Account]:
        """One account of those that share a window: a level may state two goals for one account."""
        found = [self._at(group, claim, now) for claim in claims if claim.account and claim.goal.form in MONEY]
        return found if len(found) < 2 else list({account.key: account for account in found}.values())

    def _arrive(self, group: str, claims: Iterable[Claim], ticket: Ticket, now: Now) -> list[Account]:
        """Count a request as traffic of the accounts that it is charged to, once; the accounts."""
        charged = self._charged(group, claims, now)
        if group not in ticket.arrived:
            ticket.arrived.add(group)
            for account in charged:
                account.arrive(ticket.count)
        return charged

    def _open(self, group: str, claim: Claim, now: Now) -> Account:
        name = self._admitted(group, claim, now)
        found = self._accounts.get((group, name, claim.goal))
        if found is not None:
            return found
        account = Account(group, name, claim.goal, counters=self.counters, in_flight=self._in_flight, now=now)
        # What an account knows besides its spend is soon learned again; spend is the counters'.
        goals = self._goals.setdefault((group, name), [])
        goals.append(claim.goal)
        if len(goals) > _MAX_GOALS:
            self._accounts.pop((group, name, goals.pop(0)), None)
        self._accounts[group, name, claim.goal] = account
        return account

    def _admitted(self, group: str, claim: Claim, now: Now) -> str:
        """The account that a claim is counted for: its own, or where a team's keys have no more room, one of all."""
        if claim.source != "key":
            return claim.account
        names = self._keys.setdefault((group, claim.pool), {})
        if claim.account in names:
            return claim.account
        # Who has spent on the common account does not begin at nothing on one of their own.
        if self._in_use(group, claim.pool, now) or not self._has_room(group, names, now):
            return claim.pool
        names[claim.account] = None
        return claim.account

    def _has_room(self, group: str, names: dict[str, None], now: Now) -> bool:
        """Whether one more key may have an account; those that have spent nothing make room, the oldest first."""
        if len(names) < _MAX_KEYS:
            return True
        oldest = list(islice(names, _LOOKED_AT))
        idle = next((name for name in oldest if not self._in_use(group, name, now)), None)
        for name in oldest:
            # Others are looked at next time.
            del names[name]
            names[name] = None
        if idle is None:
            return False
        del names[idle]
        self._close(group, idle)
        return True

    def _in_use(self, group: str, name: str, now: Now) -> bool:
        goals = self._goals.get((group, name), ())
        return any(self._accounts[group, name, goal].in_use(now) for goal in goals)

    def _close(self, group: str, name: str) -> None:
        """Forget an account that has nothing to remember."""
        for goal in self._goals.pop((group, name), ()):
            self.counters.forget(self._accounts.pop((group, name, goal)).keys())


def _planned(account: Account, request_lambda: RequestLambda, count: int) -> float | None:
    """The target a request was decided by, USD; None where something else decided."""
    claim, target = request_lambda.claim, account.target_usd
    decided = claim.account == account.name and claim.goal == account.goal
    if target is None or not decided or request_lambda.exhausted in ("cheapest", "reject"):
        return None
    return target * count
