"""One budget's controller at run time: what it knows of its window, and its step every half second.

Two clocks are told apart. The wall clock names windows and hours of the day, and may be set; intervals are those of a
clock that nobody sets, so that a controller neither sleeps nor hurries when the wall clock is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from litellm_erp.budgets.counters import NANO, Counters
from litellm_erp.budgets.forecast import DAYS_KEPT, Ahead, History, Rate, ahead, forecast
from litellm_erp.budgets.pacing import (
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
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.solve import Mixture, solve
from litellm_erp.goals.windows import HOUR_S, Span

DAY_S = 24 * HOUR_S
STEP_EVERY_S = 0.5
_HISTORY_EVERY_S = 60.0


class Now(NamedTuple):
    """A moment on both clocks: Unix seconds, and seconds that only ever go on."""

    wall_s: float
    steady_s: float


@dataclass(slots=True)
class Account:
    """One budget at run time.

    Attributes
    ----------
    span, key : the window it is in, and the key of that window's counters
    opened : windows it was in, by key: when each starts
    entered : when it came into its window, and what this process had counted there by then
    linked : windows it was in since the clock was set, with what this process had counted in each before; what it
        has counted there since was spent in the present window
    traffic : keys of the days that its requests were counted in
    """

    group: str
    name: str
    goal: Goal
    span: Span
    key: str
    rate: Rate
    range: Range | None = None
    frontier: Frontier | None = None
    pace: Pace | None = None
    mixture: Mixture | None = None
    next_step_s: float = 0.0
    arrivals: float = 0.0
    next_history_s: float = 0.0
    ahead: Ahead | None = None
    merged: int = -1
    used_s: float = 0.0
    opened: dict[str, float] = field(default_factory=dict)
    entered: tuple[Now, dict[str, int]] | None = None
    linked: dict[str, dict[str, int]] = field(default_factory=dict)
    traffic: set[str] = field(default_factory=set)

    def under_other_names(self, counters: Counters, name: str) -> int:
        """What this process has counted of the present window in others, because the clock was set."""
        if not self.linked:
            return 0
        return sum(counters.own(key, name) - before[name] for key, before in self.linked.items() if key != self.key)

    def begin(self, frontier: Frontier) -> bool:
        """Put a bundle's frontier under the account; False where it knows no costs."""
        hull = frontier.envelope
        if len(hull) == 0 or not frontier.cost_L[hull[-1]] > 0:
            return False
        self.frontier = frontier
        self.range = Range(float(frontier.cost_L[hull[0]]), float(frontier.cost_L[hull[-1]]))
        self.next_step_s = 0.0
        return True

    @property
    def likely_usd(self) -> float:
        """What the next answer costs on average; 0 before the first was decided."""
        return 0.0 if self.pace is None else self.pace.target_usd * self.pace.bias

    @property
    def least_usd(self) -> float:
        """What an answer of the cheapest models costs on average; 0 where that is not known."""
        return 0.0 if self.range is None or self.pace is None else self.range.cheapest_usd * self.pace.bias

    @property
    def bias(self) -> float:
        """Real USD per USD of the frontier."""
        return 1.0 if self.pace is None else self.pace.bias


