"""Kind ``text-pair``: a cross-encoder over (prompt, response), such as OpenAssistant/reward-model-deberta-v3-large-v2.

As its model card uses it: ``tokenizer(question, answer)``, and the one logit is the reward. Called like that,
transformers drops an empty answer together with its separator, and so does vLLM; it is scored so here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erp_trainer.rewards.base import Pair, RewardOptions
from erp_trainer.rewards.conversation import prompt_text
from erp_trainer.rewards.local import LocalModel, Row

_PLAIN = {"return_attention_mask": False, "verbose": False}


class PairForm:
    """``[CLS] prompt [SEP] response [SEP]``, or whatever the tokenizer makes of two texts."""

    name = "pair"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def texts(self, pair: Pair) -> list[str]:
        return [prompt_text(pair.prompt)]

    def encode(self, pairs: Sequence[Pair], cut: Sequence[tuple[list[str], str]]) -> list[Row]:
        """All rows at once, which lets the tokenizer use every core."""
        encoded = self._tokenizer([texts[0] for texts, _ in cut], [response for _, response in cut], **_PLAIN)
        rows = [{key: encoded[key][i] for key in encoded} for i in range(len(cut))]
        for i, (texts, response) in enumerate(cut):
            if not response:  # which it keeps, separator and all, where it is called with lists
                rows[i] = dict(self._tokenizer(texts[0], response, **_PLAIN))
        return rows


class TextPair(LocalModel):
    """The prompt's text and the response's, side by side."""

    def make_form(self, options: RewardOptions) -> PairForm:
        return PairForm(self.tokenizer)
