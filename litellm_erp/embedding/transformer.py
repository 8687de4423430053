"""Any sentence-transformers model, in one thread of its own, behind a batcher.

Requests that arrive while a batch runs form the next one, so that a model that takes ten milliseconds for one
text serves many at once without a window to tune and without delay when the proxy is idle.

Invariant: the event loop only ever puts work in a queue and is told of the result.
"""

import hashlib
import threading
from asyncio import wrap_future
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from litellm_erp.choice.prompt import MAX_BYTES
from litellm_erp.embedding.base import Array, EmbedderSpec, check
from litellm_erp.errors import EmbedderUnavailable, EmbeddingError

MAX_BATCH = 64


class TransformerEmbedder:
    """A sentence-transformers model. Safe to share between threads and event loops.

    Parameters
    ----------
    name : id on the Hugging Face hub, or a local directory
    revision : commit hash or tag on the hub
    trust_remote_code : run code from the model's repository; only with a `revision`, so that what runs is what
        was reviewed. A model whose configuration names code of another repository is pinned less far: that
        code's revision is not this one
    device : as torch names it; None: the best there is

    Raises
    ------
    EmbedderUnavailable : the extra is missing, the model cannot be loaded, or code is trusted without a revision
    """

    inline = False

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        device: str | None = None,
    ) -> None:
        if trust_remote_code and not revision:
            raise EmbedderUnavailable(
                f"embedder {name!r} is to run code from its repository without a pinned revision. "
                "Set revision to the commit hash of the code that you have reviewed"
            )
        directory = Path(name).expanduser()
        local = directory.is_dir()
        self._name = name
        self._model = _load(str(directory) if local else name, revision, trust_remote_code, device)
        self._batcher = EmbeddingBatcher(self._encode)
        self.spec = EmbedderSpec(
            kind="transformer",
            id=name,
            # An id without a revision is pinned to the commit it stood for when the probes were fitted.
            revision=revision or _commit(self._model),
            # Asked of a vector: models that bring their own code do not always state it, and this warms it up.
            dimension=self.embed(["dimension"]).shape[1],
            max_bytes=MAX_BYTES,
            max_tokens=self._model.max_seq_length,
            sha256=weights_hash(directory) if local else None,
        )

    def embed(self, texts: Sequence[str]) -> Array:
        """As `Embedder.embed`, in batches of 64."""
        return self._batcher.run(list(texts)).result()

    async def aembed(self, text: str) -> Array:
        """As `Embedder.aembed`, in the model's thread, together with whatever else waits."""
        return await wrap_future(self._batcher.put(text))

    def embed_counted(self, text: str) -> tuple[Array, int]:
        return self.embed([text])[0], self.count_tokens(text)

    def count_tokens(self, text: str) -> int:
        """Tokens of the text by the model's own tokenizer, before its limit, special tokens not counted."""
        return len(self._model.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def files(self) -> Sequence[Path]:
        """None: a model's files may hold code."""
        return ()

    def close(self) -> None:
        """Stop the thread; what still waits is cancelled."""
        self._batcher.close()

    def _encode(self, texts: list[str]) -> Array:
        try:
            vectors = self._model.encode(
                texts, batch_size=MAX_BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
            )
        except Exception as e:
            raise EmbeddingError(f"embedder {self._name!r} failed ({type(e).__name__}: {e})") from e
        return check(vectors, 0)


class EmbeddingBatcher:
    """Runs one function of many texts in one thread; texts that arrive meanwhile form the next batch.

    Parameters
    ----------
    encode : texts → one row each; runs in the batcher's thread only
    max_batch : texts in one call
    """

    def __init__(self, encode: Callable[[list[str]], Array], max_batch: int = MAX_BATCH) -> None:
        self._encode = encode
        self._max_batch = max_batch
        self._waiting: deque[tuple[str, Future[Array]]] = deque()
        self._lock = threading.Lock()
        self._scheduled = False
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="erp-embed")

    def put(self, text: str) -> "Future[Array]":
        """Queue one text.

        Returns
        -------
        future of shape (D,); cancelling it takes the text out of a batch that has not begun

        Raises
        ------
        EmbeddingError : the batcher is closed
        """
        future: Future[Array] = Future()
        with self._lock:
            self._refuse_if_closed()
            self._waiting.append((text, future))
            if not self._scheduled:
                self._thread.submit(self._run_one_batch)
                self._scheduled = True
        return future

    def run(self, texts: list[str]) -> "Future[Array]":
        """Queue a whole list, to be encoded in one call.

        Returns
        -------
        future of shape (P, D)

        Raises
        ------
        EmbeddingError : the batcher is closed
        """
        with self._lock:
            self._refuse_if_closed()
            return self._thread.submit(self._encode, texts)

    def close(self) -> None:
        """Cancel what waits and stop the thread after the batch it is at."""
        with self._lock:
            self._closed = True
            waiting = [future for _, future in self._waiting]
            self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)
        # Outside the lock: cancelling runs the waiters' callbacks, which may call back into the batcher.
        for future in waiting:
            future.cancel()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise EmbeddingError("the embedder is closed; load it again")

    def _run_one_batch(self) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
        batch = [(text, future) for text, future in batch if future.set_running_or_notify_cancel()]
        try:
            if batch:
                rows = self._encode([text for text, _ in batch])
                for (_, future), row in zip(batch, rows, strict=True):
                    future.set_result(row.copy())
        except BaseException as e:
            for _, future in batch:
                _fail(future, e)
        with self._lock:
            # One batch a task, not a loop: a long `run` from another thread gets its turn in between.
            self._scheduled = bool(self._waiting) and not self._closed
            if self._scheduled:
                self._thread.submit(self._run_one_batch)


def weights_hash(directory: Path) -> str | None:
    """Identity of a local model: its weights and the configuration of every module.

    Parameters
    ----------
    directory : of a sentence-transformers model

    Returns
    -------
    sha256 in hex over names and bytes of all ``*.safetensors``, ``*.bin``, ``*.json`` and ``*.txt`` files; None
    where there are none
    """
    files = sorted(p for p in directory.rglob("*") if p.suffix in {".safetensors", ".bin", ".json", ".txt"})
    if not files:
        return None
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as f:
            whole.update(f"{path.relative_to(directory).as_posix()} {path.stat().st_size}\n".encode())
            while block := f.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def _fail(future: "Future[Array]", error: BaseException) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        # It was answered before a later row of the batch failed.
        return


def _commit(model: Any) -> str | None:
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    commit = getattr(config, "_commit_hash", None)
    return commit if isinstance(commit, str) else None


def _load(name: str, revision: str | None, trust_remote_code: bool, device: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as e:
        raise EmbedderUnavailable(
            f'embedder {name!r} needs sentence-transformers ({e}). Run: pip install "litellm-erp[transformer]"'
        ) from e
    try:
        return SentenceTransformer(name, revision=revision, trust_remote_code=trust_remote_code, device=device)
    except Exception as e:
        raise EmbedderUnavailable(
            f"embedder {name!r} (revision {revision or 'not pinned'}) cannot be loaded ({type(e).__name__}: {e}). "
            "Check its name, that this machine can reach the hub or holds the files, and, where the model brings "
            "its own code, set trust_remote_code and revision"
        ) from e
