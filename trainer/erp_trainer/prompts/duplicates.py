"""PURE. Prompts that say nearly the same, and splits that keep them together.

Two prompts are near-duplicates where the Jaccard similarity of their word 5-grams is at least ``THRESHOLD``: case,
punctuation and white space do not count, and a text of fewer than five words is one shingle. At 0.6, two prompts of
forty words that differ in one word in the middle are near-duplicates (35 of 41 five-grams), and two tasks behind the
same twenty words of instructions are not, unless they are shorter than six words.

Candidates come from MinHash with banding, and every candidate pair is then compared exactly: what is grouped is
similar, and a pair at the threshold is missed once in eighty times. Hashes do not depend on the process or its seed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

THRESHOLD = 0.6
# Of the prompts that are tested on, where nothing else is stated.
TEST_SHARE = 0.5
WORDS = 5
_BANDS, _ROWS = 32, 4
_BLOCK = 4096
_WORD = re.compile(r"\w+")


def near_duplicate_groups(texts: Sequence[str]) -> np.ndarray:
    """Number texts so that near-duplicates have the same number.

    Returns
    -------
    shape (P,), int64, from 0 in first-seen order; similarity is not transitive, groups are: A and C share one where
    both resemble B

    Source: Broder (1997), shingles and MinHash; banding as in Leskovec, Rajaraman and Ullman, section 3.4.
    """
    words: dict[str, int] = {}
    shingles = [_shingles(text, words) for text in texts]
    signatures = np.stack([_signature(found) for found in shingles]) if shingles else np.empty((0, 0))
    parent = list(range(len(shingles)))

    def root(p: int) -> int:
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        return p

    for band in range(_BANDS):
        first: dict[bytes, int] = {}
        rows = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        for p in range(len(shingles)):
            # Compared with the first of its bucket only: all pairs of a bucket of templates would be quadratic.
            leader = first.setdefault(rows[p].tobytes(), p)
            a, b = root(leader), root(p)
            if a != b and _jaccard(shingles[leader], shingles[p]) >= THRESHOLD:
                parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(p), len(numbers)) for p in range(len(shingles))], dtype=np.int64)


def split_by_share(
    groups_P: np.ndarray, categories: Sequence[str], seed: int, test_share: float = TEST_SHARE
) -> list[str]:
    """Assign "train" and "test", in their shares of every category, with the prompts of a group on one side.

    Parameters
    ----------
    groups_P : shape (P,), int; a group counts as of the category of its first prompt
    test_share : in (0, 1). Categories too small for a prompt of the smaller side share one

    Source: seats by votes (Webster's divisors), category by category.
    """
    members: dict[int, list[int]] = {}
    for p, group in enumerate(np.asarray(groups_P).tolist()):
        members.setdefault(group, []).append(p)
    strata: dict[str, list[list[int]]] = {}
    for found in members.values():
        strata.setdefault(categories[found[0]], []).append(found)
    share = {"train": 1.0 - test_share, "test": test_share}
    tiny = [name for name, found in strata.items() if len(found) * min(share.values()) < 0.5]
    # Sorted first, the tiny ones together: halves have none.
    order = [strata[name] for name in sorted(strata.keys() - set(tiny))]
    order += [[found for name in sorted(tiny) for found in strata[name]]] if tiny else []
    rng = np.random.default_rng(seed)
    splits = [""] * len(groups_P)
    overall = {"train": 0, "test": 0}
    for stratum in order:
        inside = {"train": 0, "test": 0}
        shuffled = [stratum[i] for i in rng.permutation(len(stratum))]
        # Large groups first, so that single prompts can even out what they leave.
        for found in sorted(shuffled, key=len, reverse=True):
            half = len(found) / 2
            side = min(
                ("train", "test"),
                key=lambda name: ((inside[name] + half) / share[name], (overall[name] + half) / share[name]),
            )
            inside[side] += len(found)
            overall[side] += len(found)
            for p in found:
                splits[p] = side
    return splits


def _shingles(text: str, words: dict[str, int]) -> np.ndarray:
    """Sorted, distinct 64-bit hashes of a text's word 5-grams."""
    found = _WORD.findall(text.casefold()) or [" ".join(text.split())]
    codes = np.array([words.get(word) or words.setdefault(word, _hash(word)) for word in found], dtype=np.uint64)
    length = min(WORDS, len(codes))
    # A base per position, so that the same words in another order are another shingle.
    grams = np.zeros(len(codes) - length + 1, dtype=np.uint64)
    for position in range(length):
        grams = grams * np.uint64(0x9E3779B97F4A7C15) + codes[position : position + len(grams)]
    return np.unique(grams)


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


_RNG = np.random.default_rng(20_240_229)
_FACTORS = _RNG.integers(1, 1 << 63, size=_BANDS * _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _RNG.integers(0, 1 << 63, size=_BANDS * _ROWS, dtype=np.uint64)


def _signature(shingles: np.ndarray) -> np.ndarray:
    smallest = np.full(_BANDS * _ROWS, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(shingles), _BLOCK):
        hashed = shingles[start : start + _BLOCK, None] * _FACTORS + _OFFSETS
        # The low bits of a product mix least; fold the high ones in.
        np.minimum(smallest, (hashed ^ (hashed >> np.uint64(29))).min(axis=0), out=smallest)
    return smallest


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.intersect1d(a, b, assume_unique=True).size
    return float(shared / (a.size + b.size - shared))
