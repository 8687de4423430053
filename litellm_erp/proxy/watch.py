"""What runs beside the requests: settings that appear late, what is amiss with the router, and whether it follows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from litellm import Router

from litellm_erp import litellm_releases as releases
from litellm_erp.budgets.book import SpendBook
from litellm_erp.drift.expected import digest_of
from litellm_erp.drift.shared import Drifts
from litellm_erp.goals.tenant import GROUP_ACCOUNT, Tenant, grant
from litellm_erp.metrics.definitions import OTHER
from litellm_erp.metrics.recorder import metrics
from litellm_erp.proxy import litellm_router, self_test
from litellm_erp.serving.checks import Finding
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.team_view import agreed_solution
from litellm_erp.telemetry import Once

_EVERY_S = 10.0
_START_S = 60
# Group, team and model.
Labels = tuple[str, str, str]
_once = Once()


class Watched(Protocol):
    """A callback with the groups that it routes."""

    members: MemberTable
    groups: dict[str, RoutedGroup]
    pacer: SpendBook
    drift: Drifts

    def tenants(self) -> list[Tenant]:
        """Teams that are known of."""

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
        self._showing: asyncio.Task[None] | None = None
        self._tested: Router | None = None
        self._untested: set[str] = set()
        self._follows: dict[str, bool] = {}
        self._checked = False
        self._drift_shown: frozenset[Labels] = frozenset()

    @property
    def follows(self) -> Mapping[str, bool] | None:
        """Whether LiteLLM follows what is decided, by group, as far as that could be tried; None before it was."""
        return self._follows if self._checked else None

    def start(self) -> None:
        """Check as soon as the proxy has a router; it imports its callbacks on its event loop, before it has one."""
        with contextlib.suppress(RuntimeError):
            self._checking = asyncio.get_running_loop().create_task(self._check_once_started())
            self._keep_showing()

    def check_periodically(self) -> None:
        """Begin a check where it is time to; returns at once."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _EVERY_S
        self._keep_sharing()
        self._keep_showing()
        if self._checking is None or self._checking.done():
            self._checking = asyncio.get_running_loop().create_task(self._check())

    def _keep_showing(self) -> None:
        self._plugin.drift.keep_running()
        if self._showing is None or self._showing.done():
            self._showing = asyncio.get_running_loop().create_task(self._show())

    async def _show(self) -> None:
        """Keep metrics true that change with time, whether requests come or not."""
        while True:
            try:
                await show_budgets(self._plugin.groups, self._plugin.tenants(), self._plugin.pacer)
                self._drift_shown = await show_drift(self._plugin.groups, self._plugin.tenants(), self._drift_shown)
            except Exception as e:
                metrics.failed("gauges")
                _once.warn(f"budgets or drift could not be shown as metrics: {type(e).__name__}")
            await asyncio.sleep(_EVERY_S)

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
        self._checked = True

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
                self._follows[name] = found.followed
                metrics.self_test(name, found.followed)
                found.log(name)
            elif found.problem:
                # It is tried again every few seconds, and may never be possible.
                _once.warn(f"group {name!r}: {found.text()}")


async def show_budgets(groups: Mapping[str, RoutedGroup], tenants: list[Tenant], book: SpendBook) -> None:
    """Show as metrics which λ teams get now, and what is left of their budgets; the group's own stand at no team."""
    for group in list(groups.values()):
        for tenant in (Tenant(), *tenants):
            if (label := metrics.teams.of(tenant)) == OTHER:
                continue
            _show_budget(group, tenant, label, book)
            # Hundreds of teams take a while; requests come first.
            await asyncio.sleep(0)


async def show_drift(
    groups: Mapping[str, RoutedGroup], tenants: list[Tenant], before: frozenset[Labels]
) -> frozenset[Labels]:
    """Show as metrics what feedback says of models: of all feedback, and of teams that are known here.

    Parameters
    ----------
    before : what was shown last; what is no longer so, since a model was fitted anew, is shown at 0

    Returns
    -------
    what is shown now
    """
    labels = {digest_of([tenant.account]): metrics.teams.of(tenant) for tenant in tenants}
    labels = {"": "", **{account: label for account, label in labels.items() if label not in ("", OTHER)}}
    now = set()
    for group in list(groups.values()):
        name, holds = group.settings.name, group.settings.drift == "quarantine"
        for account, model, found in list(group.drift.shown(group.state.bundle)):
            if account in labels:
                metrics.drift(name, labels[account], model, found.score, holds and found.rung)
                now.add((name, labels[account], model))
                await asyncio.sleep(0)
    for gone in before - now:
        metrics.drift(*gone, 0.0, False)
    return frozenset(now)


def _show_budget(group: RoutedGroup, tenant: Tenant, label: str, book: SpendBook) -> None:
    settings, frontier = group.settings, group.state.bundle.frontier
    granted = grant(settings, tenant)
    mixture = agreed_solution(settings, granted, frontier, book).mixture
    metrics.lambda_now(settings.name, label, mixture.low + mixture.share_high * (mixture.high - mixture.low))
    if granted.claim.account != (tenant.team_account or GROUP_ACCOUNT):
        return
    account = book.tick(settings.name, granted.claim, frontier)
    status = None if account is None else account.status()
    if status is not None:
        left_usd = status.budget_usd - status.spent_usd - status.reserved_usd
        metrics.budget(
            settings.name, label, usd=status.budget_usd, left_usd=left_usd, starts_s=status.starts, ends_s=status.ends
        )
