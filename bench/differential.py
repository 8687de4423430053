"""Does a request fail because of the plugin? The same hostile requests to three proxies: one has it, two do not.

``python -m bench.differential [--pairs 3000] [--seed 0]``. Each request of :mod:`bench.hostile` goes to all three at
once; a stub upstream of its own stands behind each, so that none sees what another did. The two without differ where
LiteLLM's random choice of a member shows: that is the noise. Where the proxy with the plugin answers like neither of
them, the request is sent again, until a proxy without the plugin answers so too or has not in ``RETRIES`` tries.
What is left is a difference.

An answer is its status and its kind: JSON, a stream, what error. Of what was answered the text also says which model it
was, and that has to be the one that the header names. Bounded by the number of pairs and by a time for each request;
everything stays on loopback.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.hostile import ALIAS, DOOMED, GROUP, KEYS, MODELS, TAGGED, Sent, request
from bench.machine import heading
from bench.synthetic import write_bundle
from demo.proxy_process import ProxyProcess, StubProcess

PLUGIN, BARE, SECOND = "plugin", "bare", "second bare"
BATCH = 40
AT_ONCE = 8
RETRIES = 24
TIMEOUT_S = 60.0
# What fails upstream, by turns, in every fifth batch: which of the members, and how.
FAILING_EVERY = 5
FAILURES = (
    *(("all", "500"), ("first", "500"), ("all", "429"), ("first", "429"), ("first", "401"), ("all", "404")),
    *(("first", "close"), ("all", "empty"), ("all", "refuse_n"), ("all", "context:40"), ("first", "context:40")),
    *(("all", "close"), ("all", "one_choice"), ("all", "slow:0.2"), ("last", "500"), ("last", "nan")),
)
WHICH = {"all": MODELS, "first": MODELS[:1], "last": MODELS[-1:]}
_NOWHERE = "http://127.0.0.1:9"
_SERVED = re.compile(r'answer from (model-\d+)|" (model-\d+)"')
_EXCEPTION = re.compile(r"litellm\.(?:exceptions\.)?(\w+(?:Error|Exception|Limit\w*))")


@dataclass(frozen=True)
class Outcome:
    """What a client got.

    Attributes
    ----------
    status : 0 where nothing came in time
    kind : ``json``, ``stream``, ``bytes``, ``empty``, or what error
    """

    status: int
    kind: str

    def __str__(self) -> str:
        return f"{self.status} {self.kind}"


@dataclass(frozen=True)
class Answer:
    """An outcome, who answered by the answer's own text, and the plugin's headers."""

    outcome: Outcome
    served: frozenset[str]
    erp: dict[str, str]
    said: str

    @property
    def mismatch(self) -> str:
        """What is wrong about who served; "" where nothing is."""
        reason = self.erp.get("reason", "")
        if reason.startswith(("fallback:error", "not-followed")):
            return reason
        named = self.erp.get("model")
        if self.outcome.status == 200 and named and self.served and named not in self.served:
            return f"says {named}, was {','.join(sorted(self.served))} ({reason})"
        return ""


@dataclass
class Result:
    """One pair.

    Attributes
    ----------
    verdict : ``same``; ``noise`` where a proxy without the plugin answers so on another try; ``served`` where the one
        with the plugin gives an answer, for an error of the others; ``status`` or ``kind`` of a difference
    noisy : whether the proxies without the plugin differ
    """

    sent: Sent
    failing: str
    answers: dict[str, Answer]
    verdict: str = "same"
    noisy: bool = False
    tried: Counter[Outcome] = field(default_factory=Counter)

    @property
    def is_fault(self) -> bool:
        """Whether the plugin changed for the worse what a client got, or told something else than what was."""
        return self.verdict in ("status", "kind") or bool(self.answers[PLUGIN].mismatch)


@dataclass
class Side:
    """A proxy, its upstream, and the ids of responses it has handed out."""

    name: str
    proxy: ProxyProcess
    stub: StubProcess
    client: httpx.AsyncClient
    previous: list[str] = field(default_factory=list)

    async def ask(self, sent: Sent) -> Answer:
        """Send one request; a connection that breaks or takes too long is an answer too."""
        headers = {"authorization": f"Bearer {sent.key}".encode(), **sent.headers}
        try:
            answer = await self.client.post(
                f"{self.proxy.base_url}{sent.path}", content=sent.content(self.previous), headers=headers
            )
        except httpx.HTTPError as error:
            return Answer(Outcome(0, type(error).__name__), frozenset(), {}, "")
        return read(answer)

    async def fail(self, failing: tuple[str, str] | None) -> None:
        """Have the upstream well, or failing."""
        await self.client.post(f"{self.stub.base_url}/_reset", json={})
        for model in WHICH[failing[0]] if failing else ():
            await self.client.post(f"{self.stub.base_url}/_mode", json={"model": model, "mode": failing[1]})

    async def make_previous(self) -> None:
        """One stored response of each member."""
        for name in MODELS:
            headers = {"authorization": "Bearer sk-free"}
            body = {"model": name, "input": "first"}
            answer = await self.client.post(f"{self.proxy.base_url}/v1/responses", json=body, headers=headers)
            self.previous.append(str(answer.raise_for_status().json()["id"]))


def read(answer: httpx.Response) -> Answer:
    """Tell what came back."""
    erp = {name[6:]: value for name, value in answer.headers.items() if name.startswith("x-erp-")}
    text = answer.text
    served = frozenset(a or b for a, b in _SERVED.findall(text))
    return Answer(Outcome(answer.status_code, _kind(answer, text)), served, erp, text[:400])


def _kind(answer: httpx.Response, text: str) -> str:
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        return next((f"stream with {error}" for error in map(_error, _events(text)) if error), "stream")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "bytes" if text else "empty"
    return (_error(body) if answer.status_code >= 400 else "") or "json"


def _events(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        if line.startswith("data:") and line[5:].strip() not in ("", "[DONE]"):
            try:
                yield json.loads(line[5:])
            except ValueError:
                yield {"error": {"type": "not JSON"}}


def _error(body: Any) -> str:
    """The kind of error that a body is; "" where it is none."""
    if isinstance(body, dict) and isinstance(body.get("response"), dict):
        body = body["response"]
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        raised = _EXCEPTION.search(str(error.get("message")))
        return f"error {error.get('type') or error.get('status')} {raised.group(1) if raised else ''}".strip()
    if error:
        return "error"
    return "detail" if isinstance(body, dict) and "detail" in body else ""


async def run(sides: Sequence[Side], pairs: int, seed: int) -> list[Result]:
    """Send all pairs, in batches of which some have failing upstreams."""
    results: list[Result] = []
    free = asyncio.Semaphore(AT_ONCE)
    for number, start in enumerate(range(0, pairs, BATCH)):
        turn, rest = divmod(number, FAILING_EVERY)
        failing = FAILURES[(turn + seed) % len(FAILURES)] if rest == FAILING_EVERY - 1 else None
        await asyncio.gather(*(side.fail(failing) for side in sides))
        # An allow list takes members away that the others may fall back on: by design, and so not under failures.
        batch = [request(seed, i, limited=failing is None) for i in range(start, min(start + BATCH, pairs))]
        shown = " ".join(failing or ())

        async def one(sent: Sent, failing: str = shown) -> Result:
            async with free:
                return await compare(sides, sent, failing)

        results += await asyncio.gather(*map(one, batch))
    return results


async def compare(sides: Sequence[Side], sent: Sent, failing: str) -> Result:
    """One request to every proxy, and again where the answers differ."""
    answers = await asyncio.gather(*(side.ask(sent) for side in sides))
    result = Result(sent, failing, {side.name: answer for side, answer in zip(sides, answers, strict=True)})
    ours, bare, second = (answer.outcome for answer in answers)
    result.noisy = bare != second
    result.tried.update((bare, second))
    seen = {ours}
    for attempt in range(RETRIES):
        if not seen.isdisjoint(result.tried):
            result.verdict = "same" if attempt == 0 else "noise"
            return result
        if attempt % 6 == 5:
            # What the plugin's proxy answers once is no difference if it is not what it answers again.
            seen.add((await sides[0].ask(sent)).outcome)
        result.tried[(await sides[1].ask(sent)).outcome] += 1
    statuses = {outcome.status for outcome in result.tried}
    if ours.status == 200 and min(statuses) >= 400:
        result.verdict = "served"
    else:
        result.verdict = "kind" if ours.status in statuses else "status"
    return result


def config(stub: StubProcess) -> dict[str, Any]:
    """The proxies' config, the plugin aside: two groups, one with tags; an alias; a model that falls back."""
    windows = dict(zip(MODELS, (2_000, 60_000, 1_000_000), strict=True))

    def entry(name: str, model: str, **params: Any) -> dict[str, Any]:
        window = {"max_input_tokens": windows[model], "mode": "chat"}
        return {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": stub.api_base(model), "api_key": "none"}
            | params,
            "model_info": window | {"id": f"dep-{name}", "erp_model": model},
        }

    where = (("eu", ["a"]), ("us", ["b"]), ("eu", ["a", "b"]))
    places = {model: {"region_name": region, "tags": tags} for model, (region, tags) in zip(MODELS, where, strict=True)}
    tagged = {f"{TAGGED}.{model}": model for model in MODELS}
    return {
        "model_list": [
            *(entry(model, model) for model in MODELS),
            *(entry(name, model, **places[model]) for name, model in tagged.items()),
            entry(DOOMED, MODELS[0], api_base=f"{_NOWHERE}/v1", max_retries=0),
        ],
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "custom_auth": "demo.auth.user_api_key_auth",
            "custom_auth_run_common_checks": True,
        },
        "litellm_settings": {
            "enable_post_custom_auth_checks": True,
            # More of the odd fields get past LiteLLM.
            "drop_params": True,
            "cache": True,
            "cache_params": {"type": "local", "mode": "default_off"},
        },
        "router_settings": {
            "routing_groups": [
                {"group_name": GROUP, "models": list(MODELS), "routing_strategy": "simple-shuffle"},
                {"group_name": TAGGED, "models": list(tagged), "routing_strategy": "simple-shuffle"},
            ],
            "model_group_alias": {ALIAS: GROUP},
            "fallbacks": [{DOOMED: [GROUP]}],
            "enable_pre_call_checks": True,
            "enable_tag_filtering": True,
            "optional_pre_call_checks": ["responses_api_deployment_check", "encrypted_content_affinity"],
            "num_retries": 1,
            # What failed for one request must not decide what the next may use.
            "disable_cooldowns": True,
            "timeout": 20,
        },
    }


