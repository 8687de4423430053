"""The one place where a request's λ comes from: the goals that were granted, and what pacing makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from litellm_erp.bundle.frontier import Frontier
from litellm_erp.goals.curve import Mixture
from litellm_erp.goals.goal import MONEY, Goal, OnExhausted
from litellm_erp.goals.settings import GroupSettings
from litellm_erp.goals.solve import solve
from litellm_erp.goals.tenant import GROUP_ACCOUNT, Claim, Grant, Tenant, grant

_T = TypeVar("_T")
# At this λ only cost counts, and utilities are still numbers.
MAX_LAMBDA = 1e12


class PacedAccount(Protocol):
    """A claim's account at the moment it was brought to; looking at it changes nothing."""

    @property
    def mixture(self) -> Mixture | None:
        """λ as pacing has it; None where the frontier's solution counts."""

    def exhausted(self, count: int = 1, ticket: Any = None) -> OnExhausted | None:
        """What follows from the money being gone, or not enough for ``count`` answers; else None.

        Parameters
        ----------
        ticket : what budgets hold back for the request itself; theirs to make, and only handed on here
        """


class Pacer(Protocol):
    """What keeps budgets on what was really spent. Each answer is immediate: no request waits."""

    def tick(self, group: str, claim: Claim, frontier: Frontier | None = None) -> PacedAccount | None:
        """Bring a claim's account to the present, its λ too where a frontier is given; None where it has none."""


@dataclass(frozen=True, slots=True)
class RequestLambda:
    """A request's λ.

    Attributes
    ----------
    claim : the goal that decided it
    clamped : whether bounds or a budget above moved it from what was asked for
    exhausted : what follows where an account's money is gone
    """

    lambda_: float
    claim: Claim
    clamped: bool = False
    exhausted: OnExhausted | None = None


def lambda_of(
    group: str,
    grant: Grant,
    frontier: Frontier,
    draw: float,
    solved: Callable[[Goal], Mixture],
    pacer: Pacer | None = None,
    *,
    count: int = 1,
    ticket: Any = None,
) -> RequestLambda:
    """λ of one request.

    Parameters
    ----------
    draw : uniform in [0, 1), the same at every pick of one request; it decides between the λ of a mixture
    solved : the solution on this frontier, worked out once per goal
    count : answers that it asks for
    ticket : the request's own, so that what it holds itself does not count as gone
    """
    wanted, *above = _mixtures(group, grant, frontier, solved, pacer)
    asked = min(wanted.at(draw), MAX_LAMBDA)
    lambda_, deciding = _highest(grant, asked, above, draw)
    spent = _spent(group, grant, pacer, count, ticket)
    # What should have been refused and was not, after a fallback or without a proxy, costs as little as it can.
    if spent in ("cheapest", "reject"):
        lambda_ = MAX_LAMBDA
    return RequestLambda(lambda_, deciding, clamped=lambda_ != asked, exhausted=spent)


def agreed_mixture(
    group: str,
    grant: Grant,
    frontier: Frontier,
    solved: Callable[[Goal], Mixture],
    pacer: Pacer | None = None,
) -> tuple[tuple[float, float], ...]:
    """What requests of a grant get while there is money: each λ and its share of the requests, highest first.

    Every mixture gives its higher λ to the lowest draws, so what they agree on falls with the draw as well.
    """
    wanted, *above = _mixtures(group, grant, frontier, solved, pacer)
    ends = sorted({0.0, 1.0, *(m.share_high for m in (wanted, *above) if 0.0 < m.share_high < 1.0)})
    found: dict[float, float] = {}
    for low, high in pairwise(ends):
        draw = (low + high) / 2
        lambda_, _ = _highest(grant, min(wanted.at(draw), MAX_LAMBDA), above, draw)
        found[lambda_] = found.get(lambda_, 0.0) + high - low
    return tuple(found.items())


def safe_lambda_of(
    group: GroupSettings,
    tenant: Tenant | None,
    frontier: Frontier | None = None,
    pacer: Pacer | None = None,
    *,
    draw: float = 0.0,
    count: int = 1,
    ticket: Any = None,
) -> RequestLambda:
    """λ of a request whose own λ could not be worked out; never raises, and never lifts a budget.

    The tenant's grant counts without the request's own goal, which may be what is wrong; where there is no grant, the
    group's goal; and where a budget is stated whose λ is not known, only cost.
    """
    granted = _none_if_it_fails(lambda: grant(group, tenant or Tenant())) or Grant(
        Claim(GROUP_ACCOUNT, group.goal, "group")
    )
    spent = _none_if_it_fails(lambda: _spent(group.name, granted, pacer, count, ticket))
    if frontier is not None:
        curve = frontier
        found = _none_if_it_fails(
            lambda: lambda_of(
                group.name, granted, curve, draw, lambda p: solve(p, curve).mixture, pacer, count=count, ticket=ticket
            )
        )
        if found is not None:
            return found
    claims = granted.claims
    if spent in ("cheapest", "reject") or any(claim.goal.form in MONEY for claim in claims):
        return RequestLambda(MAX_LAMBDA, claims[0], clamped=True, exhausted=spent)
    lambda_ = granted.goal.value if granted.goal.form == "lambda" else 0.0
    return RequestLambda(
        lambda_ if granted.bounds is None else granted.bounds.clamp(lambda_), granted.claim, exhausted=spent
    )


def _mixtures(
    group: str, grant: Grant, frontier: Frontier, solved: Callable[[Goal], Mixture], pacer: Pacer | None
) -> list[Mixture]:
    """Of the goal that counts, then of the budgets above it."""

    found = []
    for claim in (grant.claim, *grant.floors):
        account = None if pacer is None else pacer.tick(group, claim, frontier)
        found.append((account and account.mixture) or solved(claim.goal))
    return found


def _highest(grant: Grant, asked: float, above: list[Mixture], draw: float) -> tuple[float, Claim]:
    """λ of a draw while there is money, and the claim that decides it.

    Parameters
    ----------
    asked : λ of the goal that counts
    """
    lambda_, deciding = asked, grant.claim
    if grant.bounds is not None:
        lambda_ = grant.bounds.clamp(lambda_)
    for floor, mixture in zip(grant.floors, above, strict=True):
        least = min(mixture.at(draw), MAX_LAMBDA)
        if least > lambda_:
            lambda_, deciding = least, floor
    return lambda_, deciding


def _spent(group: str, grant: Grant, pacer: Pacer | None, count: int = 1, ticket: Any = None) -> OnExhausted | None:
    """The strictest of what the accounts say that have run out."""
    if pacer is None:
        return None
    # Only a sum per window runs out; most goals are none.
    limited = [claim for claim in grant.claims if claim.goal.window is not None]
    found = {account.exhausted(count, ticket) for claim in limited if (account := pacer.tick(group, claim))}
    return next((what for what in _STRICTEST if what in found), None)


def _none_if_it_fails(attempt: Callable[[], _T]) -> _T | None:
    try:
        return attempt()
    except Exception:
        # What is asked for here is asked because something has failed already.
        return None


_STRICTEST: tuple[OnExhausted, ...] = ("reject", "cheapest", "ignore")
