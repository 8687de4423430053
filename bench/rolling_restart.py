"""``python -m bench.rolling_restart``: requests through a load balancer while its two proxies are replaced.

Two real proxies behind a real haproxy share one budget through a real Redis. While requests pass, the link to the
bundle is swapped and each proxy in turn is drained, stopped, started and let in again, as an update does it. What is
counted: requests that failed, and whether both proxies know to the last cent what the upstream was paid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from bench.machine import heading
from bench.prompts import prompts
from bench.synthetic import write_bundle
from demo.deployments import TEAM_KEYS, deployment, router_settings
from demo.haproxy_process import HaproxyProcess
from demo.proxy_process import ProxyProcess, StubProcess, interrupt_on_sigterm
from demo.redis_process import RedisProcess

GROUP, TEAM = "erp-auto", "research"
POOL = ("model-000", "model-001", "model-002")
PRICES = {name: (0.1 + 0.1 * m, 0.4 + 0.4 * m) for m, name in enumerate(POOL)}
# What a load balancer takes to notice that a server is not to get requests; Kubernetes' preStop.
_DRAIN_S = 1.0
_WORDS = 20
_SETTLE_S = 30.0


@dataclass
class Found:
    """What came of it.

    Attributes
    ----------
    statuses : of the answers, "200" or what went wrong, with their counts
    bundles : id of the bundle that decided, with its requests
    paid_usd : by the upstream's records
    spent_usd : what each proxy says that the team has spent
    restarts_s, stops_s : seconds that each proxy was out, and that it took to end
    during : requests that were answered while a proxy was out
    """

    statuses: Counter[str] = field(default_factory=Counter)
    bundles: Counter[str] = field(default_factory=Counter)
    paid_usd: float = 0.0
    spent_usd: list[float] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    during: int = 0
    wall_s: float = 0.0

    @property
    def failed(self) -> int:
        """Requests that did not get an answer of a model."""
        return self.statuses.total() - self.statuses["200"]

    @property
    def budget_error(self) -> float:
        """The largest relative difference between what a proxy says and what was paid."""
        return max(abs(spent / self.paid_usd - 1.0) for spent in self.spent_usd)


def measure(folder: Path, requests: int, concurrency: int) -> Found:
    """Run it once.

    Parameters
    ----------
    folder : gets configs, bundles and logs
    requests : at least so many; more where the proxies take longer
    """
    with ExitStack() as stack:
        stub, redis = stack.enter_context(StubProcess(POOL)), stack.enter_context(RedisProcess())
        config = _config(folder, stub)
        proxies = [
            stack.enter_context(ProxyProcess(config, env={"REDIS_URL": redis.url}, log_path=folder / f"proxy-{i}.log"))
            for i in range(2)
        ]
        balancer = stack.enter_context(HaproxyProcess(folder, [proxy.port for proxy in proxies]))
        found = asyncio.run(_run(folder, balancer, proxies, requests, concurrency))
        found.paid_usd = sum(_paid_usd(record) for record in stub.requests() if record["status"] == 200)
        end = time.monotonic() + _SETTLE_S
        while True:
            found.spent_usd = [_spent_usd(proxy) for proxy in proxies]
            if found.budget_error < 1e-9 or time.monotonic() > end:
                return found
            time.sleep(0.2)


def _config(folder: Path, stub: StubProcess) -> Path:
    for seed, name in enumerate(("first", "second")):
        write_bundle(folder / name, len(POOL), seed=seed)
    (folder / "current").symlink_to("first")
    budget = {"budget_usd": 1000.0, "per": "month"}
    group = {"bundle": "current", "policy": {"lambda": 0.1}, "teams": {TEAM: budget}}
    config = {
        "model_list": [deployment(name, name, stub.api_base(name), PRICES[name]) for name in POOL],
        "general_settings": TEAM_KEYS,
        "litellm_settings": {"callbacks": ["litellm_erp.proxy.erp_router"]},
        "router_settings": router_settings({GROUP: POOL}, num_retries=0),
        "erp_settings": {"reload_s": 0.5, "redis": {"url": "os.environ/REDIS_URL"}, "groups": {GROUP: group}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


async def _run(
    folder: Path, balancer: HaproxyProcess, proxies: Sequence[ProxyProcess], requests: int, concurrency: int
) -> Found:
    found, began = Found(), time.perf_counter()
    out: list[int] = []
    update = asyncio.create_task(_update(folder, balancer, proxies, found, out))
    texts = prompts(_WORDS, 500, seed=0)
    sent = 0

    async def connection(client: httpx.AsyncClient) -> None:
        nonlocal sent
        while sent < requests or not update.done():
            sent += 1
            body = {"model": GROUP, "messages": [{"role": "user", "content": f"{sent} {texts[sent % len(texts)]}"}]}
            status, bundle = await _ask(client, body)
            found.statuses[status] += 1
            found.bundles[bundle] += 1
            found.during += bool(out)

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=balancer.base_url, timeout=120.0, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(connection(client) for _ in range(concurrency)))
    await update
    found.wall_s = time.perf_counter() - began
    return found


async def _ask(client: httpx.AsyncClient, body: object) -> tuple[str, str]:
    try:
        answer = await client.post(
            "/v1/chat/completions", content=json.dumps(body), headers={"Authorization": f"Bearer sk-{TEAM}"}
        )
    except httpx.HTTPError as e:
        return type(e).__name__, "none"
    return str(answer.status_code), answer.headers.get("x-erp-bundle", "none")


async def _update(
    folder: Path, balancer: HaproxyProcess, proxies: Sequence[ProxyProcess], found: Found, out: list[int]
) -> None:
    """Another bundle, then each proxy anew."""
    await asyncio.sleep(2.0)
    (folder / "next").symlink_to("second")
    (folder / "next").replace(folder / "current")
    await asyncio.sleep(2.0)
    for i, proxy in enumerate(proxies):
        began = time.perf_counter()
        await asyncio.to_thread(balancer.drain, i)
        await asyncio.sleep(_DRAIN_S)
        out.append(i)
        stopping = time.perf_counter()
        await asyncio.to_thread(proxy.stop)
        found.stops_s.append(time.perf_counter() - stopping)
        await asyncio.to_thread(proxy.start)
        await asyncio.to_thread(balancer.admit, i)
        await asyncio.to_thread(balancer.wait_until_up, i)
        out.remove(i)
        found.restarts_s.append(time.perf_counter() - began)
        await asyncio.sleep(1.0)


def _paid_usd(record: dict[str, object]) -> float:
    input_usd, output_usd = PRICES[str(record["model"])]
    sent, written, answers = (record[key] for key in ("prompt_tokens", "completion_tokens", "answers"))
    return (float(str(sent)) * input_usd + float(str(written)) * float(str(answers)) * output_usd) / 1e6


def _spent_usd(proxy: ProxyProcess) -> float:
    answer = httpx.get(
        f"{proxy.base_url}/erp/teams/{TEAM}",
        headers={"Authorization": f"Bearer sk-{TEAM}"},
        trust_env=False,
        timeout=60.0,
    )
    return float(answer.json()["teams"][0]["window"]["spent_usd"])


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.rolling_restart", description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=16)
    arguments = parser.parse_args()
    print(heading("Two proxies behind haproxy, replaced one after the other while requests pass", ""))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.requests, arguments.concurrency)
    print(
        f"{found.statuses.total()} requests at concurrency {arguments.concurrency} in {found.wall_s:.0f} s "
        f"({found.statuses.total() / found.wall_s:.0f}/s): {found.failed} failed {dict(found.statuses)}"
    )
    away = ", ".join(f"{s:.1f}" for s in found.restarts_s)
    print(f"{found.during} of them were answered while a proxy was away; each was for {away} s")
    print(f"to end took {', '.join(f'{s:.1f}' for s in found.stops_s)} s")
    print(f"decided by bundle: {dict(found.bundles)}")
    print(
        f"paid ${found.paid_usd:.6f}; known to the proxies: {found.spent_usd}, off by {found.budget_error:.1e} at most"
    )


if __name__ == "__main__":
    interrupt_on_sigterm()
    main()
