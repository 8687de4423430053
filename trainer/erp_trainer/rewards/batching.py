"""PURE. Batches of inputs of like length, as large as memory takes.

Inputs are sorted longest first, so that a batch too large for the memory shows at once, and batches are filled until
rows × longest row is over the budget. Whatever does not fit into memory is halved and tried again, and the smaller
budget is kept.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from erp_trainer.sampling.memory import is_out_of_memory


class TooLarge(MemoryError):
    """One input alone does not fit into memory; ``args`` are its length in tokens and what the device said."""


@dataclass
class TokenBatcher:
    """Runs a function over inputs in batches.

    Attributes
    ----------
    max_tokens : padded tokens per batch; becomes smaller when memory runs out
    shrunk : how often it did
    """

    max_tokens: int
    shrunk: int = 0

    def run(
        self,
        lengths: Sequence[int],
        forward: Callable[[list[int]], Sequence[float]],
        advance: Callable[[int], object],
        free: Callable[[], object] = gc.collect,
    ) -> list[float]:
        """Results in the order of the inputs.

        Parameters
        ----------
        lengths : tokens of every input
        forward : indices of some inputs to their results; raises what torch raises when memory runs out
        free : called before a smaller batch is tried

        Raises
        ------
        TooLarge : one input alone does not fit
        """
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        results = [0.0] * len(lengths)
        done = 0
        while done < len(order):
            longest = max(lengths[order[done]], 1)
            rows = order[done : done + max(self.max_tokens // longest, 1)]
            answer, complaint = _attempt(forward, rows)
            if answer is None:
                free()
                if len(rows) == 1:
                    raise TooLarge(longest, complaint)
                self.max_tokens = longest * (len(rows) // 2)
                self.shrunk += 1
                continue
            for i, result in zip(rows, answer, strict=True):
                results[i] = result
            done += len(rows)
            advance(len(rows))
        return results


def _attempt(forward: Callable[[list[int]], Sequence[float]], rows: list[int]) -> tuple[Sequence[float] | None, str]:
    # The error must be gone before memory is freed: its traceback holds on to the tensors.
    try:
        return forward(rows), ""
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        return None, str(e)
