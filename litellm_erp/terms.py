"""PURE. The one place where a request's λ comes from: the goals that were granted, and what pacing makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from litellm_erp.budget import Frontier, Mixture, OnExhausted, Policy
from litellm_erp.tenancy import Claim, Grant

# At this λ only cost counts, and utilities are still numbers.
MAX_LAMBDA = 1e12


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


class Pacer(Protocol):
    """What keeps budgets on what was really spent. Each answer is immediate: no request waits."""

    def mixture(self, group: str, claim: Claim, frontier: Frontier) -> Mixture | None:
        """λ of a claim as pacing has it now; None where the frontier's solution counts."""

    def exhausted(self, group: str, claim: Claim) -> OnExhausted | None:
        """What follows from the account's money being gone; None while there is some."""

    def status(self, group: str, claim: Claim) -> WindowStatus | None:
        """The state of a claim's budget; None where it has none."""


@dataclass(frozen=True, slots=True)
class Terms:
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


def terms(
    group: str,
    grant: Grant,
    frontier: Frontier,
    draw: float,
    solved: Callable[[Policy], Mixture],
    pacer: Pacer | None = None,
) -> Terms:
    """λ of one request.

    Parameters
    ----------
    draw : uniform in [0, 1), the same at every pick of one request; it decides between the λ of a mixture
    solved : the solution on this frontier, worked out once per policy
    """

    def lambda_of(claim: Claim) -> float:
        paced = pacer.mixture(group, claim, frontier) if pacer is not None and claim.account else None
        return min((paced or solved(claim.policy)).at(draw), MAX_LAMBDA)

    wanted = lambda_ = lambda_of(grant.claim)
    if grant.bounds is not None:
        lambda_ = grant.bounds.clamp(lambda_)
    deciding = grant.claim
    for floor in grant.floors:
        least = lambda_of(floor)
        if least > lambda_:
            lambda_, deciding = least, floor
    gone = _gone(group, grant, pacer)
    # What should have been refused and was not, after a fallback or without a proxy, costs as little as it can.
    if gone in ("cheapest", "reject"):
        lambda_ = MAX_LAMBDA
    return Terms(lambda_, deciding, clamped=lambda_ != wanted, exhausted=gone)


def _gone(group: str, grant: Grant, pacer: Pacer | None) -> OnExhausted | None:
    """The strictest of what the accounts say that have run out."""
    if pacer is None:
        return None
    found = {pacer.exhausted(group, claim) for claim in grant.claims if claim.account}
    return next((what for what in _STRICTEST if what in found), None)


_STRICTEST: tuple[OnExhausted, ...] = ("reject", "cheapest", "ignore")
