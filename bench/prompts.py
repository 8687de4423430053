"""English prompts of a wanted length: real ones of examples/llmrouter_example joined, or drawn by Zipf's law."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "llmrouter_example" / "outcomes.parquet"


def prompts(n_words: int, count: int, seed: int = 0) -> list[str]:
    """Texts of ``n_words`` words each, all different: different prompts of the example, joined and cut.

    Line breaks and spaces inside a prompt are kept, since they are what a tokenizer meets.
    """
    rng = np.random.default_rng([seed, n_words])
    source = list(dict.fromkeys(pq.read_table(EXAMPLE, columns=["prompt"])["prompt"].to_pylist()))
    words = np.array([len(text.split()) for text in source])
    found: dict[str, None] = {}
    while len(found) < count:
        order = rng.permutation(len(source))
        enough = int(np.searchsorted(np.cumsum(words[order]), n_words)) + 1
        found[_first_words("\n".join(source[i] for i in order[:enough]), n_words)] = None
    return list(found)


def _first_words(text: str, n_words: int) -> str:
    rest = text.split(maxsplit=n_words)
    return text if len(rest) <= n_words else text[: len(text) - len(rest[-1])].rstrip()


def plain_words(pieces: Iterable[str]) -> list[str]:
    """The word pieces that are words of letters."""
    return [piece for piece in pieces if piece.isascii() and piece.isalpha() and len(piece) > 1]


def zipf_words(words: list[str], count: int, rng: np.random.Generator, steps: int | np.ndarray) -> list[str]:
    """Words of which common ones are common; ``steps`` spreads the ranks over the list."""
    return [words[rank] for rank in np.minimum(rng.zipf(1.3, count), len(words)) * steps % len(words)]
