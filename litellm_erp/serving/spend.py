"""What answers really cost, from LiteLLM's callbacks into the book of budgets; and the Redis that it is shared by."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from litellm_erp.budgets.account import WindowStatus
from litellm_erp.budgets.amounts import amount
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.file_store import FileStore
from litellm_erp.budgets.redis_store import RedisStore
from litellm_erp.budgets.shared_counters import SharedCounters
from litellm_erp.budgets.store import CounterStore
from litellm_erp.budgets.totals import Served, Totals
from litellm_erp.goals.lambda_of import RequestLambda, safe_lambda_of
from litellm_erp.goals.settings import GroupSettings, RedisSettings, Settings
from litellm_erp.goals.tenant import Claim, Grant, Tenant
from litellm_erp.serving.answer_cost import MAPPING, answer_id, cost_of, price_of, usd_of
from litellm_erp.serving.deployments import Member, MemberTable
from litellm_erp.serving.group import Decision, RoutedGroup
from litellm_erp.serving.note import Note
from litellm_erp.serving.team_view import Sharing
from litellm_erp.telemetry import Once

NOTE_KEY = "litellm_erp"
METADATA_KEYS = ("litellm_metadata", "metadata")
_JSON = (str, int, float, list, dict)
_once = Once()


def metadata_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that LiteLLM itself uses for a request; an empty one where there is none.

    Which of two it is differs by route, and clients can send either. LiteLLM's own holds who asks as an object, which
    no body of a request can; without a proxy nobody else writes metadata. On Google's routes a retry has two of them,
    and the request's note is in one.
    """
    found: dict[str, Any] | None = None
    ours: dict[str, Any] | None = None
    for name in METADATA_KEYS:
        metadata = request.get(name)
        if isinstance(metadata, dict):
            if isinstance(metadata.get(NOTE_KEY), Note):
                return metadata
            if ours is None and is_object(metadata.get("user_api_key_auth")):
                ours = metadata
            found = metadata if found is None else found
    # An empty one may be LiteLLM's all the same, and is to be written into.
    kept = found if ours is None else ours
    return {} if kept is None else kept


def is_object(value: object) -> bool:
    """Whether a value is none that JSON can write."""
    return value is not None and not isinstance(value, _JSON)


def note_of(metadata: dict[str, Any]) -> Note:
    """The request's note: made when it is first asked for and changed in place, since fallbacks copy the metadata."""
    note = metadata.get(NOTE_KEY)
    if not isinstance(note, Note):
        note = metadata[NOTE_KEY] = Note()
    return note


def noted(holder: Mapping[str, Any]) -> tuple[Note | None, Mapping[str, Any]]:
    """The note in one of a request's two metadata, and that metadata; (None, {}) where neither has one."""
    for name in METADATA_KEYS:
        metadata = holder.get(name)
        if isinstance(metadata, MAPPING) and isinstance(note := metadata.get(NOTE_KEY), Note):
            return note, metadata
    return None, {}


def tenant_of(metadata: Mapping[str, Any], note: Note) -> Tenant:
    """Who asks, read once for a request: again only where LiteLLM has put another caller there."""
    caller = metadata.get("user_api_key_auth")
    if note.tenant is None or note.caller is not caller or caller is None:
        note.tenant, note.caller = Tenant.from_metadata(metadata), caller
    return note.tenant


