"""No user's request fails because of routing: the one place on its path that catches what our own code raises."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litellm_erp.errors import ErpError
from litellm_erp.metrics.recorder import metrics
from litellm_erp.telemetry import Once

_once = Once()


class OverBudget(Exception):
    """A request that its budget refuses; ``answer`` is what its client gets."""

    def __init__(self, answer: Exception) -> None:
        super().__init__()
        self.answer = answer


async def first_that_works(where: str, ways: Sequence[Callable[..., Awaitable[Any]]], *args: Any, **kwargs: Any) -> Any:
    """What the first way gives that does not fail; None where all do.

    What is caught is counted. A further failure, while a safe λ is looked for after one, is not counted again
    (``goals.lambda_of``). What LiteLLM's functions raise is caught where they are called.

    Parameters
    ----------
    ways : each but the first is also given the error of the one before it

    Raises
    ------
    the answer of an :class:`OverBudget`
    """
    error: tuple[Exception, ...] = ()
    for way in ways:
        try:
            return await way(*args, *error, **kwargs)
        except OverBudget as e:
            raise e.answer from None
        except Exception as e:
            error = (e,)
            name = way.__name__.strip("_")
            metrics.failed(name)
            # Only our own messages are known to hold nothing of a prompt.
            said = f": {e}" if isinstance(e, ErpError) else ""
            _once.warn(f"{where}: {name} failed: {type(e).__name__}{said}")
    return None


def guarded(hook: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A hook that only looks on: where it fails, LiteLLM goes on as if it had none."""
    ways = (hook,)

    @functools.wraps(hook)
    async def checked(*args: Any, **kwargs: Any) -> Any:
        return await first_that_works("litellm_erp", ways, *args, **kwargs)

    return checked
