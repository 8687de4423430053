"""Reward models behind a vLLM server: what ``pooling-server`` and ``internlm`` share.

Invariant: rewards are raw. A server that does not know ``use_activation`` ignores it, and answers a sigmoid's; that is
found out with known pairs before anything is scored.
"""

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

# Scored raw and activated: were they the same, within 0 and 1, nobody could tell which they are.
_KNOWN_PAIRS = (
    Pair("What is 2 + 2?", "2 + 2 is 4."),
    Pair("Name a colour!", "asdf qwer asdf qwer"),
    Pair("Why is the sky blue?", "Because the air scatters short waves of light more than long ones!!"),
)
# A difference beyond what the batch that a pair falls into can make; a sigmoid moves one of three further.
_SAME = 0.02


class ServedModel(RewardModel):
    """Options of `Server`, and ``revision``, which tells two versions under one name apart, ``max_tokens``, and

    ``bounded``: its raw rewards do lie within 0 and 1, so that they are not taken for a sigmoid's.
    """

    def read(self, options: RewardOptions) -> None:
        self.server = Server(options)
        self._revision = options.optional_text("revision")
        self._max_tokens = options.optional_integer("max_tokens", low=2)
        self._bounded = options.boolean("bounded", False)

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
    def reward(self, pair: Pair, texts: Sequence[str], response: str, *, activated: bool = False) -> float:
        """Raw reward, or what the model's activation makes of it; NaN where the server has none."""

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
        self.check()  # asked once, before threads do
        return self.server.each(pairs, self._score_one, lambda pair: advance(1))

    def check(self) -> None:
        """Ask for the context, and whether rewards are raw."""
        _ = self.context
        _ = self._is_raw

    def close(self) -> None:
        self.server.close()

    @cached_property
    def _is_raw(self) -> bool:
        if self._bounded:
            return True
        found = []
        for pair in _KNOWN_PAIRS:
            raw, activated = (self.reward(pair, self.texts(pair), pair.response, activated=a) for a in (False, True))
            if not -_SAME <= raw <= 1 + _SAME or abs(raw - activated) > _SAME:
                return True
            found.append(f"{raw:.4g}")
        version = self.server.version()
        raise RewardError(
            f"{self.where}: {self.server.base} (vLLM {version}) ignores use_activation: known pairs get "
            f"{', '.join(found)} with it and without, which are a sigmoid's or softmax's and no raw rewards. Update "
            "vLLM, whose older releases called the field softmax or activation, or serve with --override-pooler-config "
            """'{"activation": false, "softmax": false}'; where raw rewards do lie within 0 and 1, say bounded: true"""
        )

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
