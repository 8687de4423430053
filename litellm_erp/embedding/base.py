"""What every embedder is, and what every vector must be.

Invariants
----------
* A vector that comes from outside this process passes `check` before anything uses it.
* Rows are L2-normalised. The zero vector is the one exception, and only the static embedder gives it, for text
  without any token: a probe then predicts its intercept, the mean reward, which is what is known of such a prompt.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from litellm_erp.errors import EmbedderMismatch, EmbeddingError
from litellm_erp.shown import shown

Array = npt.NDArray[np.float32]
# Kinds whose files a bundle may carry: what is read of them is nothing but numbers and words.
CARRIED_KINDS = frozenset({"static"})


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What must stay the same between fitting probes and serving them; part of a bundle's manifest.

    Attributes
    ----------
    kind : ``static``, ``transformer`` or ``endpoint``
    id : name of the model; never a secret
    revision : the pinned revision of the model, where it has one
    dimension : D
    max_bytes : bytes of UTF-8 that a prompt is cut to before it is embedded
    max_tokens : tokens the model reads of it; None: all
    sha256 : of the model's files, where they are known
    normalised : rows have unit length
    url : of an endpoint, without user, password, query and fragment
    """

    kind: str
    id: str
    revision: str | None
    dimension: int
    max_bytes: int
    max_tokens: int | None
    sha256: str | None
    normalised: bool = True
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The spec as a plain dict, for manifest.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "EmbedderSpec":
        """Read what `to_json` wrote.

        Parameters
        ----------
        value : the ``embedder`` object of a manifest; keys this version does not know are ignored

        Raises
        ------
        EmbedderMismatch : a key is missing or of the wrong type
        """
        if not isinstance(value, dict):
            raise EmbedderMismatch(f"embedder is {type(value).__name__}; expected an object. Fit the bundle again")
        given = {"revision": None, "max_tokens": None, "sha256": None, "normalised": True, "url": None, **value}
        for key, types in _TYPES.items():
            if not _is_a(given.get(key), types):
                raise EmbedderMismatch(
                    f"embedder.{key} is {shown(given.get(key))}; expected {' or '.join(t.__name__ for t in types)}. "
                    "Fit the bundle again"
                )
        if given["dimension"] < 1 or given["max_bytes"] < 1:
            raise EmbedderMismatch("embedder.dimension and embedder.max_bytes must be at least 1. Fit the bundle again")
        return cls(**{f.name: given[f.name] for f in fields(cls)})


class Embedder(Protocol):
    """Anything that turns text into vectors.

    Attributes
    ----------
    spec : what it is
    inline : `embed` is fast enough to run on the event loop
    """

    @property
    def spec(self) -> EmbedderSpec: ...

    @property
    def inline(self) -> bool: ...

    def embed(self, texts: Sequence[str]) -> Array:
        """Embed texts; blocks.

        Parameters
        ----------
        texts : P texts; what exceeds ``spec.max_bytes`` is the caller's to cut (`litellm_erp.choice.prompt`)

        Returns
        -------
        shape (P, D), float32, L2-normalised

        Raises
        ------
        EmbeddingError : the model or server did not deliver
        """
        ...

    async def aembed(self, text: str) -> Array:
        """Embed one text without blocking the event loop.

        Returns
        -------
        shape (D,), float32, L2-normalised

        Raises
        ------
        EmbeddingError : the model or server did not deliver
        """
        ...

    def embed_counted(self, text: str) -> tuple[Array, int]:
        """Embed one text and count its tokens at once; blocks unless `inline`.

        Returns
        -------
        shape (D,), float32, L2-normalised; and what `count_tokens` says

        Raises
        ------
        EmbeddingError : the model or server did not deliver
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of the text, for the cost of a request; an estimate where no tokenizer is at hand."""
        ...

    def files(self) -> Sequence[Path]:
        """Files that a bundle carries, so that it outlives the version of the wheel it was fitted with; often none.

        Only an embedder that reads nothing but numbers and words has any, of a kind in `CARRIED_KINDS`.
        """
        ...

    def close(self) -> None:
        """Release threads and connections; the embedder is not used afterwards."""
        ...


def check(vector: object, dimension: int) -> Array:
    """Accept a vector, or a matrix of them, that came from outside.

    Parameters
    ----------
    vector : shape (D,) or (P, D), of any real dtype or nested lists of numbers
    dimension : D; 0 accepts any

    Returns
    -------
    the same shape, float32, L2-normalised

    Raises
    ------
    EmbeddingError : wrong shape, not numbers, NaN, inf, or a row of zeros

    Source: ours; a NaN would make every utility NaN and every comparison false, silently.
    """
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as e:
        raise EmbeddingError(f"an embedding is not numeric ({e}); expected {dimension or 'D'} numbers") from e
    if array.ndim not in (1, 2) or array.shape[-1] != (dimension or array.shape[-1]) or not array.shape[-1]:
        raise EmbeddingError(
            f"an embedding has shape {array.shape}; expected {dimension or 'D'} numbers per text. "
            "Is this the embedder that the probes were fitted on?"
        )
    if not np.isfinite(array).all():
        raise EmbeddingError("an embedding contains NaN or inf; expected finite numbers. Check the embedding server")
    norms = np.linalg.norm(array, axis=-1, keepdims=True)
    if not norms.all() or not np.isfinite(norms).all():
        raise EmbeddingError("an embedding has a length of zero or overflows; expected a direction")
    scaled: Array = array / norms
    return scaled


_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "id": (str,),
    "revision": (str, type(None)),
    "dimension": (int,),
    "max_bytes": (int,),
    "max_tokens": (int, type(None)),
    "sha256": (str, type(None)),
    "normalised": (bool,),
    "url": (str, type(None)),
}


def _is_a(value: object, types: tuple[type, ...]) -> bool:
    # bool is an int to Python; a dimension of true is not.
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
