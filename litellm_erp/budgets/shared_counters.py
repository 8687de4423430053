"""Counters kept together with other processes through a store, in the background: no request waits on it.

Every second or two what this process has added is sent, and what all have is brought back. Shares are merged by maximum
on both sides (``counters.py``), so an exchange may be repeated after an answer that was lost, and a store that comes
back empty is filled again by those who remember. What is asked of a store is in ``stores/store.py``; there is a Redis
(``redis_store.py`` beside it) and a file (``file_store.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.stores.store import CounterStore
from litellm_erp.metrics.recorder import metrics
from litellm_erp.telemetry import Once, logger

_TIMEOUT_S = 2.0
_LAST_WORDS_S = 1.0
_LOST_AFTER = 3
_LEAST_S = 0.2


class Gauges(Protocol):
    """What each process has of its own and others want the sum of: here, money in flight."""

    def in_flight(self) -> dict[str, int]:
        """This process's values by name, at least 0."""

    def in_flight_elsewhere(self, name: str, nano_usd: int) -> None:
        """Take in the sum over the other processes."""


class SharedCounters:
    """Keeps counters in step with a store.

    Parameters
    ----------
    every_s : seconds between exchanges; None leaves them to the store
    """

    def __init__(
        self,
        counters: Counters,
        gauges: Gauges,
        store: CounterStore,
        *,
        every_s: float | None = None,
    ) -> None:
        self.store = store
        self._counters = counters
        self._gauges = gauges
        self._every_s = store.every_s if every_s is None else every_s
        self._failures = 0
        self._exchanges = 0
        self._opened = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._once = Once()

    @property
    def connected(self) -> bool:
        """Whether the last exchange went through."""
        return self._exchanges > 0 and self._failures == 0

    def keep_running(self) -> None:
        """Start the background task in the running event loop, unless it runs there already."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self.store.reset()
            self._wake = asyncio.Event()
            self._task = loop.create_task(self._run())
        if self._counters.opened != self._opened:
            # A budget that this process never saw may be spent already.
            self._opened = self._counters.opened
            self._wake.set()

    def stop(self) -> None:
        """End the background task."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self.exchange()
                await self._pause()
        except asyncio.CancelledError:
            # The process ends: what the last second brought is not to be lost with it.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._exchange_once(), _LAST_WORDS_S)
            raise

    async def _pause(self) -> None:
        least_s = min(_LEAST_S, self._every_s)
        await asyncio.sleep(least_s)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._every_s - least_s)
        self._wake.clear()

    async def exchange(self) -> bool:
        """Send and fetch once; False where the store did not answer, and then pacing goes on alone."""
        try:
            await asyncio.wait_for(self._exchange_once(), _TIMEOUT_S)
        except Exception as e:
            # Whatever a client library raises, requests are served.
            self._lost(e)
            return False
        self._found()
        return True

    async def _exchange_once(self) -> None:
        wall_s, steady_s = time.time(), time.monotonic()
        self._counters.forget_expired(wall_s, steady_s)
        shares = self._counters.outgoing(steady_s)
        answer = await self.store.exchange(self._counters.worker, shares, self._gauges.in_flight(), wall_s)
        refused = self._counters.refused
        for key, stored in answer.shares.items():
            self._counters.merge(key, stored)
        for name, nano_usd in answer.gauges.items():
            self._gauges.in_flight_elsewhere(name, nano_usd)
        self._counters.processes = answer.workers
        if self._counters.refused > refused:
            self._once.warn(
                f"{self.store.name}: counters that are no whole numbers are left out; expected only our own"
            )
        if answer.anew:
            self._counters.exchange_all()
        for problem in answer.problems:
            self._once.warn(f"{self.store.name}: {problem}")

    def _found(self) -> None:
        if self._failures:
            logger.warning("%s is back: budgets are shared again", self.store.name)
        self._failures = 0
        self._exchanges += 1
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
                "%s does not answer (%s): each of %d processes keeps to its share of the budgets until it does",
                self.store.name,
                type(error).__name__,
                self._counters.processes,
            )
