"""The same request to three proxies: what each answers, who served it, and whether the plugin's answer differs."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.differential.requests import Sent, request
from bench.differential.routes import MODELS
from bench.differential.servers import PLUGIN
from demo.proxy_process import ProxyProcess, StubProcess

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
_SERVED = re.compile(r'answer from (model-\d+)|" (model-\d+)"')
_EXCEPTION = re.compile(r"litellm\.(?:exceptions\.)?(\w+(?:Error|Exception|Limit\w*))")


@dataclass(frozen=True)
class AnswerKind:
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

    outcome: AnswerKind
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
    tried: Counter[AnswerKind] = field(default_factory=Counter)

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
            return Answer(AnswerKind(0, type(error).__name__), frozenset(), {}, "")
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
    return Answer(AnswerKind(answer.status_code, _kind(answer, text)), served, erp, text[:400])


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


async def measure(started: Sequence[tuple[str, ProxyProcess, StubProcess]], pairs: int, seed: int) -> list[Result]:
    """Send everything."""
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        sides = [Side(name, proxy, stub, client) for name, proxy, stub in started]
        await asyncio.gather(*(side.make_previous() for side in sides))
        return await run(sides, pairs, seed)
