"""IO. The connection to a Ray cluster, and work spread over actors that keep what they have loaded."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from erp_trainer.pool.pool import RaySettings
from litellm_erp.errors import ErpError, RunError, SettingsError
from litellm_erp.shown import one_line

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
# Batches per worker that wait their turn, so that none waits for the driver.
_AHEAD = 2
_KNOCK_S = 10.0


def connect(settings: RaySettings) -> Any:
    """The ``ray`` module, connected; a second call keeps the connection.

    Raises
    ------
    SettingsError : Ray is not installed, or there is no cluster at the address
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as e:
        raise SettingsError('--engine ray needs Ray; install it with pip install "litellm-erp[ray]"') from e
    if ray.is_initialized():
        return ray
    try:
        _knock(settings.address)
        ray.init(address=settings.address, log_to_driver=False, logging_level="error")
    except Exception as e:  # Ray raises what comes along: ConnectionError, RuntimeError, ValueError, gRPC errors
        raise SettingsError(
            f"ray.address: no Ray cluster can be reached at {settings.address!r} ({one_line(e)}). "
            "Start one with `ray start --head`, with the same Python and Ray as here, or name another address"
        ) from e
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself waits for minutes, and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


class Workers:
    """Actors that each make one worker object and keep it; the driver feeds them batches and gets results in order.

    Parameters
    ----------
    make : called once in every actor; what it returns is called with each batch
    """

    def __init__(self, settings: RaySettings, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._ray = connect(settings)
        actor = self._ray.remote(_Actor).options(
            num_cpus=settings.cpus_per_worker, num_gpus=settings.gpus_per_worker, max_restarts=2, max_task_retries=2
        )
        self._actors = [actor.remote(make) for _ in range(settings.workers)]

    def map(self, jobs: Iterable[_Job]) -> Iterator[Any]:
        """The result of every job, in order.

        Raises
        ------
        ErpError : as the worker raised it
        RunError : a worker died, or failed of something else
        """
        waiting: deque[Any] = deque()
        for number, job in enumerate(jobs):
            if len(waiting) >= _AHEAD * len(self._actors):
                yield self._result(waiting.popleft())
            waiting.append(self._actors[number % len(self._actors)].run.remote(job))
        while waiting:
            yield self._result(waiting.popleft())

    def close(self) -> None:
        """End the actors, so that their memory is free."""
        for actor in self._actors:
            with suppress(Exception):
                self._ray.kill(actor)

    def _result(self, reference: Any) -> Any:
        return result_of(self._ray, reference)


def result_of(ray: Any, reference: Any) -> Any:
    """What a task returned; its own errors as they are, Ray's as a `RunError`."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as e:
        cause = getattr(e, "cause", None)
        if isinstance(cause, ErpError):
            raise cause from e
        raise RunError(f"a Ray worker failed: {type(cause or e).__name__}: {cause or e}") from e
    except ray.exceptions.RayError as e:
        raise RunError(f"a Ray worker ended: {one_line(e)}. Run the same command again") from e


class _Actor:
    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make
        self._work: Callable[[Any], Any] | None = None

    def run(self, job: Any) -> Any:
        # Made here and not before, so that what making it raises reaches whoever asked.
        self._work = self._work or self._make()
        return self._work(job)
