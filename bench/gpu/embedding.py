"""Embedders: `embedding.transformer` beside padded batches as they come, and one text at a time as a proxy asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.gpu.measuring import Emit, Memory, Setting, gigabytes, growing, speed
from bench.gpu.texts import Writer, batches
from litellm_erp.embedding.transformer import MAX_BATCH, TransformerEmbedder

BATCH = 32
ALONE = 30  # texts


def run(part: str, folder: Path, setting: Setting, emit: Emit) -> None:
    """Ours, the plain loop, how far they differ, and one text alone."""
    memory, texts = Memory(setting.device), Writer().texts(512 if setting.tiny else 32_768)
    embedder = TransformerEmbedder(str(folder), device=setting.device)
    try:
        model = embedder._model
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")

        def tell(way: str, n: int, timed: Any, **rest: Any) -> None:
            tokens = sum(min(embedder.count_tokens(text) + 2, model.max_seq_length) for text in texts[:n])
            row = speed(part, f"{way}, {dtype}", timed, "texts", tokens, **rest)
            emit(row | {"memory_gb": gigabytes(memory.peak)})

        memory.begin()
        ours = growing(lambda n: embedder.embed(texts[:n]), MAX_BATCH, len(texts), setting.seconds)
        tell("ours", ours.count, ours, batch_rows=MAX_BATCH)
        memory.begin()
        plain = growing(lambda n: _loop(model, texts[:n]), MAX_BATCH, len(texts), setting.seconds)
        tell(f"plain loop, {BATCH} at a time", plain.count, plain)
        n = min(ours.count, plain.count)
        cosine = np.sum(ours.result[:n] * plain.result[:n], axis=1)
        emit({"part": part, "fact": "the same vectors as the plain loop", "least_cosine": float(cosine.min())})
        emit({"part": part, "fact": "one text alone", "median_ms": 1000 * _alone(embedder, texts)})
    finally:
        embedder.close()


def _alone(embedder: TransformerEmbedder, texts: Sequence[str]) -> float:
    seconds = []
    for text in texts[:ALONE]:
        began = time.perf_counter()
        embedder.embed([text])
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[ALONE // 3 :]))


@torch.inference_mode()
def _loop(model: Any, texts: Sequence[str]) -> np.ndarray:
    """As model cards have it: pad, run, mean over the tokens, length 1."""
    body, vectors = model[0].auto_model, []
    for part in batches(texts, BATCH):
        encoded = model.tokenizer(
            list(texts[part]), padding=True, truncation=True, max_length=model.max_seq_length, return_tensors="pt"
        ).to(body.device)
        mask = encoded["attention_mask"][..., None]
        hidden = body(**encoded).last_hidden_state.float()
        mean = (hidden * mask).sum(1) / mask.sum(1)
        vectors.append(torch.nn.functional.normalize(mean, dim=1).cpu().numpy())
    return np.concatenate(vectors)
