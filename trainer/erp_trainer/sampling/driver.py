"""What all clients of a remote model share: concurrency, retries, K requests where one cannot ask for K, giving up.

A client sends one request and says in an exception what went wrong; everything that follows from it is decided here.
The work runs in an event loop in a thread of its own, so that callers may block, and may have a loop of their own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from tenacity import AsyncRetrying, RetryError

from erp_trainer.sampling.base import Failure, Response, Result, Results, SampleRequest, Skip
from erp_trainer.sampling.pacing import Busy, Concurrency, RequestPace, Unreachable
from litellm_erp.errors import SamplingError
from litellm_erp.shown import one_line

# With nothing answered yet, so many refused prompts in a row are the request's fault, not the prompts'.
_REFUSED_FROM_THE_START = 20

_T = TypeVar("_T")


class PromptRefused(Exception):
    """The server does not want this request as it is: the prompt's fault, or that of the parameters."""


class RefusesN(Exception):
    """The server answers one choice at a time."""


class Unanswerable(Exception):
    """The model will never answer this prompt, and that is on record; ``kind`` is what skips are counted by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the responses in an answer; ``output_tokens`` is None where the server does not count them apart."""

    text: str
    finish_reason: str
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a request brought; ``output_tokens`` are those of all choices together."""

    choices: list[Choice]
    input_tokens: int | None
    output_tokens: int | None
    seed: int | None


class Client(Protocol):
    """One connection to one model; made and used inside the event loop."""

    async def ask(self, request: SampleRequest, n: int, seed: int) -> Completion:
        """Send one request.

        Raises
        ------
        Busy, Broken, PromptRefused, RefusesN, Unanswerable : see there
        SamplingError : no request can succeed: a wrong key, an unknown model
        """
        ...

    async def aclose(self) -> None: ...


def drive(
    make_client: Callable[[], Client],
    requests: Iterable[SampleRequest],
    *,
    name: str,
    timeout_s: float,
    pace: RequestPace,
) -> Results:
    """Ask for everything, as fast as the server can take it.

    Parameters
    ----------
    make_client : called inside the event loop
    name : the pool model's, for messages
    timeout_s : for one request

    Raises
    ------
    SamplingError : the server is gone, or refuses everything
    """

    async def work(emit: Callable[[tuple[SampleRequest, Result]], None]) -> None:
        client = make_client()
        try:
            await _Conversation(client, name, timeout_s, pace, emit).run(requests)
        finally:
            await client.aclose()

    return in_thread(work)


def in_thread(work: Callable[[Callable[[_T], None]], Coroutine[Any, Any, None]]) -> Generator[_T, None, None]:
    """Iterate over what an async function emits; closing the iterator cancels it and waits until it has ended."""
    arrived: queue.SimpleQueue[_T | _Ended] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work(arrived.put))

    def run() -> None:
        error: BaseException | None = None
        try:
            loop.run_until_complete(task)
        except BaseException as e:
            error = e
        finally:
            loop.run_until_complete(_end_others())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            arrived.put(_Ended(error))

    thread = threading.Thread(target=run, name="sampling", daemon=True)
    thread.start()
    try:
        while not isinstance(item := arrived.get(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        if thread.is_alive() and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


class _GaveUp(Exception):
    """Every attempt failed."""


class _Conversation:
    """All requests to one model."""

    def __init__(
        self,
        client: Client,
        name: str,
        timeout_s: float,
        pace: RequestPace,
        emit: Callable[[tuple[SampleRequest, Result]], None],
    ) -> None:
        self._client = client
        self._name = name
        self._timeout_s = timeout_s
        self._pace = pace
        self._emit = emit
        self._concurrency = Concurrency(pace, timeout_s)
        self._under_way = 0
        self._room = asyncio.Condition()
        self._one_by_one = False
        self._answered = False
        self._failed_in_a_row = 0
        self._refused = 0

    async def run(self, requests: Iterable[SampleRequest]) -> None:
        pending: set[asyncio.Task[None]] = set()
        try:
            for request in requests:
                while len(pending) >= self._open_prompts(request.n):
                    pending = await _first(pending)
                pending.add(asyncio.create_task(self._one(request)))
            while pending:
                pending = await _first(pending)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _open_prompts(self, n: int) -> int:
        # One by one, a prompt is n requests; few prompts at a time, so that each is finished soon.
        return 1 + self._concurrency.limit // n if self._one_by_one else self._concurrency.limit

    async def _one(self, request: SampleRequest) -> None:
        result: Result
        try:
            result = await self._responses(request)
        except Unanswerable as e:
            result = Skip(f"{e.kind}: {one_line(e)}")
        except PromptRefused as e:
            result = self._refusal(e)
        except _GaveUp as e:
            result = self._failure(e)
        else:
            self._answered = True
        if not isinstance(result, Failure):
            self._failed_in_a_row = 0
        self._emit((request, result))

    def _refusal(self, error: PromptRefused) -> Failure:
        self._refused += 1
        if not self._answered and self._refused >= _REFUSED_FROM_THE_START:
            raise SamplingError(f"{self._name}: the server refuses every prompt: {one_line(error)}") from error
        return Failure(f"refused: {one_line(error)}")

    def _failure(self, error: _GaveUp) -> Failure:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._pace.patience or isinstance(error.__cause__, Unreachable):
            raise SamplingError(f"{self._name}: {one_line(error)}. Look at the server's log") from error
        return Failure(one_line(error))

    async def _responses(self, request: SampleRequest) -> list[Response]:
        if request.n > 1 and not self._one_by_one:
            try:
                answer = await self._call(request, request.n, request.seed)
            except RefusesN:
                self._one_by_one = True
            else:
                if len(answer.choices) >= request.n:
                    return _read(answer)[: request.n]
                self._one_by_one = True
        # The first alone: what it fails of, the others would fail of too.
        first = await self._call(request, 1, request.seed_of(0))
        calls = (self._call(request, 1, request.seed_of(sample)) for sample in range(1, request.n))
        others = await asyncio.gather(*calls, return_exceptions=True)
        responses = []
        for answer_or_error in (first, *others):
            if isinstance(answer_or_error, BaseException):
                raise answer_or_error
            responses += _read(answer_or_error)[:1]
        return responses

    async def _call(self, request: SampleRequest, n: int, seed: int) -> Completion:
        try:
            return await AsyncRetrying(**self._pace.again())(self._attempt, request, n, seed)
        except RetryError as e:
            error = e.last_attempt.exception()
            raise _GaveUp(f"{error}, {e.last_attempt.attempt_number} times") from error

    async def _attempt(self, request: SampleRequest, n: int, seed: int) -> Completion:
        async with self._room:
            await self._room.wait_for(lambda: self._under_way < self._concurrency.limit)
            self._under_way += 1
        began = time.monotonic()
        try:
            answer = await asyncio.wait_for(self._client.ask(request, n, seed), self._timeout_s)
        except Busy:
            self._concurrency.congested(began, time.monotonic())
            raise
        except (asyncio.TimeoutError, TimeoutError):
            self._concurrency.congested(began, time.monotonic())
            raise TimeoutError(f"no answer within {self._timeout_s:g} s") from None
        else:
            self._concurrency.succeeded(began, time.monotonic(), self._under_way)
            return answer
        finally:
            self._under_way -= 1
            async with self._room:
                self._room.notify(2)  # a place is free, and the limit may have grown by one


async def _end_others() -> None:
    """Cancel what libraries left running in this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _first(pending: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for one; what it raised is raised."""
    done, others = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return others


def _read(answer: Completion) -> list[Response]:
    tokens = [choice.output_tokens for choice in answer.choices]
    if None in tokens and answer.output_tokens is not None:
        tokens = list(apportion(answer.output_tokens, [len(choice.text) for choice in answer.choices]))
    return [
        Response(choice.text, choice.finish_reason, answer.input_tokens, count, answer.seed)
        for choice, count in zip(answer.choices, tokens, strict=True)
    ]


def apportion(total: int, weights: list[int]) -> list[int]:
    """Whole numbers in proportion to ``weights`` that sum to ``total``.

    OpenAI's format counts the tokens of all choices together; their mean is what costs are fitted on, and it is exact.
    """
    share = [weight + 1 for weight in weights]  # an empty response has an end-of-text token
    bounds = [total * sum(share[:i]) // sum(share) for i in range(len(share) + 1)]
    return [high - low for low, high in pairwise(bounds)]
