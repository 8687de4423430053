"""IO. Embedding a run's prompts on a cluster; vectors and cache are the same as without one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from erp_trainer.learning.embed import Embed, embed_prompts
from erp_trainer.learning.training_table import EmbeddedPrompts
from erp_trainer.pool.pool import RaySettings
from erp_trainer.pool.ray import Workers
from litellm_erp.embedding import Embedder

_PROMPTS_PER_JOB = 1024


def embed_on_ray(settings: RaySettings, load: Callable[[], Embedder]) -> Embed:
    """For ``embed_run``: an embedder in every actor, made there by ``load``."""

    def embed(prompts: tuple[str, ...], embedder: Embedder, advance: Callable[[int], None]) -> EmbeddedPrompts:
        workers = Workers(settings, partial(_embedder, load))
        jobs = (prompts[start : start + _PROMPTS_PER_JOB] for start in range(0, len(prompts), _PROMPTS_PER_JOB))
        vectors = np.empty((len(prompts), embedder.spec.dimension), dtype=np.float32)
        tokens, done = np.empty(len(prompts)), 0
        try:
            for found in workers.map(jobs):
                rows = slice(done, done + len(found.input_tokens_P))
                vectors[rows], tokens[rows] = found.embeddings_PD, found.input_tokens_P
                done = rows.stop
                advance(len(found.input_tokens_P))
        finally:
            workers.close()
        return EmbeddedPrompts(vectors, tokens)

    return embed


def _embedder(load: Callable[[], Embedder]) -> Callable[[tuple[str, ...]], EmbeddedPrompts]:
    embedder = load()
    return lambda prompts: embed_prompts(prompts, embedder)
