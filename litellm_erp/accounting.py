"""What answers really cost, from LiteLLM's callbacks into the book of budgets; and the Redis that it is shared by."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from litellm_erp.counters import Counters
from litellm_erp.deployments import Member, MemberTable
from litellm_erp.headers import Note
from litellm_erp.ledger import Ledger, Served
from litellm_erp.routing import Decision, RoutedGroup
from litellm_erp.settings import RedisSettings
from litellm_erp.shared import SharedCounters
from litellm_erp.spending import SpendBook
from litellm_erp.telemetry import Once
from litellm_erp.tenancy import Claim, Grant, Tenant, grant

NOTE_KEY = "litellm_erp"
_once = Once()


def metadata_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that LiteLLM itself uses for a request; an empty one where there is none.

    Which of two it is differs by route, and clients can send either. LiteLLM's own holds who asks as an object, which
    no body of a request can; without a proxy nobody else writes metadata.
    """
    found = [m for m in (request.get("litellm_metadata"), request.get("metadata")) if isinstance(m, dict)]
    return next((m for m in found if is_object(m.get("user_api_key_auth"))), found[0] if found else {})


def is_object(value: object) -> bool:
    """Whether a value is none that JSON can write."""
    return value is not None and not isinstance(value, (str, int, float, list, dict))


def note_of(metadata: dict[str, Any]) -> Note:
    """The request's note: made when it is first asked for and changed in place, since fallbacks copy the metadata."""
    note = metadata.get(NOTE_KEY)
    if not isinstance(note, Note):
        note = metadata[NOTE_KEY] = Note()
    return note


class Accounting:
    """Counts spend and holds back what is in flight. Nothing here fails a request or waits for anything.

    Parameters
    ----------
    groups : by name; may be filled later
    litellms_redis : LiteLLM's own ``RedisCache``; None where it has none, or none yet
    """

    def __init__(
        self,
        groups: Mapping[str, RoutedGroup],
        members: MemberTable,
        ledger: Ledger,
        litellms_redis: Callable[[], Any] = lambda: None,
    ) -> None:
        self._groups = groups
        self._members = members
        self._ledger = ledger
        self._litellms_redis = litellms_redis
        self.book = SpendBook(Counters(secrets.token_hex(6)))
        self.redis: RedisSettings | None = None
        self._shared: SharedCounters | None = None

    def reserve(self, group: str, note: Note, granted: Grant, decision: Decision) -> None:
        """Hold back what the first choice is expected to cost."""
        expected = decision.expected_cost.get(decision.models[0], 0.0)
        note.ticket = self.book.reserve(group, granted, decision.terms, expected, note.ticket)

    def failed(self, note: Note) -> None:
        """Give back what a request held that will not be tried again."""
        if note.ticket is not None:
            self.book.release(note.ticket)

    def refusal(self, request: Any) -> Exception | None:
        """The HTTP 429 for a request whose budget is spent and that is to be refused; None for all others.

        A request that a budget might have refused holds its likely cost from here on: others are checked before it
        is decided.
        """
        try:
            group = self._groups.get(str(request.get("model"))) if isinstance(request, Mapping) else None
            if group is None:
                return None
            metadata = metadata_of(request)
            name, granted = group.settings.name, grant(group.settings, Tenant.from_metadata(metadata))
            rejecting = [claim for claim in granted.claims if claim.account and _rejects(claim)]
            for claim in rejecting:
                if self.book.exhausted(name, claim) is not None:
                    self.book.arrived(name, granted.claims)
                    return self._too_much(name, claim)
            if metadata and rejecting:
                note_of(metadata).ticket = self.book.hold(name, granted.claims)
        except Exception as e:
            # No request fails because a budget could not be looked at.
            _once.warn(f"a budget could not be checked: {type(e).__name__}")
        return None

    def _too_much(self, group: str, claim: Claim) -> Exception | None:
        from fastapi import HTTPException

        status = self.book.status(group, claim)
        window = claim.policy.window
        if status is None or window is None:
            return None
        left_s = max(1, math.ceil(status.ends - self.book.now()))
        said = (
            f"the budget of {status.budget_usd:g} USD per {window.per} for {group!r} is spent; "
            f"it starts anew in {left_s} s"
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
        both = [m for m in (params.get("litellm_metadata"), params.get("metadata")) if isinstance(m, dict)]
        metadata = next((m for m in both if isinstance(m.get(NOTE_KEY), Note)), both[0] if both else {})
        note = metadata.get(NOTE_KEY)
        member = self._members.by_id(str((params.get("model_info") or {}).get("id") or ""))
        group = self._groups.get(note.group) if isinstance(note, Note) else None
        usd = _cost(kwargs, response, member, group)
        if isinstance(note, Note) and note.ticket is not None:
            first = not note.ticket.settled
            self.book.settle(note.ticket, usd)
            if first and note.grant is not None:
                served = Served("other" if member is None else member.pool_model, usd, _best_single(note, member, usd))
                for account in note.grant.accounts:
                    self._ledger.record(note.group, account, served)
            return
        tenant = Tenant.from_metadata(metadata)
        for name, routed in self._groups.items():
            self.book.charge(name, grant(routed.settings, tenant).claims, usd, own=name == metadata.get("model_group"))

    def keep_sharing(self) -> None:
        """Exchange counters in the background where there is a Redis; as cheap as a look once it does."""
        if self._shared is None:
            connect = self._connect()
            if connect is None:
                return
            settings = self.redis or RedisSettings()
            self._shared = SharedCounters(
                self.book.counters, self.book, connect, prefix=settings.prefix, every_s=settings.every_s
            )
        self._shared.keep_running()

    def _connect(self) -> Any:
        if self.redis is None:
            return None
        if self.redis.url is not None:
            return _by_url(self.redis.url)
        cache = self._litellms_redis()
        return None if cache is None else _by_litellm(cache)


def _rejects(claim: Claim) -> bool:
    return claim.policy.window is not None and claim.policy.window.on_exhausted == "reject"


def _by_url(url: str) -> Any:
    async def connect() -> Any:
        from redis.asyncio import Redis

        return Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)

    return connect


