"""LiteLLM callbacks whose embedders break on command, for tests/test_proxy_broken.py.

Two routers over real embedder classes: ``static_router`` for the groups of the settings file that ``BROKEN_STATIC``
names, ``transformer_router`` for those of ``BROKEN_TRANSFORMER``. How they break is the text of the file that
``BROKEN_MODE`` names, read at every call; see :func:`spoilt`.
"""

import os
import time
from pathlib import Path

import numpy as np

from litellm_erp.embedding import Embedder
from litellm_erp.embedding.base import Array
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.embedding.transformer import EmbeddingBatcher, TransformerEmbedder
from litellm_erp.errors import EmbeddingError
from litellm_erp.goals import settings
from litellm_erp.proxy import ErpRouter

_MODE_FILE = Path(os.environ["BROKEN_MODE"])


def spoilt(vectors: Array) -> Array:
    """Vectors as the mode wants them.

    ``ok``: as they are; ``raises``: EmbeddingError; ``bug``: an error that no embedder should raise; ``shape``: one
    dimension missing; ``nan``: not finite; ``zero``: no direction.
    """
    mode = _mode()
    if mode == "raises":
        raise EmbeddingError("told to raise")
    if mode == "bug":
        raise ZeroDivisionError("told to have a bug")
    if mode == "shape":
        return vectors[..., :-1]
    scale = {"nan": np.nan, "zero": 0.0}.get(mode, 1.0)
    return np.asarray(vectors * np.float32(scale))


class BrokenStatic(StaticEmbedder):
    """The shipped embedder, spoilt."""

    def embed_counted(self, text: str) -> tuple[Array, int]:
        vector, n_tokens = super().embed_counted(text)
        return spoilt(vector), n_tokens


class Model:
    """Stands in for a sentence-transformers model: the shipped embedder, spoilt; at ``hang`` it does not return."""

    def __init__(self) -> None:
        self._embedder = StaticEmbedder()
        self.max_seq_length = 512

    def encode(self, texts: list[str], **options: object) -> Array:
        while _mode() == "hang":
            time.sleep(0.02)
        vectors = self._embedder.embed(texts)
        # A transformer has a direction for every text, also for one without a word.
        vectors[~vectors.any(axis=1), 0] = 1.0
        return spoilt(vectors)


class BrokenTransformer(TransformerEmbedder):
    """A transformer embedder with its own thread, batcher and checks, around :class:`Model`."""

    def __init__(self) -> None:
        self._name = "broken"
        self._model = Model()
        self._batcher = EmbeddingBatcher(self._encode)
        self.spec = StaticEmbedder().spec


def _mode() -> str:
    return _MODE_FILE.read_text(encoding="utf-8")


def _router(variable: str, embedder: Embedder) -> ErpRouter:
    return ErpRouter(settings.load_settings(os.environ[variable]), embedder=embedder)


static_router = _router("BROKEN_STATIC", BrokenStatic())
transformer_router = _router("BROKEN_TRANSFORMER", BrokenTransformer())
