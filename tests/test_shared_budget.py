"""One budget kept by several proxies through a real Redis, which is killed and comes back empty."""

import asyncio
import itertools

import httpx
import pytest
from redis import Redis

from demo.proxy_process import ProxyProcess, StubProcess
from demo.redis_process import RedisProcess
from tests.conftest import StartProxy
from tests.harness import GROUP, Answer, Json, ask, cost_of, team_of
from tests.planted import prompt_of
from tests.pools import wait_until

pytestmark = pytest.mark.proxy
REQUESTS, CONCURRENCY = 60, 16
KEY = {"Authorization": "Bearer sk-shared"}


@pytest.fixture(scope="module")
def proxies(start_team_proxy: StartProxy, redis: RedisProcess) -> list[ProxyProcess]:
    teams = {"shared": {"budget_usd": 100, "per": "month"}, "talking": {"lambda": 0}}
    settings = {"redis": {"url": "os.environ/ERP_TEST_REDIS", "every_s": 0.2}}
    return [start_team_proxy(teams, settings=settings, env={"ERP_TEST_REDIS": redis.url}) for _ in range(2)]


async def send(proxies: list[ProxyProcess], label: str) -> list[int]:
    """Requests to both by turns; the statuses."""
    free = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int) -> int:
        body = {"model": GROUP, "messages": [{"role": "user", "content": f"alpha {label} {number}"}]}
        async with free:
            url = f"{proxies[number % 2].base_url}/v1/chat/completions"
            return (await client.post(url, json=body, headers=KEY)).status_code

    async with httpx.AsyncClient(trust_env=False, timeout=60.0) as client:
        return await asyncio.gather(*(one(number) for number in range(REQUESTS)))


def spent(proxy: ProxyProcess) -> float:
    return float(team_of(proxy, "shared")["window"]["spent_usd"])


def agree(proxies: list[ProxyProcess], usd: float) -> bool:
    return all(spent(proxy) == pytest.approx(usd, rel=1e-6) for proxy in proxies)


async def test_both_proxies_know_all_spend_through_a_kill_and_an_empty_return(
    proxies: list[ProxyProcess], stub_process: StubProcess, redis: RedisProcess
) -> None:
    stub_process.reset()
    assert await send(proxies, "together") == [200] * REQUESTS
    wait_until(lambda: agree(proxies, cost_of(stub_process)))
    redis.kill()
    assert await send(proxies, "alone") == [200] * REQUESTS
    # It keeps nothing on disk, so it returns empty.
    redis.start()
    assert await send(proxies, "again") == [200] * REQUESTS
    wait_until(lambda: agree(proxies, cost_of(stub_process)))


def go_on(proxy: ProxyProcess, number: int, *, tools: bool, poem: int = 0) -> Answer:
    """Send the second turn of a conversation about a sum: a poem, which another model is better at."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    middle: list[Json] = [{"role": "assistant", "content": "7"}]
    if tools:
        middle = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "7"}]
    wanted = " ".join(prompt_of("poetry", 10 * (number + poem) + i) for i in range(4))
    first = {"role": "user", "content": prompt_of("arithmetic", number)}
    return ask(proxy, messages=[first, *middle, {"role": "user", "content": wanted}], key="sk-talking")


def test_a_conversation_goes_on_at_another_proxy_with_the_model_that_called_tools(
    proxies: list[ProxyProcess], redis: RedisProcess
) -> None:
    here, there = proxies
    with Redis.from_url(redis.url) as client:

        def remembered() -> bool:
            # A Redis that failed is left alone for some seconds.
            assert ask(here, prompt_of("arithmetic", 1), key="sk-talking").model == "small"
            return bool(client.keys("litellm_erp:turn:*"))

        wait_until(remembered)
    poems = itertools.count(10)
    wait_until(lambda: go_on(there, 1, tools=True, poem=next(poems)).erp["reason"] == "sticky")
    assert go_on(there, 1, tools=True, poem=next(poems)).model == "small"
    assert go_on(there, 2, tools=True).model == "big"
    redis.kill()
    assert go_on(there, 3, tools=True).model == "big"
    redis.start()


async def test_a_proxy_that_starts_anew_knows_what_was_spent(
    proxies: list[ProxyProcess], stub_process: StubProcess
) -> None:
    wait_until(lambda: spent(proxies[0]) == pytest.approx(spent(proxies[1]), rel=1e-6))
    before = spent(proxies[1])
    proxies[0].stop()
    proxies[0].start()
    wait_until(lambda: spent(proxies[0]) == pytest.approx(before, rel=1e-6))


async def test_a_proxy_that_ends_tells_what_it_has_spent_since_the_last_exchange(
    start_team_proxy: StartProxy, stub_process: StubProcess, redis: RedisProcess
) -> None:
    stub_process.reset()
    # So long between two exchanges that none but the last can tell.
    settings = {"redis": {"url": "os.environ/ERP_TEST_REDIS", "every_s": 60, "prefix": "last-words"}}
    teams = {"shared": {"budget_usd": 100, "per": "month"}}
    proxy = start_team_proxy(teams, settings=settings, env={"ERP_TEST_REDIS": redis.url})
    assert await send([proxy, proxy], "last") == [200] * REQUESTS
    proxy.stop()
    proxy.start()
    wait_until(lambda: agree([proxy], cost_of(stub_process)))
