"""What runs beside the requests: settings that appear late, what is amiss with the router, and whether it follows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from typing import Protocol

from litellm import Router

from litellm_erp import litellm_releases as releases
from litellm_erp.proxy import litellm_router, self_test
from litellm_erp.serving.checks import Finding
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.telemetry import Once, metrics

_EVERY_S = 10.0
_START_S = 60
_once = Once()


class Watched(Protocol):
    """A callback with the groups that it routes."""

    members: MemberTable

    @property
    def groups(self) -> Collection[str]:
        """Names of the routed groups."""

    def router(self) -> Router | None:
        """The router it serves, None before there is one."""

    def configure(self) -> None:
        """Take the process's settings, where there are none yet."""

    def check(self, router: Router) -> list[Finding]:
        """What in a router keeps the groups from being routed as their owner thinks."""


class Watch:
    """Checks every few seconds, in the background.

    Parameters
    ----------
    keep_sharing : has budgets exchanged with other processes
    """

    def __init__(self, plugin: Watched, keep_sharing: Callable[[], None]) -> None:
        self._plugin = plugin
        self._keep_sharing = keep_sharing
        self._next_check = 0.0
        self._checking: asyncio.Task[None] | None = None
        self._tested: Router | None = None
        self._untested: set[str] = set()

    def start(self) -> None:
        """Check as soon as the proxy has a router; it imports its callbacks on its event loop, before it has one."""
        with contextlib.suppress(RuntimeError):
            self._checking = asyncio.get_running_loop().create_task(self._check_once_started())

    def check_periodically(self) -> None:
        """Begin a check where it is time to; returns at once."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _EVERY_S
        self._keep_sharing()
        if self._checking is None or self._checking.done():
            self._checking = asyncio.get_running_loop().create_task(self._check())

    async def _check_once_started(self) -> None:
        """Say at start, not at the first request, what is wrong with the router the config has made."""
        if untried := releases.warning(litellm_router.version()):
            _once.warn(untried)
        for _ in range(_START_S):
            if self._plugin.router() is not None:
                break
            await asyncio.sleep(1)
        self._keep_sharing()
        await self._check()

    async def _check(self) -> None:
        router = self._plugin.router()
        try:
            await asyncio.to_thread(self._check_settings, router)
            if router is not None and self._plugin.groups:
                litellm_router.place_callback(self._plugin)
                await self._test(router)
        except Exception as e:
            _once.warn(f"settings or router could not be checked: {type(e).__name__}: {e}")

    def _check_settings(self, router: Router | None) -> None:
        self._plugin.configure()
        if router is not None:
            for finding in self._plugin.check(router):
                _once.warn(finding.text)

    async def _test(self, router: Router) -> None:
        """Once per router and group: does LiteLLM pick what is left in?"""
        if router is not self._tested:
            self._tested, self._untested = router, set(self._plugin.groups)
        for name in sorted(self._untested):
            listed = litellm_router.members_of(router, name)
            found = await self_test.run(router, name, listed, self._plugin.members)
            if found.conclusive:
                self._untested.discard(name)
                metrics.self_test(name, found.followed)
                found.log(name)
            elif found.problem:
                # It is tried again every few seconds, and may never be possible.
                _once.warn(f"group {name!r}: {found.text()}")
