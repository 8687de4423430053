"""Reward models behind a vLLM server: what ``pooling-server`` and ``internlm`` share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from erp_trainer.rewards.base import Advance, Pair, RewardModel, RewardOptions, Scored
from erp_trainer.rewards.conversation import Message, prompt_messages, with_response, without_system
from erp_trainer.rewards.server import Server, ServerTokens, surely_fits, token_ids
from erp_trainer.rewards.truncation import RULE, fit
from litellm_erp.errors import RewardError


class ServedModel(RewardModel):
    """Options of `Server`, and ``revision``, which tells two versions under one name apart, and ``max_tokens``."""

    def read(self, options: RewardOptions) -> None:
        self.server = Server(options)
        self._revision = options.optional_text("revision")
        self._max_tokens = options.optional_integer("max_tokens", low=2)

    @abstractmethod
    def form(self) -> dict[str, Any]:
        """The kind's own part of the identity."""

    def texts(self, pair: Pair) -> list[str]:
        """The prompt's texts, oldest first."""
        return [message["content"] for message in self.messages(pair)]

    def messages(self, pair: Pair) -> list[Message]:
        """The prompt's messages, in roles that the served model's template takes."""
        messages = prompt_messages(pair.prompt)
        has_system = any(message["role"] in ("system", "developer") for message in messages)
        return without_system(messages) if has_system and not self._takes_system else messages

    def conversation(self, pair: Pair, texts: Sequence[str], response: str) -> list[Message]:
        """Messages with these texts in the roles of the prompt's last ones, and the response."""
        messages = self.messages(pair)[-len(texts) :] if texts else []
        kept = [{"role": message["role"], "content": text} for message, text in zip(messages, texts, strict=True)]
        return with_response(kept, response)

    @abstractmethod
    def length(self, pair: Pair, texts: Sequence[str], response: str) -> int:
        """Tokens of the whole input, or an upper bound."""

    @abstractmethod
    def reward(self, pair: Pair, texts: Sequence[str], response: str) -> float:
        """Raw reward; NaN where the server has none."""

    def identity(self) -> dict[str, Any]:
        """What is served, not where."""
        return {
            "kind": self.kind,
            "model": self.server.model,
            "revision": self._revision,
            "max_tokens": self._max_tokens,
            "truncation_rule": RULE,
            **self.form(),
        }

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        _ = self.context  # asked once, before threads do
        return self.server.each(pairs, self._score_one, lambda pair: advance(1))

    def close(self) -> None:
        self.server.close()

    @cached_property
    def context(self) -> int | None:
        """Tokens of an input at most; None where neither options nor server say."""
        stated = [n for n in (self._max_tokens, self.server.context()) if n]
        return min(stated, default=None)

    @cached_property
    def _takes_system(self) -> bool:
        try:
            chat_ids(self.server, with_response([{"role": "system", "content": "s"}, *prompt_messages("u")], "a"))
        except RewardError:  # refused; a server that is away says so again
            return False
        return True

    def _score_one(self, pair: Pair) -> Scored:
        texts = self.texts(pair)
        cut = self._cut(pair, texts)
        kept, response = cut or (texts, pair.response)
        return Scored(self.reward(pair, kept, response), cut is not None)

    def _cut(self, pair: Pair, texts: list[str]) -> tuple[list[str], str] | None:
        if self.context is None or surely_fits([*texts, pair.response], self.context):
            return None
        try:
            return fit(
                texts,
                pair.response,
                context=self.context,
                tokens=ServerTokens(self.server),
                length=lambda texts, response: self.length(pair, texts, response),
            )
        except ValueError as e:
            raise RewardError(f"{self.where}: {e}") from e

    def one_row(self, answer: dict[str, Any], field: str) -> Any:
        """A field of the only row of an answer.

        Raises
        ------
        RewardError : the answer is not one row with that field
        """
        try:
            (row,) = answer["data"]
            return row[field]
        except (KeyError, TypeError, ValueError) as e:
            raise RewardError(f"{self.where}: found {str(answer)[:200]}; expected one row with {field!r}") from e


def chat_ids(server: Server, messages: Sequence[Message], *, add_special_tokens: bool = False) -> list[int]:
    """Tokens of a conversation in the served model's template."""
    return token_ids(
        server, messages=list(messages), add_generation_prompt=False, add_special_tokens=add_special_tokens
    )


def reward_or_nan(found: object) -> float:
    """A reward; NaN for null."""
    return float(found) if isinstance(found, (int, float)) else math.nan
