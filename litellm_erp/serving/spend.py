"""What requests hold of budgets and what their answers really cost, counted in the book of budgets."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping

from litellm_erp.budgets.account import WindowStatus
from litellm_erp.budgets.amounts import amount
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.totals import Served, Totals
from litellm_erp.choice.cost import Price
from litellm_erp.goals.lambda_of import RequestLambda, safe_lambda_of
from litellm_erp.goals.tenant import Claim, Grant, Tenant
from litellm_erp.metrics.recorder import metrics
from litellm_erp.serving.call_cost import FinishedCall, cost_of, token_price, usd_of
from litellm_erp.serving.deployments import Member, MemberTable
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.note import Decision, Note


class Spending:
    """Counts spend and holds back what is in flight. Nothing here waits for anything.

    Parameters
    ----------
    groups : by name; may be filled later
    totals : put on the counters that budgets are kept in
    """

    def __init__(self, groups: Mapping[str, RoutedGroup], members: MemberTable, totals: Totals) -> None:
        self._groups = groups
        self._members = members
        self._totals = totals
        self.book = SpendBook(Counters(secrets.token_hex(6)))
        totals.counters = self.book.counters

    def reserve(self, group: str, note: Note, granted: Grant, decision: Decision, count: int | None = None) -> None:
        """Hold back what the model that was left in is expected to cost.

        Parameters
        ----------
        count : answers that are asked for; None keeps what was said when the budget was looked at, else 1
        """
        expected = decision.expected_cost.get(note.model or decision.models[0], 0.0)
        if not note.is_several:
            note.ticket = self.book.reserve(group, granted, decision.request_lambda, expected, note.ticket, count)
            return
        # LiteLLM reports the end of one of them, and does not say of which: each counts as its estimate.
        self.failed(note)
        note.ticket = self.book.reserve(group, granted, decision.request_lambda, expected, None, count)
        self.book.abandon(note.ticket)

    def failed(self, note: Note) -> None:
        """Give back what a request held that will not be tried again."""
        if note.ticket is not None:
            self.book.release(note.ticket)

    def abandoned(self, note: Note, usd: float | None = None) -> None:
        """Count a request whose client went away, or let it time out: its estimate, or more where that is known.

        A failure that is reported later is the client's going, and changes nothing.
        """
        if note.ticket is not None:
            self.book.abandon(note.ticket, amount(usd))

    def abandoned_midway(self, note: Note, tokens_in: float, tokens_out: float) -> None:
        """Count a request whose answer nobody read to its end; 0 tokens out leave the estimate."""
        member = self._members.by_id(note.called or "", note.arms)
        price = None if member is None or not tokens_out else token_price(member, self._price_of(note, member))
        self.abandoned(note, None if price is None else usd_of(price, tokens_in, tokens_out))

    def refusal_for(self, group_name: str, note: Note, tenant: Tenant, count: int = 1) -> Exception | None:
        """The HTTP 429 for a request whose budget is spent and that is to be refused; None for all others.

        A request that a budget might have refused holds its likely cost from here on: others are checked before it
        is decided. It may be asked again for the same request and group, wherever it ends up being served: what it
        holds itself is not held against it, and it is counted once.

        Parameters
        ----------
        count : answers that are asked for: choices, or prompts of a list
        """
        group = self._groups.get(group_name)
        if group is None or not (group.may_reject or tenant.states_goals):
            return None
        name, granted = group.settings.name, group.grant_of(tenant)
        rejecting = [claim for claim in granted.claims if claim.account and _rejects(claim)]
        if not rejecting:
            return None
        for claim in rejecting:
            account = self.book.tick(name, claim, group.state.bundle.frontier)
            if account is not None and account.exhausted(count, note.ticket) is not None:
                note.ticket = self.book.arrived(name, granted.claims, note.ticket)
                metrics.refused(name, metrics.teams.of(tenant))
                return self._too_much(name, claim, account.status())
        if note.ticket is None or note.ticket.state != "held" or name not in note.ticket.arrived:
            note.ticket = self.book.hold(name, granted.claims, count, note.ticket)
        return None

    def fallback(self, group_name: str, tenant: Tenant | None, note: Note, draw: float = 0.0) -> RequestLambda | None:
        """What is known of a request's λ after an internal error, so that none lifts a budget; never raises.

        Returns
        -------
        None where there is no such group. Else members are to be ordered by mean reward less λ times cost: by cost
        alone at ``MAX_LAMBDA``
        """
        group = self._groups.get(group_name)
        if group is None:
            return None
        frontier = group.state.bundle.frontier
        return safe_lambda_of(group.settings, tenant, frontier, self.book, draw=draw, ticket=note.ticket)

    def _too_much(self, group: str, claim: Claim, status: WindowStatus | None) -> Exception | None:
        from fastapi import HTTPException

        window = claim.goal.window
        if status is None or window is None:
            return None
        left_s = max(1, math.ceil(status.ends - self.book.now()))
        kind, _, name = claim.account.partition(":")
        whose = {"team": f"of team {name!r} ", "key": "of this key "}.get(kind, "")
        said = (
            f"the budget {whose}of {status.budget_usd:g} USD per {window.per} for {group!r} is spent, or does not do "
            f"for this request; it starts anew in {left_s} s"
        )
        return HTTPException(status_code=429, detail=said, headers={"retry-after": str(left_s)})

    def succeeded(self, call: FinishedCall, noted: Note | None, tenant: Callable[[], Tenant]) -> None:
        """Count one answer.

        Parameters
        ----------
        noted : the request's note; None where no routed group was asked
        tenant : who asked; read only where other budgets may count it
        """
        note = noted if noted is not None and noted.ticket is not None else None
        member = self._members.by_id(call.deployment_id, {} if noted is None else noted.arms)
        usd = cost_of(call, member, None) if note is None else self.cost_of(note, call)
        first = note is not None
        if note is not None and note.ticket is not None and not note.is_several:
            first = self.book.settle(note.ticket, usd, call.id)
        # An answer from the cache is nobody's.
        if note is not None and first and not call.cached:
            self._record(note, member, usd)
        decided = "" if note is None else note.group
        others = [routed for name, routed in self._groups.items() if name != decided]
        if others:
            asks = tenant()
            for routed in others:
                name = routed.settings.name
                own = note is None and name == call.group
                # Who counts nothing else need not be asked.
                if own or routed.may_count_everything or asks.states_goals:
                    self.book.charge(name, routed.grant_of(asks).claims, usd or 0.0, own=own)

    def cost_of(self, note: Note, call: FinishedCall) -> float | None:
        """USD of a call; None where that is not known."""
        member = self._members.by_id(call.deployment_id, note.arms)
        if member is None:
            return cost_of(call, None, None)
        group = self._groups.get(note.group)
        estimated = group is not None and group.state.offers.has_recorded_cost(member.pool_model)
        return cost_of(call, member, self._price_of(note, member), estimated=estimated)

    def _price_of(self, note: Note, member: Member) -> Price | None:
        group = self._groups.get(note.group)
        return None if group is None else group.state.offers.price_of(member.pool_model)

    def _record(self, note: Note, member: Member | None, usd: float | None) -> None:
        if note.grant is None:
            return
        cost = usd if usd is not None else _expected(note, member) or 0.0
        served = Served("other" if member is None else member.pool_model, cost, _best_single(note, member, cost))
        # A team's keys are not told apart here: nobody could ask for them, and there is no end to them.
        self._totals.record(note.group, note.grant.accounts[0], served)
        rewards = note.get("expected_reward")
        metrics.answered(
            note.group,
            "" if note.tenant is None else metrics.teams.of(note.tenant),
            served.model,
            usd=cost,
            expected_usd=_expected(note, member),
            best_single_usd=served.best_single_usd,
            expected_reward=rewards.get(served.model) if isinstance(rewards, Mapping) else None,
        )


def _rejects(claim: Claim) -> bool:
    return claim.goal.window is not None and claim.goal.window.on_exhausted == "reject"


def _expected(note: Note, member: Member | None) -> float | None:
    """What the model that served was expected to cost."""
    expected = note.get("expected_cost_usd")
    found = expected.get(member.pool_model) if isinstance(expected, Mapping) and member is not None else None
    return amount(found)


def _best_single(note: Note, member: Member | None, usd: float) -> float | None:
    """What the best single model would have cost: its expected cost, corrected as the served one's turned out."""
    own, best = _expected(note, member), note.get("best_single_cost")
    if not isinstance(best, float) or own is None or own <= 0:
        return None
    return usd * best / own
