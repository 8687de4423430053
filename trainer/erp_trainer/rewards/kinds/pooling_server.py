"""Kind ``pooling-server``: a one-label classifier behind a vLLM server (``--runner pooling``); raw rewards.

``form: chat`` (the default) sends a conversation to ``/classify``, where the server applies the model's chat template;
``form: pair`` sends two texts to ``/score``, for cross-encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erp_trainer.rewards.base import Pair, RewardOptions
from erp_trainer.rewards.conversation import prompt_text
from erp_trainer.rewards.served import ServedModel, chat_ids, reward_or_nan
from erp_trainer.rewards.server import ServerTokens
from litellm_erp.errors import SettingsError

_PAIR_SPECIAL_TOKENS = 4  # RoBERTa's, the most of any


class PoolingServer(ServedModel):
    """Options of `ServedModel`, and ``form`` and ``add_special_tokens`` (to a chat that the template has rendered)."""

    def read(self, options: RewardOptions) -> None:
        super().read(options)
        self._pair = options.choice("form", ("chat", "pair"), "chat") == "pair"
        self._again = options.boolean("add_special_tokens", False)

    def form(self) -> dict[str, Any]:
        return {"form": "pair" if self._pair else "chat", "add_special_tokens": self._again}

    def texts(self, pair: Pair) -> list[str]:
        return [prompt_text(pair.prompt)] if self._pair else super().texts(pair)

    def length(self, pair: Pair, texts: Sequence[str], response: str) -> int:
        if self._pair:
            tokens = ServerTokens(self.server)
            return tokens.count(texts[0]) + tokens.count(response) + _PAIR_SPECIAL_TOKENS
        return len(chat_ids(self.server, self.conversation(pair, texts, response), add_special_tokens=self._again))

    def reward(self, pair: Pair, texts: Sequence[str], response: str, *, activated: bool = False) -> float:
        if self._pair:
            answer = self.server.post("/score", text_1=texts[0], text_2=response, use_activation=activated)
            return reward_or_nan(self.one_row(answer, "score"))
        chat = self.conversation(pair, texts, response)
        answer = self.server.post("/classify", messages=chat, add_special_tokens=self._again, use_activation=activated)
        logits = self.one_row(answer, "probs")
        if not isinstance(logits, list) or len(logits) != 1:
            raise SettingsError(
                f"{self.where}: {self.server.model} answered {str(logits)[:80]}; a reward model is a sequence "
                "classifier with one label"
            )
        return reward_or_nan(logits[0])
