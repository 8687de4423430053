"""One routing group at run time: a decision per request.

Nothing here blocks the event loop: slow embedders are awaited with a timeout.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from litellm_erp.budgets.holds import Ticket
from litellm_erp.bundle.posterior import Exploring
from litellm_erp.bundle.ranking import Ranked, Warm
from litellm_erp.choice.decision import Held
from litellm_erp.choice.exploration import Allowance, Trial
from litellm_erp.choice.prompt import PromptText
from litellm_erp.conversations.memory import Served
from litellm_erp.drift.expected import digest_of, span_of
from litellm_erp.drift.table import DriftTable
from litellm_erp.embedding.reader import Reader
from litellm_erp.goals.lambda_of import Pacer, RequestLambda, agreed_mixture, lambda_of
from litellm_erp.goals.request_goal import RequestGoal
from litellm_erp.goals.settings import GroupSettings
from litellm_erp.goals.tenant import Grant, Tenant, grant
from litellm_erp.metrics.definitions import NOVELTY_EVERY
from litellm_erp.metrics.recorder import metrics
from litellm_erp.serving.deployments import COUNT_MARGIN, NO_NEEDS, Member, Needs
from litellm_erp.serving.note import Decision
from litellm_erp.serving.offers import GroupState, Offer

_MAX_GRANTS = 4096
_SHOWN = 8
# What becomes of a request whose money is gone: its model is not its conversation's to choose.
_SPENT = ("cheapest", "reject")


async def _uncounted() -> float:
    return math.inf


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for beside its text.

    Attributes
    ----------
    capabilities : which of ``deployments.CAPABILITIES`` it uses
    max_output_tokens : its own limit of the answer; None where it has none
    at_most_tokens : what its input cannot exceed; cheap to know, unlike
    count : the tokens of its input; asked only where a window might be too narrow for ``at_most_tokens``
    answers : how many answers it asks for; a budget pays each
    """

    capabilities: tuple[bool, ...] = NO_NEEDS.capabilities
    max_output_tokens: float | None = None
    at_most_tokens: float = 0.0
    count: Callable[[], Awaitable[float]] = _uncounted
    answers: int = 1

    async def needs(self, offer: Offer) -> Needs:
        """What it asks of the deployments on offer."""
        # Without a limit, upstreams take what the window leaves.
        answer = self.max_output_tokens or 0.0
        if self.at_most_tokens * COUNT_MARGIN + answer <= offer.narrowest and answer <= offer.shortest:
            return Needs(self.capabilities) if True in self.capabilities else NO_NEEDS
        return Needs(self.capabilities, await self.count(), answer)


class StateSource(Protocol):
    """Where a group's bundle comes from."""

    state: GroupState

    def look_periodically(self) -> None:
        """Look for a new bundle, where it is time to; returns at once."""


