"""One routing group at run time: its bundle, its embedder, and a decision per request.

Invariants
----------
* ``State`` is immutable; a reload builds a new one and swaps it, so a request sees one bundle from start to end.
* A bundle that cannot be loaded never replaces one that could.
* Nothing here blocks the event loop: files are read in a thread, slow embedders are awaited with a timeout.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from litellm_erp.budgets.holds import Ticket
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import Candidates
from litellm_erp.choice.cost import Price, PriceTable
from litellm_erp.choice.prompt import PromptText
from litellm_erp.embedding import CachedEmbedder, Embedder, check, embedder_from_spec
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.errors import BundleError, EmbeddingError, EmbeddingTimeout, ErpError
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.lambda_of import Pacer, RequestLambda, lambda_of
from litellm_erp.goals.request_goal import RequestGoal
from litellm_erp.goals.settings import GroupSettings
from litellm_erp.goals.solve import Mixture, solve
from litellm_erp.goals.tenant import Grant, Tenant, grant
from litellm_erp.serving.deployments import COUNT_MARGIN, NO_NEEDS, Member, MemberTable, Needs, pool_price
from litellm_erp.shown import shown_names
from litellm_erp.telemetry import Once, logger, metrics

# Name, modification time, inode and size of every file.
Signature = tuple[tuple[str, int, int, int], ...]

_CHARS_PER_TOKEN = 4.0
_MAX_OFFERS = 256
_MAX_POLICIES = 1024
_MAX_GRANTS = 4096
_SHOWN = 8
_BREAKER_FAILURES = 5
_BREAKER_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What follows from the deployments on offer, and not from the request; worked out once.

    Attributes
    ----------
    names : pool models: those with a probe, then the others, by name
    known : how many of them have a probe
    candidates : the same, in the same order, ready to be ranked
    narrowest, shortest : the least ``max_input_tokens`` and ``max_output_tokens`` of all deployments
    """

    names: tuple[str, ...]
    known: int
    candidates: Candidates
    narrowest: float
    shortest: float


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


@dataclass(frozen=True, slots=True)
class State:
    """A loaded bundle with its embedder and what is derived from both."""

    bundle: Bundle
    embedder: Embedder
    column: Mapping[str, int]
    signature: Signature
    mixtures: dict[Goal, Mixture] = field(default_factory=dict)
    offers: dict[tuple[Member, ...], Offer] = field(default_factory=dict)

    def price_of(self, model: str) -> Price | None:
        """The bundle's price of a pool model; None where it has none."""
        column = self.column.get(model)
        return None if column is None else self.bundle.manifest.models[column].price

    def mixture_of(self, goal: Goal) -> Mixture:
        """λ of a goal on this bundle's frontier, solved once."""
        found = self.mixtures.get(goal)
        if found is None:
            # Clients may state goals of their own, so there is no end to them.
            if len(self.mixtures) >= _MAX_POLICIES:
                self.mixtures.clear()
            found = self.mixtures[goal] = solve(goal, self.bundle.frontier).mixture
        return found


@dataclass(frozen=True, slots=True)
class Decision:
    """A ranking of pool models for one request.

    Attributes
    ----------
    models : pool models, best first; a model that is not in it is excluded
    expected_reward, expected_cost : by pool model, of the first few, for those with a probe and with a known cost
    reason : ``routed``, ``safe-default`` or ``exhausted``
    request_lambda : where the λ comes from
    best_single_cost : expected cost of the best single model on this request; None where it is not known
    needs : what the request asks of a deployment
    """

    models: tuple[str, ...]
    expected_reward: Mapping[str, float]
    expected_cost: Mapping[str, float]
    request_lambda: RequestLambda
    reason: str
    bundle_id: str
    best_single_cost: float | None
    needs: Needs = NO_NEEDS

    @property
    def lambda_(self) -> float:
        """The λ it was decided with."""
        return self.request_lambda.lambda_


