"""The embedder in the wheel: one vector per word piece, summed, and the shape of the text. numpy only.

Distilled from all-MiniLM-L6-v2 by ``scripts/build_static_embedder.py``; the weight of a token is folded into its
vector, so that the hot path is a gather and a sum.

Invariants
----------
* `StaticEmbedder.embed` of a batch and of each text alone give the same bits.
* ``sha256`` covers everything a vector depends on: token vectors, vocabulary and settings.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from litellm_erp.choice.prompt import MAX_BYTES
from litellm_erp.embedding import shape
from litellm_erp.embedding.base import Array, EmbedderSpec
from litellm_erp.embedding.wordpiece import WordPiece
from litellm_erp.errors import EmbedderMismatch, EmbedderUnavailable
from litellm_erp.shown import shown
from litellm_erp.strict_files import MAX_JSON_BYTES, parse_json, parse_tensors, read_whole

MODEL_DIR = Path(__file__).parent / "static_model"
# A quarter of a million tokens of a thousand numbers; as float32 they take four times as much.
_MAX_VECTORS_BYTES, _MAX_VOCABULARY_BYTES = 256 << 20, 16 << 20
# Far from where sums of squares overflow, or vanish beside one.
_MAX_WEIGHT, _MAX_SCALE = 1e6, 1e6
CONFIG_FILE, VECTORS_FILE, VOCABULARY_FILE = "embedder.json", "vectors.safetensors", "vocab.txt"


@dataclass(frozen=True, slots=True)
class StaticSettings:
    """How the parts of a vector are put together.

    Attributes
    ----------
    shape : version of `litellm_erp.embedding.shape`
    share_weight, length_weight : squared length of either part of the shape; that of the words is 1
    """

    shape: str
    share_weight: float
    length_weight: float


class StaticEmbedder:
    """A table of token vectors. Safe to share between threads.

    Parameters
    ----------
    directory : holds ``embedder.json``, ``vectors.safetensors`` and ``vocab.txt``

    Raises
    ------
    EmbedderUnavailable : a file is missing or cannot be read
    EmbedderMismatch : the files are not those that ``embedder.json`` names by hash, or of another version
    """

    inline = True

    def __init__(self, directory: Path = MODEL_DIR) -> None:
        try:
            config = parse_json(read_whole(directory / CONFIG_FILE, MAX_JSON_BYTES))
            settings = _settings(config["settings"])
            vectors_file = read_whole(directory / VECTORS_FILE, _MAX_VECTORS_BYTES)
            vocabulary_file = read_whole(directory / VOCABULARY_FILE, _MAX_VOCABULARY_BYTES)
            found = file_hash(vectors_file, vocabulary_file, settings)
            if found != config["sha256"] or settings.shape != shape.VERSION:
                raise EmbedderMismatch(
                    f"the static embedder in {directory} has sha256 {found} and shape {shown(settings.shape)}; "
                    f"expected {shown(config['sha256'])} and {shape.VERSION!r}. Its files are damaged, mixed or of "
                    "another version: install litellm-erp again"
                )
            self._vectors = dequantise(parse_tensors(vectors_file))
            vocabulary = vocabulary_file.decode().removesuffix("\n").split("\n")
            if len(vocabulary) != len(self._vectors):
                raise ValueError(f"{len(vocabulary)} tokens and {len(self._vectors)} vectors")
            name = str(config["id"])
            self._wordpiece = WordPiece(vocabulary)
        except (OSError, ValueError, KeyError, TypeError) as e:
            if isinstance(e, EmbedderMismatch):
                raise
            raise EmbedderUnavailable(
                f"the static embedder in {directory} cannot be read ({type(e).__name__}: {shown(e)}). "
                "Install litellm-erp again, or name the folder of a whole embedder"
            ) from e
        self.directory = directory
        self._n_words = self._vectors.shape[1]
        self.spec = EmbedderSpec(
            kind="static",
            id=name,
            revision=None,
            dimension=self._n_words + shape.DIMENSION,
            max_bytes=MAX_BYTES,
            max_tokens=None,
            sha256=found,
        )
        # Weights that add up to one make the whole vector as long as one.
        whole = 1.0 + settings.share_weight + settings.length_weight
        self._word_length = math.sqrt(1.0 / whole)
        self._share_weight, self._length_weight = settings.share_weight / whole, settings.length_weight / whole

    def embed_counted(self, text: str) -> tuple[Array, int]:
        """Vector and token count of a text, tokenising once; the hot path.

        Parameters
        ----------
        text : already cut by `litellm_erp.choice.prompt`

        Returns
        -------
        shape (D,), float32, L2-normalised, zero where the text has no token; and the number of tokens

        Source: model2vec's sum of weighted token vectors; ours are the folding of weights and the shape.
        """
        data = text.encode("utf-8", "replace")
        ids = self._wordpiece.ids_of_bytes(data)
        out = np.zeros(self.spec.dimension, dtype=np.float32)
        if not ids.size:
            return out, 0
        # The plainest call that does each step: what a wrapper of numpy's adds is fetched from memory every time.
        words = np.add.reduce(self._vectors.take(ids, axis=0))
        norm = math.sqrt(words.dot(words))
        out[self._n_words :] = shape.shape_of(data, self._share_weight, self._length_weight)
        if norm > 0.0:
            np.multiply(words, self._word_length / norm, out=out[: self._n_words])
        elif length := math.sqrt(out @ out):
            out /= length
        return out, ids.size

    def embed(self, texts: Sequence[str]) -> Array:
        """As `Embedder.embed`; a row is zero where its text has no token."""
        out = np.zeros((len(texts), self.spec.dimension), dtype=np.float32)
        for row, text in zip(out, texts, strict=True):
            row[:] = self.embed_counted(text)[0]
        return out

    async def aembed(self, text: str) -> Array:
        """As `Embedder.aembed`, on the event loop: it takes tens of microseconds."""
        return self.embed_counted(text)[0]

    def count_tokens(self, text: str) -> int:
        """Word pieces of the text, special tokens not counted."""
        return len(self._wordpiece.ids(text))

    def files(self) -> Sequence[Path]:
        """All of its folder."""
        return sorted(path for path in self.directory.iterdir() if path.is_file())

    def close(self) -> None:
        """Nothing to release."""


def _settings(value: object) -> StaticSettings:
    """What ``embedder.json`` says; a ValueError or TypeError where a vector could not be made with it."""
    if not isinstance(value, dict):
        raise TypeError(f"settings are {shown(value)}; expected a map")
    settings = StaticSettings(**value)
    for weight in (settings.share_weight, settings.length_weight):
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= _MAX_WEIGHT:
            raise ValueError(f"a weight of the shape is {shown(weight)}; expected a number from 0 to {_MAX_WEIGHT:g}")
    return settings


def file_hash(vectors_file: bytes, vocabulary_file: bytes, settings: StaticSettings) -> str:
    """Identity of a static embedder.

    Parameters
    ----------
    vectors_file, vocabulary_file : bytes of the two files
    settings : as in ``embedder.json``

    Returns
    -------
    sha256 in hex, over the sha256 of each
    """
    parts = (vectors_file, vocabulary_file, json.dumps(asdict(settings), sort_keys=True).encode())
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()


def quantise(vectors_VD: Array) -> dict[str, np.ndarray]:
    """Eight bits a number, with one scale per token.

    Parameters
    ----------
    vectors_VD : shape (V, D), float32, token weights folded in

    Returns
    -------
    ``vectors`` (V, D) int8 and ``scales`` (V,) float32

    Source: model2vec's int8; a scale per token is ours, because token weights span two orders of magnitude.
    """
    largest_V = np.abs(vectors_VD).max(axis=1)
    scales_V = (np.where(largest_V > 0, largest_V, 1.0) / 127.0).astype(np.float32)
    return {"vectors": np.rint(vectors_VD / scales_V[:, None]).astype(np.int8), "scales": scales_V}


def dequantise(tensors: dict[str, np.ndarray]) -> Array:
    """What `quantise` made, as float32.

    Parameters
    ----------
    tensors : ``vectors`` (V, D) int8 and ``scales`` (V,) float32

    Returns
    -------
    shape (V, D), float32

    Raises
    ------
    ValueError : shapes or dtypes are others
    """
    vectors, scales = tensors["vectors"], tensors["scales"]
    if vectors.dtype != np.int8 or vectors.ndim != 2 or scales.shape != vectors.shape[:1]:
        raise ValueError(f"vectors are {vectors.dtype} {vectors.shape} with scales {scales.shape}")
    if not (np.issubdtype(scales.dtype, np.floating) and ((scales >= 0) & (scales <= _MAX_SCALE)).all()):
        raise ValueError(f"scales of dtype {scales.dtype}; expected numbers from 0 to {_MAX_SCALE:g}")
    full = vectors.astype(np.float32)
    full *= scales.astype(np.float32)[:, None]
    return full
