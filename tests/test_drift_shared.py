"""What feedback says of models, shared by processes through a real Redis, which is killed and comes back empty."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from demo.redis_process import RedisProcess
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.decision_log.record import Candidate, Record
from litellm_erp.drift.expected import digest_of
from litellm_erp.drift.shared import Drifts
from litellm_erp.drift.table import DriftTable
from litellm_erp.goals.settings import parse
from tests.pools import group_settings

TEAM, OTHER = "team:a", "team:b"
Start = Callable[[], "Process"]


class Process:
    """What watches for drift in one process."""

    def __init__(self, url: str, bundle: Bundle, prefix: str) -> None:
        settings = parse({"groups": {"g": group_settings(bundle.path)}}, Path("config.yaml")).groups["g"]
        self.bundle, self.table = bundle, DriftTable()
        self._group = SimpleNamespace(settings=settings, drift=self.table)

        async def connect() -> Redis:
            return Redis.from_url(url, socket_connect_timeout=1.0)

        self._drifts = Drifts({"g": self._group}, lambda: (connect, prefix))
        self._drifts.keep_running()

    def serve(self, request: str, account: str) -> None:
        candidates = {"big": Candidate(0.9, 0.3)}
        record = Record(0.0, request, "g", bundle=self.bundle.id, served="big", candidates=candidates, account=account)
        self._drifts.ended(self._group, self.bundle, record, {"big": 0.9})

    def complain(self, request: str, account: str, *, known: bool = True) -> None:
        self._drifts.said(request, account, 0.0, known=known)

    def sums(self) -> dict[str, tuple[int, float]]:
        """Feedbacks against the model and its evidence, by account; "" for all."""
        return {who: (s.n, s.drift.total) for who, _, s in self.table.shown(self.bundle)}

    def lost(self, account: str) -> bool:
        """Whether the model is quarantined for an account."""
        return "big" in self.table.losses(self.bundle, digest_of([account]))


@pytest.fixture
def start(redis: RedisProcess, planted_bundle: Path, request: pytest.FixtureRequest) -> Start:
    return lambda: Process(redis.url, load_bundle(planted_bundle), request.node.name)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never came to hold")


def complain(process: Process, account: str, label: str, n: int = 40) -> None:
    for i in range(n):
        process.serve(f"{label} {i}", account)
        process.complain(f"{label} {i}", account)


async def test_all_processes_come_to_the_same_sums_and_one_that_starts_later_too(start: Start) -> None:
    here, there = start(), start()
    await asyncio.sleep(1.0)
    complain(here, TEAM, "here", 20)
    complain(there, TEAM, "there", 20)
    await until(lambda: here.sums() == there.sums() and here.sums().get("", (0, 0.0))[0] == 40)
    assert here.lost(TEAM)
    assert there.lost(TEAM)
    assert not there.lost(OTHER)
    later = start()
    await until(lambda: later.sums() == here.sums())
    assert later.lost(TEAM)


async def test_what_is_said_elsewhere_of_a_request_counts_once(start: Start) -> None:
    here, there = start(), start()
    await asyncio.sleep(1.0)
    here.serve("one", TEAM)
    for account in (TEAM, TEAM, OTHER):
        there.complain("one", account, known=False)
    await until(lambda: there.sums().get("", (0, 0.0))[0] == 1)
    complain(there, OTHER, "later", 1)
    await until(lambda: here.sums() == there.sums() and here.sums()[""][0] == 2)


async def test_while_redis_is_away_each_counts_what_it_hears_and_not_twice(start: Start, redis: RedisProcess) -> None:
    here, there = start(), start()
    await asyncio.sleep(1.0)
    complain(here, TEAM, "before", 5)
    await until(lambda: here.sums() == there.sums() and here.sums().get("", (0, 0.0))[0] == 5)
    redis.kill()
    complain(here, TEAM, "away", 5)
    await until(lambda: here.sums()[""][0] == 10)
    assert there.sums()[""][0] == 5
    redis.start()
    complain(here, TEAM, "again", 5)
    await until(lambda: here.sums()[""][0] == 15)
    await asyncio.sleep(6.0)
    complain(here, TEAM, "and again", 1)
    await until(lambda: here.sums()[""][0] == 16)
    await until(lambda: there.sums()[""][0] >= 6)