class Breaker:
    """Stops asking an embedder that keeps failing, so that its timeout is not added to every request."""

    def __init__(self) -> None:
        self._failures = 0
        self._closed_at = 0.0

    def is_open(self) -> bool:
        """Whether to skip the embedder for now."""
        return time.monotonic() < self._closed_at

    def record(self, ok: bool) -> None:
        """Count a failure, or forget them all."""
        self._failures = 0 if ok else self._failures + 1
        if self._failures >= _BREAKER_FAILURES:
            self._failures = 0
            self._closed_at = time.monotonic() + _BREAKER_PAUSE_S


class RoutedGroup:
    """Ranks the deployments of one routing group.

    Parameters
    ----------
    settings : the group's
    members : shared by all groups, so that a deployment is read once
    embedder : used instead of the one the bundle names; for tests and for programs with an embedder at hand
    reload_s : how often the bundle's folder is looked at; 0 never
    pacer : keeps budgets on what was really spent; None leaves them to the frontier

    Attributes
    ----------
    may_reject, may_count_everything : whether a budget of the settings, a team's or the group's, says so

    Raises
    ------
    BundleError, EmbeddingError : the bundle or its embedder cannot be used
    """

    def __init__(
        self,
        settings: GroupSettings,
        members: MemberTable,
        *,
        embedder: Embedder | None = None,
        reload_s: float = 2.0,
        pacer: Pacer | None = None,
    ) -> None:
        self.settings = settings
        self.pacer = pacer
        self._members = members
        self._given_embedder = embedder
        self._reload_s = reload_s
        self._next_look = time.monotonic() + reload_s
        self._refused: Signature | None = None
        self._reloading: asyncio.Task[bool] | None = None
        self._breaker = Breaker()
        self._once = Once()
        self._prices: tuple[State, Mapping[str, Member], PriceTable] | None = None
        self._grants: dict[tuple[str | None, str | None, str | None], Grant] = {}
        stated = (settings.goal, *(team.goal for team in settings.teams.values()))
        windows = {goal.window for goal in stated if goal.window is not None}
        self.may_reject = any(window.on_exhausted == "reject" for window in windows)
        self.may_count_everything = any(window.count == "everything" for window in windows)
        self.state = self._load(None)
        metrics.loaded(settings.name, self.state.bundle.id)

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
    ) -> Decision:
        """Rank the pool models behind the deployments on offer.

        A request without text is ranked by the models' mean rewards.

        Parameters
        ----------
        draw : uniform in [0, 1), the same at every pick of one request
        shown : how many of the models have their expected reward and cost in the answer
        ticket : what the request itself holds of its budgets, which is not gone for it
        agreed : its λ, where that is known already

        Raises
        ------
        EmbeddingError : no embedding in time; without a text to embed there is none
        """
        self._look_for_new_bundle()
        state = self.state
        agreed = agreed or self.lambda_of(grant, draw, state, count=ask.answers, ticket=ticket)
        offer = self._offer(state, members)
        names = offer.names
        needs = await ask.needs(offer)
        vector, input_tokens = (None, 0.0) if prompt is None else await self._read(state.embedder, prompt)
        ranked = offer.candidates.rank(
            vector,
            input_tokens,
            agreed.lambda_,
            max_output_tokens=ask.max_output_tokens,
            safety=self.settings.safety or prompt is None,
            tier=_tiers(names, members, needs) if needs.is_demanding else None,
            unknown=self.settings.unknown,
        )
        rewards, costs = {}, {}
        for i in ranked.order[:shown]:
            if i < offer.known:
                rewards[names[i]] = float(ranked.expected_reward[i])
                if not math.isnan(cost := float(ranked.cost[i])):
                    costs[names[i]] = cost
        return Decision(
            models=tuple([names[i] for i in ranked.order]) or names,
            expected_reward=rewards,
            expected_cost=costs,
            request_lambda=agreed,
            reason=_reason(agreed, leaned=prompt is None or ranked.leaned),
            bundle_id=state.bundle.id,
            best_single_cost=None if math.isnan(ranked.best_single_cost) else ranked.best_single_cost,
            needs=needs,
        )

    def grant_of(self, tenant: Tenant, request_goal: RequestGoal | None = None) -> Grant:
        """As ``tenancy.grant``; worked out once for a caller of whom only the settings say something."""
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
        if model not in decision.models or decision.request_lambda.exhausted in ("cheapest", "reject"):
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
        state: State | None = None,
        *,
        count: int = 1,
        ticket: Ticket | None = None,
    ) -> RequestLambda:
        """λ of one request, on the bundle in use or on a given one: the only place that is asked for it.

        Parameters
        ----------
        count, ticket : as in ``lambda_of``
        """
        state, name = state or self.state, self.settings.name
        solved, frontier = state.mixture_of, state.bundle.frontier
        return lambda_of(name, grant, frontier, draw, solved, self.pacer, count=count, ticket=ticket)

    async def _read(self, embedder: Embedder, prompt: PromptText) -> tuple[np.ndarray, float]:
        """Embedding of what was kept of a prompt, and tokens of the whole of it."""
        vector, n_tokens = await self._embed(embedder, prompt.text)
        return vector, n_tokens * (prompt.n_chars / max(1, len(prompt.text)))

    async def _embed(self, embedder: Embedder, text: str) -> tuple[np.ndarray, float]:
        if isinstance(embedder, StaticEmbedder):
            vector, n_tokens = embedder.embed_counted(text)
            return _finite(vector, embedder.spec.dimension), n_tokens
        if self._breaker.is_open():
            raise EmbeddingError("the embedder failed repeatedly and is left alone for a few seconds")
        try:
            vector = await asyncio.wait_for(embedder.aembed(text), self.settings.embedder.timeout_s)
            vector = _finite(check(vector, embedder.spec.dimension), embedder.spec.dimension)
        except Exception as e:
            # A client that hangs up raises no Exception, and says nothing of the embedder.
            self._breaker.record(ok=False)
            if isinstance(e, asyncio.TimeoutError) and not isinstance(e, EmbeddingError):
                raise EmbeddingTimeout(f"no embedding within {self.settings.embedder.timeout_s} s") from e
            raise
        self._breaker.record(ok=True)
        return vector, len(text) / _CHARS_PER_TOKEN

    def _offer(self, state: State, members: Sequence[Member]) -> Offer:
        key = tuple(members)
        offer = state.offers.get(key)
        if offer is None:
            prices = self._price_table(state, members)
            names = dict.fromkeys(member.pool_model for member in members)
            known = [name for name in names if name in state.column]
            unknown = sorted(name for name in names if name not in state.column)
            columns = [state.column[name] for name in known]
            if len(state.offers) >= _MAX_OFFERS:
                state.offers.clear()
            offer = state.offers[key] = Offer(
                (*known, *unknown),
                len(known),
                Candidates(state.bundle, columns, len(unknown), prices),
                min(member.max_input_tokens for member in members),
                min(member.max_output_tokens for member in members),
            )
        return offer

    def _price_table(self, state: State, members: Sequence[Member]) -> PriceTable:
        seen: Mapping[str, Member] = {}
        if self._prices is not None and self._prices[0] is state:
            _, seen, table = self._prices
            if all(seen.get(member.id) is member for member in members):
                return table
        everyone = {**seen, **{member.id: member for member in members}}
        by_model: dict[str, list[Member]] = {}
        for member in everyone.values():
            by_model.setdefault(member.pool_model, []).append(member)
        table = state.bundle.prices(_overrides(state.bundle, by_model))
        self._prices = (state, everyone, table)
        # Earlier offers hold prices without those of the new deployments.
        state.offers.clear()
        self._warn_of_prices(state, table)
        return table

    def _warn_of_prices(self, state: State, table: PriceTable) -> None:
        cost = table.expected_cost(1.0, 1.0)
        if not (cost > 0).any():
            self._once.warn(
                f"group {self.settings.name!r}: every price is zero or unknown, so λ can do nothing; "
                "state input_cost_per_token and output_cost_per_token in litellm_params, or fit with --prices"
            )

    def _load(self, current: State | None) -> State:
        path = self.settings.bundle
        signature = _signature(path)
        bundle = load_bundle(path)
        embedder = self._given_embedder or self._embedder(bundle, current)
        return State(bundle, embedder, {name: m for m, name in enumerate(bundle.models)}, signature)

    def _embedder(self, bundle: Bundle, current: State | None) -> Embedder:
        wanted = bundle.manifest.embedder
        if current is not None and current.embedder.spec == wanted:
            return current.embedder
        options = self.settings.embedder
        embedder = embedder_from_spec(
            wanted,
            trust_remote_code=options.trust_remote_code,
            api_key=options.api_key,
            url=options.url,
            directory=options.directory or bundle.embedder_directory(),
            timeout_s=options.timeout_s,
        )
        # The static embedder is as fast as a look-up.
        return embedder if embedder.inline else CachedEmbedder(embedder)

    def _look_for_new_bundle(self) -> None:
        now = time.monotonic()
        if self._reload_s == 0 or now < self._next_look or (self._reloading and not self._reloading.done()):
            return
        self._next_look = now + self._reload_s
        self._reloading = asyncio.get_running_loop().create_task(asyncio.to_thread(self.reload_if_changed))

    def _check_pool(self, bundle: Bundle) -> None:
        """Refuse a bundle of another pool: none of the models that are deployed would be ranked by it."""
        deployed = {member.pool_model for members in self.state.offers for member in members}
        if deployed & set(self.state.bundle.models) and not deployed & set(bundle.models):
            raise BundleError(
                f"{bundle.path}: found probes of {shown_names(bundle.models)}; expected some of the deployed models, "
                f"{shown_names(deployed)}. Is it the bundle of another pool?"
            )

    def reload_if_changed(self) -> bool:
        """Load the bundle again if its manifest changed; blocks, so it runs in a thread.

        Returns
        -------
        whether a new bundle is in use; a bad one is reported once and the old one stays
        """
        signature = _signature(self.settings.bundle)
        if signature in (self.state.signature, self._refused):
            return False
        try:
            state = self._load(self.state)
            self._check_pool(state.bundle)
        except ErpError as e:
            self._refused = signature
            metrics.reload(self.settings.name, "refused")
            logger.warning("group %r: keeping bundle %s: %s", self.settings.name, self.state.bundle.id, e)
            return False
        self._refused = None
        logger.warning("group %r: bundle %s replaces %s", self.settings.name, state.bundle.id, self.state.bundle.id)
        metrics.loaded(self.settings.name, state.bundle.id, self.state.bundle.id)
        metrics.reload(self.settings.name, "ok")
        self.state = state
        return True


