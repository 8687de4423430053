"""A run's prompts as vectors and token counts, computed once per embedder."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from erp_trainer.learning.training_table import EmbeddedPrompts
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from litellm_erp.choice.prompt import from_value
from litellm_erp.embedding import Embedder

_BATCH = 256


def embed_prompts(
    prompts: tuple[str, ...], embedder: Embedder, advance: Callable[[int], None] = lambda steps: None
) -> EmbeddedPrompts:
    """Embed the prompt cells of an outcomes table.

    Tokens are counted on the text that is embedded and scaled to the length of the full prompt, as the proxy does.
    """
    cut = [from_value(prompt) for prompt in prompts]
    vectors = np.empty((len(cut), embedder.spec.dimension), dtype=np.float32)
    for start in range(0, len(cut), _BATCH):
        batch = cut[start : start + _BATCH]
        vectors[start : start + len(batch)] = embedder.embed([prompt.text for prompt in batch])
        advance(len(batch))
    tokens = [embedder.count_tokens(p.text) * p.n_chars / max(1, len(p.text)) for p in cut]
    return EmbeddedPrompts(vectors, np.array(tokens, dtype=np.float64))


Embed = Callable[[tuple[str, ...], Embedder, Callable[[int], None]], EmbeddedPrompts]


def embed_run(
    run: Run,
    outcomes: OutcomesTable,
    embedder: Embedder,
    advance: Callable[[int], None] = lambda steps: None,
    embed: Embed = embed_prompts,
) -> EmbeddedPrompts:
    """Embed a run's prompts, or take them from the run's cache.

    Parameters
    ----------
    embed : what embeds; a cluster, for example
    """
    key = json.dumps({"embedder": embedder.spec.to_json(), "rule": "prompt.from_value/1"}, sort_keys=True)

    def make() -> np.ndarray:
        found = embed(outcomes.prompts, embedder, advance)
        # One array, so that vectors and counts can never come from different runs of this.
        return np.hstack([found.input_tokens_P[:, None], found.embeddings_PD.astype(np.float64)])

    stored = run.cached_array(key, make)
    return EmbeddedPrompts(stored[:, 1:].astype(np.float32), stored[:, 0])
