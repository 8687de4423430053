"""What all clients of a remote model share: concurrency, retries, K requests where one cannot ask for K, giving up.

A client sends one request and says in an exception what went wrong; everything that follows from it is decided here.
The work runs in an event loop in a thread of its own, so that callers may block, and may have a loop of their own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from tenacity import AsyncRetrying, RetryError

from erp_trainer.sampling.base import Failure, Response, Result, Results, SampleRequest, Skip
from erp_trainer.sampling.pacing import Busy, Concurrency, RequestPace, Unreachable
from erp_trainer.sampling.wire.answer import FINAL, Completion
from litellm_erp.errors import SamplingError
from litellm_erp.shown import one_line

# With nothing answered yet, so many refused prompts in a row are the request's fault, not the prompts'.
_REFUSED_FROM_THE_START = 20
# How often one sample is drawn whose answer cannot be used; each draw is paid for.
_DRAWS = 3

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


class NothingUsable(Exception):
    """The answers came, and none of them holds a response."""


class Client(Protocol):
    """One connection to one model; made and used inside the event loop."""

    async def ask(self, request: SampleRequest, n: int, seed: int) -> Completion:
        """Send one request; the answer has a choice at least.

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
            result = self._refusal("refused", "the server refuses every prompt", e)
        except NothingUsable as e:
            result = self._refusal("unusable", "no prompt gets an answer that can be used", e)
        except _GaveUp as e:
            result = self._failure(e)
        else:
            self._answered = True
        if not isinstance(result, Failure):
            self._failed_in_a_row = 0
        self._emit((request, result))

    def _refusal(self, kind: str, of_every_prompt: str, error: Exception) -> Failure:
        self._refused += 1
        if not self._answered and self._refused >= _REFUSED_FROM_THE_START:
            raise SamplingError(f"{self._name}: {of_every_prompt}: {one_line(error)}") from error
        return Failure(f"{kind}: {one_line(error)}")

    def _failure(self, error: _GaveUp) -> Failure:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._pace.patience or isinstance(error.__cause__, Unreachable):
            raise SamplingError(f"{self._name}: {one_line(error)}. Look at the server's log") from error
        return Failure(one_line(error))

    async def _responses(self, request: SampleRequest) -> list[Response]:
        found = await self._drawn(request)
        if len(found) < request.sampling.k and "temperature" in found[0].adjusted and request.sampling.temperature == 0:
            # The provider takes no temperature, so answers differ after all and one cannot stand for all K.
            found = await self._drawn(replace(request, n=request.sampling.k))
        return found

    async def _drawn(self, request: SampleRequest) -> list[Response]:
        """All usable responses; at least one."""
        drawn = _Drawn()
        if request.n > 1 and not self._one_by_one:
            try:
                answer = await self._call(request, request.n, request.seed)
            except RefusesN:
                self._one_by_one = True
            else:
                if len(answer.choices) < request.n:
                    self._one_by_one = True
                drawn.take(answer, request.n)
        missing = range(drawn.settled, request.n)
        if missing and not drawn.settled:
            # The first alone: what it fails of, the others would fail of too.
            drawn.take(await self._single(request, 0), 1)
            missing = missing[1:]
        singles = (self._single(request, sample) for sample in missing)
        for found in await asyncio.gather(*singles, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found
            drawn.take(found, 1)
        return drawn.responses()

    async def _single(self, request: SampleRequest, sample: int) -> Completion:
        """One sample; drawn again, with other seeds, while its answer cannot be used."""
        for draw in range(_DRAWS):
            answer = await self._call(request, 1, request.seed_of(sample + draw * request.n))
            if answer.choices[0].problem in ("", *FINAL):
                break
        return answer

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


class _Drawn:
    """The responses to one prompt as they come, and why others are none."""

    def __init__(self) -> None:
        self._usable: list[Response] = []
        self._problems: Counter[str] = Counter()
        self._seen = ""

    @property
    def settled(self) -> int:
        """Samples that need no further draw: responses, and decisions that no draw would change."""
        return len(self._usable) + sum(self._problems[problem] for problem in FINAL)

    def take(self, answer: Completion, most: int) -> None:
        """The first choices of an answer."""
        tokens = [choice.output_tokens for choice in answer.choices]
        if None in tokens and answer.output_tokens is not None:
            tokens = list(apportion(answer.output_tokens, [len(choice.text) for choice in answer.choices]))
        for choice, count in list(zip(answer.choices, tokens, strict=True))[:most]:
            if choice.problem:
                self._problems[choice.problem] += 1
                self._seen = f"{choice.problem} (finish_reason {choice.finish_reason})"
            else:
                self._usable.append(
                    Response(
                        choice.text, choice.finish_reason, answer.input_tokens, count, answer.seed, answer.adjusted
                    )
                )

    def responses(self) -> list[Response]:
        """Those that can be used.

        Raises
        ------
        Unanswerable : the model, or its provider, declines the prompt
        NothingUsable : no answer holds text
        """
        if self._usable:
            return self._usable
        if declined := next((problem for problem in FINAL if self._problems[problem]), None):
            raise Unanswerable(declined, f"the model declines to answer: {self._seen}")
        raise NothingUsable(f"the answers hold no text: {self._seen}")


def apportion(total: int, weights: list[int]) -> list[int]:
    """Whole numbers in proportion to ``weights`` that sum to ``total``.

    OpenAI's format counts the tokens of all choices together; their mean is what costs are fitted on, and it is exact.
    """
    share = [weight + 1 for weight in weights]  # an empty response has an end-of-text token
    bounds = [total * sum(share[:i]) // sum(share) for i in range(len(share) + 1)]
    return [high - low for low, high in pairwise(bounds)]
