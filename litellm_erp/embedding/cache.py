"""A bounded memory of embeddings, by hash of the text: no prompt is kept.

Worth having where embedding costs milliseconds, and for conversations, whose retries embed the same text again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from litellm_erp.embedding.base import Array, Embedder, EmbedderSpec


class CachedEmbedder:
    """The least recently used embeddings of one embedder; itself an `Embedder`. Safe to share between threads.

    Parameters
    ----------
    embedder : what computes an embedding that is not there
    max_entries : vectors to keep; at 384 dimensions one takes 1.6 kB
    looked_up : told of each embedding whether it was at hand
    """

    def __init__(
        self, embedder: Embedder, max_entries: int = 4096, *, looked_up: Callable[[bool], None] = lambda hit: None
    ) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries is {max_entries}; expected at least 1")
        self._embedder = embedder
        self._max_entries = max_entries
        self._looked_up = looked_up
        self._vectors: OrderedDict[bytes, Array] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def spec(self) -> EmbedderSpec:
        return self._embedder.spec

    @property
    def inline(self) -> bool:
        return self._embedder.inline

    def __len__(self) -> int:
        return len(self._vectors)

    def embed(self, texts: Sequence[str]) -> Array:
        """As the embedder's own, for those texts that are not at hand."""
        keys = [_key(text) for text in texts]
        known = {key: vector for key in set(keys) if (vector := self._get(key)) is not None}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            for key, vector in zip(missing, self._embedder.embed(list(missing.values())), strict=True):
                known[key] = self._put(key, vector)
        if not keys:
            return self._embedder.embed([])
        return np.stack([known[key] for key in keys])

    async def aembed(self, text: str) -> Array:
        """As the embedder's own; the vector is shared and cannot be written to."""
        key = _key(text)
        vector = self._get(key)
        return self._put(key, await self._embedder.aembed(text)) if vector is None else vector

    def embed_counted(self, text: str) -> tuple[Array, int]:
        return self.embed([text])[0], self.count_tokens(text)

    def count_tokens(self, text: str) -> int:
        """As the embedder's own."""
        return self._embedder.count_tokens(text)

    def files(self) -> Sequence[Path]:
        """As the embedder's own."""
        return self._embedder.files()

    def close(self) -> None:
        """Forget everything and close the embedder."""
        with self._lock:
            self._vectors.clear()
        self._embedder.close()

    def _get(self, key: bytes) -> Array | None:
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
        self._looked_up(vector is not None)
        return vector

    def _put(self, key: bytes, vector: Array) -> Array:
        # A row of a batch is a view that would keep the whole batch alive.
        own = np.array(vector, dtype=np.float32)
        own.flags.writeable = False
        with self._lock:
            self._vectors[key] = own
            self._vectors.move_to_end(key)
            if len(self._vectors) > self._max_entries:
                self._vectors.popitem(last=False)
        return own


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
