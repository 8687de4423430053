"""What every budget has spent, and the pace that follows from it.

One :class:`SpendBook` serves all groups of a process. Everything it answers, it answers at once from memory; other
processes' spend arrives in its counters from time to time (``shared.py``). The clock is given, so that a simulation of
a month runs the code that serves.

What is kept, by group and account:

* a window's counters: spend, settled requests, arrivals, and spend beside plan of the requests that were paced;
* requests by hour of the last four weeks, which forecasts are made of;
* what is in flight, at its expected cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from litellm_erp.budget import MONEY, Frontier, Mixture, OnExhausted, Policy, solve
from litellm_erp.counters import NANO, Counters
from litellm_erp.pacing import (
    Outlook,
    Pace,
    Range,
    Seen,
    new_window,
    per_request,
    per_request_ignoring,
    per_request_of_mean,
    start,
    step,
)
from litellm_erp.tenancy import Claim, Grant
from litellm_erp.terms import Terms, WindowStatus
from litellm_erp.traffic import DAYS_KEPT, Ahead, History, Rate, ahead, forecast
from litellm_erp.windows import HOUR_S, Span, span

DAY_S = 24 * HOUR_S
STEP_EVERY_S = 0.5
# A request that is not heard of again within this time is taken to have ended without cost.
IN_FLIGHT_S = 900.0
_HISTORY_EVERY_S = 60.0
_KEPT_S = 2 * DAY_S


@dataclass(slots=True)
class _Account:
    """One budget at run time."""

    group: str
    name: str
    policy: Policy
    span: Span
    key: str
    rate: Rate
    range: Range | None = None
    frontier: Frontier | None = None
    pace: Pace | None = None
    mixture: Mixture | None = None
    reserved: float = 0.0
    reserved_by_others: float = 0.0
    next_step_s: float = 0.0
    arrivals: float = 0.0
    next_history_s: float = 0.0
    ahead: Ahead | None = None
    merged: int = -1


@dataclass(slots=True)
class _Hold:
    """One account's part in a request: what is held back for it, and the target it was decided by."""

    account: _Account
    usd: float
    planned_usd: float | None


@dataclass(slots=True, eq=False)
class Ticket:
    """A request under way: what it holds back in every budget it counts against."""

    since_s: float
    holds: list[_Hold] = field(default_factory=list)
    settled: bool = False


