"""What every budget has spent, and the pace that follows from it.

One :class:`SpendBook` serves all groups of a process. Everything it answers, it answers at once from memory; other
processes' spend arrives in its counters from time to time (``shared.py``). The clocks are given, so that a simulation
of a month runs the code that serves.

What is kept, by group and account:

* a window's counters: spend, settled requests, arrivals, and spend beside plan of the requests that were paced;
* requests by hour of the last four weeks, which forecasts are made of;
* what is in flight, at its expected cost (``holds.py``).

Windows are named by the wall clock, which may be set. A clock set back returns an account to the window it left, with
all that was spent there, and with what this process counted meanwhile under other names (``Account.linked``).

Budgets of teams and groups are as many as an admin makes. Those that keys state are bounded by team: one whose window
has seen no spend makes room for another, and where none has room, the newcomers share one account. Spend is never
dropped while its window lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

from litellm_erp.budgets.amounts import answers, nano_usd
from litellm_erp.budgets.controller import DAY_S, Account, Controller, Now, part, traffic_expiry, traffic_key
from litellm_erp.budgets.counters import NANO, Counters
from litellm_erp.budgets.forecast import Rate
from litellm_erp.budgets.holds import Hold, InFlight, Ticket
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.goal import MONEY, Goal, OnExhausted
from litellm_erp.goals.lambda_of import RequestLambda, WindowStatus
from litellm_erp.goals.solve import Mixture
from litellm_erp.goals.tenant import Claim, Grant
from litellm_erp.goals.windows import HOUR_S, Span, span

__all__ = ["SpendBook", "Ticket"]

_KEPT_S = 2 * DAY_S
_MAX_KEYS = 10_000
_MAX_GOALS = 8
_MAX_OPENED = 16
_LOOKED_AT = 8
_COUNTED = ("s", "n")
# More than a clock is moved by when it is merely kept right.
_SET_S = 60.0
# What other processes hold back is not believed for longer: they, or the store, may be gone.
_BELIEVED_S = 15.0
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
        self._controller = Controller(counters, self._reserved)
        self._accounts: dict[tuple[str, str, Goal], Account] = {}
        self._goals: dict[tuple[str, str], list[Goal]] = {}
        self._keys: dict[tuple[str, str], dict[str, None]] = {}
        self._elsewhere: dict[str, tuple[int, float]] = {}

    def mixture(self, group: str, claim: Claim, frontier: Frontier) -> Mixture | None:
        """λ of a claim as pacing has it now; None where the frontier's solution counts."""
        if claim.goal.form not in MONEY:
            return None
        now = self._now()
        account = self._current(group, claim, now)
        if account.frontier is not frontier and not account.begin(frontier):
            return None
        return self._controller.mixture(account, now)

    def exhausted(self, group: str, claim: Claim, count: int = 1, ticket: Ticket | None = None) -> OnExhausted | None:
        """What follows from the account's money being gone; None while there is some.

        Parameters
        ----------
        count : answers that are asked for; the money has to do for all of them at the cheapest models
        ticket : the request's own, whose hold is not held against it
        """
        window = claim.goal.window
        if window is None:
            return None
        account = self._current(group, claim, self._now())
        # What other processes have spent since they were last heard of would be known too late.
        spent = self.counters.expected(account.key, "s") + account.under_other_names(self.counters, "s")
        spent += self._reserved_of(account, ticket)
        left_usd = claim.goal.value - spent / NANO
        return window.on_exhausted if left_usd <= 0 or account.least_usd * answers(count) > left_usd else None

    def status(self, group: str, claim: Claim) -> WindowStatus | None:
        """The state of a claim's budget; None where it has none."""
        if claim.goal.window is None:
            return None
        account = self._current(group, claim, self._now())
        mixture = account.mixture
        spent = self.counters.total(account.key, "s") + account.under_other_names(self.counters, "s")
        return WindowStatus(
            budget_usd=claim.goal.value,
            spent_usd=max(spent, 0) / NANO,
            reserved_usd=self._reserved_of(account) / NANO,
            starts=account.span.start_s,
            ends=account.span.end_s,
            lambda_=None if mixture is None else (mixture.high if mixture.share_high > 0.5 else mixture.low),
        )

    def hold(self, group: str, claims: Iterable[Claim], count: int = 1, ticket: Ticket | None = None) -> Ticket:
        """Hold back what a request is likely to cost, before it is decided: the target that is in force.

        Parameters
        ----------
        count : answers that are asked for: choices, or prompts of a list
        ticket : the request's, where it has one
        """
        now = self._now()
        ticket = ticket or Ticket(now.steady_s, count)
        ticket.count = answers(count)
        charged = self._charged(group, claims, now)
        self._arrive(group, charged, ticket, now)
        holds = [self._hold_of(account, account.likely_usd * ticket.count, None) for account in charged]
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
        charged = self._charged(group, grant.claims, now)
        self._arrive(group, charged, ticket, now)
        usd = nano_usd(usd) / NANO * ticket.count
        holds = [self._hold_of(a, usd * a.bias, _planned(a, request_lambda, ticket.count)) for a in charged]
        return self._in_flight.hold(ticket, holds, now.steady_s)

    def settle(self, ticket: Ticket, usd: float | None, answer: str = "") -> bool:
        """Count what a request cost, in place of what was held back or had been assumed; None keeps the estimate.

        Parameters
        ----------
        answer : id of the answer; a further one of the same request counts as well

        Returns
        -------
        whether this answer had not been counted yet
        """
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
        now = self._now()
        for account in self._charged(group, claims, now):
            window = account.goal.window
            if own or (window is not None and window.count == "everything"):
                self._add(account, "s", nano_usd(usd), now)
                self._add(account, "n", 1, now)

    def now(self) -> float:
        """The book's time, Unix seconds."""
        return self._clock()

    def arrived(self, group: str, claims: Iterable[Claim], ticket: Ticket | None = None) -> Ticket:
        """Count a request as traffic, also where it is refused; once for each group that its ticket asks."""
        now = self._now()
        ticket = ticket or Ticket(now.steady_s)
        self._arrive(group, self._charged(group, claims, now), ticket, now)
        return ticket

    def in_flight(self) -> dict[str, int]:
        """Nano-dollars held back by this process, by window: of all that were asked for lately."""
        now = self._now()
        self._in_flight.expire(now.steady_s)
        self._elsewhere = {k: v for k, v in self._elsewhere.items() if abs(now.steady_s - v[1]) <= _BELIEVED_S}
        lately = {a.key: 0 for a in self._accounts.values() if abs(now.steady_s - a.used_s) <= _ASKED_FOR_S}
        return lately | self._in_flight.by_window()

    def in_flight_elsewhere(self, name: str, nano_usd: int) -> None:
        """Take in what other processes hold back in a window."""
        self._elsewhere[name] = (max(nano_usd, 0), self._steady())

    def _now(self) -> Now:
        return Now(self._clock(), self._steady())

    def _reserved_of(self, account: Account, but_for: Ticket | None = None) -> int:
        keys = {account.key, *account.linked} if account.linked else (account.key,)
        return sum([self._reserved(key, but_for) for key in keys])

    def _reserved(self, key: str, but_for: Ticket | None = None) -> int:
        held = self._in_flight.held(key, but_for)
        if key not in self._elsewhere:
            return held
        others, told_s = self._elsewhere[key]
        return held if abs(self._steady() - told_s) > _BELIEVED_S else held + others

    def _current(self, group: str, claim: Claim, now: Now) -> Account:
        """A claim's account, in the window that it is time for, without what nobody reported the end of."""
        account = self._accounts.get((group, claim.account, claim.goal)) or self._open(group, claim, now)
        account.used_s = now.steady_s
        if not account.span.start_s <= now.wall_s < account.span.end_s:
            self._enter(account, now)
        self._in_flight.expire(now.steady_s)
        return account

    def _charged(self, group: str, claims: Iterable[Claim], now: Now) -> list[Account]:
        """One account of those that share a window: a level may state two goals for one account."""
        found = [self._current(group, claim, now) for claim in claims if claim.account and claim.goal.form in MONEY]
        return found if len(found) < 2 else list({account.key: account for account in found}.values())

    def _open(self, group: str, claim: Claim, now: Now) -> Account:
        name = self._admitted(group, claim)
        found = self._accounts.get((group, name, claim.goal))
        if found is not None:
            return found
        window = _span(claim.goal, now.wall_s)
        key = _key(group, name, claim.goal, window)
        account = Account(group, name, claim.goal, window, key, Rate(now.steady_s), opened={key: window.start_s})
        account.entered = (now, self._counted(account))
        # What an account knows besides its spend is soon learned again; spend is the counters'.
        goals = self._goals.setdefault((group, name), [])
        goals.append(claim.goal)
        if len(goals) > _MAX_GOALS:
            self._accounts.pop((group, name, goals.pop(0)), None)
        self._accounts[group, name, claim.goal] = account
        self.counters.watch(key, expires_s=window.end_s + _KEPT_S, now_s=now.steady_s)
        return account

    def _admitted(self, group: str, claim: Claim) -> str:
        """The account that a claim is counted for: its own, or where a team's keys have no more room, one of all."""
        if claim.source != "key":
            return claim.account
        names = self._keys.setdefault((group, claim.pool), {})
        if claim.account in names:
            return claim.account
        # Who has spent on the common account does not begin at nothing on one of their own.
        if self._in_use(group, claim.pool) or not self._has_room(group, names):
            return claim.pool
        names[claim.account] = None
        return claim.account

    def _has_room(self, group: str, names: dict[str, None]) -> bool:
        """Whether one more key may have an account; those that have spent nothing make room, the oldest first."""
        if len(names) < _MAX_KEYS:
            return True
        oldest = list(islice(names, _LOOKED_AT))
        idle = next((name for name in oldest if not self._in_use(group, name)), None)
        for name in oldest:
            # Others are looked at next time.
            del names[name]
            names[name] = None
        if idle is None:
            return False
        del names[idle]
        self._close(group, idle)
        return True

    def _in_use(self, group: str, name: str) -> bool:
        """Whether an account has spent or holds anything in a window that is not over."""
        accounts = [self._accounts[group, name, goal] for goal in self._goals.get((group, name), ())]
        wall_s = self._clock()
        return any(
            wall_s < account.span.end_s and self.counters.total(account.key, "s") + self._reserved(account.key) > 0
            for account in accounts
        )

    def _close(self, group: str, name: str) -> None:
        """Forget an account that has nothing to remember."""
        for goal in self._goals.pop((group, name), ()):
            account = self._accounts.pop((group, name, goal))
            self.counters.forget((*account.opened, *account.traffic))

    def _enter(self, account: Account, now: Now) -> None:
        """Go to the window that it is time for: the next, or, where the clock was set, any other."""
        left, left_s, before = account.key, account.span.start_s, account.entered
        account.span = _span(account.goal, now.wall_s)
        account.key = _key(account.group, account.name, account.goal, account.span)
        returns = account.key in account.opened
        account.opened = dict(islice(account.opened.items(), max(len(account.opened) - _MAX_OPENED + 1, 0), None))
        account.opened[account.key] = account.span.start_s
        if account.span.start_s < left_s or (returns and before is not None and _was_set(before[0], now)):
            account.linked.setdefault(left, dict.fromkeys(_COUNTED, 0) if before is None else before[1])
            account.linked = {key: counted for key, counted in account.linked.items() if key in account.opened}
        else:
            account.linked = {}
        self.counters.watch(account.key, expires_s=account.span.end_s + _KEPT_S, now_s=now.steady_s)
        account.entered = (now, self._counted(account))
        self._controller.entered(account)

    def _counted(self, account: Account) -> dict[str, int]:
        return {name: self.counters.own(account.key, name) for name in _COUNTED}

    def _arrive(self, group: str, accounts: Iterable[Account], ticket: Ticket, now: Now) -> None:
        if group in ticket.arrived:
            return
        ticket.arrived.add(group)
        hour = int(now.wall_s // HOUR_S)
        for account in accounts:
            self._add(account, "a", ticket.count, now)
            key = traffic_key(group, account.name, hour // 24)
            account.traffic.add(key)
            expires_s = traffic_expiry(hour // 24)
            self.counters.add(key, str(hour % 24), ticket.count, expires_s=expires_s, now_s=now.steady_s)

    def _add(self, account: Account, name: str, amount: int, now: Now) -> None:
        self.counters.add(account.key, name, amount, expires_s=account.span.end_s + _KEPT_S, now_s=now.steady_s)

    def _hold_of(self, account: Account, usd: float, planned: int | None) -> Hold:
        return Hold(account.key, account.span.end_s + _KEPT_S, nano_usd(usd), planned)


def _was_set(before: Now, now: Now) -> bool:
    """Whether the wall clock was set forward in between."""
    return (now.wall_s - before.wall_s) - (now.steady_s - before.steady_s) > _SET_S


def _planned(account: Account, request_lambda: RequestLambda, count: int) -> int | None:
    """The target a request was decided by; None where something else decided."""
    decided = request_lambda.claim.account == account.name and request_lambda.claim.goal == account.goal
    if account.pace is None or not decided or request_lambda.exhausted in ("cheapest", "reject"):
        return None
    return nano_usd(account.pace.target_usd * count)


def _span(goal: Goal, wall_s: float) -> Span:
    # The mean of a budget per 1,000 requests is kept over each day.
    window = goal.window
    return span("day", "UTC", wall_s) if window is None else span(window.per, window.timezone, wall_s)


def _key(group: str, name: str, goal: Goal, window: Span) -> str:
    per = goal.window.per if goal.window else "mean"
    return f"window|{part(group)}|{part(name)}|{per}|{int(window.start_s)}"
