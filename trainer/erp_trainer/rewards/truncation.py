"""PURE. What is cut where prompt and response are longer than a reward model's context.

The rule, version 1, for a context of N tokens of which the template and special tokens take T:

1. What fits is not touched.
2. The prompt keeps its last tokens: all of them while they are at most half of N − T, else what the response leaves
   free, and half of N − T in any case. Of a conversation the oldest texts go first; emptied turns stay in place, since
   templates insist on alternating roles.
3. The response keeps its first tokens: what the prompt leaves free.
4. Where T alone is over N (hundreds of turns), the two oldest messages are dropped until it is not.

Texts are cut between tokens of the original text and tokenised again whole, so that a cut pair is scored exactly as
the same texts would be had they come that short. Tokenising again may differ by a token or two at the cut; the
response gives those up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

RULE = 1


class Tokens(ABC):
    """The tokenizer of the reward model, on single texts, without special tokens."""

    @abstractmethod
    def encode(self, text: str) -> list[Any]:
        """Something for each token of a text: its id, or where it lies."""

    @abstractmethod
    def decode(self, text: str, kept: list[Any], *, from_start: bool) -> str:
        """The text of its first tokens, or of its last ones; never of none or all."""

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.encode(text))

    def first(self, text: str, n: int) -> str:
        """The text of its first ``n`` tokens."""
        found = self.encode(text)
        return "" if n <= 0 else text if n >= len(found) else self.decode(text, found[:n], from_start=True)

    def last(self, text: str, n: int) -> str:
        """The text of its last ``n`` tokens."""
        found = self.encode(text)
        return "" if n <= 0 else text if n >= len(found) else self.decode(text, found[-n:], from_start=False)


def fit(
    texts: Sequence[str],
    response: str,
    *,
    context: int,
    tokens: Tokens,
    length: Callable[[Sequence[str], str], int],
) -> tuple[list[str], str] | None:
    """Cut a prompt's texts and its response so that they fit.

    Parameters
    ----------
    texts : the prompt's, oldest first; one for a text-pair model
    context : tokens that the model takes
    length : tokens of the whole input for some texts and a response, template and special tokens included

    Returns
    -------
    texts, as many as there were or fewer by whole pairs from the front, and response; None where all fits as it is

    Raises
    ------
    ValueError : a template of its own longer than the context

    Source: ours. Rewards are mostly about the response, whose beginning tells most, and about what was asked last.
    """
    if length(texts, response) <= context:
        return None
    kept = list(texts)
    while (template := length([""] * len(kept), "")) >= context:
        if len(kept) <= 2:
            raise ValueError(f"the template alone takes {template} tokens of a context of {context}")
        kept = kept[2:]
    room = context - template
    n_texts = [tokens.count(text) for text in kept]
    n_response = tokens.count(response)
    n_prompt = min(sum(n_texts), max(room // 2, room - n_response))
    kept = _last_tokens(kept, n_texts, n_prompt, tokens)
    n_response = min(n_response, room - n_prompt)
    while True:
        cut = tokens.first(response, n_response)
        excess = length(kept, cut) - context
        if excess <= 0:
            return kept, cut
        if n_response == 0:
            n_prompt = max(n_prompt - excess, 0)
            kept = _last_tokens(list(texts)[-len(kept) :], n_texts, n_prompt, tokens)
        n_response = max(n_response - excess, 0)


def _last_tokens(texts: list[str], counts: list[int], n: int, tokens: Tokens) -> list[str]:
    """The last ``n`` tokens of all texts together."""
    kept = []
    for text, count in zip(reversed(texts), reversed(counts), strict=True):
        kept.append(text if count <= n else tokens.last(text, n))
        n = max(n - count, 0)
    return kept[::-1]
