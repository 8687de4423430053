"""IO. Counters kept together with other processes through Redis, in the background: no request waits on it.

Once a second one script call per two hundred keys sends what this process has added and brings back what all have.
Shares are merged by maximum on both sides (``counters.py``), so a call may be repeated after an answer that was lost,
and a Redis that comes back empty is filled again by those who remember.

redis-py is imported only where a Redis is configured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from litellm_erp.counters import Counters
from litellm_erp.telemetry import Once, logger, metrics

_KEYS_PER_CALL = 200
_TIMEOUT_S = 2.0
_LAST_WORDS_S = 1.0
_LOST_AFTER = 3

# ARGV: worker, number of counter keys; for each its expiry, number of pairs, field, value, …; then the gauges' values.
# Answers, per counter key, its fields and values; per gauge, the others' sum, and how many workers there are.
_SCRIPT = """
local worker, n_counters = ARGV[1], tonumber(ARGV[2])
local now = tonumber(redis.call('TIME')[1])
local at, answer = 3, {}
for i = 1, n_counters do
  local key, expires, pairs_ = KEYS[i], ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  for _ = 1, pairs_ do
    local held = redis.call('HGET', key, ARGV[at])
    if not held or tonumber(ARGV[at + 1]) > tonumber(held) then
      redis.call('HSET', key, ARGV[at], ARGV[at + 1])
    end
    at = at + 2
  end
  redis.call('EXPIREAT', key, expires)
  answer[i] = redis.call('HGETALL', key)
end
for i = n_counters + 1, #KEYS do
  local key, others, workers = KEYS[i], 0, 0
  redis.call('HSET', key, worker, ARGV[at] .. ':' .. now)
  redis.call('EXPIRE', key, 60)
  at = at + 1
  local held = redis.call('HGETALL', key)
  for j = 1, #held, 2 do
    local value, seen = string.match(held[j + 1], '^(%d+):(%d+)$')
    if now - tonumber(seen) > 15 then
      redis.call('HDEL', key, held[j])
    else
      workers = workers + 1
      if held[j] ~= worker then others = others + tonumber(value) end
    end
  end
  answer[i] = {string.format('%.0f', others), tostring(workers)}
end
return answer
"""


class Gauges(Protocol):
    """What each process has of its own and others want the sum of: here, money in flight."""

    def in_flight(self) -> dict[str, int]:
        """This process's values by name, at least 0."""

    def in_flight_elsewhere(self, name: str, nano_usd: int) -> None:
        """Take in the sum over the other processes."""


class SharedCounters:
    """Keeps counters in step with a Redis.

    Parameters
    ----------
    connect : makes a ``redis.asyncio`` client; called in the event loop, again after it raised
    prefix : of every key; in braces, so that a cluster keeps them on one node
    every_s : seconds between exchanges
    """

    def __init__(
        self,
        counters: Counters,
        gauges: Gauges,
        connect: Callable[[], Awaitable[Any]],
        *,
        prefix: str = "litellm_erp",
        every_s: float = 1.0,
    ) -> None:
        self._counters = counters
        self._gauges = gauges
        self._connect = connect
        self._prefix = "{" + prefix + "}"
        self._every_s = every_s
        self._client: Any = None
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._once = Once()

    @property
    def connected(self) -> bool:
        """Whether the last exchange went through."""
        return self._client is not None and self._failures == 0

    def keep_running(self) -> None:
        """Start the background task in the running event loop, unless it runs there already."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._client = None
            self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                await self.exchange()
                await asyncio.sleep(self._every_s)
        except asyncio.CancelledError:
            # The process ends: what the last second brought is not to be lost with it.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._exchange_once(), _LAST_WORDS_S)
            raise

    async def exchange(self) -> bool:
        """Send and fetch once; False where the Redis did not answer, and then pacing goes on alone."""
        try:
            await asyncio.wait_for(self._exchange_once(), _TIMEOUT_S)
        except Exception as e:
            # Whatever a client library raises, requests are served.
            self._lost(e)
            return False
        self._found()
        return True

    async def _exchange_once(self) -> None:
        if self._client is None:
            self._client = await self._connect()
        now = time.time()
        self._counters.forget_expired(now)
        keys = list(self._counters.outgoing(now).items())
        for i in range(0, len(keys), _KEYS_PER_CALL):
            await self._call(keys[i : i + _KEYS_PER_CALL], {})
        await self._call([], self._gauges.in_flight() | {"workers": 0})

    async def _call(self, keys: Sequence[tuple[str, tuple[float, dict[str, int]]]], gauges: dict[str, int]) -> None:
        names = [self._key(key) for key, _ in keys] + [self._key(f"in-flight|{name}") for name in gauges]
        arguments: list[str | int] = [self._counters.worker, len(keys)]
        for _, (expires_s, shares) in keys:
            arguments += [int(expires_s), len(shares)]
            for field, value in shares.items():
                arguments += [field, value]
        answer = await self._client.eval(_SCRIPT, len(names), *names, *arguments, *gauges.values())
        for (key, _), flat in zip(keys, answer, strict=False):
            pairs = [_text(part) for part in flat]
            self._counters.merge(key, {f: int(v) for f, v in zip(pairs[::2], pairs[1::2], strict=True)})
        for name, (others, workers) in zip(gauges, answer[len(keys) :], strict=True):
            if name == "workers":
                self._counters.processes = max(1, int(_text(workers)))
            else:
                self._gauges.in_flight_elsewhere(name, int(_text(others)))

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _found(self) -> None:
        if self._failures:
            logger.warning("Redis is back: budgets are shared again")
        self._failures = 0
        self._counters.apart = False
        metrics.shared(True)

    def _lost(self, error: Exception) -> None:
        self._failures += 1
        metrics.shared(False)
        if self._failures == 1:
            self._counters.exchange_all()
        if self._failures == _LOST_AFTER:
            self._counters.apart = True
            logger.warning(
                "Redis does not answer (%s): each of %d processes keeps to its share of the budgets until it does",
                type(error).__name__,
                self._counters.processes,
            )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