def erp_settings(bundle: Path) -> dict[str, Any]:
    """Goals of three teams; the fourth has an allow list."""
    teams = {"cheap": {"lambda": 100.0}, "budget": {"budget_usd": 1e6, "per": "month"}}
    group = {"bundle": str(bundle), "policy": {"lambda": 0.1}, "allow_override": [0, 10], "teams": teams}
    return {"groups": {GROUP: group, TAGGED: group}}


def start(folder: Path, stack: ExitStack) -> list[tuple[str, ProxyProcess, StubProcess]]:
    """Start all of it: three upstreams, three proxies."""
    bundle = write_bundle(folder / "bundle", len(MODELS))
    keys = folder / "keys.json"
    keys.write_text(json.dumps(KEYS), encoding="utf-8")
    names = (PLUGIN, BARE, SECOND)
    stubs = [stack.enter_context(StubProcess(MODELS)) for _ in names]

    def make(name: str, stub: StubProcess) -> ProxyProcess:
        content = config(stub)
        if name == PLUGIN:
            content["litellm_settings"]["callbacks"] = ["litellm_erp.proxy.erp_router"]
            content["erp_settings"] = erp_settings(bundle)
        path = folder / f"{name.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        # Whatever would go anywhere else goes to a port where nobody listens.
        out = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NOWHERE)
        # Before Python 3.12 a collection in the wrong place ends a process (python/cpython#148891).
        rare = {} if sys.version_info >= (3, 12) else {"PYTHON_GC_THRESHOLD": "1000000,50,50"}
        env = {
            **rare,
            "ERP_DEMO_KEYS": str(keys),
            "OPENAI_BASE_URL": f"{_NOWHERE}/v1",
            "AIOHTTP_TRUST_ENV": "True",
            **out,
        }
        return ProxyProcess(path, env=env, log_path=path.with_suffix(".log"))

    proxies = [make(name, stub) for name, stub in zip(names, stubs, strict=True)]
    with ThreadPoolExecutor(len(proxies)) as threads:
        list(threads.map(stack.enter_context, proxies))
    return list(zip(names, proxies, stubs, strict=True))


