"""Where budgets are kept beside this process's memory, to outlast it and be known to others: a Redis or a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.shared_counters import SharedCounters
from litellm_erp.budgets.stores.file_store import FileStore
from litellm_erp.budgets.stores.redis_store import RedisStore
from litellm_erp.budgets.stores.store import CounterStore
from litellm_erp.budgets.totals import Sharing
from litellm_erp.goals.settings import GroupSettings, RedisSettings, Settings
from litellm_erp.telemetry import Once

# Connects to a Redis.
Connect = Callable[[], Awaitable[Any]]

# What is said where neither is there, by the proxy and by the doctor.
IN_MEMORY = (
    "budgets are kept in this process's memory: a restart begins them anew, and each of several workers has the whole "
    "of them; state erp_settings.budget_file, or a Redis"
)
_once = Once()


class BudgetSharing:
    """Keeps a process's budgets in step with a store.

    Parameters
    ----------
    litellms_redis : how to connect to LiteLLM's own Redis; None where it has none, or none yet
    """

    def __init__(self, book: SpendBook, litellms_redis: Callable[[], Connect | None] = lambda: None) -> None:
        self._book = book
        self._litellms_redis = litellms_redis
        self._redis: RedisSettings | None = None
        self._any_window = False
        self._file: FileStore | None = None
        self._shared: SharedCounters | None = None

    def configure(self, settings: Settings) -> None:
        """Take the settings of a proxy that starts; reads the budget file, so that no request comes before it."""
        self._redis = settings.redis
        self._any_window = any(map(has_window, settings.groups.values()))
        if settings.budget_file is None or settings.redis.url is not None:
            return
        self._file = FileStore(settings.budget_file)
        held, problem = self._file.load()
        for key, (expires_s, fields) in held.items():
            self._book.counters.remember(key, fields, expires_s=expires_s)
        if problem:
            _once.warn(problem)

    def keep_running(self) -> None:
        """Exchange counters in the background where there is a store; as cheap as a look once it does."""
        store = self._store()
        if store is None:
            self._warn_of_memory()
            return
        if self._shared is None or self._shared.store is not store:
            if self._shared is not None:
                self._shared.stop()
            self._shared = SharedCounters(self._book.counters, self._book, store)
        self._shared.keep_running()

    async def refresh(self) -> None:
        """Exchange counters now, so that what is shown next is what all processes know; waits two seconds at most."""
        if self._shared is not None:
            await self._shared.exchange()

    def redis(self) -> tuple[Connect, str] | None:
        """How to reach the Redis that is shared with other processes, and the prefix of its keys; None without one."""
        if self._redis is None:
            return None
        url = self._redis.url
        connect = self._litellms_redis() if url is None else _by_url(url)
        return None if connect is None else (connect, self._redis.prefix)

    def status(self) -> Sharing:
        """Whose spend this process knows."""
        if self._shared is None or not self._shared.connected:
            return Sharing()
        return Sharing(self._book.counters.processes, shared=True)

    def _store(self) -> CounterStore | None:
        current = None if self._shared is None else self._shared.store
        if isinstance(current, RedisStore):
            return current
        if self._redis is None:
            return None
        if self._redis.url is not None:
            return RedisStore(_by_url(self._redis.url), self._redis.prefix, self._redis.every_s)
        connect = self._litellms_redis()
        return self._file if connect is None else RedisStore(connect, self._redis.prefix, self._redis.every_s)

    def _warn_of_memory(self) -> None:
        if self._redis is not None and self._any_window:
            _once.warn(IN_MEMORY)


def has_window(settings: GroupSettings) -> bool:
    """Whether a group, or a team of it, is given money by the settings."""
    return any(goal.window is not None for goal in (settings.goal, *(t.goal for t in settings.teams.values())))


def _by_url(url: str) -> Connect:
    async def connect() -> Any:
        from redis.asyncio import Redis

        return Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)

    return connect
