"""Whatever happens to requests and clocks, a budget counts each request once: the book beside a model of the truth."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from litellm_erp.budgets.amounts import NANO
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.holds import IN_FLIGHT_S, Ticket
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant
from tests.test_cost_and_budget import FRONTIER

DAY_S = 86_400.0
BUDGET = 1.0
CLAIM = Claim("team:a", Goal("budget_usd", BUDGET, Window("day", on_exhausted="reject")))
GRANT = Grant(CLAIM, accounts=("team:a",))
USD = st.floats(0.0, 0.4)
# What an upstream may say that an answer cost.
ODD_USD = st.sampled_from([-1.0, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), True, "1", None])


@dataclass
class Truth:
    """One request, as whoever pays for it sees it."""

    ticket: Ticket
    day: int
    estimate: int
    since_s: float
    state: str = "held"
    counted: int | None = None


class Money(RuleBasedStateMachine):
    """Rules are what may happen; invariants what must hold whatever did."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.wall_s, self.steady_s = 20_000 * DAY_S + 3600.0, 50.0
        self.book = SpendBook(Counters("here"), lambda: self.wall_s, lambda: self.steady_s)
        self.known: list[Truth] = []
        self.day = int(self.wall_s // DAY_S)
        self.entered, self.linked, self.before = {self.day}, dict[int, int](), 0
        self.drift = self.wall_s - self.steady_s
        self.book.tick("g", CLAIM)
        self.set_back = self.odd = False
        self.most_held, self.largest = 0, 0

    def look(self) -> int:
        """What every reader sees to: the window it is time for, and the end of waiting."""
        day = int(self.wall_s // DAY_S)
        for request in self.known:
            if request.state == "held" and self.steady_s - request.since_s >= IN_FLIGHT_S and day == self.day:
                request.state, request.counted = "expired", request.estimate
        if day != self.day:
            set_forward = self.wall_s - self.steady_s - self.drift > 60
            if day < self.day or (day in self.entered and set_forward):
                self.linked.setdefault(self.day, self.before)
            else:
                self.linked = {}
            self.day, self.before, self.drift = day, self.under_name(day), self.wall_s - self.steady_s
            self.entered.add(day)
            return self.look()
        return day

    def reserved(self, day: int) -> int:
        days = {day, *self.linked}
        return sum(r.estimate for r in self.known if r.state == "held" and r.day in days)

    def under_name(self, day: int) -> int:
        return sum(r.counted or 0 for r in self.known if r.day == day)

    def spent(self, day: int) -> int:
        """Under its name, and under others since the clock was set."""
        others = sum(self.under_name(other) - before for other, before in self.linked.items() if other != day)
        return max(self.under_name(day) + others, 0)

    @rule(target=requests, count=st.integers(1, 3))
    def check(self, count: int) -> Truth | None:
        day = self.look()
        left = BUDGET * NANO - self.spent(day) - self.reserved(day)
        gone = self.book.tick("g", CLAIM).exhausted(count)
        assert gone == "reject" or left > 0
        if gone is not None:
            return Truth(Ticket(0.0), day, 0, 0.0, "refused")
        ticket = self.book.hold("g", [CLAIM], count)
        request = Truth(ticket, day, ticket.holds[0].nano, self.steady_s)
        self.known.append(request)
        self.most_held = max(self.most_held, sum(r.state == "held" for r in self.known))
        return request

    @rule(request=requests, usd=USD)
    def decide(self, request: Truth, usd: float) -> None:
        if request.state == "refused":
            return
        if request.state in ("settled", "abandoned"):
            # Counted already: what is picked now is another request to the book.
            return
        day = self.look()
        ticket = self.book.reserve("g", GRANT, RequestLambda(0.0, CLAIM), usd / request.ticket.count, request.ticket)
        assert ticket is request.ticket
        request.day, request.state, request.counted = day, "held", None
        request.estimate, request.since_s = ticket.holds[0].nano, self.steady_s
        self.largest = max(self.largest, request.estimate)

    def end(self, request: Truth, usd: float | None, abandoned: bool = False) -> None:
        request.state = "settled"
        least = (request.counted or 0) if abandoned else 0
        request.counted = request.estimate if usd is None else max(round(usd * NANO), least)

    @rule(request=requests, share=st.floats(0.0, 1.0))
    def settle(self, request: Truth, share: float) -> None:
        usd = share * request.estimate / NANO
        first = request.state not in ("settled", "refused")
        assert self.book.settle(request.ticket, usd) == (first or request.state == "refused")
        if first:
            self.end(request, usd, request.state == "abandoned")
        request.state = "settled"

    @rule(request=requests, usd=ODD_USD)
    def settle_oddly(self, request: Truth, usd: object) -> None:
        self.odd = True
        before = request.state
        self.book.settle(request.ticket, usd)  # type: ignore[arg-type]
        if before not in ("settled", "refused"):
            huge = isinstance(usd, (int, float)) and not isinstance(usd, bool) and usd > 1
            self.end(request, None if usd is None else 1e6 if huge else 0.0, before == "abandoned")
        request.state = "settled"

    @rule(request=requests)
    def fail(self, request: Truth) -> None:
        self.book.release(request.ticket)
        if request.state in ("held", "expired"):
            request.state, request.counted = "released", None

    @rule(request=requests, share=st.one_of(st.none(), st.floats(0.0, 1.0)))
    def abandon(self, request: Truth, share: float | None) -> None:
        usd = None if share is None else share * request.estimate / NANO
        self.book.abandon(request.ticket, usd)
        if request.state != "refused" and (request.state != "released" or usd is not None):
            request.counted = max(request.estimate, request.counted or 0, round((usd or 0.0) * NANO))
            request.state = "settled" if request.state == "settled" else "abandoned"

    @rule(request=requests, report=st.sampled_from(["cost", "failure", "going"]))
    def be_heard_of_late(self, request: Truth, report: str) -> None:
        self.steady_s += IN_FLIGHT_S
        self.wall_s += IN_FLIGHT_S
        self.look()
        self.book.tick("g", CLAIM)
        {"cost": lambda: self.settle(request, 0.5), "failure": lambda: self.fail(request)}.get(
            report, lambda: self.abandon(request, None)
        )()

    @rule(request=consumes(requests))
    def forget(self, request: Truth) -> None:
        """Nobody ever reports the end of it."""

    @rule(seconds=st.sampled_from([0.1, 5.0, 300.0, IN_FLIGHT_S + 1, DAY_S / 2, DAY_S]))
    def time_passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds

    @rule(seconds=st.sampled_from([-DAY_S, -3600.0, -1.0, 3600.0, DAY_S, 40 * DAY_S]))
    def clock_is_set(self, seconds: float) -> None:
        self.set_back = self.set_back or seconds < 0
        self.wall_s += seconds

    @rule()
    def pace(self) -> None:
        self.look()
        assert self.book.tick("g", CLAIM, FRONTIER).mixture is not None

    @invariant()
    def what_is_told_is_the_truth(self) -> None:
        day = self.look()
        status = self.book.tick("g", CLAIM).status()
        assert status is not None
        assert status.starts == day * DAY_S
        assert round(status.spent_usd * NANO) == pytest.approx(self.spent(day), abs=1, rel=1e-12)
        assert round(status.reserved_usd * NANO) == pytest.approx(self.reserved(day), abs=1, rel=1e-12)
        assert status.reserved_usd >= 0
        if status.spent_usd + status.reserved_usd >= BUDGET:
            assert self.book.tick("g", CLAIM).exhausted() == "reject"

    @invariant()
    def a_budget_that_rejects_is_overspent_by_an_estimate_for_each_request_at_once(self) -> None:
        # Where answers cost no more than was expected, and no window got another's spend.
        if not self.set_back and not self.odd:
            for day in self.entered:
                assert self.under_name(day) <= BUDGET * NANO + self.most_held * self.largest


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
