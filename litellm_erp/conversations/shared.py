"""IO. Conversations remembered together with other workers and proxies, through a Redis.

What a process remembers is asked first. A Redis is asked only where a request goes on with a conversation that this
process does not know, and for a few hundredths of a second at most; while it fails it is left alone. What is remembered
is sent in the background, a few times a second: answers take longer than that.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from litellm_erp.conversations.memory import KEPT_S, Conversation, Conversations, Served, Turn
from litellm_erp.goals.settings import StaySettings
from litellm_erp.telemetry import Once

Connect = Callable[[], Awaitable[Any]]
_TIMEOUT_S = 0.05
_CONNECT_TIMEOUT_S = 2.0
_PAUSE_S = 5.0
_FLUSH_S = 0.05
_MOST_PENDING = 10_000
_MOST_CHARS = 2_000
_once = Once()


class SharedConversations:
    """The conversations of all processes that share a Redis; of this one alone where there is none.

    Parameters
    ----------
    connect : the way to a ``redis.asyncio`` client, None where there is no Redis; asked again while there is none
    prefix : of every key
    """

    def __init__(self, own: Conversations, connect: Callable[[], tuple[Connect, str] | None]) -> None:
        self.own = own
        self._find = connect
        self._connect: Connect | None = None
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._prefix = ""
        self._quiet_until = 0.0
        self._pending: dict[bytes, Turn] = {}
        self._sending: asyncio.Task[None] | None = None

    async def last(self, conversation: Conversation, stay: StaySettings) -> Served | None:
        """Who served it last, and where it is warm; None where nobody knows, or does not say in time."""
        asks = conversation.before is not None or conversation.session is not None
        if asks and not self.own.knows(conversation) and self._is_up():
            # Whoever served an earlier turn may be warm too.
            named = (*conversation.prefixes, conversation.answer, conversation.session)
            try:
                await asyncio.wait_for(self._ask([digest for digest in named if digest is not None]), _TIMEOUT_S)
            except Exception as e:
                self._failed(e)
        return self.own.last(conversation, stay)

    def serves(
        self,
        conversation: Conversation,
        model: str,
        tokens: float,
        *,
        draw: float | None = None,
        call_id: str | None = None,
    ) -> None:
        """Record who serves a request, here and, in a moment, there; see `Conversations.serves`."""
        turns = self.own.serves(conversation, model, tokens, draw=draw, call_id=call_id)
        if not self._is_up() or len(self._pending) >= _MOST_PENDING:
            return
        self._pending |= turns
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def _is_up(self) -> bool:
        """Whether a Redis is there to be asked."""
        if time.monotonic() < self._quiet_until:
            return False
        loop = asyncio.get_running_loop()
        if self._connect is None or self._loop is not loop:
            found = self._find()
            if found is None:
                self._quiet_until = time.monotonic() + _PAUSE_S
                return False
            self._connect, self._prefix = found
            self._client, self._loop = None, loop
        return True

    async def _connected(self) -> Any:
        """The client, connected when it is first needed."""
        if self._client is None and self._connect is not None:
            self._client = await self._connect()
        return self._client

    async def _ask(self, digests: Sequence[bytes]) -> None:
        client = await self._connected()
        found = await client.mget([self._key(digest) for digest in digests])
        now = time.time()
        for digest, value in zip(digests, found, strict=False):
            turn = _read(value, now)
            if turn is not None:
                self.own.remember(digest, *turn)

    async def _send(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(_FLUSH_S)
                some, self._pending = self._pending, {}
                await asyncio.wait_for(self._store(some.items()), _CONNECT_TIMEOUT_S)
        except Exception as e:
            self._pending = {}
            self._failed(e)

    async def _store(self, turns: Iterable[tuple[bytes, Turn]]) -> None:
        client = await self._connected()
        pipe = client.pipeline(transaction=False)
        for digest, turn in turns:
            told = [turn.model, turn.tokens, time.time(), turn.system.hex(), turn.draw]
            pipe.set(self._key(digest), json.dumps(told), ex=int(KEPT_S))
        await pipe.execute()

    def _key(self, digest: bytes) -> str:
        return f"{self._prefix}:turn:{digest.hex()}"

    def _failed(self, error: Exception) -> None:
        # The client connects anew by itself.
        self._quiet_until = time.monotonic() + _PAUSE_S
        _once.warn(
            f"conversations are remembered by this process alone while Redis fails: {type(error).__name__}; they are "
            "decided anew where they come to another worker"
        )


def _read(value: object, now: float) -> tuple[str, float, float, bytes, float | None] | None:
    """Model, tokens, age, system prompt and draw of what a Redis holds; None of what is none of ours."""
    if not isinstance(value, (str, bytes)) or len(value) > _MOST_CHARS:
        return None
    try:
        model, tokens, at, system, draw = json.loads(value)
        age_s = max(0.0, now - float(at))
        found = (
            model,
            max(0.0, min(float(tokens), 1e9)),
            age_s,
            bytes.fromhex(system),
            None if draw is None else float(draw),
        )
        return found if isinstance(model, str) else None
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None