@dataclass(slots=True)
class _Asked:
    """One request that was read: all that its ranking depends on beside λ, which may be asked for several.

    Attributes
    ----------
    vector : its embedding, shape (D,); None where it was not read, and the models' means count
    limit : its own, of output tokens
    tier : one number per candidate; None where they serve it alike
    last : who served its conversation last, where it counts
    losses : by position, of models that have drifted; None where none has
    """

    settings: GroupSettings
    state: GroupState
    offer: Offer
    vector: np.ndarray | None
    input_tokens: float
    limit: float | None
    tier: list[int] | None
    last: Served | None
    losses: Mapping[int, float] | None
    _known: dict[float, Ranked] = field(default_factory=dict)

    def ranked(self, lambda_: float) -> Ranked:
        """The candidates at a λ; worked out once for each."""
        found = self._known.get(lambda_)
        if found is None:
            found = self._known[lambda_] = self._ranked(lambda_, self.losses)
        return found

    def drifted(self, ranked: Ranked, lambda_: float) -> bool:
        """Whether a model that has drifted is the first, or would be had it not."""
        if not self.losses:
            return False
        first = ranked.order[0]
        return first in self.losses or first != self._ranked(lambda_, None).order[0]

    def held(self, lambda_: float) -> Held | None:
        """The candidate that its conversation holds on to."""
        warm = self._warm(lambda_)
        return None if warm is None else warm.held

    def propensity(self, parts: Sequence[tuple[float, float]], exploring: Exploring | None) -> dict[str, float]:
        """Probability of each pool model to rank first, over the draws that the request might have had.

        Parameters
        ----------
        parts : (λ, its share)
        """
        found: dict[str, float] = {}
        for lambda_, share in parts:
            ranked = self.ranked(lambda_)
            shares = {ranked.order[0] if ranked.order else 0: 1.0}
            if exploring is not None:
                shares = exploring.shares(ranked, lambda_, self.held(lambda_))
            for position, probability in shares.items():
                name = self.offer.names[position]
                found[name] = found.get(name, 0.0) + share * probability
        return found

    def _ranked(self, lambda_: float, losses: Mapping[int, float] | None) -> Ranked:
        return self.offer.candidates.rank(
            self.vector,
            self.input_tokens,
            lambda_,
            max_output_tokens=self.limit,
            safety=self.settings.safety or self.vector is None,
            tier=self.tier,
            unknown=self.settings.unknown,
            warm=None if self.last is None else self._warm(lambda_),
            losses=losses,
        )

    def _warm(self, lambda_: float) -> Warm | None:
        """Where a conversation is warm among what is on offer; None where nothing follows from it.

        It is held only at a model that some prompts are sent to at this λ: who writes a conversation that never was
        gets no dearer model than the goal itself would give.
        """
        last, stay, names = self.last, self.settings.stay, self.offer.names
        if last is None or stay.mode == "off":
            return None
        name = last.offered_as or last.model
        cached = [(names.index(model), tokens) for model, tokens in last.cached_tokens.items() if model in names]
        held = last.goes_on and name in names and self.state.bundle.frontier.chooses(last.model, lambda_)
        holds = held and (last.awaits_tools or stay.mode == "always")
        margin = math.inf if holds else stay.margin * held
        if not cached and not margin:
            return None
        return Warm(Held(names.index(name), margin) if name in names else None, cached)


