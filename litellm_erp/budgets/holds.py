"""PURE. Requests under way: what each holds back of the budgets it counts against, and what became of it.

A request is counted exactly once, in the window in which it was last held, whatever is reported of it, in whatever
order and however often (of an answer that nobody read to its end, a client's part is known and not the upstream's):

=========== ============================================== =========================================
state       reached by                                     what then counts
=========== ============================================== =========================================
held        a pick                                         its estimate, held back
expired     nothing was heard of it for ``IN_FLIGHT_S``    its estimate; a cost corrects it, a failure takes it back
abandoned   its client went away, or let it time out       its estimate at least; more where that is known
settled     its cost was reported                          its cost; its estimate at least, if it was abandoned too
released    its failure was reported                       nothing; a cost that comes later counts
=========== ============================================== =========================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from litellm_erp.budgets.amounts import answers, nano_usd
from litellm_erp.budgets.counters import Counters

# Longer than the ten minutes that OpenAI's clients wait. Money is safe either way: expiry only ends the waiting, and a
# report that comes later corrects it.
IN_FLIGHT_S = 900.0
_MAX_HELD = 100_000
_MAX_ANSWERS = 256
# What other processes hold back is not believed for longer: they, or the store, may be gone.
_BELIEVED_S = 15.0

State = Literal["held", "expired", "abandoned", "settled", "released"]


@dataclass(slots=True)
class Hold:
    """A request's part in one window.

    Attributes
    ----------
    key, expires_s : of the window's counters
    nano : estimate of the whole request
    planned : the target that was in force when it was decided, for the whole request; None where none decided it
    charged : what the counters have of it; None where they do not know it
    """

    key: str
    expires_s: float
    nano: int
    planned: int | None = None
    charged: int | None = None


@dataclass(slots=True, eq=False)
class Ticket:
    """One request.

    Attributes
    ----------
    since_s : when it was last picked, on a clock that nobody sets
    count : answers that it asks for
    arrived : groups in which it was counted as traffic
    """

    since_s: float
    count: int = 1
    holds: list[Hold] = field(default_factory=list)
    state: State = "released"
    arrived: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.count = answers(self.count)

    @property
    def settled(self) -> bool:
        """Whether its cost was reported."""
        return self.state == "settled"


class InFlight:
    """All requests of this process that nobody has reported the end of, and what others hold back beside them."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._tickets: dict[int, Ticket] = {}
        self._held: dict[str, int] = {}
        self._elsewhere: dict[str, tuple[int, float]] = {}
        self._seen_s = -math.inf

    def held(self, key: str, now_s: float, but_for: Ticket | None = None) -> int:
        """Nano-dollars that all processes hold back in a window, without one request's own."""
        total = self._held.get(key, 0)
        if key in self._elsewhere:
            others, told_s = self._elsewhere[key]
            total += others if abs(now_s - told_s) <= _BELIEVED_S else 0
        if but_for is None or but_for.state != "held":
            return total
        return total - sum(hold.nano for hold in but_for.holds if hold.key == key)

    def by_window(self) -> dict[str, int]:
        """Nano-dollars that this process holds back, by window, where there are any."""
        return dict(self._held)

    def take_in(self, key: str, nano: int, now_s: float) -> None:
        """Believe for a while that other processes hold back so much in a window."""
        self._elsewhere[key] = (max(nano, 0), now_s)

    def hold(self, ticket: Ticket, holds: Iterable[Hold], now_s: float) -> Ticket:
        """Hold back what a pick is expected to cost, in place of what its request held before.

        Returns
        -------
        the ticket; a new one where the old one's request has been counted already
        """
        if ticket.state in ("settled", "abandoned"):
            ticket = Ticket(now_s, ticket.count, arrived=ticket.arrived)
        # A pick after the end of waiting: what was waited for has failed.
        self.release(ticket, now_s)
        ticket.holds = list({hold.key: hold for hold in holds}.values())
        ticket.state, ticket.since_s = "held", now_s
        for hold in ticket.holds:
            self._held[hold.key] = self._held.get(hold.key, 0) + hold.nano
        self._tickets[id(ticket)] = ticket
        if len(self._tickets) > _MAX_HELD:
            self._expire_one(next(iter(self._tickets.values())), now_s)
        return ticket

    def settle(self, ticket: Ticket, usd: float | None, now_s: float, answer: str = "") -> bool:
        """Count what a request cost; None where that was not said, and the estimate stands.

        Parameters
        ----------
        answer : id of the answer; each further one of the same request, which a list of models brings, counts as well

        Returns
        -------
        whether this answer had not been counted yet
        """
        if ticket.state == "settled":
            return self._one_more(ticket, usd, now_s, answer)
        self._let_go(ticket)
        for hold in ticket.holds:
            least = (hold.charged or 0) if ticket.state == "abandoned" else 0
            self._charge(hold, hold.nano if usd is None else max(nano_usd(usd), least), ticket.count, now_s)
            if hold.planned is not None and usd is not None:
                self._add(hold, "ps", nano_usd(usd), now_s)
                self._add(hold, "pp", hold.planned, now_s)
        ticket.state = "settled"
        ticket.answers.add(answer)
        return True

    def abandon(self, ticket: Ticket, usd: float | None, now_s: float) -> None:
        """The client went away: count the estimate, or what is known to have been made where that is more."""
        if ticket.state == "released" and usd is None:
            return
        self._let_go(ticket)
        for hold in ticket.holds:
            self._charge(hold, max(hold.nano, hold.charged or 0, nano_usd(usd or 0.0)), ticket.count, now_s)
        ticket.state = "settled" if ticket.state == "settled" else "abandoned"

    def release(self, ticket: Ticket, now_s: float) -> None:
        """Give back what was held, or was counted when nothing was heard: the request failed."""
        if ticket.state not in ("held", "expired"):
            return
        self._let_go(ticket)
        for hold in ticket.holds:
            if hold.charged is not None:
                self._add(hold, "s", -hold.charged, now_s)
                self._add(hold, "n", -ticket.count, now_s)
                hold.charged = None
        ticket.state = "released"

    def expire(self, now_s: float) -> None:
        """Count the estimate of every request that nobody reported the end of in time."""
        if now_s < self._seen_s:
            # Whatever that clock does, nobody waits for longer than twice the time.
            for ticket in self._tickets.values():
                ticket.since_s = min(ticket.since_s, now_s)
        self._seen_s = now_s
        while self._tickets:
            oldest = next(iter(self._tickets.values()))
            if now_s - oldest.since_s < IN_FLIGHT_S:
                return
            self._expire_one(oldest, now_s)

    def forget_others(self, now_s: float) -> None:
        """Drop what other processes told too long ago."""
        self._elsewhere = {k: told for k, told in self._elsewhere.items() if abs(now_s - told[1]) <= _BELIEVED_S}

    def _expire_one(self, ticket: Ticket, now_s: float) -> None:
        self._let_go(ticket)
        for hold in ticket.holds:
            self._charge(hold, hold.nano, ticket.count, now_s)
        ticket.state = "expired"

    def _one_more(self, ticket: Ticket, usd: float | None, now_s: float, answer: str) -> bool:
        if not answer or answer in ticket.answers or len(ticket.answers) >= _MAX_ANSWERS:
            return False
        ticket.answers.add(answer)
        for hold in ticket.holds:
            self._add(hold, "s", hold.nano if usd is None else nano_usd(usd), now_s)
            self._add(hold, "n", 1, now_s)
        return True

    def _charge(self, hold: Hold, nano: int, count: int, now_s: float) -> None:
        """Have the counters know exactly so much of a request."""
        if hold.charged is None:
            self._add(hold, "n", count, now_s)
        self._add(hold, "s", nano - (hold.charged or 0), now_s)
        hold.charged = nano

    def _add(self, hold: Hold, name: str, amount: int, now_s: float) -> None:
        if amount:
            self._counters.add(hold.key, name, amount, expires_s=hold.expires_s, now_s=now_s)

    def _let_go(self, ticket: Ticket) -> None:
        if self._tickets.pop(id(ticket), None) is None:
            return
        for hold in ticket.holds:
            left = self._held.get(hold.key, 0) - hold.nano
            if left > 0:
                self._held[hold.key] = left
            else:
                self._held.pop(hold.key, None)
