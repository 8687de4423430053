"""IO. A Redis as the store of shared counters: one script call per two hundred keys.

What a Redis holds is somebody else's. A value that is no number is overwritten by this process's own and otherwise
left out; a key that is no hash is left alone, is named, and keeps no other key from being exchanged.

redis-py is imported only where a Redis is configured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from litellm_erp.budgets.stores.store import Answer, Shares

_KEYS_PER_CALL = 200
_LEAST_KEPT_S = 86_400

# ARGV: worker, number of counter keys; for each its time to live, number of pairs, field, value, …; then the gauges'
# values. Answers, per counter key, its fields and values, or 0 where it is no hash; per gauge, the others' sum, and how
# many workers there are. Clocks of processes differ, so times to live are sent and not moments.
_SCRIPT = """
local function whole(text)
  if type(text) == 'string' and #text <= 16 and string.match(text, '^%d+$') then return tonumber(text) end
  return nil
end
local function hash(key)
  local kind = redis.call('TYPE', key).ok
  return kind == 'hash' or kind == 'none'
end
local worker, n_counters = ARGV[1], tonumber(ARGV[2])
local now = tonumber(redis.call('TIME')[1])
local at, answer = 3, {}
for i = 1, n_counters do
  local key, lasts, pairs_ = KEYS[i], ARGV[at], tonumber(ARGV[at + 1])
  local usable = hash(key)
  at = at + 2
  for _ = 1, pairs_ do
    if usable then
      local held = whole(redis.call('HGET', key, ARGV[at]))
      if not held or tonumber(ARGV[at + 1]) > held then
        redis.call('HSET', key, ARGV[at], ARGV[at + 1])
      end
    end
    at = at + 2
  end
  if usable then
    redis.call('EXPIRE', key, lasts)
    answer[i] = redis.call('HGETALL', key)
  else
    answer[i] = 0
  end
end
for i = n_counters + 1, #KEYS do
  local key, others, workers = KEYS[i], 0, 0
  if hash(key) then
    redis.call('HSET', key, worker, ARGV[at] .. ':' .. now)
    redis.call('EXPIRE', key, 60)
    local held = redis.call('HGETALL', key)
    for j = 1, #held, 2 do
      local value, seen = string.match(held[j + 1], '^(%d+):(%d+)$')
      value, seen = whole(value), whole(seen)
      if not value or not seen or now - seen > 15 or seen - now > 15 then
        redis.call('HDEL', key, held[j])
      else
        workers = workers + 1
        if held[j] ~= worker then others = others + value end
      end
    end
    answer[i] = {string.format('%.0f', others), tostring(workers)}
  else
    answer[i] = 0
  end
  at = at + 1
end
return answer
"""
_WORKERS = "workers"


class RedisStore:
    """Counters in a Redis.

    Parameters
    ----------
    connect : makes a ``redis.asyncio`` client; called in the event loop, again after it raised
    prefix : of every key; in braces, so that a cluster keeps them on one node
    every_s : seconds between exchanges
    """

    name = "Redis"

    def __init__(self, connect: Callable[[], Awaitable[Any]], prefix: str, every_s: float = 1.0) -> None:
        self.every_s = every_s
        self._connect = connect
        self._prefix = "{" + prefix + "}"
        self._client: Any = None

    def reset(self) -> None:
        """Connect anew: another event loop runs."""
        self._client = None

    async def exchange(self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float) -> Answer:
        """Send shares and gauges, and bring what all have."""
        if self._client is None:
            self._client = await self._connect()
        answer = Answer()
        for some in _parts(shares):
            await self._call(worker, some, {}, wall_s, answer)
        for some_gauges in _parts({**gauges, _WORKERS: 0}):
            await self._call(worker, {}, some_gauges, wall_s, answer)
        return answer

    async def _call(
        self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float, answer: Answer
    ) -> None:
        names = [self._key(key) for key in shares] + [self._key(f"in-flight|{name}") for name in gauges]
        arguments: list[str | int] = [worker, len(shares)]
        for expires_s, fields in shares.values():
            arguments += [max(int(expires_s - wall_s), _LEAST_KEPT_S), len(fields)]
            for field, value in fields.items():
                arguments += [field, value]
        found = await self._client.eval(_SCRIPT, len(names), *names, *arguments, *gauges.values())
        for key, flat in zip(shares, found, strict=False):
            if isinstance(flat, (list, tuple)):
                texts = [_text(part) for part in flat]
                answer.shares[key] = dict(zip(texts[::2], texts[1::2], strict=False))
            else:
                answer.problems.append(f"{self._key(key)} is no hash and is not shared; delete it")
        for name, pair in zip(gauges, found[len(shares) :], strict=False):
            if not isinstance(pair, (list, tuple)):
                answer.problems.append(f"{self._key(f'in-flight|{name}')} is no hash and is not shared; delete it")
            elif name == _WORKERS:
                answer.workers = max(1, _number(pair[1]))
            else:
                answer.gauges[name] = _number(pair[0])

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


def _parts(whole: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    items = iter(whole.items())
    return [dict(islice(items, _KEYS_PER_CALL)) for _ in range(0, len(whole), _KEYS_PER_CALL)]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _number(value: Any) -> int:
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
