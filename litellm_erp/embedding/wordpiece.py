"""BERT's uncased word pieces, many times faster than a tokenizer library on the short texts of prompts.

Invariant: ids equal those of ``tokenizers`` with BertNormalizer, BertPreTokenizer and WordPiece, without special
tokens, for any text.

Why it is fast: normalisation never looks across a space, so text is cut at ASCII whitespace, and the ids of a
chunk such as ``don't`` are a dictionary look-up after they were met once. Only a chunk that is not ASCII goes
through ``tokenizers``, which alone knows Unicode's accents, punctuation and CJK rules.

Ids are kept as the bytes of an array, not as Python integers: a chunk's ids are then one object beside its key and not
three anywhere, and between two requests of a busy proxy everything here falls out of the processor's caches.
"""

import re
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece as _WordPieceModel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

# Ids as the bytes of an array of this type, the one that numpy gathers by.
Packed = bytes
_ID = np.dtype(np.intp)

_MAX_WORD = 100
_MAX_CACHED_CHUNK = 32
# BertNormalizer drops every control character but tab, newline and return, so "a\x0bb" is one word.
_DROPPED = bytes(c for c in range(32) if c not in b"\t\n\r") + b"\x7f"
_LOWER = bytes(range(256)).lower()
_WORDS = re.compile(rb"[a-z0-9]+|[^a-z0-9]")


class WordPiece:
    """A tokenizer over a BERT vocabulary. Safe to share between threads.

    Parameters
    ----------
    vocabulary : pieces in id order, those inside a word with ``##`` in front
    unknown : the piece that stands for a word that cannot be split
    max_cached : chunks whose ids are remembered; at some 200 bytes each
    """

    def __init__(self, vocabulary: Sequence[str], unknown: str = "[UNK]", max_cached: int = 32_768) -> None:
        self.tokenizer = reference_tokenizer(vocabulary, unknown)
        self._chunk_ids = _ChunkIds(vocabulary, unknown, self.tokenizer, max_cached)

    def ids(self, text: str) -> list[int]:
        """Ids of the pieces of a text, in order.

        Parameters
        ----------
        text : any string; lone surrogates read as "?"
        """
        ids: list[int] = self.ids_of_bytes(text.encode("utf-8", "replace")).tolist()
        return ids

    def ids_of_bytes(self, data: bytes) -> npt.NDArray[np.intp]:
        """As `ids`, of a text that is encoded already.

        Parameters
        ----------
        data : valid UTF-8

        Returns
        -------
        shape (T,), read only
        """
        chunks = data.translate(_LOWER, _DROPPED).split()
        return np.frombuffer(b"".join(map(self._chunk_ids.__getitem__, chunks)), dtype=_ID)


def reference_tokenizer(vocabulary: Sequence[str], unknown: str = "[UNK]") -> Tokenizer:
    """The same tokenizer built from the ``tokenizers`` library.

    Parameters
    ----------
    vocabulary, unknown : as for `WordPiece`
    """
    # Special tokens are left out: "[MASK]" in a user's text is text.
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(_WordPieceModel(ids, unk_token=unknown, max_input_chars_per_word=_MAX_WORD))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


class _ChunkIds(dict[bytes, Packed]):
    """Ids by lower-cased chunk: the vocabulary's own words always, others while there is room."""

    def __init__(self, vocabulary: Sequence[str], unknown: str, tokenizer: Tokenizer, max_cached: int) -> None:
        # Made in pairs, key and value lie side by side in memory.
        pieces = [(piece.encode(), _pack(i)) for i, piece in enumerate(vocabulary)]
        self._first = dict(pieces)
        self._inner = {piece[2:]: i for piece, i in pieces if piece.startswith(b"##")}
        self._longest_first, self._longest_inner = _longest(self._first), _longest(self._inner)
        self._unknown = self._first[unknown.encode()]
        self._tokenizer = tokenizer
        self._words = {piece: i for piece, i in pieces if piece.isalnum() or len(piece) == 1}
        self._max = len(self._words) + max_cached
        super().__init__(self._words)

    def __missing__(self, chunk: bytes) -> Packed:
        if not chunk.isascii():
            ids = b"".join(map(_pack, self._tokenizer.encode(chunk.decode(), add_special_tokens=False).ids))
        elif not chunk[-1:].isalnum() and (word := self._words.get(chunk[:-1])):
            # A known word and a comma or full stop are most of what is missing; this is the quicker way.
            ids = word + self._word(chunk[-1:])
        else:
            ids = b"".join(map(self._word, _WORDS.findall(chunk)))
        if len(chunk) <= _MAX_CACHED_CHUNK:
            if len(self) >= self._max:
                # Starting over is a millisecond, once in tens of thousands of new words; keeping order would
                # cost every look-up.
                self.clear()
                self.update(self._words)
            self[chunk] = ids
        return ids

    def _word(self, word: bytes) -> Packed:
        return self._words.get(word) or self._pieces(word)

    def _pieces(self, word: bytes) -> Packed:
        if len(word) > _MAX_WORD:
            return self._unknown
        ids: list[Packed] = []
        pieces, longest, start, length = self._first, self._longest_first, 0, len(word)
        while start < length:
            for end in range(min(length, start + longest.get(word[start : start + 2], 1)), start, -1):
                if (piece := pieces.get(word[start:end])) is not None:
                    break
            else:
                return self._unknown
            ids.append(piece)
            pieces, longest, start = self._inner, self._longest_inner, end
        return b"".join(ids)


def _pack(number: int) -> Packed:
    return number.to_bytes(_ID.itemsize, sys.byteorder)


def _longest(pieces: Iterable[bytes]) -> dict[bytes, int]:
    """Length of the longest piece by its first two bytes: hex and base64 would else try every length everywhere."""
    longest: dict[bytes, int] = {}
    for piece in pieces:
        longest[piece[:2]] = max(len(piece), longest.get(piece[:2], 0))
    return longest
