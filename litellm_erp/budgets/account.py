"""One budget at run time: the window it is in, the traffic it has, and the λ that its pacing puts in force.

An account is brought to a moment by :meth:`Account.roll`, and does at that moment what it is told to: ``step`` puts a
λ in force, ``arrive`` counts requests that came, ``hold`` says what one holds back, ``charge`` counts spend for which
nothing was held. Everything else only looks. What a step aims at is the law in ``pacing.py``; when it is asked, and
about what, is said here.

Two clocks are told apart. The wall clock names windows and hours of the day, and may be set; intervals are those of a
clock that nobody sets, so that pacing neither sleeps nor hurries when the wall clock is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from litellm_erp.budgets import pacing
from litellm_erp.budgets.amounts import NANO, answers, nano_usd
from litellm_erp.budgets.counters import DAY_S, Counters, key_of
from litellm_erp.budgets.forecast import DAYS_KEPT, Ahead, Coming, History, Rate, ahead, forecast
from litellm_erp.budgets.holds import Hold, InFlight, Ticket
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.curve import Mixture
from litellm_erp.goals.goal import Goal, OnExhausted, Window
from litellm_erp.goals.solve import solve
from litellm_erp.goals.windows import HOUR_S, span

STEP_EVERY_S = 0.5
_HISTORY_EVERY_S = 60.0
_KEPT_S = 2 * DAY_S
_MAX_OPENED = 16
# The mean of a budget per 1,000 requests is kept over each day.
_OF_A_MEAN = Window("day")
_COUNTED = ("s", "n")
# More than a clock is moved by when it is merely kept right.
_SET_S = 60.0


class Now(NamedTuple):
    """A moment on both clocks: Unix seconds, and seconds that only ever go on."""

    wall_s: float
    steady_s: float


@dataclass(frozen=True, slots=True)
class WindowStatus:
    """What is left of an account's money.

    Attributes
    ----------
    reserved_usd : expected cost of requests that are under way
    starts, ends : Unix seconds
    lambda_ : the λ that pacing is at; None where it does not pace
    """

    budget_usd: float
    spent_usd: float
    reserved_usd: float
    starts: float
    ends: float
    lambda_: float | None = None


class _Window:
    """The window that an account is in, by the wall clock, and its counters.

    Where the clock was set, windows it was in meanwhile stay *linked*: what this process has counted there since was
    spent in the present one.

    Attributes
    ----------
    key : of the window's counters: ``s`` spend, ``n`` settled requests, ``a`` arrivals, and of the requests that were
        paced ``ps`` spend and ``pp`` what had been planned
    opened : keys of the windows it was in lately
    """

    def __init__(self, counters: Counters, group: str, name: str, goal: Goal, now: Now) -> None:
        self._counters = counters
        self._group, self._name, self._goal = group, name, goal
        self._linked: dict[str, dict[str, int]] = {}
        self.opened: dict[str, None] = {}
        self._enter(now)

    def roll(self, now: Now) -> bool:
        """Go to the window that it is time for: the next, or, where the clock was set, any other.

        Returns
        -------
        whether that is another one
        """
        if self.span.start_s <= now.wall_s < self.span.end_s:
            return False
        left, left_s, entered, had, opened = self.key, self.span.start_s, self._entered, self._had, set(self.opened)
        self._enter(now)
        set_forward = (now.wall_s - entered.wall_s) - (now.steady_s - entered.steady_s) > _SET_S
        linked, self._linked = self._linked, {}
        if self.span.start_s < left_s or (self.key in opened and set_forward):
            self._linked = {key: counted for key, counted in ({left: had} | linked).items() if key in self.opened}
        return True

    def _enter(self, now: Now) -> None:
        window = self._goal.window or _OF_A_MEAN
        self.span = span(window.per, window.timezone, now.wall_s)
        self.expires_s = self.span.end_s + _KEPT_S
        kind = "mean" if window is _OF_A_MEAN else window.per
        self.key = key_of("window", self._group, self._name, kind, int(self.span.start_s))
        self.opened = dict(islice(self.opened.items(), max(len(self.opened) - _MAX_OPENED + 1, 0), None))
        self.opened[self.key] = None
        self._counters.watch(self.key, expires_s=self.expires_s, now_s=now.steady_s)
        self._entered, self._had = now, {name: self._counters.own(self.key, name) for name in _COUNTED}

    def add(self, name: str, amount: int, now: Now) -> None:
        """Count something of this window."""
        self._counters.add(self.key, name, amount, expires_s=self.expires_s, now_s=now.steady_s)

    def total(self, name: str) -> int:
        """What all processes have counted under the window's key."""
        return self._counters.total(self.key, name)

    def known(self, name: str) -> int:
        """Spend or requests of the window that this process knows of."""
        return max(self._counters.total(self.key, name) + self._under_other_names(name), 0)

    def expected(self, name: str) -> int:
        """Spend or requests of the window by now: with what other processes have not told yet."""
        return self._counters.expected(self.key, name) + self._under_other_names(name)

    def _under_other_names(self, name: str) -> int:
        if not self._linked:
            return 0
        linked = self._linked.items()
        return sum(self._counters.own(key, name) - had[name] for key, had in linked if key != self.key)

    def held(self, in_flight: InFlight, now: Now, but_for: Ticket | None = None) -> int:
        """Nano-dollars held back in the window, under whatever name."""
        if not self._linked:
            return in_flight.held(self.key, now.steady_s, but_for)
        return sum(in_flight.held(key, now.steady_s, but_for) for key in {self.key, *self._linked})


