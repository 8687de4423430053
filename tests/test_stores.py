"""Where processes meet: a real Redis and a real file, with what strangers put into them."""

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.redis_process import RedisProcess
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.shared_counters import SharedCounters
from litellm_erp.budgets.stores.file_store import FORMAT, FileStore
from litellm_erp.budgets.stores.redis_store import RedisStore
from litellm_erp.budgets.stores.store import CounterStore, MemoryStore
from litellm_erp.budgets.totals import Totals
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant
from tests.money import money, spend
from tests.test_cost_and_budget import FRONTIER

CLAIMS = [Claim(f"team:{n}", Goal("budget_usd", 1.0, Window("day", on_exhausted="reject"))) for n in "ab"]
A, B = CLAIMS
BAD_VALUES: list[Any] = ["-5", "nan", "inf", "1e99", "9" * 400, "x", "", " 1", "0x10", b"\xff\xfe", "1.5"]
# What stands where a budget file is expected.
BAD_FILES = [
    b"x", b"[]", b"{}", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b'{"format": "other"}',
    b"9" * 100_000, json.dumps({"format": FORMAT, "keys": [], "workers": {}}).encode(),
    b'{"format": "' + FORMAT.encode() + b'", "keys": {"k": [NaN, {}]}, "workers": {}}',
]  # fmt: skip


class Process:
    """One worker: its book, and its way to the store."""

    def __init__(self, store: CounterStore, name: str) -> None:
        self.book = SpendBook(Counters(name))
        self.shared = SharedCounters(self.book.counters, self.book, store)

    def spend(self, claim: Claim, usd: float) -> None:
        spend(self.book, claim, usd)

    def spent(self, claim: Claim) -> float:
        return money(self.book, claim)[0]

    def reserved(self, claim: Claim) -> float:
        return money(self.book, claim)[1]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def in_step(*processes: Process) -> None:
    for _ in range(3):
        for process in processes:
            assert await process.shared.exchange()


@pytest.fixture
async def client(redis: RedisProcess) -> Any:
    from redis.asyncio import Redis

    found = Redis.from_url(redis.url)
    await found.flushall()
    return found


def redis_pair(client: Any) -> tuple[Process, Process]:
    async def connect() -> Any:
        return client

    return Process(RedisStore(connect, "p"), "aa"), Process(RedisStore(connect, "p"), "bb")


async def test_two_processes_know_each_others_spend_and_what_is_in_flight(client: Any) -> None:
    one, two = redis_pair(client)
    one.spend(A, 0.3)
    two.spend(A, 0.2)
    ticket = one.book.reserve("g", Grant(A), RequestLambda(0.0, A), 0.4, None)
    await in_step(one, two)
    assert (one.spent(A), two.spent(A), two.reserved(A)) == (0.5, 0.5, 0.4)
    assert one.book.counters.processes == 2
    one.book.release(ticket)
    await in_step(one, two)
    assert two.reserved(A) == 0.0


@pytest.mark.parametrize("value", BAD_VALUES)
async def test_a_field_that_is_no_number_is_left_out_and_is_not_written_back(client: Any, value: Any) -> None:
    one, two = redis_pair(client)
    one.spend(A, 0.3)
    await in_step(one, two)
    (key,) = await client.keys("{p}:window*")
    before = await client.hgetall(key)
    await client.hset(key, "mallory|s", value)
    # Also where it stands in place of what a process wrote itself.
    await client.hset(key, "aa|s", value)
    await in_step(one, two)
    one.spend(A, 0.1)
    two.spend(A, 0.1)
    await in_step(one, two)
    assert (one.spent(A), two.spent(A)) == (0.5, 0.5)
    await client.hdel(key, "mallory|s")
    await in_step(one, two)
    assert set(await client.hgetall(key)) == {*before, b"bb|s", b"bb|n", b"bb|a"}