def _reason(agreed: RequestLambda, *, leaned: bool) -> str:
    if agreed.exhausted in ("cheapest", "reject"):
        return "exhausted"
    return "safe-default" if leaned else "routed"


def _overrides(bundle: Bundle, by_model: Mapping[str, Sequence[Member]]) -> dict[str, Price]:
    """Prices that replace the bundle's: a deployment's own, or LiteLLM's map where the bundle has none."""
    if bundle.manifest.cost_kind != "usd":
        return {}
    found: dict[str, Price] = {}
    for record in bundle.manifest.models:
        members = by_model.get(record.name, ())
        own = pool_price(members)
        mapped = next((member.map_price for member in members if member.map_price is not None), None)
        if own is not None:
            found[record.name] = own
        elif not record.price.known and mapped is not None:
            found[record.name] = mapped
    return found


def _tiers(names: Sequence[str], members: Sequence[Member], needs: Needs) -> list[int]:
    best: dict[str, int] = {}
    for member in members:
        found = needs.tier(member)
        best[member.pool_model] = min(found, best.get(member.pool_model, found))
    return [best[name] for name in names]


def _finite(vector: np.ndarray, dimension: int) -> np.ndarray:
    # A product with itself is finite where every number is, and takes a third of the time of looking at each.
    if vector.shape != (dimension,) or not math.isfinite(vector.dot(vector)):
        raise EmbeddingError(f"an embedding has shape {vector.shape} or is not finite; expected ({dimension},)")
    return vector


def _signature(path: Path) -> Signature:
    """What tells one state of a bundle's folder from another: a copy in progress differs from the finished one."""
    try:
        stats = [(file, file.stat()) for file in sorted(path.rglob("*")) if file.is_file()]
    except OSError:
        return ()
    return tuple((str(file), stat.st_mtime_ns, stat.st_ino, stat.st_size) for file, stat in stats)