def _by_litellm(cache: Any) -> Any:
    async def connect() -> Any:
        return cache.init_async_client()

    return connect


def _cost(kwargs: Mapping[str, Any], response: Any, member: Member | None, group: RoutedGroup | None) -> float:
    """USD: what LiteLLM says, else tokens times our prices; LiteLLM loses prices it knew on some routes."""
    said = kwargs.get("response_cost")
    if isinstance(said, (int, float)) and math.isfinite(said) and said > 0:
        return float(said)
    if kwargs.get("cache_hit") is True or member is None:
        return 0.0
    price = member.price or (None if group is None else group.state.price_of(member.pool_model)) or member.map_price
    if price is None or price.input_usd_per_mtok is None or price.output_usd_per_mtok is None:
        return 0.0
    tokens_in, tokens_out = _tokens(kwargs, response)
    return (tokens_in * price.input_usd_per_mtok + tokens_out * price.output_usd_per_mtok) / 1e6


def _tokens(kwargs: Mapping[str, Any], response: Any) -> tuple[float, float]:
    logged = kwargs.get("standard_logging_object") or {}
    usage = getattr(response, "usage", None)
    found = [
        logged.get(name) or (usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)) or 0
        for name in ("prompt_tokens", "completion_tokens")
    ]
    return float(found[0]), float(found[1])


def _best_single(note: Note, member: Member | None, usd: float) -> float | None:
    """What the best single model would have cost: its expected cost, corrected as the served one's turned out."""
    expected, best = note.get("expected_cost_usd"), note.get("best_single_cost")
    own = expected.get(member.pool_model) if isinstance(expected, Mapping) and member is not None else None
    if not isinstance(best, float) or not isinstance(own, float) or own <= 0:
        return None
    return usd * best / own