class Accounting:
    """Counts spend and holds back what is in flight. Nothing here fails a request or waits for anything.

    Parameters
    ----------
    groups : by name; may be filled later
    totals : put on the counters that budgets are kept in
    litellms_redis : LiteLLM's own ``RedisCache``; None where it has none, or none yet
    """

    def __init__(
        self,
        groups: Mapping[str, RoutedGroup],
        members: MemberTable,
        totals: Totals,
        litellms_redis: Callable[[], Any] = lambda: None,
    ) -> None:
        self._groups = groups
        self._members = members
        self._totals = totals
        self._litellms_redis = litellms_redis
        self.book = SpendBook(Counters(secrets.token_hex(6)))
        totals.counters = self.book.counters
        self.redis: RedisSettings | None = None
        self._file: FileStore | None = None
        self._shared: SharedCounters | None = None

    def configure(self, settings: Settings) -> None:
        """Take the settings of a proxy that starts; reads the budget file, so that no request comes before it."""
        self.redis = settings.redis
        if settings.budget_file is None or settings.redis.url is not None:
            return
        self._file = FileStore(settings.budget_file)
        held, problem = self._file.load()
        for key, (expires_s, fields) in held.items():
            self.book.counters.remember(key, fields, expires_s=expires_s)
        if problem:
            _once.warn(problem)

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

    def refusal_for(
        self, group_name: str, metadata: dict[str, Any], count: int = 1, tenant: Tenant | None = None
    ) -> Exception | None:
        """The HTTP 429 for a request whose budget is spent and that is to be refused; None for all others.

        A request that a budget might have refused holds its likely cost from here on: others are checked before it
        is decided. It may be asked again for the same request and group, wherever it ends up being served: what it
        holds itself is not held against it, and it is counted once.

        Parameters
        ----------
        metadata : the request's own, which its note is kept in
        count : answers that are asked for: choices, or prompts of a list
        tenant : who asks, where that was read from the metadata already
        """
        try:
            group = self._groups.get(group_name)
            if group is None:
                return None
            tenant = tenant or tenant_of(metadata, note_of(metadata))
            if not (group.may_reject or tenant.states_goals):
                return None
            name, granted = group.settings.name, group.grant_of(tenant)
            rejecting = [claim for claim in granted.claims if claim.account and _rejects(claim)]
            if not rejecting:
                return None
            note = note_of(metadata)
            for claim in rejecting:
                account = self.book.tick(name, claim, group.state.bundle.frontier)
                if account is not None and account.exhausted(count, note.ticket) is not None:
                    note.ticket = self.book.arrived(name, granted.claims, note.ticket)
                    return self._too_much(name, claim, account.status())
            if note.ticket is None or note.ticket.state != "held" or name not in note.ticket.arrived:
                note.ticket = self.book.hold(name, granted.claims, count, note.ticket)
        except Exception as e:
            # No request fails because a budget could not be looked at; the hook then orders its models by cost.
            _once.warn(f"a budget could not be checked: {type(e).__name__}")
        return None

    def fallback(self, group_name: str, metadata: Any, draw: float = 0.0) -> RequestLambda | None:
        """What is known of a request's λ after an internal error, so that none lifts a budget; never raises.

        Returns
        -------
        None where there is no such group. Else members are to be ordered by mean reward less λ times cost: by cost
        alone at ``MAX_LAMBDA``
        """
        group = self._groups.get(group_name)
        if group is None:
            return None
        try:
            tenant = Tenant.from_metadata(metadata)
        except Exception:
            tenant = None
        note = metadata.get(NOTE_KEY) if isinstance(metadata, Mapping) else None
        return safe_lambda_of(
            group.settings,
            tenant,
            group.state.bundle.frontier,
            self.book,
            draw=draw,
            ticket=note.ticket if isinstance(note, Note) else None,
        )

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

    def succeeded(self, kwargs: Mapping[str, Any], response: Any) -> None:
        """Count one answer."""
        try:
            self._count(kwargs, response)
        except Exception as e:
            _once.warn(f"what an answer cost could not be counted: {type(e).__name__}")

    def _count(self, kwargs: Mapping[str, Any], response: Any) -> None:
        params = kwargs.get("litellm_params") or {}
        found, metadata = noted(params)
        note = found if found is not None and found.ticket is not None else None
        info = params.get("model_info")
        stated = str(info.get("id") or "") if isinstance(info, Mapping) else ""
        member = self._members.by_id(stated if found is None else found.answered_by(stated))
        usd = cost_of(kwargs, response, member, None if note is None else self._groups.get(note.group))
        ticket = None if note is None else note.ticket
        first = note is not None and ticket is not None
        if ticket is not None and not (note is not None and note.is_several):
            first = self.book.settle(ticket, usd, answer_id(response))
        # An answer from the cache is nobody's.
        if note is not None and first and kwargs.get("cache_hit") is not True:
            self._record(note, member, usd)
        decided = "" if note is None else note.group
        others = [routed for name, routed in self._groups.items() if name != decided]
        if others:
            metadata = metadata or metadata_of(params)
            tenant = Tenant.from_metadata(metadata) if found is None else tenant_of(metadata, found)
            for routed in others:
                name = routed.settings.name
                own = note is None and name == metadata.get("model_group")
                # Who counts nothing else need not be asked.
                if own or routed.may_count_everything or tenant.states_goals:
                    self.book.charge(name, routed.grant_of(tenant).claims, usd or 0.0, own=own)

    def cost_of_part(self, note: Note, tokens_in: float, tokens_out: float) -> float | None:
        """USD of a part of an answer; None where no price is known."""
        member = self._members.by_id(note.called or "")
        price = None if member is None else price_of(member, self._groups.get(note.group))
        return None if price is None else usd_of(price, tokens_in, tokens_out)

    def _record(self, note: Note, member: Member | None, usd: float | None) -> None:
        if note.grant is None:
            return
        cost = usd if usd is not None else _expected(note, member) or 0.0
        served = Served("other" if member is None else member.pool_model, cost, _best_single(note, member, cost))
        # A team's keys are not told apart here: nobody could ask for them, and there is no end to them.
        self._totals.record(note.group, note.grant.accounts[0], served)

    def keep_sharing(self) -> None:
        """Exchange counters in the background where there is a store; as cheap as a look once it does."""
        store = self._store()
        if store is None:
            self._say_alone()
            return
        if self._shared is None or self._shared.store is not store:
            if self._shared is not None:
                self._shared.stop()
            self._shared = SharedCounters(self.book.counters, self.book, store)
        self._shared.keep_running()

    async def refresh(self) -> None:
        """Exchange counters now, so that what is shown next is what all processes know; waits two seconds at most."""
        if self._shared is not None:
            await self._shared.exchange()

    def sharing(self) -> Sharing:
        """Whose spend this process knows."""
        if self._shared is None or not self._shared.connected:
            return Sharing()
        return Sharing(self.book.counters.processes, shared=True)

    def _store(self) -> CounterStore | None:
        current = None if self._shared is None else self._shared.store
        if isinstance(current, RedisStore):
            return current
        if self.redis is None:
            return None
        if self.redis.url is not None:
            return RedisStore(_by_url(self.redis.url), self.redis.prefix, self.redis.every_s)
        cache = self._litellms_redis()
        return self._file if cache is None else RedisStore(_by_litellm(cache), self.redis.prefix, self.redis.every_s)

    def _say_alone(self) -> None:
        if self.redis is None or not any(_has_window(group.settings) for group in self._groups.values()):
            return
        _once.warn(
            "budgets are kept in this process's memory: a restart begins them anew, and each of several workers has "
            "the whole of them; state erp_settings.budget_file, or a Redis"
        )


def _has_window(settings: GroupSettings) -> bool:
    """Whether a group, or a team of it, is given money by the settings."""
    return any(goal.window is not None for goal in (settings.goal, *(t.goal for t in settings.teams.values())))


def _rejects(claim: Claim) -> bool:
    return claim.goal.window is not None and claim.goal.window.on_exhausted == "reject"


def _by_url(url: str) -> Any:
    async def connect() -> Any:
        from redis.asyncio import Redis

        return Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)

    return connect


def _by_litellm(cache: Any) -> Any:
    async def connect() -> Any:
        return cache.init_async_client()

    return connect


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