async def test_a_key_of_another_type_keeps_no_other_budget_from_being_shared(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = redis_pair(client)
    one.spend(A, 0.3)
    two.book.tick("g", A)
    await in_step(one, two)
    (key,) = await client.keys("{p}:window*")
    await client.delete(key)
    await client.set(key, "a string")
    for name in await client.keys("{p}:in-flight*"):
        await client.delete(name)
        await client.lpush(name, "a list")
    one.spend(B, 0.4)
    two.book.tick("g", B)
    await in_step(one, two)
    assert two.spent(B) == 0.4
    assert (one.spent(A), two.spent(A)) == (0.3, 0.3)
    assert sum("no hash" in record.message and key.decode() in record.message for record in caplog.records) == 2
    await client.delete(key)
    await in_step(one, two)
    assert (await client.hgetall(key))[b"aa|s"] == b"300000000"


@pytest.mark.parametrize("value", ["x", "-5:1", "1:-1", "9" * 400 + ":1", "5:99999999999", ":", "5"])
async def test_a_gauge_that_is_no_number_locks_nobody_out(client: Any, value: str) -> None:
    one, two = redis_pair(client)
    one.spend(A, 0.1)
    await in_step(one, two)
    for name in await client.keys("{p}:in-flight*"):
        await client.hset(name, "mallory", value)
    await in_step(one, two)
    assert (one.reserved(A), one.book.counters.processes) == (0.0, 2)


async def test_what_others_hold_is_not_believed_for_ever() -> None:
    now = 0.0
    book = SpendBook(Counters("here"), lambda: 1e9 + now, lambda: now)
    key = next(iter(book.in_flight() or {book.tick("g", A).key: 0}))
    book.in_flight_elsewhere(key, 2_000_000_000)
    assert book.tick("g", A).exhausted() == "reject"
    now = 16.0
    assert book.tick("g", A).exhausted() is None


async def test_what_a_killed_process_left_behind_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".budgets.json.new").write_bytes(b"half of")
    one = Process(FileStore(tmp_path / "budgets.json"), "aa")
    one.spend(A, 0.3)
    await in_step(one)
    assert files_in(tmp_path) == {"budgets.json", "budgets.json.lock"}


async def test_a_budget_that_is_new_to_a_process_is_asked_for_at_once(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"
    one, two = Process(FileStore(path), "aa"), Process(FileStore(path), "bb")
    two.shared = SharedCounters(two.book.counters, two.book, two.shared.store, every_s=60.0)
    one.spend(A, 1.5)
    await in_step(one, two)
    two.shared.keep_running()
    await asyncio.sleep(0.4)
    assert two.book.tick("g", A).exhausted() is None
    two.shared.keep_running()
    for _ in range(50):
        await asyncio.sleep(0.1)
        if two.book.tick("g", A).exhausted() == "reject":
            break
    assert two.book.tick("g", A).exhausted() == "reject"
    two.shared.stop()


async def test_a_store_that_has_what_the_protocol_asks_for_shares_budgets() -> None:
    store = MemoryStore()
    one, two = Process(store, "aa"), Process(store, "bb")
    one.spend(A, 0.3)
    two.book.reserve("g", Grant(A), RequestLambda(0.0, A), 0.1, None)
    await in_step(one, two)
    assert (one.spent(A), two.spent(A), one.reserved(A), one.book.counters.processes) == (0.3, 0.3, 0.1, 2)
    store.keys.clear()
    await in_step(one, two)
    assert two.spent(A) == 0.3


async def test_a_file_is_shared_by_workers_and_survives_them(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"
    one, two = Process(FileStore(path), "aa"), Process(FileStore(path), "bb")
    one.spend(A, 0.3)
    two.spend(A, 0.2)
    two.book.reserve("g", Grant(A), RequestLambda(0.0, A), 0.1, None)
    await in_step(one, two)
    assert (one.spent(A), two.spent(A), one.reserved(A)) == (0.5, 0.5, 0.1)
    assert one.book.counters.processes == 2
    assert path.stat().st_mode & 0o077 == 0
    # After a restart, before anything was exchanged.
    three = Process(FileStore(path), "cc")
    held, problem = FileStore(path).load()
    for key, (expires_s, fields) in held.items():
        three.book.counters.remember(key, fields, expires_s=expires_s)
    assert (problem, three.spent(A)) == (None, 0.5)
    three.spend(A, 0.6)
    assert three.book.tick("g", A).exhausted() == "reject"
    await in_step(three, one)
    assert one.spent(A) == 1.1
    assert files_in(tmp_path) == {"budgets.json", "budgets.json.lock"}


@pytest.mark.parametrize("content", BAD_FILES, ids=range(len(BAD_FILES)))
async def test_a_file_that_is_none_of_ours_is_one_warning_and_a_new_beginning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "budgets.json"
    one = Process(FileStore(path), "aa")
    one.spend(A, 0.3)
    await in_step(one)
    path.write_bytes(content)
    assert FileStore(path).load()[0] == {}
    await in_step(one)
    # What this process knows is written again.
    assert json.loads(path.read_bytes())["keys"]
    assert sum("begun anew" in record.message for record in caplog.records) == 1


def _nested(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(part, max_size=3), st.dictionaries(st.text(max_size=4), part, max_size=3))


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4))