async def measure(started: Sequence[tuple[str, ProxyProcess, StubProcess]], pairs: int, seed: int) -> list[Result]:
    """Send everything."""
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        sides = [Side(name, proxy, stub, client) for name, proxy, stub in started]
        await asyncio.gather(*(side.make_previous() for side in sides))
        return await run(sides, pairs, seed)


def table(results: Sequence[Result]) -> Iterator[str]:
    """One line a route, and the sum of them."""
    yield "route                    pairs   200s  failing  bare differ  plugin: noise  served  kind  status  wrong"
    routes = sorted({result.sent.route for result in results})
    for route in [*routes, "all"]:
        of = [result for result in results if route in ("all", result.sent.route)]
        counts = Counter(result.verdict for result in of)
        fine = sum(result.answers[PLUGIN].outcome.status == 200 for result in of)
        wrong = sum(bool(result.answers[PLUGIN].mismatch) for result in of)
        failing, noisy = sum(bool(r.failing) for r in of), sum(r.noisy for r in of)
        yield (
            f"{route:<24} {len(of):5}  {fine:5}  {failing:7}  {noisy:11}  {counts['noise']:13}  "
            f"{counts['served']:6}  {counts['kind']:4}  {counts['status']:6}  {wrong:5}"
        )


def findings(results: Sequence[Result]) -> Iterator[str]:
    """What to look at, a few lines each."""
    for result in results:
        ours = result.answers[PLUGIN]
        if result.is_fault or result.verdict == "served":
            sent = result.sent
            tried = ", ".join(f"{outcome} x{count}" for outcome, count in result.tried.items())
            failing = result.failing or "nothing"
            yield f"\n{sent.number}: {result.verdict} {ours.mismatch} | {sent.path} {sent.key} failing: {failing}"
            yield f"  plugin: {ours.outcome} {ours.erp}; bare: {tried}"
            yield f"  headers {dict(sent.headers)} body {sent.body[:600]!r}"
            yield f"  plugin said {ours.said[:300]!r}; bare said {result.answers[BARE].said[:300]!r}"


