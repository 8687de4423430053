"""One pick: which deployments of a routed group are left in for a request, and what its note remembers of it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from litellm_erp.choice.conversation import awaits_tools, turns_of
from litellm_erp.choice.exploration import Trial
from litellm_erp.choice.prompt import PromptText, from_request, whole_text
from litellm_erp.conversations.memory import Served
from litellm_erp.conversations.shared import SharedConversations
from litellm_erp.errors import EmbeddingError, EmbeddingTimeout
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.mode import ROUTE, Mode
from litellm_erp.goals.tenant import Grant, Tenant, grant
from litellm_erp.metrics.recorder import metrics
from litellm_erp.proxy import arms
from litellm_erp.proxy import litellm_request as request_of
from litellm_erp.proxy.access import Access
from litellm_erp.proxy.litellm_router import count_tokens
from litellm_erp.proxy.request_note import metadata_of, note_of, tenant_of
from litellm_erp.serving.deployments import Deployment, Member, MemberTable, capabilities_used, narrowed
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.note import Decision, Note
from litellm_erp.telemetry import log_decision, logs_decisions

_COUNT_TIMEOUT_S = 2.0
# A count takes a tenth of a second per million characters; beyond this, the estimate has to do.
_MOST_COUNTED_CHARS = 4_000_000
_CHARS_PER_TOKEN = 4.0
# No tokenizer of a vendor makes more tokens of plain ASCII than this, nor of other text than it has bytes.
_TOKENS_PER_CHAR, _TOKENS_PER_ODD_CHAR = 1.0, 4.0
_TOKENS_PER_MESSAGE = 8.0
# Its own, so that LiteLLM's picks are what they would be without us, and no client chooses who explores.
_trials = random.Random()  # noqa: S311
_NOBODY, _NOTHING_ASKED = Tenant(), Ask()


@dataclass(slots=True)
class Pick:
    """One pick of a request.

    Attributes
    ----------
    metadata : the request's own, see ``request_note.metadata_of``
    offered, members : the deployments that may be left in, and what they are
    failed : ids of the deployments that failed in this request before
    timed_out : whether the try before this one did; its upstream may have answered all the same
    granted : whose goals decide; None until they were read
    bound_to : id of the one deployment that can serve the request; None where any can
    permitted : whether what may not be used was dropped
    ask : what the request asks for beside its text, as far as it was read
    last : who served its conversation last; None where that does not count
    mode, routes : whether what is decided serves: as the settings say, and this request
    whole : what was on offer before LiteLLM's own later filters were asked
    told : whether somebody writes down what is decided
    has_arms : whether a deployment may stand for several pool models
    carriers : what was on offer with each deployment once, where one was offered as several pool models; else None
    is_own : whether the request's own parameters leave none of the pool models that deployments stand for
    """

    group: RoutedGroup
    messages: Any
    request: dict[str, Any]
    offered: Sequence[Deployment]
    started_s: float
    metadata: dict[str, Any] = field(default_factory=dict)
    note: Note = field(default_factory=Note)
    members: list[Member] = field(default_factory=list)
    failed: frozenset[str] = frozenset()
    timed_out: bool = False
    tenant: Tenant = _NOBODY
    granted: Grant | None = None
    bound_to: str | None = None
    permitted: bool = False
    ask: Ask = _NOTHING_ASKED
    last: Served | None = None
    mode: Mode = ROUTE
    routes: bool = True
    whole: Sequence[Deployment] = ()
    told: bool = False
    has_arms: bool = False
    carriers: tuple[Sequence[Deployment], list[Member]] | None = None
    is_own: bool = False
    _answers: int = 0

    @property
    def known_grant(self) -> Grant:
        """Whose goals decide."""
        if self.granted is None:
            raise RuntimeError("a pick is decided before it is read")
        return self.granted

    def read(self, members: MemberTable) -> None:
        """Find the request's note, its tenant and what the deployments on offer are."""
        self.identify(members)
        failures = request_of.failures_in(self.request)
        self.timed_out = self.note.called is not None and request_of.last_timed_out(failures)
        self.failed = self.note.failed(bool(failures))
        self.note.asked(self.group.settings.name)
        self.granted = self.group.grant_of(self.tenant, request_of.request_goal_in(self.metadata))
        self.bound_to = request_of.bound_deployment(self.request)

    def identify(self, members: MemberTable) -> None:
        """Find who asks, and what for: all that an allow list needs."""
        metadata = self.metadata = metadata_of(self.request)
        self.note = note_of(metadata)
        self.tenant = tenant_of(metadata, self.note)
        self.members = [members.member(deployment) for deployment in self.offered]
        self.has_arms = members.has_arms

    @property
    def answers(self) -> int:
        """How many answers the request asks for."""
        self._answers = self._answers or request_of.answers_asked(self.messages, self.request)
        return self._answers

    async def recall(self, conversations: SharedConversations) -> None:
        """Find who served the request's conversation last."""
        settings, note = self.group.settings, self.note
        if settings.stay.mode == "off":
            return
        if note.conversation is None:
            note.conversation = request_of.conversation_in(
                settings.name, self.messages, self.request, self.metadata, self.tenant
            )
        if note.conversation is not None:
            self.last = await conversations.last(note.conversation, settings.stay)

    def permit(self, access: Access) -> bool:
        """Drop what the key or its team may not use; False where nothing is left."""
        name = self.group.settings.name
        self.offered, self.members = access.permitted(name, self.offered, self.members, self.tenant)
        self.permitted = True
        return bool(self.offered)

    def keep(self, left: Sequence[Deployment]) -> None:
        """Drop the deployments that are not among ``left``."""
        if len(left) < len(self.offered):
            kept = [i for i, deployment in enumerate(self.offered) if any(deployment is other for other in left)]
            if kept:
                self.offered, self.members = [self.offered[i] for i in kept], [self.members[i] for i in kept]

    async def decide(self, draw: float) -> Decision:
        """Rank the pool models on offer by the request's prompt.

        Raises
        ------
        EmbeddingError : no embedding in time
        """
        prompt = from_request(self.messages, self.request)
        self.ask = Ask(
            capabilities_used(self.messages, self.request),
            request_of.output_limit(self.request),
            self._at_most_tokens(prompt),
            self._count,
            self.answers,
        )
        return await self._decide(prompt, draw)

    async def decide_unread(self, members: MemberTable, draw: float, agreed: RequestLambda | None) -> Decision:
        """Rank them by means and costs alone, after something failed; what was read of the request before counts.

        Parameters
        ----------
        agreed : its λ, as far as it can be known
        """
        self.members = self.members or [members.member(deployment) for deployment in self.offered]
        self.granted = self.granted or grant(self.group.settings, self.tenant)
        return await self._decide(None, draw, agreed)

    async def _decide(self, prompt: PromptText | None, draw: float, agreed: RequestLambda | None = None) -> Decision:
        held = self.note.ticket
        if self.has_arms and self.carriers is None:
            self._spread()
        return await self.group.decide(
            prompt,
            self.members,
            self.known_grant,
            self.ask,
            draw=draw,
            ticket=held,
            agreed=agreed,
            last=self.last,
            told=self.told,
            paced=self.mode.name != "shadow",
            trial=None if prompt is None else self._trial(),
            account=self.tenant.account,
        )

    def _trial(self) -> Trial | None:
        """The request's chance to explore; None where something else decides who serves, or what follows is not known.

        Not after a failure; and where tools may be called, the model that calls them would have to go on.
        """
        if self.group.settings.explore is None or self.mode.name == "shadow" or self.failed or self.answers > 1:
            return None
        if self.bound_to is not None or self.note.is_several:
            return None
        sources = (self.request, request_of.map_of(self.request.get("extra_body")))
        if any(source.get(name) for source in sources for name in ("tools", "functions")):
            return None
        if awaits_tools(turns_of(self.messages, self.request)):
            return None
        if self.note.trial is None:
            self.note.trial = Trial(_trials.random(), serves=self.routes)
        return self.note.trial

    def _spread(self) -> None:
        """Offer a deployment once for each pool model that it stands for and that can serve the request."""
        if not any(member.arms for member in self.members):
            return
        self.carriers = self.offered, self.members
        self.offered, self.members, self.is_own = arms.spread(*self.carriers, arms.said_by(self.request))
        if self.last is not None and self.last.awaits_tools:
            self._go_on(self.last)

    def _go_on(self, last: Served) -> None:
        """Where the arm that called tools cannot serve the next turn, its deployment goes on with it as what it can."""
        if self.carriers is None or any(member.pool_model == last.model for member in self.members):
            return
        for deployment, member in zip(*self.carriers, strict=True):
            if any(arm.pool_model == last.model for arm in member.arms):
                same = next((other for other in self.members if other.id == member.id), None)
                if same is None:
                    self.offered, self.members = [*self.offered, deployment], [*self.members, member]
                self.last = replace(last, offered_as=(same or member).pool_model)
                return

    @property
    def each_once(self) -> Sequence[Deployment]:
        """What is on offer, each deployment once."""
        return self.offered if self.carriers is None else self.carriers[0]

    def reason_of(self, decision: Decision) -> str:
        """Why the decision is as it is."""
        return "own-parameters" if self.is_own and decision.reason != "exhausted" else decision.reason

    def leave(self, kept: list[int], models: Sequence[str]) -> list[int]:
        """Write down which deployments are left in, and as what; each once, as the best of the models that it is.

        Parameters
        ----------
        kept : positions, the first the best
        models : best first
        """
        if self.carriers is not None:
            place = {model: i for i, model in enumerate(models)}
            ranked = sorted(kept[1:], key=lambda i: place.get(self.members[i].pool_model, len(place)))
            best = {self.members[i].id: i for i in reversed((*kept[:1], *ranked))}
            kept = [i for i in kept if best[self.members[i].id] == i]
        self.note.left_in = frozenset([self.members[i].id for i in kept])
        if self.has_arms:
            left = [self.members[i] for i in kept]
            self.note.left_as = {member.id: member for member in left if member.parameters is not None}
        return kept

    def left_in(
        self, decision: Decision, bound: int | None, retries: Callable[[], int]
    ) -> tuple[list[Deployment], str]:
        """The deployments of the best model that can serve, and its name; or the one that the request is bound to.

        Parameters
        ----------
        bound : position of the latter, see :meth:`bound`
        retries : how often LiteLLM picks again; asked only where a filter behind this hook left nothing before
        """
        kept = narrowed(self.members, decision.models, self.failed, decision.needs) if bound is None else [bound]
        if bound is None and self.note.dropped and self.note.picks >= retries():
            kept += self._others(kept, decision)
        kept = self.leave(kept, decision.models)
        return [self.offered[i] for i in kept], self.members[kept[0]].pool_model

    def _others(self, kept: Sequence[int], decision: Decision) -> list[int]:
        """What else could serve, for the last pick of a request that rate limits and the like have taken choices from.

        They are LiteLLM's to judge, and another choice that it drops would cost the request.
        """
        needs = decision.needs
        most = max(needs.tier(self.members[kept[0]]), 1)
        return [
            i
            for i, member in enumerate(self.members)
            if i not in kept and member.id not in self.failed and needs.tier(member) <= most
            if member.pool_model in decision.models
        ]

    def bound(self, decision: Decision) -> int | None:
        """Position of the deployment that the request is bound to; None where there is none, or it may not be had.

        Whoever writes another deployment into an id gets no dearer model than the goal itself would give.
        """
        if self.bound_to is None:
            return None
        found = [i for i, m in enumerate(self.members) if m.id == self.bound_to]
        bound = found[0] if len(found) == 1 else self._best_of(found, decision)
        if bound is None or self.bound_to in self.failed:
            return None
        return bound if self.group.may_choose(self.members[bound].pool_model, decision) else None

    def _best_of(self, found: Sequence[int], decision: Decision) -> int | None:
        """Of the pool models that one deployment is, the one its conversation is at, else the best; None of none."""
        last = None if self.last is None else self.last.model
        place = {model: i for i, model in enumerate(decision.models)}
        names = {i: self.members[i].pool_model for i in found}
        return min(found, key=lambda i: (names[i] != last, place.get(names[i], len(place))), default=None)

    def cheapest(self, members: MemberTable) -> list[Deployment]:
        """The deployments of the model with the lowest price, where nothing else can be known."""
        found = [members.member(deployment) for deployment in self.offered]
        prices = {m.pool_model: price for m in found if (price := m.price or m.map_price) is not None and price.known}
        if not prices:
            return list(self.offered)
        cheapest = min(prices, key=lambda name: (prices[name].output_usd_per_mtok, prices[name].input_usd_per_mtok))
        return [d for d, member in zip(self.offered, found, strict=True) if member.pool_model == cheapest]

    def record(self, decision: Decision) -> None:
        """Log a decision that was written into the note, where somebody listens, and count what it was of."""
        seconds, note = time.perf_counter() - self.started_s, self.note
        if decision.novelty is not None:
            metrics.novelty(note.group, metrics.teams.of(self.tenant), note.model or "none", decision.novelty)
        if not logs_decisions():
            return
        log_decision(
            {
                "group": note.group,
                "team": self.tenant.label,
                "policy": {decision.request_lambda.claim.goal.form: decision.request_lambda.claim.goal.value},
                "policy_of": decision.request_lambda.claim.source,
                "lambda": decision.lambda_,
                "bundle": decision.bundle_id,
                "model": note.model,
                "reason": note.reason,
                "candidates": len(decision.models),
                "expected_reward": decision.expected_reward.get(note.model),
                "expected_cost_usd": decision.expected_cost.get(note.model),
                "ms": round(seconds * 1e3, 3),
            }
        )

    def _at_most_tokens(self, prompt: PromptText | None) -> float:
        if prompt is None:
            return 0.0
        per_char = _TOKENS_PER_CHAR if prompt.text.isascii() else _TOKENS_PER_ODD_CHAR
        return prompt.n_chars * per_char + self._turns * _TOKENS_PER_MESSAGE

    async def _count(self) -> float:
        """Tokens of the request, counted once, in a thread; inf where that takes too long or fails."""
        if self.note.input_tokens is None:
            text = whole_text(self.messages, self.request)
            self.note.input_tokens = self._turns * _TOKENS_PER_MESSAGE / 2 + await _counted(text)
        return self.note.input_tokens

    @property
    def _turns(self) -> int:
        return len(self.messages) if isinstance(self.messages, list) else 1


async def _counted(text: str) -> float:
    if len(text) > _MOST_COUNTED_CHARS:
        return len(text) / _CHARS_PER_TOKEN
    try:
        return await asyncio.wait_for(asyncio.to_thread(count_tokens, text), _COUNT_TIMEOUT_S)
    except Exception:
        return math.inf


def why(error: Exception) -> str:
    """What ``x-erp-reason`` says after ``fallback:``."""
    if isinstance(error, EmbeddingTimeout):
        return "embedding-timeout"
    return "embedding" if isinstance(error, EmbeddingError) else "error"
