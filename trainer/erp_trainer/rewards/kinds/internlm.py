"""Kind ``internlm``: internlm/internlm2-7b-reward and its sizes, in one of two ways.

* ``via: vllm``, the default: vLLM's own implementation behind a server (``--runner pooling``). The conversation is
  tokenised by the server, the reward token is appended, and ``/pooling`` gives a raw reward per token, of which the
  last counts.
* ``via: remote-code``: the repository's own modelling code in this process, which runs code from the hub. It needs
  ``trust_remote_code: true`` and a ``revision`` of 40 hex digits.

Both follow the repository's ``get_score`` (revision 6539b1d of the 20B): the chat template's text without further
special tokens, then the reward token, and the value head at that token. Rows are padded on the left, so that the reward
token is the last of its row, as the code expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Pair, RewardModel, RewardOptions
from erp_trainer.rewards.kinds.chat_template import ChatForm
from erp_trainer.rewards.local import LocalModel
from erp_trainer.rewards.served import ServedModel, chat_ids, reward_or_nan
from litellm_erp.errors import RewardError, SettingsError

REWARD_TOKEN_ID = 92527  # [UNUSED_TOKEN_130] of the InternLM2 vocabulary


def load_internlm(spec: RewardSpec) -> RewardModel:
    """The class for ``via``."""
    rest = replace(spec, options={key: value for key, value in spec.options.items() if key != "via"})
    via = spec.options.get("via", "vllm")
    if via not in ("vllm", "remote-code"):
        raise SettingsError(f"rewards.{spec.name} (internlm): via: found {via!r}; expected vllm or remote-code")
    return InternLMServer(rest) if via == "vllm" else InternLMRemoteCode(rest)


class InternLMServer(ServedModel):
    """Options of `ServedModel`, and ``reward_token_id``."""

    def read(self, options: RewardOptions) -> None:
        super().read(options)
        self._reward_token = options.optional_integer("reward_token_id") or REWARD_TOKEN_ID

    def form(self) -> dict[str, Any]:
        return {"via": "vllm", "reward_token_id": self._reward_token}

    def length(self, pair: Pair, texts: Sequence[str], response: str) -> int:
        return len(self._ids(pair, texts, response))

    def reward(self, pair: Pair, texts: Sequence[str], response: str, *, activated: bool = False) -> float:
        ids = self._ids(pair, texts, response)
        answer = self.server.post("/pooling", input=[ids], use_activation=activated, encoding_format="float")
        rewards = self.one_row(answer, "data")
        rows = rewards if isinstance(rewards, list) else []
        if len(rows) != len(ids) or not all(isinstance(row, list) and row for row in rows):
            raise RewardError(
                f"{self.where}: found {str(rewards)[:80]} for {len(ids)} tokens; expected a list with one reward for "
                "each, as vLLM's InternLM2ForRewardModel gives"
            )
        return reward_or_nan(rows[-1][0])

    def _ids(self, pair: Pair, texts: Sequence[str], response: str) -> list[int]:
        return [*chat_ids(self.server, self.conversation(pair, texts, response)), self._reward_token]


class InternLMRemoteCode(LocalModel):
    """The repository's own code, in this process."""

    auto_class = "AutoModel"

    def check_options(self) -> None:
        """Nothing is read from the repository before its code is trusted."""
        if not self.trust_remote_code:
            raise SettingsError(
                f"{self.where}: via remote-code runs code from {self.model_id}: say trust_remote_code: true and pin a "
                "revision, or serve it with vLLM (via: vllm)"
            )
        super().check_options()

    def make_form(self, options: RewardOptions) -> ChatForm:
        """The chat, and the reward token after it."""
        token = getattr(self.config, "reward_token_id", None)
        if not isinstance(token, int):
            raise SettingsError(f"{self.where}: {self.model_id} states no reward_token_id; expected InternLM2-Reward")
        return ChatForm(self.tokenizer, self.where, add_special_tokens=False, end=[token])

    def check_config(self) -> None:
        """A value head has no labels to count."""

    @staticmethod
    def pad(values: list[int], width: int, filler: int) -> list[int]:
        return [filler] * (width - len(values)) + values
