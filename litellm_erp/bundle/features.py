"""PURE. Features of a prompt that all models of a pool share: how far it belongs to tasks and to clusters.

A linear probe cannot say "this prompt is of task t"; a softmax of linear scores can. A bundle holds a few *sets* of
such softmaxes over one embedding: the tasks that training prompts were labelled with, and clusters of prompts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

from litellm_erp.bundle.probe import Probes


@dataclass(frozen=True, slots=True)
class Features:
    """Sets of memberships, each a softmax of linear scores of the embedding; F of them in all.

    Attributes
    ----------
    weights_DF, bias_F : shape (D, F) and (F,), float32
    sizes : how many memberships each set has, in order; they sum to F
    entropy_Q : shape (Q,), ascending: quantiles, out of fold, of the entropy of the first set's memberships over the
        training prompts, in nats; empty where nothing is known of it
    unusual : the share of training prompts that count as unlike the others: a prompt whose memberships are less certain
        than those of all but a share u of them is believed by u / unusual; 0 believes all
    """

    weights_DF: np.ndarray
    bias_F: np.ndarray
    sizes: tuple[int, ...]
    entropy_Q: np.ndarray
    unusual: float
    _starts: np.ndarray = field(init=False)
    _set_F: np.ndarray = field(init=False)
    _steps: list[float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", np.cumsum([0, *self.sizes[:-1]]))
        object.__setattr__(self, "_set_F", np.repeat(np.arange(len(self.sizes)), self.sizes))
        object.__setattr__(self, "_steps", self.entropy_Q.tolist())

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Linear scores, shape (F,) or (P, F), of embeddings of shape (D,) or (P, D)."""
        scores: np.ndarray = embeddings.dot(self.weights_DF)
        return scores + self.bias_F

    def memberships(self, scores: np.ndarray) -> np.ndarray:
        """Shape (F,) or (P, F), each set's sum to 1.

        Parameters
        ----------
        scores : what :meth:`scores` says
        """
        above = np.maximum.reduceat(scores, self._starts, axis=-1)[..., self._set_F]
        raised = np.exp(scores - above)
        whole: np.ndarray = raised / np.add.reduceat(raised, self._starts, axis=-1)[..., self._set_F]
        return whole

    def entropy(self, memberships: np.ndarray) -> np.ndarray:
        """Entropy of the first set's memberships, shape () or (P,), in nats."""
        first = memberships[..., : self.sizes[0]]
        return -(first * np.log(np.maximum(first, 1e-30))).sum(axis=-1)

    def trust(self, memberships: np.ndarray) -> np.ndarray:
        """How far predictions for a prompt are believed, in [0, 1], shape () or (P,).

        Source: ours; see ``unusual``.
        """
        return self.trust_at(self.entropy(memberships))

    def trust_at(self, entropy: np.ndarray) -> np.ndarray:
        """:meth:`trust` of prompts by the entropy of their first set's memberships, shape () or (P,), in nats."""
        if not self.unusual or not self._steps:
            return np.ones_like(entropy)
        below = np.searchsorted(self.entropy_Q, entropy, side="left")
        return np.minimum(self.unusual, 1.0 - below / len(self._steps)) / self.unusual

    def trust_of_one(self, memberships: np.ndarray) -> float:
        """:meth:`trust` of one prompt, with fewer calls."""
        if not self.unusual or not self._steps:
            return 1.0
        first = memberships[: self.sizes[0]]
        entropy = -float(first.dot(np.log(np.maximum(first, 1e-30))))
        if not math.isfinite(entropy):
            return 0.0
        return min(1.0, (1.0 - bisect_left(self._steps, entropy) / len(self._steps)) / self.unusual)


@dataclass(frozen=True, slots=True)
class FeatureProbes:
    """What an ERP bundle predicts with: a linear probe per model, and what each model earns by membership.

    Attributes
    ----------
    cells_FM : shape (F, M), float32, what is added in proportion to a membership, in reward units
    """

    probes: Probes
    features: Features
    cells_FM: np.ndarray

    def predict(self, embeddings: np.ndarray, memberships: np.ndarray | None = None) -> np.ndarray:
        """Expected reward of every pool model, shape (M,) or (P, M), of embeddings of shape (D,) or (P, D).

        Parameters
        ----------
        memberships : shape (F,) or (P, F), where they are known already

        Raises
        ------
        EmbedderMismatch : D is not the D the probes were fitted on

        Source: arXiv 2603.20217, eq. 3, for the linear part; the mixture of task means is ours.
        """
        linear = self.probes.predict(embeddings)
        if memberships is None:
            memberships = self.features.memberships(self.features.scores(embeddings))
        return linear + memberships.dot(self.cells_FM)
