"""Which requests of a log a model has learned from, so that each counts once, in whatever order they come.

Feedback comes hours after its request, and a log may be learned from team by team: a time up to which all is known
would lose both. So requests are remembered one by one, by a hash, the newest of them; of older ones nothing is
learned again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from erp_trainer.logged.log import Log
from litellm_erp.bundle.files import checked

# Per model: 800 kB.
_KEPT = 50_000


def digest_of(log: Log, p: int) -> float:
    """A request as a whole number of 52 bits, which a float64 holds exactly."""
    about = "\0".join((log.group, log.request_ids[p], log.accounts[p] or ""))
    digest = hashlib.blake2b(about.encode("utf-8", "replace"), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") >> 12)


@dataclass(frozen=True)
class LearnedRequests:
    """Of one model.

    Attributes
    ----------
    rows_N2 : float64, time in seconds since 1970 and digest
    before : all requests up to this time count as learned
    """

    rows_N2: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    before: float = -math.inf

    @classmethod
    def of(cls, own: Mapping[str, np.ndarray], where: Path) -> LearnedRequests:
        """What is kept among a model's sums; nothing in those of a fit.

        Raises
        ------
        BundleError : a tensor is not what it has to be
        """
        if "learned" not in own:
            return cls()
        before = checked(own, "learned_before", (1,), where, most=math.inf)
        return cls(checked(own, "learned", (None, 2), where, most=math.inf), float(before[0]))

    def has(self, log: Log) -> np.ndarray:
        """Shape (P,), bool: which requests of a log were learned from, or are too old to say."""
        digests = np.array([digest_of(log, p) for p in range(len(log.request_ids))])
        return np.isin(digests, self.rows_N2[:, 1]) | (log.time_P <= self.before)

    def with_rows(self, log: Log, rows: Sequence[int]) -> LearnedRequests:
        """After learning from further ones."""
        new = np.array([(log.time_P[p], digest_of(log, p)) for p in rows]).reshape(-1, 2)
        found = np.concatenate([self.rows_N2, new])
        if len(found) <= _KEPT:
            return LearnedRequests(found, self.before)
        found = found[np.argsort(found[:, 0], kind="stable")]
        return LearnedRequests(found[-_KEPT:], float(found[-_KEPT - 1, 0]))

    def tensors(self) -> dict[str, np.ndarray]:
        """To be kept among a model's sums."""
        # No tensor of a bundle holds an infinite number.
        return {"learned": self.rows_N2, "learned_before": np.array([max(self.before, 0.0)])}
