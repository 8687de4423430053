"""PURE. What maps an embedding to one number per pool model, and what it can be read from.

The numbers are in reward units up to what a policy can know of them, so that λ · cost can be subtracted.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from litellm_erp.errors import BundleError, EmbedderMismatch


class Predictor(Protocol):
    """One number per pool model from an embedding."""

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Shape (M,) or (P, M) from embeddings (D,) or (P, D), float32, L2-normalised."""
        ...


@runtime_checkable
class StoredPredictor(Predictor, Protocol):
    """One that is kept in a file of its own; its module in `stored` names it ``PREDICTOR``."""

    def tensors(self) -> dict[str, np.ndarray]:
        """What is stored."""
        ...

    @classmethod
    def read(cls, tensors: StoredTensors, models: int, dimension: int) -> Predictor:
        """The predictor of a stored one.

        Raises
        ------
        BundleError : too many models, or tensors that are not as they must be
        """
        ...


class StoredTensors(Protocol):
    """The tensors of a policy's file. Whatever is asked of them that is not so is a `BundleError` naming the file."""

    def array(self, key: str, *shape: int | None, integers: bool = False) -> np.ndarray:
        """One of a shape (None matches any length), float or int8, finite."""
        ...

    def number(self, key: str) -> float:
        """One of shape (1,)."""
        ...

    def __contains__(self, key: str) -> bool: ...

    def wrong(self, why: str) -> BundleError:
        """The error to raise."""
        ...


def check_dimension(embeddings: np.ndarray, dimension: int) -> None:
    """Raise `EmbedderMismatch` where embeddings are not of the dimension that a policy was fitted on."""
    if embeddings.shape[-1] != dimension:
        raise EmbedderMismatch(
            f"an embedding has {embeddings.shape[-1]} dimensions; the policy was fitted on {dimension}. "
            "Use the embedder that the bundle's manifest names."
        )