class RoutedGroup:
    """Ranks the deployments of one routing group.

    Parameters
    ----------
    pacer : keeps budgets on what was really spent; None leaves them to the frontier

    Attributes
    ----------
    drift : what feedback says of its models
    may_reject, may_count_everything : whether a budget of the settings, a team's or the group's, says so
    """

    def __init__(self, settings: GroupSettings, source: StateSource, *, pacer: Pacer | None = None) -> None:
        self.settings = settings
        self.pacer = pacer
        self.source = source
        self.drift = DriftTable()
        self._decided = 0
        self._reader = Reader(settings.name, settings.embedder.timeout_s)
        self.allowance = Allowance(0.0 if settings.explore is None else settings.explore.extra_cost)
        self._grants: dict[tuple[str | None, str | None, str | None], Grant] = {}
        stated = (settings.goal, *(team.goal for team in settings.teams.values()))
        windows = {goal.window for goal in stated if goal.window is not None}
        self.may_reject = any(window.on_exhausted == "reject" for window in windows)
        self.may_count_everything = any(window.count == "everything" for window in windows)

    @property
    def state(self) -> GroupState:
        """The bundle in use; one request sees one of them from start to end."""
        return self.source.state

    async def decide(
        self,
        prompt: PromptText | None,
        members: Sequence[Member],
        grant: Grant,
        ask: Ask,
        *,
        draw: float = 0.0,
        shown: int = _SHOWN,
        ticket: Ticket | None = None,
        agreed: RequestLambda | None = None,
        last: Served | None = None,
        told: bool = False,
        paced: bool = True,
        trial: Trial | None = None,
        account: str = "",
    ) -> Decision:
        """Rank the pool models behind the deployments on offer.

        A request without text is ranked by the models' mean rewards.

        Parameters
        ----------
        draw : uniform in [0, 1), the same at every pick of one request
        shown : how many of the models have their expected reward and cost in the answer
        ticket : what the request itself holds of its budgets, which is not gone for it
        agreed : its λ, where that is known already
        last : who served its conversation last, where it counts
        told : whether standard errors and propensities are wanted as well, which takes a ranking for every other λ
        paced : whether budgets have a say
        trial : the request's chance to explore; None where it has none
        account : who asks, for whom a model may have drifted

        Raises
        ------
        EmbeddingError : no embedding in time; without a text to embed there is none
        """
        self.source.look_periodically()
        state = self.source.state
        parts: Sequence[tuple[float, float]] | None = None if agreed is None else ((agreed.lambda_, 1.0),)
        agreed = agreed or self.lambda_of(grant, draw, state, count=ask.answers, ticket=ticket, paced=paced)
        offer = state.offers.of(members)
        names = offer.names
        needs = await ask.needs(offer)
        began_s = time.perf_counter()
        vector, input_tokens = (None, 0.0) if prompt is None else await self._reader.read(state.embedder, prompt)
        read_s = time.perf_counter()
        is_open = agreed.exhausted not in _SPENT
        asked = _Asked(
            self.settings,
            state,
            offer,
            vector,
            input_tokens,
            limit=ask.max_output_tokens,
            tier=_tiers(names, members, needs) if needs.is_demanding else None,
            last=last if is_open else None,
            losses=self._losses(state, offer, account) if self.drift.any else None,
        )
        ranked = asked.ranked(agreed.lambda_)
        embed_s = None if prompt is None else read_s - began_s
        metrics.stages(
            self.settings.name, embed_s, ranked.predicted_s - read_s, time.perf_counter() - ranked.predicted_s
        )
        exploring = None if trial is None or not is_open or not ranked.order else self._exploring(asked, trial)
        propensity = None
        if told:
            if parts is None and is_open:
                pacer = self.pacer if paced else None
                parts = agreed_mixture(self.settings.name, grant, state.bundle.frontier, state.mixture_of, pacer)
            propensity = asked.propensity(parts or ((agreed.lambda_, 1.0),), exploring)
        order, reason = ranked.order, _reason(agreed, asked, ranked)
        rewards, costs = {}, {}
        if exploring is not None:
            chosen, extra = exploring.choice(ranked, agreed.lambda_, asked.held(agreed.lambda_))
            if chosen != order[0]:
                order, reason = [chosen, *(i for i in order if i != chosen)], "explored"
                metrics.explored(self.settings.name, extra)
                if chosen >= offer.known:
                    costs[names[chosen]] = float(exploring.costs(ranked)[chosen])
        for i in order[: len(names) if told else shown]:
            if i < offer.known:
                rewards[names[i]] = float(ranked.expected_reward[i])
                if not math.isnan(cost := float(ranked.cost[i])):
                    costs[names[i]] = cost
        return Decision(
            models=tuple([names[i] for i in order]) or names,
            expected_reward=rewards,
            expected_cost=costs,
            request_lambda=agreed,
            reason=reason,
            bundle_id=state.bundle.id,
            best_single_cost=None if math.isnan(ranked.best_single_cost) else ranked.best_single_cost,
            needs=needs,
            std_error=_std_error(state, offer, vector) if told else {},
            propensity=propensity,
            predicted=dict(zip(names, map(float, ranked.predicted), strict=False)) if told else {},
            novelty=self._novelty(state, vector),
        )

    def _exploring(self, asked: _Asked, trial: Trial) -> Exploring | None:
        """What a request may try; None where nobody explores, or there is nothing to compare with."""
        explore, vector, offer = self.settings.explore, asked.vector, asked.offer
        if explore is None or vector is None or not offer.known:
            return None
        return Exploring(
            trial,
            explore.share,
            self.allowance,
            offer.pool,
            vector,
            asked.input_tokens,
            limit=asked.limit,
            tier=asked.tier,
            unknown=self.settings.unknown,
        )

    def _losses(self, state: GroupState, offer: Offer, account: str) -> dict[int, float] | None:
        """By how much models that have drifted are worse, by position, in reward units; None where none has."""
        if self.settings.drift != "quarantine":
            return None
        bundle = state.bundle
        losses = self.drift.losses(bundle, digest_of([account]))
        if not losses:
            return None
        span, known = span_of(self.settings, bundle), enumerate(offer.names[: offer.known])
        return {i: span * losses[name] for i, name in known if name in losses}

    def _novelty(self, state: GroupState, vector: np.ndarray | None) -> float | None:
        """How far a prompt is from the training prompts; of one in a few, and None where the bundle cannot say."""
        self._decided += 1
        usual = state.bundle.uncertainty.usual
        if self._decided % NOVELTY_EVERY or vector is None or usual <= 0.0:
            return None
        return float(state.bundle.uncertainty.leverage(vector)) / usual

    def grant_of(self, tenant: Tenant, request_goal: RequestGoal | None = None) -> Grant:
        """As ``tenant.grant``; worked out once for a caller of whom only the settings say something."""
        if request_goal is not None or tenant.states_goals:
            return grant(self.settings, tenant, request_goal)
        key = (tenant.team_id, tenant.team_alias, tenant.key_id)
        found = self._grants.get(key)
        if found is None:
            if len(self._grants) >= _MAX_GRANTS:
                self._grants.clear()
            found = self._grants[key] = grant(self.settings, tenant)
        return found

    def may_choose(self, model: str, decision: Decision) -> bool:
        """Whether a decision's goal sends some prompts to a model, or would pay no more for it than for its choice."""
        if model not in decision.models or decision.request_lambda.exhausted in _SPENT:
            return model in decision.models[:1]
        costs = decision.expected_cost
        dearest = costs.get(decision.models[0], math.inf)
        if model == decision.models[0] or decision.lambda_ == 0 or costs.get(model, math.inf) <= dearest:
            return True
        return self.state.bundle.frontier.chooses(model, decision.lambda_)

    def lambda_of(
        self,
        grant: Grant,
        draw: float,
        state: GroupState | None = None,
        *,
        count: int = 1,
        ticket: Ticket | None = None,
        paced: bool = True,
    ) -> RequestLambda:
        """λ of one request, on the bundle in use or on a given one: the only place that is asked for it.

        Parameters
        ----------
        count, ticket : as in ``lambda_of``
        paced : whether budgets have a say
        """
        state = state or self.source.state
        name, frontier = self.settings.name, state.bundle.frontier
        pacer = self.pacer if paced else None
        return lambda_of(name, grant, frontier, draw, state.mixture_of, pacer, count=count, ticket=ticket)


def _std_error(state: GroupState, offer: Offer, vector: np.ndarray | None) -> dict[str, float]:
    """By pool model with a probe; nothing where the prompt was not read."""
    if vector is None:
        return {}
    bundle = state.bundle
    errors = bundle.uncertainty.std_error(bundle.uncertainty.leverage(vector)).tolist()
    by_model = dict(zip(bundle.models, errors, strict=True))
    return {name: by_model[name] for name in offer.names[: offer.known]}


def _reason(agreed: RequestLambda, asked: _Asked, ranked: Ranked) -> str:
    if agreed.exhausted in _SPENT:
        return "exhausted"
    if ranked.stayed:
        return "sticky"
    if asked.drifted(ranked, agreed.lambda_):
        return "drifted"
    return "safe-default" if asked.vector is None or ranked.leaned else "routed"


def _tiers(names: Sequence[str], members: Sequence[Member], needs: Needs) -> list[int]:
    best: dict[str, int] = {}
    for member in members:
        found = needs.tier(member)
        best[member.pool_model] = min(found, best.get(member.pool_model, found))
    return [best[name] for name in names]
