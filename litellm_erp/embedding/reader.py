"""IO. Prompts to embeddings on the way of a request: slow embedders are waited for so long and no longer."""

from __future__ import annotations

import asyncio
import math
import time

import numpy as np

from litellm_erp.choice.prompt import PromptText
from litellm_erp.embedding.base import Embedder, check
from litellm_erp.errors import EmbeddingError, EmbeddingTimeout
from litellm_erp.metrics.recorder import metrics

_CHARS_PER_TOKEN = 4.0
_BREAKER_FAILURES = 5
_BREAKER_PAUSE_S = 5.0


class Breaker:
    """Stops asking an embedder that keeps failing, so that its timeout is not added to every request."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0
        # Whether it has opened since the embedder last answered.
        self.is_failing = False

    def is_open(self) -> bool:
        """Whether to skip the embedder for now."""
        return time.monotonic() < self._open_until

    def record(self, ok: bool) -> None:
        """Count a failure, or forget them all."""
        self._failures = 0 if ok else self._failures + 1
        if self._failures >= _BREAKER_FAILURES:
            self._failures = 0
            self._open_until = time.monotonic() + _BREAKER_PAUSE_S
            self.is_failing = True
        elif ok:
            self.is_failing = False


class Reader:
    """Reads the prompts of one group.

    Parameters
    ----------
    group : for metrics
    timeout_s : of an embedder that has to be waited for
    """

    def __init__(self, group: str, timeout_s: float) -> None:
        self._group, self._timeout_s = group, timeout_s
        self._breaker = Breaker()

    async def read(self, embedder: Embedder, prompt: PromptText) -> tuple[np.ndarray, float]:
        """Embedding of what was kept of a prompt, shape (D,), and tokens of the whole of it.

        Raises
        ------
        EmbeddingError : no embedding in time, one that is none, or an embedder that is left alone
        """
        vector, n_tokens = await self._embed(embedder, prompt.text)
        return vector, n_tokens * (prompt.n_chars / max(1, len(prompt.text)))

    async def _embed(self, embedder: Embedder, text: str) -> tuple[np.ndarray, float]:
        if embedder.inline:
            vector, n_tokens = embedder.embed_counted(text)
            return _finite(vector, embedder.spec.dimension), n_tokens
        if self._breaker.is_open():
            raise EmbeddingError("the embedder failed repeatedly and is left alone for a few seconds")
        try:
            vector = await asyncio.wait_for(embedder.aembed(text), self._timeout_s)
            vector = _finite(check(vector, embedder.spec.dimension), embedder.spec.dimension)
        except Exception as e:
            # A client that hangs up raises no Exception, and says nothing of the embedder.
            self._record(ok=False)
            if isinstance(e, asyncio.TimeoutError) and not isinstance(e, EmbeddingError):
                raise EmbeddingTimeout(f"no embedding within {self._timeout_s} s") from e
            raise
        self._record(ok=True)
        return vector, len(text) / _CHARS_PER_TOKEN

    def _record(self, *, ok: bool) -> None:
        before = self._breaker.is_failing
        self._breaker.record(ok=ok)
        if self._breaker.is_failing != before:
            metrics.breaker(self._group, self._breaker.is_failing)


def _finite(vector: np.ndarray, dimension: int) -> np.ndarray:
    # A product with itself is finite where every number is, and takes a third of the time of looking at each.
    if vector.shape != (dimension,) or not math.isfinite(vector.dot(vector)):
        raise EmbeddingError(f"an embedding has shape {vector.shape} or is not finite; expected ({dimension},)")
    return vector
