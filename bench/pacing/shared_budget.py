"""One budget kept by two proxies of two workers each through a real Redis, which is killed and comes back empty.

A bundle fitted on llmrouter_example routes its held-out prompts over a stub upstream that reports recorded token
counts. What was spent is counted twice over: by the proxies, from LiteLLM's callbacks, and here, from the stub's own
records and the prices.

* tight: a budget that ``reject`` enforces, a quarter of what the requests would cost on the cheapest model
* killed: an ample budget; Redis gets SIGKILL after a third of the requests, and starts again, empty, after two thirds

A phase ends with its last request, or when its time is up; what was sent by then is what is reported.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.machine import heading
from bench.pacing.example import GROUP, fit, serve
from demo.prepare import HeldOut
from demo.proxy_process import ProxyProcess, StubProcess
from demo.redis_process import RedisProcess
from litellm_erp.errors import ServingError

REQUESTS, CONCURRENCY = 5000, 64
PROXIES, WORKERS = 2, 2
TIGHT, KILLED = "tight", "killed"
# No request of a phase is begun later than this; how long the proxies may take to agree.
PHASE_S, AGREE_S = 400.0, 60.0
# The shortest prompts: what is measured here does not depend on them, what they take does.
PROMPTS = 100


@dataclass(frozen=True)
class Setting:
    """What is running: one stub, one Redis, the proxies; and prompts with the prices of what answers them."""

    stub: StubProcess
    redis: RedisProcess
    proxies: list[ProxyProcess]
    data: HeldOut

    def upstream_usd(self) -> float:
        """What the stub's answers cost, by its own records."""
        models = self.data.outcomes.models
        records = [record for record in self.stub.requests() if record["status"] == 200]
        tokens = [np.array([[r[name]] for r in records]) for name in ("prompt_tokens", "completion_tokens")]
        cost_RM = self.data.prices.expected_cost(*tokens)
        return float(sum(cost_RM[i, models.index(r["model"])] for i, r in enumerate(records)))

    def counted_usd(self, team: str) -> list[float]:
        """What each proxy says that a team spent; one of its workers answers."""
        found = []
        for proxy in self.proxies:
            answer = httpx.get(f"{proxy.base_url}/erp/teams/{team}", headers=_key(team), trust_env=False, timeout=30.0)
            found.append(float(answer.json()["teams"][0]["window"]["spent_usd"]))
        return found

    def agree(self, team: str, usd: float) -> bool:
        """Whether the proxies come to say this to within a millionth, eight times running, in time."""
        deadline, running = time.monotonic() + AGREE_S, 0
        while running < 8 and time.monotonic() < deadline:
            same = np.allclose(self.counted_usd(team), usd, rtol=1e-6, atol=0.0)
            running = running + 1 if same else 0
            time.sleep(0.05 if same else 0.5)
        return running == 8


@dataclass
class Load:
    """Requests of one team to all proxies by turns, and what came back."""

    team: str
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    async def send(self, setting: Setting, n_requests: int, between: Sequence[Callable[[], None]] = ()) -> None:
        """Send them, and do what is to be done in between, at even shares of the requests or of the time."""
        numbers, began, due = iter(range(n_requests)), time.perf_counter(), list(between)
        prompts = sorted(setting.data.outcomes.prompts, key=len)[:PROMPTS]
        base = [proxy.base_url for proxy in setting.proxies]
        limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
        async with httpx.AsyncClient(trust_env=False, timeout=120.0, limits=limits, headers=_key(self.team)) as client:

            async def connection() -> None:
                for number in numbers:
                    passed_s = time.perf_counter() - began
                    if passed_s > PHASE_S:
                        return
                    done = max(number / n_requests, passed_s / PHASE_S)
                    if due and done > 1 - len(due) / (len(between) + 1):
                        await asyncio.to_thread(due.pop(0))
                    self.statuses[await _ask(client, base[number % len(base)], prompts[number % PROMPTS])] += 1

            await asyncio.gather(*(connection() for _ in range(CONCURRENCY)))
        self.seconds = time.perf_counter() - began


async def _ask(client: httpx.AsyncClient, base: str, prompt: str) -> str:
    body = {"model": GROUP, "messages": [{"role": "user", "content": prompt}]}
    try:
        answer = await client.post(f"{base}/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return type(error).__name__
    if answer.status_code == 429 and "the budget of" in answer.text:
        return "refused"
    return "served" if answer.status_code == 200 else f"HTTP {answer.status_code}"


def _key(team: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{team}"}


def main(count: int) -> bool:
    """Print the table; whether everything was kept."""
    print(
        heading(
            f"One budget, {PROXIES} proxies of {WORKERS} workers, one Redis; {count} requests, {CONCURRENCY} at a time",
            "failed: neither answered nor refused because the budget was spent; upstream: by the stub's own records;",
            "counted: whether every worker comes to say the same to within a millionth.",
        )
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        setting, budget = _start(Path(folder), stack, count)
        tight, killed = Load(TIGHT), Load(KILLED)
        asyncio.run(tight.send(setting, count))
        kept = _report(setting, tight, budget)
        setting.stub.reset()
        asyncio.run(killed.send(setting, count, (setting.redis.kill, setting.redis.start)))
        return _report(setting, killed, None) and kept


def _report(setting: Setting, load: Load, budget: float | None) -> bool:
    settled = setting.upstream_usd()
    agreed = setting.agree(load.team, settled)
    failed = sum(load.statuses.values()) - load.statuses["served"] - load.statuses["refused"]
    share = "" if budget is None else f", budget {budget:.4f} USD: {settled / budget - 1:+.2%}"
    print(
        f"{load.team}: {load.seconds:.0f} s, {sum(load.statuses.values()) / load.seconds:.0f} requests/s, "
        f"served {load.statuses['served']}, refused {load.statuses['refused']}, failed {failed}"
        f"{'' if not failed else ' ' + str(dict(load.statuses))}; "
        f"upstream {settled:.6f} USD{share}; counted {'alike' if agreed else setting.counted_usd(load.team)}",
        flush=True,
    )
    return agreed and not failed and (budget is None or settled <= 1.02 * budget)


def _start(folder: Path, stack: ExitStack, count: int) -> tuple[Setting, float]:
    bundle, data = fit(folder)
    budget = round(_quarter(data, count), 4)
    redis = stack.enter_context(RedisProcess())
    teams: dict[str, dict[str, Any]] = {
        TIGHT: {"budget_usd": budget, "per": "month", "on_exhausted": "reject"},
        KILLED: {"budget_usd": 1000.0, "per": "month"},
    }
    env, settings = {"ERP_BENCH_REDIS": redis.url}, {"url": "os.environ/ERP_BENCH_REDIS"}
    stub, proxies = serve(stack, bundle, data, teams, proxies=PROXIES, workers=WORKERS, env=env, redis=settings)
    setting = Setting(stub, redis, proxies, data)
    if not setting.agree(KILLED, 0.0):
        raise ServingError("the proxies' workers did not answer in time")
    return setting, budget


def _quarter(data: HeldOut, count: int) -> float:
    """A quarter of what so many requests cost on the cheapest model, USD."""
    shortest = np.argsort([len(prompt) for prompt in data.outcomes.prompts], kind="stable")[:PROMPTS]
    return 0.25 * count * float(data.cost_PM[shortest].mean(axis=0).min())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.pacing.shared_budget", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each phase")
    raise SystemExit(0 if main(parser.parse_args().requests) else 1)
