"""How something is timed when nobody knows how fast the device is, and what memory it takes there."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Row = dict[str, Any]
Emit = Callable[[Row], None]
_GB = 1e9
_MORE_THAN_THERE_IS = 1 << 60


@dataclass(frozen=True)
class Setting:
    """What every part is told.

    Attributes
    ----------
    tiny : sizes for a processor
    seconds : that one figure may take, about
    """

    device: str
    tiny: bool
    seconds: float


@dataclass(frozen=True)
class Timed:
    """The last and largest round: so many items, so long, and what it returned."""

    count: int
    seconds: float
    result: Any


def growing(
    run: Callable[[int], Any], start: int, most: int, seconds: float, *, factor: int = 4, longer: float | None = None
) -> Timed:
    """``run(n)`` for ever larger n, while the next round can be expected to end within ``seconds`` of the begin.

    The first round, which warms up, is never the one that is told.

    Parameters
    ----------
    factor : by which n grows
    longer : by which the time then grows at most; ``factor`` if not given
    """
    run(start)
    count, began = start, time.perf_counter()
    while True:
        synchronise()
        at = time.perf_counter()
        result = run(count)
        synchronise()
        took = time.perf_counter() - at
        if count * factor > most or time.perf_counter() - began + (longer or factor) * took > seconds:
            return Timed(count, took, result)
        count *= factor


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def speed(part: str, way: str, timed: Timed, unit: str, tokens: int, **rest: Any) -> Row:
    """A line of the table."""
    return {
        "part": part,
        "way": way,
        "count": timed.count,
        "unit": unit,
        "seconds": timed.seconds,
        "per_s": timed.count / timed.seconds,
        "tokens_per_s": tokens / timed.seconds,
        **rest,
    }


class Memory:
    """Of one device, in bytes; a processor tells nothing, which is None."""

    def __init__(self, device: str) -> None:
        self.known = device.startswith("cuda")
        self._device = device

    def begin(self) -> None:
        """Let go of what nothing holds on to, and forget the peak."""
        gc.collect()
        if self.known:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def held(self) -> int | None:
        """Now."""
        return int(torch.cuda.memory_allocated(self._device)) if self.known else None

    @property
    def peak(self) -> int | None:
        """Since `begin`."""
        return int(torch.cuda.max_memory_allocated(self._device)) if self.known else None

    @property
    def free(self) -> int | None:
        """On the whole device."""
        return int(torch.cuda.mem_get_info(self._device)[0]) if self.known else None

    @contextmanager
    def scarce(self, leave: int, model: Any, most_tokens: int) -> Iterator[None]:
        """Too little memory inside: all but ``leave`` bytes of the device are taken.

        A processor's memory is not to be used up, so there every forward of more than ``most_tokens`` asks torch for
        more than there can be: the allocator's own error, planted.
        """
        if self.known:
            torch.cuda.empty_cache()
            ballast = torch.empty(max((self.free or 0) - leave, 0), dtype=torch.uint8, device=self._device)
            try:
                yield
            finally:
                del ballast
                torch.cuda.empty_cache()
            return

        def refuse(module: Any, args: Any, kwargs: Any) -> None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if ids is not None and ids.numel() > most_tokens:
                torch.empty(_MORE_THAN_THERE_IS, dtype=torch.uint8)

        hook = model.register_forward_pre_hook(refuse, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()


def gigabytes(n: int | float | None) -> float | None:
    """Bytes in GB, None as it is."""
    return None if n is None else n / _GB
