"""IO. Feedback turned into residuals, by all processes that share a Redis alike; by this one alone where there is none.

Every residual goes through one stream, bounded, that every process reads in the same order, from its beginning when it
starts: all reach the same sums, and a restart keeps them. What is said of a request that this process does not know
goes through another, for the process that served it. Nothing waits for Redis; while it fails each process counts what
it hears itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.decision_log.record import LARGEST, Record
from litellm_erp.drift.expected import Expectations, Residual, digest_of, expected_of
from litellm_erp.drift.table import DriftTable
from litellm_erp.goals.settings import GroupSettings
from litellm_erp.shown import is_finite_number
from litellm_erp.telemetry import Once, logger

Connect = Callable[[], Awaitable[Any]]
_EVERY_S = 0.5
_LOOK_S = 1.0
_PAUSE_S = 5.0
_TIMEOUT_S = 2.0
_MOST_PENDING = 10_000
_KEPT = 20_000
_READ = 200
_MOST_CHARS = 2_000
_DIGEST_CHARS = 32
_RESIDUALS, _WORDS = "drift", "drift-words"
_once = Once()


class Group(Protocol):
    """What of a routed group counts here."""

    settings: GroupSettings
    drift: DriftTable


class Drifts:
    """What is expected of answers, and what is said of them.

    Parameters
    ----------
    groups : by name; may be filled later
    find : the way to a ``redis.asyncio`` client and the prefix of its keys, None where there is no Redis; asked again
        while there is none
    """

    def __init__(self, groups: Mapping[str, Group], find: Callable[[], tuple[Connect, str] | None]) -> None:
        self._groups = groups
        self._find = find
        self._expectations = Expectations()
        self._own = secrets.token_hex(6)
        self._made = 0
        self._unsent: list[tuple[str, list[object]]] = []
        # What came back from Redis counts; what has not when that fails counts at once, and not again.
        self._under_way: dict[int, Residual] = {}
        self._alone: OrderedDict[int, None] = OrderedDict()
        self._running: asyncio.Task[None] | None = None
        self._client: Any = None
        self._read_to: object = "0-0"
        self._up = False

    def ended(self, group: Group, bundle: Bundle, record: Record, predicted: Mapping[str, float]) -> None:
        """Remember what was expected of an answer.

        Parameters
        ----------
        predicted : reward by pool model, before safety
        """
        if group.settings.drift == "off" or not record.account:
            return
        account = digest_of([record.account])
        reward = predicted.get(record.served or "")
        expected = expected_of(group.settings, bundle, record, reward, account)
        if expected is not None:
            self._found(self._expectations.expect(digest_of([record.account, record.request_id]), expected))

    def said(self, request_id: str, account: str, reward: float, *, known: bool) -> None:
        """Take what somebody says of their own request.

        Parameters
        ----------
        known : whether it is a request of this process
        """
        if all(group.settings.drift == "off" for group in self._groups.values()):
            return
        digest = digest_of([account, request_id])
        if known:
            self._found(self._expectations.said(digest, reward))
        elif self._up and len(self._unsent) < _MOST_PENDING:
            self._unsent.append((_WORDS, [digest, reward]))

    def keep_running(self) -> None:
        """Exchange with Redis in the background, in the running event loop."""
        loop = asyncio.get_running_loop()
        if self._running is None or self._running.done() or self._running.get_loop() is not loop:
            self._client = None
            self._running = loop.create_task(self._run())

    def _found(self, residual: Residual | None) -> None:
        if residual is None:
            return
        if not self._up or len(self._under_way) >= _MOST_PENDING:
            self._hear(residual)
            return
        self._made += 1
        self._under_way[self._made] = residual
        fields = [getattr(residual, name) for name in Residual.__slots__]
        self._unsent.append((_RESIDUALS, [self._own, self._made, *fields]))

    def _hear(self, found: Residual) -> None:
        group = self._groups.get(found.group)
        if group is None or group.settings.drift == "off":
            return
        for account, loss in group.drift.hear(found):
            whose = f"the account that hashes to {account[:8]}" if account else "all"
            does = "counts for its mean less that" if group.settings.drift == "quarantine" else "serves on"
            logger.warning(
                "group %r: model %r has drifted for %s: answers are worth %.3g of the rewards' span less than "
                "expected; it %s until it is fitted anew",
                found.group,
                found.model,
                whose,
                loss,
                does,
            )

    async def _run(self) -> None:
        while True:
            way = self._find()
            if way is not None:
                try:
                    await self._exchange(*way)
                except Exception as e:
                    _once.warn(
                        f"drift is watched by this process alone while Redis fails: {type(e).__name__}; each counts "
                        "the feedback that it hears itself"
                    )
                self._go_alone()
            await asyncio.sleep(_LOOK_S if way is None else _PAUSE_S)

    async def _exchange(self, connect: Connect, prefix: str) -> None:
        """Send and read for as long as Redis answers."""
        if self._client is None:
            self._client = await asyncio.wait_for(connect(), _TIMEOUT_S)
        names = {kind: f"{{{prefix}}}:{kind}" for kind in (_RESIDUALS, _WORDS)}
        # Words are of requests that are under way; who starts now serves none of them.
        last = await asyncio.wait_for(self._client.xrevrange(names[_WORDS], count=1), _TIMEOUT_S)
        read_to = {names[_RESIDUALS]: self._read_to, names[_WORDS]: last[0][0] if last else "0-0"}
        while True:
            await asyncio.wait_for(self._send(names), _TIMEOUT_S)
            most = _READ
            while most == _READ:
                found = await asyncio.wait_for(self._client.xread(read_to, count=_READ), _TIMEOUT_S)
                for stream, entries in found or ():
                    name = stream.decode() if isinstance(stream, bytes) else str(stream)
                    for id_, fields in entries:
                        read_to[name] = id_
                        self._take(_line(fields))
                self._read_to = read_to[names[_RESIDUALS]]
                most = max((len(entries) for _, entries in found or ()), default=0)
            self._up = True
            await asyncio.sleep(_EVERY_S)

    async def _send(self, names: Mapping[str, str]) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent:
            pipe = self._client.pipeline(transaction=False)
            for kind, line in unsent:
                pipe.xadd(names[kind], {"line": json.dumps(line)}, maxlen=_KEPT, approximate=True)
            await pipe.execute()

    def _take(self, line: Sequence[Any]) -> None:
        """Count what came from a stream; what is none of ours counts as nothing."""
        if len(line) == 2 and _is_digest(line[0]) and _is_number(line[1]):
            self._found(self._expectations.said(line[0], line[1]))
            return
        if len(line) != 2 + len(Residual.__slots__):
            return
        own, number, *fields = line
        residual = Residual(*fields)
        texts = (residual.group, residual.model, residual.fitted, residual.account)
        if not all(isinstance(text, str) for text in texts) or not all(map(_is_number, fields[4:])):
            return
        if own == self._own:
            if number in self._alone:
                del self._alone[number]
                return
            self._under_way.pop(number, None)
        self._hear(residual)

    def _go_alone(self) -> None:
        """Count what was under way to Redis, and may be there or not."""
        self._up = False
        self._unsent = []
        under_way, self._under_way = self._under_way, {}
        for number, residual in under_way.items():
            self._alone[number] = None
            self._hear(residual)
        while len(self._alone) > _MOST_PENDING:
            self._alone.popitem(last=False)


def _line(fields: object) -> Sequence[Any]:
    """The list that an entry of a stream holds; an empty one of what is none of ours."""
    value = (fields.get(b"line") or fields.get("line")) if isinstance(fields, dict) else None
    if not isinstance(value, (str, bytes)) or len(value) > _MOST_CHARS:
        return ()
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return ()
    return found if isinstance(found, list) else ()


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == _DIGEST_CHARS


def _is_number(value: object) -> bool:
    return is_finite_number(value) and abs(float(value)) <= LARGEST  # type: ignore[arg-type]