class _Traffic:
    """An account's requests by hour of the last four weeks, and what they let expect.

    Attributes
    ----------
    keys : of the days that requests were counted in, or asked for
    """

    def __init__(self, counters: Counters, group: str, name: str, now: Now) -> None:
        self._counters = counters
        self._group, self._name = group, name
        self._rate = Rate(now.steady_s)
        self._arrivals = 0.0
        self._ahead: Ahead | None = None
        self._next_look_s = 0.0
        self._merged = -1
        self.keys: set[str] = set()

    def count(self, requests: int, now: Now) -> None:
        """Count requests of this hour."""
        day, hour = divmod(int(now.wall_s // HOUR_S), 24)
        key = self._key(day)
        self.keys.add(key)
        self._counters.add(key, str(hour), requests, expires_s=_too_old_s(day), now_s=now.steady_s)

    def restart(self, arrivals: float) -> None:
        """Go on in another window, which has had so many requests."""
        self._ahead, self._next_look_s, self._arrivals = None, 0.0, arrivals

    def expect(self, arrivals: float, end_s: float, now: Now) -> tuple[Coming, float]:
        """What comes until a window ends, and the number of requests on which that rests.

        Parameters
        ----------
        arrivals : requests of the window so far
        """
        self._rate = self._rate.after(max(arrivals - self._arrivals, 0.0), now.steady_s)
        self._arrivals = arrivals
        outlook = self._look_ahead(end_s, now)
        day, hour = divmod(int(now.wall_s // HOUR_S), 24)
        current = float(self._counters.total(self._key(day), str(hour)))
        return forecast(outlook, current, self._rate.per_s, now.wall_s), outlook.observed + current

    def _look_ahead(self, end_s: float, now: Now) -> Ahead:
        """Gather requests by hour: at each new hour, and once a minute where there are other processes."""
        if self._ahead is not None and self._next_look_s - _HISTORY_EVERY_S <= now.steady_s < self._next_look_s:
            return self._ahead
        hour = int(now.wall_s // HOUR_S)
        # Past hours change only by what other processes tell.
        told, self._merged = self._counters.merged != self._merged, self._counters.merged
        self._next_look_s = now.steady_s + min(_HISTORY_EVERY_S, (hour + 1) * HOUR_S - now.wall_s)
        if self._ahead is None or self._ahead.hour != hour or told:
            self._ahead = ahead(History.from_hours(self._by_hour(hour, now), hour), end_s)
        return self._ahead

    def _by_hour(self, hour: int, now: Now) -> dict[int, float]:
        hours: dict[int, float] = {}
        for day in range(hour // 24 - DAYS_KEPT, hour // 24 + 1):
            key = self._key(day)
            # Days that are over are asked for once, where there is anybody to ask; nobody adds to them any more.
            if self._counters.merged:
                used_s = now.steady_s if day == hour // 24 else -DAY_S
                self._counters.watch(key, expires_s=_too_old_s(day), now_s=used_s)
                self.keys.add(key)
            counted = self._counters.totals(key).items()
            hours |= {day * 24 + h: float(n) for name, n in counted if (h := _hour(name)) >= 0}
        return hours

    def _key(self, day: int) -> str:
        return key_of("traffic", self._group, self._name, day)


class Account:
    """One budget at run time.

    Parameters
    ----------
    counters : this process's
    in_flight : its requests under way, of all accounts

    Attributes
    ----------
    now : the moment it was brought to
    mixture : the λ that is in force; None before the first step, and where the frontier knows no costs
    """

    def __init__(self, group: str, name: str, goal: Goal, *, counters: Counters, in_flight: InFlight, now: Now) -> None:
        self.name, self.goal, self.now = name, goal, now
        self.mixture: Mixture | None = None
        self._in_flight = in_flight
        self._window = _Window(counters, group, name, goal, now)
        self._traffic = _Traffic(counters, group, name, now)
        self._frontier: Frontier | None = None
        self._range: pacing.Range | None = None
        self._pace: pacing.Pace | None = None
        self._next_step_s = 0.0

    def roll(self, now: Now) -> None:
        """Bring the account to a moment, and into the window that it is time for."""
        self.now = now
        if self._window.roll(now):
            self._traffic.restart(self._window.total("a"))
            if self._pace is not None:
                self._pace = pacing.new_window(self._pace, self._seen())

    def step(self, frontier: Frontier) -> None:
        """Have pacing put its λ in force, unless it did within the last half second on the same frontier.

        Parameters
        ----------
        frontier : of the bundle that routes
        """
        if frontier is not self._frontier and not self._take(frontier):
            return
        # A clock that is set back must not put a controller to sleep.
        if self._range is None or self._next_step_s - STEP_EVERY_S <= self.now.steady_s < self._next_step_s:
            return
        self._next_step_s = self.now.steady_s + STEP_EVERY_S
        seen, begins = self._seen(), self._pace is None
        self._pace = self._pace or pacing.start(self._range, seen, self.now.steady_s)
        affordable = self._affordable(seen, self._range)
        # There is no pace yet that a first step could break.
        self._pace = pacing.step(self._pace, affordable, seen, self._range, self.now.steady_s, bounded=not begins)
        target = Goal("budget_usd_per_1k_requests", self._pace.target_usd * 1000.0)
        self.mixture = solve(target, frontier).mixture

    def arrive(self, requests: int) -> None:
        """Count requests that came, whatever becomes of them."""
        self._window.add("a", requests, self.now)
        self._traffic.count(requests, self.now)

    def hold(self, usd: float, *, planned_usd: float | None = None) -> Hold:
        """What a request holds back here, for a ticket.

        Parameters
        ----------
        usd : its expected cost
        planned_usd : the target it was decided by; None where something else decided
        """
        planned = None if planned_usd is None else nano_usd(planned_usd)
        return Hold(self._window.key, self._window.expires_s, nano_usd(usd), planned)

    def charge(self, nano: int) -> None:
        """Count one request that nothing was held for."""
        self._window.add("s", nano, self.now)
        self._window.add("n", 1, self.now)

    def exhausted(self, count: int = 1, ticket: Ticket | None = None) -> OnExhausted | None:
        """What follows from the money being gone; None while there is some.

        Parameters
        ----------
        count : answers that are asked for; the money has to do for all of them at the cheapest models
        ticket : the request's own, whose hold is not held against it
        """
        window = self.goal.window
        if window is None:
            return None
        # What other processes have spent since they were last heard of would be known too late.
        taken = self._window.expected("s") + self._window.held(self._in_flight, self.now, ticket)
        left_usd = self.goal.value - taken / NANO
        return window.on_exhausted if left_usd <= 0 or self.least_usd * answers(count) > left_usd else None

    def status(self) -> WindowStatus | None:
        """The state of the budget; None for one that is a mean, and has no end."""
        if self.goal.window is None:
            return None
        mixture, window = self.mixture, self._window
        return WindowStatus(
            budget_usd=self.goal.value,
            spent_usd=window.known("s") / NANO,
            reserved_usd=window.held(self._in_flight, self.now) / NANO,
            starts=window.span.start_s,
            ends=window.span.end_s,
            lambda_=None if mixture is None else (mixture.high if mixture.share_high > 0.5 else mixture.low),
        )

    @property
    def key(self) -> str:
        """Of the counters of its window."""
        return self._window.key

    def keys(self) -> tuple[str, ...]:
        """Of all counters that it may have."""
        return (*self._window.opened, *self._traffic.keys)

    @property
    def bias(self) -> float:
        """Real USD per USD of the frontier, as learned."""
        return 1.0 if self._pace is None else self._pace.bias

    @property
    def target_usd(self) -> float | None:
        """Mean cost of a request that is aimed at, on the frontier's scale; None before the first step."""
        return None if self._pace is None else self._pace.target_usd

    @property
    def likely_usd(self) -> float:
        """What the next answer costs on average; 0 before the first was decided."""
        return 0.0 if self._pace is None else self._pace.target_usd * self._pace.bias

    @property
    def least_usd(self) -> float:
        """What an answer of the cheapest models costs on average; 0 where that is not known."""
        return 0.0 if self._range is None or self._pace is None else self._range.cheapest_usd * self._pace.bias

    def in_use(self, now: Now) -> bool:
        """Whether its window is not over and has spend, or something that is held back."""
        held = self._in_flight.held(self._window.key, now.steady_s)
        return now.wall_s < self._window.span.end_s and self._window.total("s") + held > 0

    def _take(self, frontier: Frontier) -> bool:
        """Put a bundle's frontier under the account; False where it knows no costs."""
        hull = frontier.envelope
        if len(hull) == 0 or not frontier.cost_L[hull[-1]] > 0:
            self._frontier = self.mixture = None
            return False
        self._frontier, self._next_step_s = frontier, 0.0
        self._range = pacing.Range(float(frontier.cost_L[hull[0]]), float(frontier.cost_L[hull[-1]]))
        return True

    def _affordable(self, seen: pacing.Seen, range_: pacing.Range) -> float:
        """Real USD that the next answer may cost."""
        window, value = self.goal.window, self.goal.value
        if window is None:
            return pacing.per_request_of_mean(value / 1000.0, seen)
        coming, observed = self._traffic.expect(self._window.total("a"), self._window.span.end_s, self.now)
        outlook = pacing.Outlook(
            requests=coming.requests,
            observed=observed,
            first_usd=range_.middle_usd * self.bias,
            surge_usd=coming.surge * self.least_usd,
        )
        rule = pacing.per_request_ignoring if window.on_exhausted == "ignore" else pacing.per_request
        return rule(value, seen, outlook)

    def _seen(self) -> pacing.Seen:
        window = self._window
        return pacing.Seen(
            spent_usd=window.known("s") / NANO,
            requests=float(window.known("n")),
            reserved_usd=self._in_flight.held(window.key, self.now.steady_s) / NANO,
            paced_usd=window.total("ps") / NANO,
            planned_usd=window.total("pp") / NANO,
        )


def _too_old_s(day: int) -> float:
    """When a day is too old for a forecast, Unix seconds."""
    return (day + DAYS_KEPT + 2) * DAY_S


def _hour(name: str) -> int:
    """The hour that a counter is of; -1 where a store holds what is none."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 2 and int(name) < 24 else -1