def frames(log: str) -> int:
    """How many frames of ours stand in tracebacks of a proxy's log."""
    return len(re.findall(r'File "[^"]*/litellm_erp/', log))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and what differs; 1 where anything does."""
    parser = argparse.ArgumentParser(prog="python -m bench.differential", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    print(heading("The same requests with the plugin and without it", f"{asked.pairs} pairs, seed {asked.seed}"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        started = start(Path(folder), stack)
        began = time.perf_counter()
        results = asyncio.run(measure(started, asked.pairs, asked.seed))
        seconds = time.perf_counter() - began
        log = started[0][1].log_text()
        ended = [name for name, proxy, _ in started if proxy.returncode is not None]
    reasons = Counter(r.answers[PLUGIN].erp.get("reason", "-") for r in results)
    print("\n".join(table(results)))
    print(f"{seconds:.0f} s; reasons: {dict(reasons.most_common())}; frames of ours in tracebacks: {frames(log)}")
    noise = Counter(f"{r.answers[BARE].outcome} / {r.answers[SECOND].outcome}" for r in results if r.noisy)
    print(f"bare differ most often in: {noise.most_common(5)}; ended before the end: {ended or 'none'}")
    print("\n".join(findings(results)))
    return int(any(result.is_fault for result in results))


if __name__ == "__main__":
    sys.exit(main())