class SpendBook:
    """Budgets of one process.

    Parameters
    ----------
    counters : this process's, shared with others or not
    clock : Unix seconds
    """

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.time) -> None:
        self.counters = counters
        self._clock = clock
        self._accounts: dict[tuple[str, str, Policy], _Account] = {}
        self._tickets: dict[int, Ticket] = {}

    def mixture(self, group: str, claim: Claim, frontier: Frontier) -> Mixture | None:
        """λ of a claim as pacing has it now; None where the frontier's solution counts."""
        if claim.policy.goal not in MONEY:
            return None
        account = self._account(group, claim)
        if account.frontier is not frontier and not _begin(account, frontier):
            return None
        now = self._clock()
        if now >= account.next_step_s:
            self._step(account, now)
        return account.mixture

    def exhausted(self, group: str, claim: Claim) -> OnExhausted | None:
        """What follows from the account's money being gone; None while there is some."""
        window = claim.policy.window
        if window is None:
            return None
        account = self._account(group, claim)
        self._roll(account, self._clock())
        # What other processes have spent since they were last heard of would be known too late.
        spent = self.counters.expected(account.key, "s") / NANO + account.reserved + account.reserved_by_others
        least = 0.0 if account.range is None or account.pace is None else account.range.cheapest_usd * account.pace.bias
        value = claim.policy.value
        return window.on_exhausted if spent >= value or spent + least > value else None

    def status(self, group: str, claim: Claim) -> WindowStatus | None:
        """The state of a claim's budget; None where it has none."""
        if claim.policy.window is None:
            return None
        account = self._account(group, claim)
        self._roll(account, self._clock())
        mixture = account.mixture
        return WindowStatus(
            budget_usd=claim.policy.value,
            spent_usd=self._usd(account, "s"),
            reserved_usd=account.reserved + account.reserved_by_others,
            starts=account.span.start_s,
            ends=account.span.end_s,
            lambda_=None if mixture is None else (mixture.high if mixture.share_high > 0.5 else mixture.low),
        )

    def hold(self, group: str, claims: Iterable[Claim]) -> Ticket:
        """Hold back what a request is likely to cost, before it is decided: the target that is in force."""
        self.arrived(group, claims)
        ticket = Ticket(self._clock())
        self._hold(ticket, [_Hold(a, _likely(a), None) for a in self._charged(group, claims)])
        return ticket

    def reserve(self, group: str, grant: Grant, terms: Terms, usd: float, ticket: Ticket | None) -> Ticket:
        """Hold back what a request is expected to cost; on a later pick of the same request, in place of the earlier.

        Parameters
        ----------
        usd : on the bundle's scale; budgets correct it by what they have learned
        ticket : the request's, from :meth:`hold` or an earlier pick
        """
        if ticket is None:
            ticket = Ticket(self._clock())
            self.arrived(group, grant.claims)
        self._hold(
            ticket,
            [
                _Hold(account, usd * (account.pace.bias if account.pace else 1.0), _planned(account, terms))
                for account in self._charged(group, grant.claims)
            ],
        )
        return ticket

    def settle(self, ticket: Ticket, usd: float) -> None:
        """Count what a request cost, once, in place of what was held back."""
        if ticket.settled:
            return
        now = self._clock()
        for account in _distinct([hold.account for hold in ticket.holds]):
            planned = [hold.planned_usd for hold in ticket.holds if hold.account.key == account.key]
            self._charge(account, usd, next((p for p in planned if p is not None), None), now)
        self.release(ticket)
        ticket.settled = True

    def release(self, ticket: Ticket) -> None:
        """Give back what was held: the request failed."""
        self._let_go(ticket)
        self._tickets.pop(id(ticket), None)

    def charge(self, group: str, claims: Iterable[Claim], usd: float, *, own: bool) -> None:
        """Count spend that no ticket stands for.

        Parameters
        ----------
        own : it was for the routed group, which then could not route it; else only budgets that count everything do
        """
        now = self._clock()
        for account in _distinct(self._charged(group, claims)):
            window = account.policy.window
            if own or (window is not None and window.count == "everything"):
                self._charge(account, usd, None, now)

    def now(self) -> float:
        """The book's time, Unix seconds."""
        return self._clock()

    def arrived(self, group: str, claims: Iterable[Claim]) -> None:
        """Count a request as traffic, also where it is refused."""
        now = self._clock()
        for account in _distinct(self._charged(group, claims)):
            self._arrived(account, now)

    def in_flight(self) -> dict[str, int]:
        """Nano-dollars held back by this process, by ``group|account``."""
        self._expire(self._clock())
        return {_name(account): round(account.reserved * NANO) for account in self._accounts.values()}

    def in_flight_elsewhere(self, name: str, nano_usd: int) -> None:
        """Take in what other processes hold back."""
        for account in self._accounts.values():
            if _name(account) == name:
                account.reserved_by_others = nano_usd / NANO

    def _account(self, group: str, claim: Claim) -> _Account:
        found = self._accounts.get((group, claim.account, claim.policy))
        if found is None:
            now = self._clock()
            window = _span(claim.policy, now)
            key = _key(group, claim, window)
            found = _Account(group, claim.account, claim.policy, window, key, Rate(now))
            self._accounts[group, claim.account, claim.policy] = found
            self.counters.watch(key, expires_s=window.end_s + _KEPT_S, now_s=now)
        return found

    def _charged(self, group: str, claims: Iterable[Claim]) -> list[_Account]:
        return [self._account(group, claim) for claim in claims if claim.account and claim.policy.goal in MONEY]

    def _roll(self, account: _Account, now: float) -> None:
        """Open the next window where the account's is over."""
        if now < account.span.end_s:
            return
        account.span = _span(account.policy, now)
        account.key = _key(account.group, Claim(account.name, account.policy), account.span)
        account.arrivals = 0.0
        account.next_history_s = 0.0
        account.ahead = None
        account.pace = account.pace and new_window(account.pace)
        self.counters.watch(account.key, expires_s=account.span.end_s + _KEPT_S, now_s=now)

    def _step(self, account: _Account, now: float) -> None:
        """Run the controller once and put its λ in force."""
        account.next_step_s = now + STEP_EVERY_S
        self._expire(now)
        self._roll(account, now)
        if account.range is None or account.frontier is None:
            return
        seen = self._seen(account)
        begins = account.pace is None
        account.pace = account.pace or start(account.range, seen, now)
        affordable = self._affordable(account, seen, now)
        # There is no pace yet that a first step could break.
        account.pace = step(account.pace, affordable, seen, account.range, now, bounded=not begins)
        target = Policy("budget_usd_per_1k_requests", account.pace.target_usd * 1000.0)
        account.mixture = solve(target, account.frontier).mixture

    def _affordable(self, account: _Account, seen: Seen, now: float) -> float:
        """Real USD that the next request may cost."""
        window, value = account.policy.window, account.policy.value
        if window is None:
            return per_request_of_mean(value / 1000.0, seen)
        outlook = self._outlook(account, now)
        rule = per_request_ignoring if window.on_exhausted == "ignore" else per_request
        return rule(value, seen, outlook)

    def _outlook(self, account: _Account, now: float) -> Outlook:
        arrivals = self.counters.total(account.key, "a")
        account.rate = account.rate.after(max(arrivals - account.arrivals, 0.0), now)
        account.arrivals = arrivals
        if now >= account.next_history_s:
            self._remember(account, now)
        outlook, pace, range_ = account.ahead, account.pace, account.range
        if outlook is None or pace is None or range_ is None:
            return Outlook(0.0, 0.0, 0.0)
        hour = int(now // HOUR_S)
        current = float(self.counters.total(_traffic_key(account, hour // 24), str(hour % 24)))
        coming = forecast(outlook, current, account.rate.per_s, now)
        return Outlook(
            requests=coming.requests,
            observed=outlook.observed + current,
            first_usd=range_.middle_usd * pace.bias,
            surge_usd=coming.surge * range_.cheapest_usd * pace.bias,
        )

    def _remember(self, account: _Account, now: float) -> None:
        """Gather requests by hour: at each new hour, and once a minute where there are other processes."""
        hour = int(now // HOUR_S)
        # Past hours change only by what other processes tell.
        told = self.counters.merged != account.merged
        account.merged = self.counters.merged
        account.next_history_s = min(now + _HISTORY_EVERY_S, (hour + 1) * HOUR_S)
        if account.ahead is not None and account.ahead.hour == hour and not told:
            return
        hours: dict[int, float] = {}
        for day in range(hour // 24 - DAYS_KEPT, hour // 24 + 1):
            key = _traffic_key(account, day)
            # Days that are over are asked for once; nobody adds to them any more.
            self.counters.watch(key, expires_s=_traffic_expiry(day), now_s=now if day == hour // 24 else 0.0)
            hours |= {day * 24 + int(name): float(count) for name, count in self.counters.totals(key).items()}
        account.ahead = ahead(History.from_hours(hours, hour), account.span.end_s)

    def _seen(self, account: _Account) -> Seen:
        return Seen(
            spent_usd=self._usd(account, "s"),
            requests=float(self.counters.total(account.key, "n")),
            reserved_usd=account.reserved + account.reserved_by_others,
            paced_usd=self._usd(account, "ps"),
            planned_usd=self._usd(account, "pp"),
        )

    def _usd(self, account: _Account, name: str) -> float:
        return self.counters.total(account.key, name) / NANO

    def _arrived(self, account: _Account, now: float) -> None:
        self._roll(account, now)
        hour = int(now // HOUR_S)
        self.counters.add(account.key, "a", 1, expires_s=account.span.end_s + _KEPT_S, now_s=now)
        key, expires_s = _traffic_key(account, hour // 24), _traffic_expiry(hour // 24)
        self.counters.add(key, str(hour % 24), 1, expires_s=expires_s, now_s=now)

    def _charge(self, account: _Account, usd: float, planned_usd: float | None, now: float) -> None:
        self._roll(account, now)
        amounts = {"s": round(usd * NANO), "n": 1}
        if planned_usd is not None:
            amounts |= {"ps": round(usd * NANO), "pp": round(planned_usd * NANO)}
        for name, amount in amounts.items():
            self.counters.add(account.key, name, amount, expires_s=account.span.end_s + _KEPT_S, now_s=now)

    def _hold(self, ticket: Ticket, holds: list[_Hold]) -> None:
        self._let_go(ticket)
        self._tickets[id(ticket)] = ticket
        ticket.holds = holds
        for hold in holds:
            hold.account.reserved += hold.usd

    def _let_go(self, ticket: Ticket) -> None:
        for hold in ticket.holds:
            hold.account.reserved = max(hold.account.reserved - hold.usd, 0.0)
            hold.usd = 0.0

    def _expire(self, now: float) -> None:
        """Let go of what was held for requests that nobody reported the end of."""
        while self._tickets:
            oldest = next(iter(self._tickets.values()))
            if now - oldest.since_s < IN_FLIGHT_S:
                return
            self.release(oldest)


def _distinct(accounts: Iterable[_Account]) -> list[_Account]:
    """One of those that share a window: a level may state two goals for one account."""
    return list({account.key: account for account in accounts}.values())


def _begin(account: _Account, frontier: Frontier) -> bool:
    """Put a bundle's frontier under an account; False where it knows no costs."""
    hull = frontier.envelope
    if len(hull) == 0 or not frontier.cost_L[hull[-1]] > 0:
        return False
    account.frontier = frontier
    account.range = Range(float(frontier.cost_L[hull[0]]), float(frontier.cost_L[hull[-1]]))
    account.next_step_s = 0.0
    return True


def _likely(account: _Account) -> float:
    """What the next request costs on average, USD; 0 before the first was decided."""
    return 0.0 if account.pace is None else account.pace.target_usd * account.pace.bias


def _planned(account: _Account, terms: Terms) -> float | None:
    """The target a request was decided by; None where something else decided."""
    decided = terms.claim.account == account.name and terms.claim.policy == account.policy
    if account.pace is None or not decided or terms.exhausted in ("cheapest", "reject"):
        return None
    return account.pace.target_usd


def _span(policy: Policy, now: float) -> Span:
    # The mean of a budget per 1,000 requests is kept over each day.
    window = policy.window
    return span("day", "UTC", now) if window is None else span(window.per, window.timezone, now)


def _key(group: str, claim: Claim, window: Span) -> str:
    per = claim.policy.window.per if claim.policy.window else "mean"
    return f"window|{group}|{claim.account}|{per}|{int(window.start_s)}"


def _name(account: _Account) -> str:
    return f"{account.group}|{account.name}"


def _traffic_key(account: _Account, day: int) -> str:
    return f"traffic|{account.group}|{account.name}|{day}"


def _traffic_expiry(day: int) -> float:
    return (day + DAYS_KEPT + 2) * DAY_S
