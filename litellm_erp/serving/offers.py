"""A loaded bundle, and what follows from it and from the deployments on offer: worked out once, not once a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.posterior import Pool
from litellm_erp.bundle.ranking import Candidates
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price, PriceTable
from litellm_erp.embedding.base import Embedder
from litellm_erp.goals.curve import Mixture
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.solve import solve
from litellm_erp.serving.deployments import NO_PRICES, Member, served_price
from litellm_erp.telemetry import Once

_MAX_OFFERS = 256
_MAX_GOALS = 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """What follows from the deployments on offer.

    Attributes
    ----------
    names : pool models: those with a probe, then the others, by name
    known : how many of them have a probe
    candidates : the same, in the same order, ready to be ranked
    narrowest, shortest : the least ``max_input_tokens`` and ``max_output_tokens`` of all deployments
    pool : the same models, for exploring
    """

    names: tuple[str, ...]
    known: int
    candidates: Candidates
    narrowest: float
    shortest: float
    pool: Pool


class Offers:
    """The offers of one bundle by the deployments that are in them.

    Parameters
    ----------
    group : its name, for messages
    """

    def __init__(self, group: str, bundle: Bundle) -> None:
        self._group = group
        self._bundle = bundle
        self._column = {name: m for m, name in enumerate(bundle.models)}
        self._offers: dict[tuple[Member, ...], Offer] = {}
        self._seen: dict[tuple[str, str], Member] = {}
        self._prices: PriceTable | None = None
        self._once = Once()

    def of(self, members: Sequence[Member]) -> Offer:
        """The offer that deployments are."""
        key = tuple(members)
        return self._offers.get(key) or self._new(key)

    def pool_models(self) -> frozenset[str]:
        """Pool models of all deployments that were on offer lately."""
        return frozenset([member.pool_model for members in tuple(self._offers) for member in members])

    def price_of(self, model: str) -> Price | None:
        """The bundle's price of a pool model; None where it has none."""
        column = self._column.get(model)
        return None if column is None else self._bundle.manifest.models[column].price

    def has_recorded_cost(self, model: str) -> bool:
        """Whether the bundle has a mean recorded cost of a pool model, in USD."""
        column = self._column.get(model)
        usd = None if column is None else self._bundle.manifest.models[column].constant_cost_usd
        return usd is not None and self._bundle.manifest.cost_kind == "usd"

    def _new(self, members: tuple[Member, ...]) -> Offer:
        prices = self._price_table(members)
        names = dict.fromkeys(member.pool_model for member in members)
        known = [name for name in names if name in self._column]
        unknown = sorted(name for name in names if name not in self._column)
        columns, usd = [self._column[name] for name in known], self._bundle.manifest.cost_kind == "usd"
        if len(self._offers) >= _MAX_OFFERS:
            self._offers.clear()
        offer = self._offers[members] = Offer(
            (*known, *unknown),
            len(known),
            Candidates(self._bundle, columns, len(unknown), prices),
            min(member.max_input_tokens for member in members),
            min(member.max_output_tokens for member in members),
            Pool(self._bundle, np.array(columns, dtype=np.intp), (*known, *unknown), _newcomers(unknown, members, usd)),
        )
        return offer

    def _price_table(self, members: Sequence[Member]) -> PriceTable:
        """Prices of the pool by all deployments that were ever on offer."""
        if self._prices is not None and all(self._seen.get(_key(member)) is member for member in members):
            return self._prices
        self._seen |= {_key(member): member for member in members}
        by_model: dict[str, list[Member]] = {}
        for member in self._seen.values():
            by_model.setdefault(member.pool_model, []).append(member)
        records = self._bundle.manifest.models if self._bundle.manifest.cost_kind == "usd" else ()
        self._prices = self._bundle.prices({r.name: served_price(r.price, by_model.get(r.name, ())) for r in records})
        # Earlier offers hold prices without those of the new deployments.
        self._offers.clear()
        if not (self._prices.expected_cost(1.0, 1.0) > 0).any():
            self._once.warn(f"group {self._group!r}: {NO_PRICES}")
        return self._prices


def _newcomers(names: Sequence[str], members: Sequence[Member], usd: bool) -> PriceTable:
    """Prices of models that the bundle does not know; none beside costs that are not in USD."""
    of = {name: [member for member in members if member.pool_model == name] for name in names}
    return PriceTable.from_prices([served_price(UNKNOWN_PRICE, of[name]) if usd else UNKNOWN_PRICE for name in names])


def _key(member: Member) -> tuple[str, str]:
    """What LiteLLM replaces when it replaces a deployment; each arm of one by itself."""
    return member.id, "" if member.parameters is None else member.pool_model


@dataclass(frozen=True, slots=True)
class GroupState:
    """A loaded bundle with its embedder and what is derived from both."""

    bundle: Bundle
    embedder: Embedder
    offers: Offers
    mixtures: dict[Goal, Mixture] = field(default_factory=dict)

    def mixture_of(self, goal: Goal) -> Mixture:
        """λ of a goal on this bundle's frontier, solved once."""
        found = self.mixtures.get(goal)
        if found is None:
            # Clients may state goals of their own, so there is no end to them.
            if len(self.mixtures) >= _MAX_GOALS:
                self.mixtures.clear()
            found = self.mixtures[goal] = solve(goal, self.bundle.frontier).mixture
        return found
