"""Kind ``chat-template``: a decoder with a head, such as Ray2333/GRM-Gemma-2B-rewardmodel-ft.

The prompt's messages and the response as the assistant's go through the tokenizer's own chat template, and the one
logit at the last token is the reward.

The template writes BOS itself. What is done to its text is the option ``add_special_tokens``: false, as transformers
advises, means that the tokenizer adds nothing. The GRM family's model cards tokenise the template's text once more with
special tokens, which gives Gemma two BOS in a row; since that is how these were trained and published, it is the
default for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erp_trainer.rewards.base import Pair, RewardOptions
from erp_trainer.rewards.conversation import Message, prompt_messages, with_response, without_system
from erp_trainer.rewards.local import LocalModel, Row, chat_text
from litellm_erp.errors import RewardError, SettingsError

_SPECIAL_TOKENS_AGAIN = ("Ray2333/",)


class ChatForm:
    """A conversation through the tokenizer's chat template."""

    def __init__(self, tokenizer: Any, where: str, *, add_special_tokens: bool, end: Sequence[int] = ()) -> None:
        self.name = "chat, special tokens again" if add_special_tokens else "chat"
        self._tokenizer = tokenizer
        self._where = where
        self._again = add_special_tokens
        self._end = list(end)
        if not getattr(tokenizer, "chat_template", None):
            raise SettingsError(f"{where}: its tokenizer has no chat template; for a model of text pairs use text-pair")
        self._takes_system = self._renders([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])

    def texts(self, pair: Pair) -> list[str]:
        return [str(message["content"]) for message in self._messages(pair)]

    def encode(self, pairs: Sequence[Pair], cut: Sequence[tuple[list[str], str]]) -> list[Row]:
        """Templates first, then one call of the tokenizer."""
        rendered = [self._render(pair, texts, response) for pair, (texts, response) in zip(pairs, cut, strict=True)]
        encoded = self._tokenizer(rendered, add_special_tokens=self._again, return_attention_mask=False, verbose=False)[
            "input_ids"
        ]
        return [{"input_ids": [*ids, *self._end]} for ids in encoded]

    def _messages(self, pair: Pair) -> list[Message]:
        messages = prompt_messages(pair.prompt)
        return messages if self._takes_system else without_system(messages)

    def _render(self, pair: Pair, texts: Sequence[str], response: str) -> str:
        roles = [message["role"] for message in self._messages(pair)][-len(texts) :]
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        try:
            return chat_text(self._tokenizer, with_response(messages, response))
        except Exception as e:  # a template is a program, and may raise anything
            shown = ", ".join(roles)
            raise RewardError(f"{self._where}: its chat template refuses a prompt of the roles {shown} ({e})") from e

    def _renders(self, messages: list[Message]) -> bool:
        try:
            chat_text(self._tokenizer, with_response(messages, "a"))
        except Exception:  # see _render
            return False
        return True


def chat_form(model: LocalModel, options: RewardOptions) -> ChatForm:
    """The form, with the option ``add_special_tokens``."""
    again = options.boolean("add_special_tokens", model.model_id.startswith(_SPECIAL_TOKENS_AGAIN))
    return ChatForm(model.tokenizer, model.where, add_special_tokens=again)


class ChatTemplate(LocalModel):
    """The conversation, response last, in the reward model's own template."""

    def make_form(self, options: RewardOptions) -> ChatForm:
        return chat_form(self, options)
