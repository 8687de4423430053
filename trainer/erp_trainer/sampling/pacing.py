"""How a server is asked: how many requests at once, which failures pass, and how long a failed request waits.

One policy for whoever asks a server, of samples or of rewards: `RequestPace.again` is given to tenacity.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import RetryCallState, retry_if_exception_type

# Jitter must differ between clients; nothing is drawn from it.
_RNG = random.Random()  # noqa: S311


class Busy(Exception):
    """Come back later (429, 503)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Broken(Exception):
    """A server error, a connection that broke, or an answer that makes no sense."""


class Unreachable(Broken):
    """Nobody listens."""


def failure_that_passes(response: httpx.Response, message: str) -> Busy | Broken | None:
    """What an answer without a result says that may be otherwise next time; None where it is a refusal."""
    if response.status_code in (429, 503, 529):
        try:
            return Busy(message, max(0.0, float(response.headers["retry-after"])))
        except (LookupError, ValueError):
            return Busy(message)
    return Broken(message) if response.status_code >= 500 or response.status_code in (408, 409, 425) else None


@dataclass(frozen=True, slots=True)
class RequestPace:
    """The limits of a client.

    Attributes
    ----------
    start, ceiling : requests under way: at first, and at most
    attempts : for a request whose connection broke, or that got a server error
    busy_attempts : for one that was told to come back later (429, 503)
    timeout_attempts : for one that got no answer in time
    backoff_s, max_backoff_s : the first wait, doubled with every further one, and the longest
    patience : prompts in a row that may fail before the server is given up
    """

    start: int = 16
    ceiling: int = 128
    attempts: int = 6
    busy_attempts: int = 10
    timeout_attempts: int = 3
    backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    patience: int = 3

    def wait_s(self, attempt: int, rng: random.Random) -> float:
        """How long to wait after attempt number ``attempt`` (from 0) failed: between half and all of the backoff."""
        longest = min(self.max_backoff_s, self.backoff_s * 2.0**attempt)
        return longest * rng.uniform(0.5, 1.0)

    def again(self) -> dict[str, Any]:
        """Arguments of tenacity's ``Retrying`` and ``AsyncRetrying``: what is tried again, how often, and when."""
        return {
            "retry": retry_if_exception_type((Busy, Broken, TimeoutError)),
            "stop": self._is_spent,
            "wait": self._wait_s,
        }

    def _is_spent(self, state: RetryCallState) -> bool:
        error = _error(state)
        most = self.busy_attempts if isinstance(error, Busy) else self.attempts
        return state.attempt_number >= (self.timeout_attempts if isinstance(error, TimeoutError) else most)

    def _wait_s(self, state: RetryCallState) -> float:
        error, wait_s = _error(state), self.wait_s(state.attempt_number - 1, _RNG)
        if isinstance(error, Busy) and error.retry_after_s is not None:
            return max(wait_s, min(error.retry_after_s, 2 * self.max_backoff_s))
        return wait_s


def _error(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


class Concurrency:
    """Additive increase, multiplicative decrease (AIMD), as TCP does it.

    The limit doubles per round while nothing has gone wrong, grows by one per round afterwards, and is halved when a
    server says that it has too much to do. Requests that began before the last halving say nothing about the new limit.
    A success that took more than a quarter of the timeout does not raise it: waiting in the server's own queue is what
    times out next.
    """

    def __init__(self, pace: RequestPace, timeout_s: float) -> None:
        self._limit = float(min(pace.start, pace.ceiling))
        self._ceiling = pace.ceiling
        self._slow_s = timeout_s / 4
        self._halved_at = float("-inf")
        self._in_slow_start = True

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    def succeeded(self, began: float, now: float, under_way: int) -> None:
        """A request was answered; ``under_way`` counts it."""
        if under_way < self.limit or now - began > self._slow_s:
            return
        grown = self._limit + (1.0 if self._in_slow_start else 1.0 / self._limit)
        self._limit = min(float(self._ceiling), grown)

    def congested(self, began: float, now: float) -> None:
        """A request was refused or timed out."""
        if began > self._halved_at:
            self._limit = max(1.0, self._limit / 2)
            self._halved_at = now
            self._in_slow_start = False
