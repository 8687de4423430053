"""PURE. Which prompts to ask a new pool model: some that say most about it, and some at random to judge it by.

The random ones (the audit) come first from one seeded order of the prompts, so that the audits of several new models
contain one another and the models can be compared on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AUDIT_SHARE = 0.2
MIN_AUDIT = 20
# Of fewer prompts than these none is chosen: the unusual ones would outweigh the others.
MIN_RANDOM = 30


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of an embedding matrix, int, ascending; no row is in both."""

    chosen: np.ndarray
    audit: np.ndarray


def select(embeddings_PD: np.ndarray, n: int, beta: float, *, seed: int = 0) -> Selection:
    """Choose ``n`` of P prompts, a fifth of them (at least ``MIN_AUDIT``) at random.

    Parameters
    ----------
    embeddings_PD : shape (P, D), float32
    beta : ridge penalty of the probe to be fitted
    """
    n = min(n, len(embeddings_PD))
    order = np.random.default_rng(seed).permutation(len(embeddings_PD))
    audit = order[: min(n, max(MIN_AUDIT, round(AUDIT_SHARE * n)))]
    random = order[: max(len(audit), min(n, MIN_RANDOM))]
    chosen = d_optimal(embeddings_PD, n - len(random), beta, given=random)
    return Selection(np.sort(np.concatenate([random[len(audit) :], chosen])), np.sort(audit))


def d_optimal(embeddings_PD: np.ndarray, n: int, beta: float, given: np.ndarray) -> np.ndarray:
    """Greedily pick the ``n`` rows whose predictions are least certain given the rows before.

    Each pick maximises the determinant of XᵀX + βI over the rows taken, which starts with ``given``.

    Source: Fedorov (1972), D-optimal design, with a ridge prior; ties go to the lower row.
    """
    centred = embeddings_PD.astype(np.float64) - embeddings_PD.mean(axis=0, dtype=np.float64)
    start = centred[given]
    inverse_DD = np.linalg.inv(start.T @ start + beta * np.eye(centred.shape[1]))
    variance_P = np.einsum("pd,de,pe->p", centred, inverse_DD, centred, optimize=True)
    variance_P[given] = -np.inf
    picked = []
    for _ in range(n):
        row = int(np.argmax(variance_P))
        picked.append(row)
        direction_D = inverse_DD @ centred[row]
        scale = 1.0 + float(centred[row] @ direction_D)
        inverse_DD -= np.outer(direction_D, direction_D) / scale
        variance_P -= np.square(centred @ direction_D) / scale
        variance_P[row] = -np.inf
    return np.array(picked, dtype=np.int64)
