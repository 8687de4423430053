"""Prompts, responses and texts of many lengths: words drawn by Zipf's law, each of them one token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.prompts import plain_words, zipf_words
from erp_trainer.rewards.base import Pair
from litellm_erp.embedding.static import MODEL_DIR, VOCABULARY_FILE

K = 4


class Writer:
    """Texts by seed."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._words = sorted(plain_words((MODEL_DIR / VOCABULARY_FILE).read_text(encoding="utf-8").split("\n")))

    def text(self, median: float, spread: float, most: int = 100_000) -> str:
        """Of log-normal length, in words."""
        return self.words(min(int(self._rng.lognormal(np.log(median), spread)), most))

    def words(self, count: int) -> str:
        """Of so many words."""
        return " ".join(zipf_words(self._words, count, self._rng, 37))

    def texts(self, count: int, most: int = 100_000) -> list[str]:
        """As prompts are, up to so many words."""
        return [self.text(60, 0.8, most) for _ in range(count)]

    def pairs(self, count: int) -> list[Pair]:
        """K responses to every prompt."""
        prompts = [self.text(30, 0.7) for _ in range(-(-count // K))]
        return [Pair(prompts[i // K], self.text(80, 1.0)) for i in range(count)]

    def long_pairs(self, count: int, words: int) -> list[Pair]:
        """All of one length."""
        return [Pair(self.words(words // 4), self.words(words - words // 4)) for _ in range(count)]


def batches(items: Sequence[object], size: int) -> list[slice]:
    """As they come."""
    return [slice(i, i + size) for i in range(0, len(items), size)]