@settings(max_examples=60, deadline=None)
@given(part=st.recursive(LEAVES, _nested, max_leaves=12))
def test_whatever_a_file_of_our_format_holds_it_loads_as_sound_counters(
    tmp_path_factory: pytest.TempPathFactory, part: Any
) -> None:
    path = tmp_path_factory.mktemp("file") / "budgets.json"
    for document in ({"keys": part, "workers": {}}, {"keys": {"k": part}, "workers": {"w": part}}, part):
        body = {"format": FORMAT, **document} if isinstance(document, dict) else document
        path.write_text(json.dumps(body))
        held, _ = FileStore(path).load()
        assert all(isinstance(v, int) and v >= 0 for _, fields in held.values() for v in fields.values())
        answer = asyncio.run(FileStore(path).exchange("aa", {"k": (2e9, {"aa|s": 1})}, {"g": 1}, 1e9))
        assert answer.shares["k"]["aa|s"] >= 1  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["fifo", "folder", "huge"])
async def test_what_is_no_ordinary_file_is_neither_waited_for_nor_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "budgets.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(3 * 2**30)
    held, problem = FileStore(path).load()
    assert held == {}
    assert "begun anew" in (problem or "")


async def test_a_file_that_cannot_be_written_fails_no_request_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Process(FileStore(tmp_path / "nowhere" / "budgets.json"), "aa")
    one.spend(A, 0.3)
    for _ in range(3):
        assert not await one.shared.exchange()
    assert (one.spent(A), one.shared.connected) == (0.3, False)
    assert any("the budget file does not answer" in record.message for record in caplog.records)


def test_many_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"

    def work(name: str) -> None:
        process = Process(FileStore(path), name)
        for _ in range(10):
            process.spend(A, 0.01)
            asyncio.run(process.shared.exchange())

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Process(FileStore(path), "last")
    last.book.tick("g", A)
    asyncio.run(last.shared.exchange())
    assert last.spent(A) == 0.4


def test_what_the_last_seconds_brought_is_written_as_a_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"
    one = Process(FileStore(path), "aa")

    async def serve() -> None:
        one.shared.keep_running()
        await asyncio.sleep(0.3)
        one.spend(A, 0.3)

    asyncio.run(serve())
    ((_, fields),) = [entry for key, entry in FileStore(path).load()[0].items() if key.startswith("window|")]
    assert fields["aa|s"] == 300_000_000


NAMES = st.sampled_from(
    ["s", "s-", "n", "n-", "a", "ps", "pp", "7", "23", "24", "٣", "m:x:", "m:", "c", "b", "x" * 300]
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES.map("mallory|".__add__), st.integers(0, 2**53 - 1)))
def test_whatever_numbers_a_store_tells_there_is_a_lambda_and_a_status(stored: dict[str, int]) -> None:
    now = 1e9
    book = SpendBook(Counters("here"), lambda: now)
    totals = Totals(book.counters, lambda: now, lambda: now)
    for claim in (A, Claim("team:a", Goal("budget_usd_per_1k_requests", 3.0))):
        book.tick("g", claim, FRONTIER)
        totals.view("g", "team:a")
        for key, *_ in list(book.counters.everything()):
            book.counters.merge(key, stored)
        now += 61.0
        mixture, status = book.tick("g", claim, FRONTIER).mixture, book.tick("g", claim).status()
        assert mixture is not None
        assert 0.0 <= mixture.low <= mixture.high <= 4.0
        assert status is None or status.spent_usd >= 0
        book.tick("g", claim)
        assert totals.view("g", "team:a").requests >= 0


async def test_more_than_a_file_may_hold_leaves_out_forecasts_before_money(tmp_path: Path) -> None:
    store, wall_s = FileStore(tmp_path / "budgets.json"), 1e9
    fields = {f"{worker:0200}|s": 2**52 for worker in range(40)}
    shares = {f"traffic|{n}": (wall_s, fields) for n in range(5000)} | {"window|g": (wall_s, {"aa|s": 7})}
    await store.exchange("aa", shares, {}, wall_s)
    held, problem = FileStore(tmp_path / "budgets.json").load()
    assert (problem, held["window|g"][1]) == (None, {"aa|s": 7})
    assert 1000 < len(held) < 5000