class Controller:
    """Steps accounts.

    Parameters
    ----------
    held : nano-dollars that all processes hold back in a window
    """

    def __init__(self, counters: Counters, held: Callable[[str], int]) -> None:
        self._counters = counters
        self._held = held

    def mixture(self, account: Account, now: Now) -> Mixture | None:
        """λ of an account, from a step that is at most half a second old."""
        # A clock that is set back must not put a controller to sleep.
        if not account.next_step_s - STEP_EVERY_S <= now.steady_s < account.next_step_s:
            self._step(account, now)
        return account.mixture

    def entered(self, account: Account) -> None:
        """The account is in another window: learn of it from here on."""
        account.ahead, account.next_history_s = None, 0.0
        account.arrivals = self._counters.total(account.key, "a")
        if account.pace is not None:
            account.pace = new_window(account.pace, self._seen(account))

    def _step(self, account: Account, now: Now) -> None:
        """Run the controller once and put its λ in force."""
        account.next_step_s = now.steady_s + STEP_EVERY_S
        if account.range is None or account.frontier is None:
            return
        seen = self._seen(account)
        begins = account.pace is None
        account.pace = account.pace or start(account.range, seen, now.steady_s)
        affordable = self._affordable(account, seen, now)
        # There is no pace yet that a first step could break.
        account.pace = step(account.pace, affordable, seen, account.range, now.steady_s, bounded=not begins)
        target = Goal("budget_usd_per_1k_requests", account.pace.target_usd * 1000.0)
        account.mixture = solve(target, account.frontier).mixture

    def _affordable(self, account: Account, seen: Seen, now: Now) -> float:
        """Real USD that the next answer may cost."""
        window, value = account.goal.window, account.goal.value
        if window is None:
            return per_request_of_mean(value / 1000.0, seen)
        outlook = self._outlook(account, now)
        rule = per_request_ignoring if window.on_exhausted == "ignore" else per_request
        return rule(value, seen, outlook)

    def _outlook(self, account: Account, now: Now) -> Outlook:
        arrivals = self._counters.total(account.key, "a")
        account.rate = account.rate.after(max(arrivals - account.arrivals, 0.0), now.steady_s)
        account.arrivals = arrivals
        if not account.next_history_s - _HISTORY_EVERY_S <= now.steady_s < account.next_history_s:
            self._remember(account, now)
        outlook, range_ = account.ahead, account.range
        if outlook is None or account.pace is None or range_ is None:
            return Outlook(0.0, 0.0, 0.0)
        hour = int(now.wall_s // HOUR_S)
        current = float(self._counters.total(traffic_key(account.group, account.name, hour // 24), str(hour % 24)))
        coming = forecast(outlook, current, account.rate.per_s, now.wall_s)
        return Outlook(
            requests=coming.requests,
            observed=outlook.observed + current,
            first_usd=range_.middle_usd * account.bias,
            surge_usd=coming.surge * account.least_usd,
        )

    def _remember(self, account: Account, now: Now) -> None:
        """Gather requests by hour: at each new hour, and once a minute where there are other processes."""
        hour = int(now.wall_s // HOUR_S)
        # Past hours change only by what other processes tell.
        told = self._counters.merged != account.merged
        account.merged = self._counters.merged
        account.next_history_s = now.steady_s + min(_HISTORY_EVERY_S, (hour + 1) * HOUR_S - now.wall_s)
        if account.ahead is not None and account.ahead.hour == hour and not told:
            return
        hours: dict[int, float] = {}
        for day in range(hour // 24 - DAYS_KEPT, hour // 24 + 1):
            key = traffic_key(account.group, account.name, day)
            # Days that are over are asked for once, where there is anybody to ask; nobody adds to them any more.
            if self._counters.merged:
                used_s = now.steady_s if day == hour // 24 else -DAY_S
                self._counters.watch(key, expires_s=traffic_expiry(day), now_s=used_s)
                account.traffic.add(key)
            hours |= {
                day * 24 + h: float(n) for name, n in self._counters.totals(key).items() if (h := _hour(name)) >= 0
            }
        account.ahead = ahead(History.from_hours(hours, hour), account.span.end_s)

    def _seen(self, account: Account) -> Seen:
        def total(name: str) -> int:
            return self._counters.total(account.key, name)

        return Seen(
            spent_usd=max(total("s") + account.under_other_names(self._counters, "s"), 0) / NANO,
            requests=float(max(total("n") + account.under_other_names(self._counters, "n"), 0)),
            reserved_usd=self._held(account.key) / NANO,
            paced_usd=total("ps") / NANO,
            planned_usd=total("pp") / NANO,
        )


def part(name: str) -> str:
    """A name as part of a key, so that no two lists of names make one key."""
    return name.replace("%", "%25").replace("|", "%7C")


def traffic_key(group: str, name: str, day: int) -> str:
    """Where a day's requests by hour are counted; days since 1970."""
    return f"traffic|{part(group)}|{part(name)}|{day}"


def traffic_expiry(day: int) -> float:
    """When a day is too old for a forecast, Unix seconds."""
    return (day + DAYS_KEPT + 2) * DAY_S


def _hour(name: str) -> int:
    """The hour that a counter is of; -1 where a store holds what is none."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 2 and int(name) < 24 else -1
