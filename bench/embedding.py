"""Time of one static embedding beside that of the tokenizer library alone.

Prompts are words drawn by Zipf's law with punctuation, each prompt seen once by each column; columns are measured
in turn on every prompt, so that a busy machine slows all of them.
"""

import time
from collections.abc import Callable

import numpy as np

from bench.machine import heading
from bench.prompts import plain_words, zipf_words
from litellm_erp.choice.prompt import from_value
from litellm_erp.embedding.static import MODEL_DIR, VOCABULARY_FILE, StaticEmbedder
from litellm_erp.embedding.wordpiece import WordPiece, reference_tokenizer

WORDS, PROMPTS, WARM_UP = (20, 200, 2000), 400, 100


def main(quick: bool = False) -> None:
    """Print the table."""
    began = time.perf_counter()
    embedder = StaticEmbedder()
    load_s = time.perf_counter() - began
    vocabulary = (MODEL_DIR / VOCABULARY_FILE).read_text(encoding="utf-8").split("\n")
    library = reference_tokenizer(vocabulary[:-1])
    columns: dict[str, Callable[[str], object]] = {
        "tokenizers alone": lambda text: library.encode(text, add_special_tokens=False),
        "word pieces": WordPiece(vocabulary[:-1]).ids,
        "embedding": embedder.embed_counted,
    }
    rng = np.random.default_rng(0)
    print(
        heading(
            "Time of a static embedding, medians in µs",
            "tokenizers alone: the library's encode. word pieces: ours. embedding: word pieces, sum and shape.",
            f"{embedder.spec.id}, loaded in {1000 * load_s:.0f} ms",
        )
    )
    print("words  tokens  " + "  ".join(f"{name + ' µs':>19}" for name in columns) + "  of the tokenizer's")
    for n_words in WORDS:
        texts = [from_value(prompt(vocabulary, n_words, rng)).text for _ in range(PROMPTS // 2 if quick else PROMPTS)]
        tokens = np.median([len(library.encode(text, add_special_tokens=False).ids) for text in texts])
        medians = interleaved(list(columns.values()), texts)
        cells = "  ".join(f"{1e6 * median:19.1f}" for median in medians)
        print(f"{n_words:5}  {tokens:6.0f}  {cells}  {medians[-1] / medians[0]:17.0%}")


def prompt(vocabulary: list[str], n_words: int, rng: np.random.Generator) -> str:
    """A prompt-like text: common words are common, some are capitalised, some end in punctuation."""
    drawn = zipf_words(plain_words(vocabulary), n_words, rng, rng.integers(1, 40, n_words))
    ends = rng.choice(["", "", "", "", "", "", "s", ",", ".", "?"], n_words)
    titled = rng.random(n_words) < 1 / 9
    return " ".join((word.title() if t else word) + end for word, end, t in zip(drawn, ends, titled, strict=True))


def interleaved(functions: list[Callable[[str], object]], texts: list[str]) -> list[float]:
    """Median seconds of each function over the texts, each text in a new order of functions."""
    seconds: list[list[float]] = [[] for _ in functions]
    for i, text in enumerate(texts):
        for j in range(len(functions)):
            k = (i + j) % len(functions)
            began = time.perf_counter()
            functions[k](text)
            seconds[k].append(time.perf_counter() - began)
    return [float(np.median(column[WARM_UP:])) for column in seconds]


if __name__ == "__main__":
    main()
