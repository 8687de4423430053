"""What the plugin costs a real LiteLLM proxy: the same proxy with and without it, in short rounds by turns.

Two proxy processes of one worker each run side by side against one stub upstream; while one is measured the other
idles. The load comes from this process over keep-alive connections. All of it shares the machine's cores, so the
steadier figure is the CPU time that the proxy process itself spends per request.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.machine import heading, spread
from bench.prompts import prompts
from bench.synthetic import write_bundle
from demo.deployments import TEAM_KEYS, deployment, router_settings
from demo.proxy_process import ProxyProcess, StubProcess, interrupt_on_sigterm

CONCURRENCY = (1, 16, 64)
POOL = 5
GROUP = "erp-auto"
WORDS = (20, 200)
REQUESTS = 60
QUARTILES = (25, 75)


@dataclass(frozen=True)
class Round:
    """One proxy's share of a round: each request's seconds, all of them together, the proxy's CPU seconds."""

    latencies_s: np.ndarray
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.wall_s

    @property
    def cpu_ms(self) -> float:
        return 1e3 * self.cpu_s / len(self.latencies_s)


class MeasuredProxy(ProxyProcess):
    """A proxy of one worker, whose CPU time can be read."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds, user and system, of all its threads so far."""
        if self._process is None:
            raise RuntimeError("the proxy was not started")
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def main(quick: bool = False) -> None:
    """Print the table."""
    rounds = 5 if quick else 16
    print(
        heading(
            "A proxy with the plugin beside the same proxy without it",
            f"{rounds} rounds of {REQUESTS} chat requests or twice the concurrency each, by turns; "
            f"{POOL} pool models; prompts of {' or '.join(map(str, WORDS))} words, all different within a turn.",
            "Ratio: requests/s with / without in the same round, aim 0.97 at 16 connections; added: CPU ms with less",
            "without, aim 0.6. Medians with their quartiles over rounds. CPU is that of the proxy process alone.",
        )
    )
    print(
        "concurrency  requests/s with, without  ratio             p50 ms with, without  p99 ms with, without  "
        "CPU ms/request with, without  added"
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        with_plugin, without = _start(Path(folder), stack)
        for proxy in (with_plugin, without):
            asyncio.run(_load(proxy, 16, _bodies(200, seed=rounds)))
        for concurrency in CONCURRENCY:
            count = max(REQUESTS, 2 * concurrency)
            pairs = [_pair(with_plugin, without, i, concurrency, _bodies(count, seed=i)) for i in range(rounds)]
            _print_row(concurrency, pairs)


def _pair(
    with_plugin: MeasuredProxy, without: MeasuredProxy, number: int, concurrency: int, bodies: list[bytes]
) -> tuple[Round, Round]:
    """One round of both; who goes first alternates."""
    turns = (with_plugin, without) if number % 2 == 0 else (without, with_plugin)
    found = {id(proxy): asyncio.run(_load(proxy, concurrency, bodies)) for proxy in turns}
    return found[id(with_plugin)], found[id(without)]


def _print_row(concurrency: int, pairs: Sequence[tuple[Round, Round]]) -> None:
    ratios = [ours.per_s / bare.per_s for ours, bare in pairs]
    added = [ours.cpu_ms - bare.cpu_ms for ours, bare in pairs]
    ours, bare = zip(*pairs, strict=True)

    def both(value: Any, digits: int) -> str:
        return ", ".join(f"{np.median([value(found) for found in side]):.{digits}f}" for side in (ours, bare))

    def percentile(q: float) -> Any:
        return lambda found: 1e3 * np.percentile(found.latencies_s, q)

    print(
        f"{concurrency:11}  {both(lambda r: r.per_s, 1):>24}  {spread(ratios, 2, QUARTILES):<16}  "
        f"{both(percentile(50), 1):>20}  {both(percentile(99), 1):>20}  "
        f"{both(lambda r: r.cpu_ms, 2):>28}  {spread(added, 2, QUARTILES)}",
        flush=True,
    )


async def _load(proxy: MeasuredProxy, concurrency: int, bodies: list[bytes]) -> Round:
    """Send the bodies over ``concurrency`` connections, each one request at a time."""
    left = iter(bodies)
    latencies: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for body in left:
            began = time.perf_counter()
            writer.write(_request(body))
            await _read_answer(reader)
            latencies.append(time.perf_counter() - began)
        writer.close()

    cpu_s, began = proxy.cpu_s, time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(concurrency)))
    wall_s = time.perf_counter() - began
    # What a request leaves to do after its answer, such as logging, is part of what it costs.
    await asyncio.sleep(0.2)
    return Round(np.array(latencies), wall_s, proxy.cpu_s - cpu_s)


async def _read_answer(reader: asyncio.StreamReader) -> None:
    # A web client's library would take as much CPU as is to be measured.
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if b" 200 " not in head[:16]:
        raise RuntimeError(f"the proxy answered {head[:32]!r}: {body[:500]!r}")


def _request(body: bytes) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-research\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _bodies(count: int, seed: int) -> list[bytes]:
    texts = [text for n_words in WORDS for text in prompts(n_words, count // len(WORDS), seed)]
    order = np.random.default_rng(seed).permutation(len(texts))
    return [json.dumps({"model": GROUP, "messages": [{"role": "user", "content": texts[i]}]}).encode() for i in order]


def _start(folder: Path, stack: ExitStack) -> tuple[MeasuredProxy, MeasuredProxy]:
    names = [f"model-{m:03d}" for m in range(POOL)]
    stub = stack.enter_context(StubProcess(names))
    config: dict[str, Any] = {
        "model_list": [
            deployment(name, name, stub.api_base(name), (0.1 + 0.1 * m, 0.4 + 0.4 * m)) for m, name in enumerate(names)
        ],
        "general_settings": TEAM_KEYS,
        "router_settings": router_settings({GROUP: names}),
    }
    bare = folder / "bare.yaml"
    bare.write_text(yaml.safe_dump(config), encoding="utf-8")
    bundle = write_bundle(folder / "bundle", POOL)
    config["litellm_settings"] = {"callbacks": ["litellm_erp.proxy.erp_router"]}
    config["erp_settings"] = {"groups": {GROUP: {"bundle": str(bundle), "policy": {"lambda": 0.5}}}}
    routed = folder / "routed.yaml"
    routed.write_text(yaml.safe_dump(config), encoding="utf-8")
    return stack.enter_context(MeasuredProxy(routed)), stack.enter_context(MeasuredProxy(bare))


if __name__ == "__main__":
    interrupt_on_sigterm()
    main()
