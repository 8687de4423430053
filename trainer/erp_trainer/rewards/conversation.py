"""A prompt as reward models read it: one text, or chat messages that end in the response.

* **Text**: the texts of all messages, oldest first, a blank line between them; roles are not named. A prompt of one
  user turn is its text, which is what text-pair models were trained on.
* **Messages**: roles and texts; what is not text (images, tool calls) is left out. The pool model's own system prompt
  is not part of the prompt: the reward is for what the user asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erp_trainer.prompts.conversation import plain_messages

Message = dict[str, Any]


def prompt_messages(prompt: str | Sequence[Message]) -> list[Message]:
    """Chat messages with plain text contents."""
    return plain_messages([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)


def prompt_text(prompt: str | Sequence[Message]) -> str:
    """All text of a prompt."""
    return "\n\n".join(message["content"] for message in prompt_messages(prompt) if message["content"])


def with_response(messages: Sequence[Message], response: str) -> list[Message]:
    """The conversation as it was judged: the prompt's messages, then the response as the assistant's."""
    return [*messages, {"role": "assistant", "content": response}]


def without_system(messages: Sequence[Message]) -> list[Message]:
    """System text put in front of the first user turn, for templates that refuse the role (Gemma's)."""
    system = [message["content"] for message in messages if message["role"] in ("system", "developer")]
    others = [dict(message) for message in messages if message["role"] not in ("system", "developer")]
    for message in others:
        if message["role"] == "user":
            message["content"] = "\n\n".join([*system, message["content"]])
            break
    return others
