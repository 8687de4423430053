"""PURE. A chat completion as it arrives, checked: what cannot be used is never recorded as if it were an answer.

Content is text, or a list of parts of which the text parts are joined and thinking is left out. An index that comes
twice counts once. A choice without text says why in ``problem``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litellm_erp.shown import one_line

_TEXT_PARTS = ("text", "output_text", None)
# More tokens than any context holds: a number that is none.
_MOST_TOKENS = 10**9
# A model's own decision, or its provider's: asking again until it answers would leave out what users will see.
FINAL = ("refusal", "policy")


class NotAnAnswer(Exception):
    """The body is no chat completion."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the responses in an answer.

    Attributes
    ----------
    output_tokens : None where the server does not count them apart
    problem : why ``text`` is no response: ``refusal``, ``policy``, ``tool calls`` or ``no text``; empty where it is one
    """

    text: str
    finish_reason: str
    output_tokens: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a request brought.

    Attributes
    ----------
    output_tokens : of all choices together
    seed : that was sent
    adjusted : `Parameters.adjusted` as of this request
    """

    choices: list[Choice]
    input_tokens: int | None
    output_tokens: int | None
    seed: int | None
    adjusted: Mapping[str, str | None] = field(default_factory=dict)


def read_completion(body: Any, seed: int | None, adjusted: Mapping[str, str | None]) -> Completion:
    """Check an answer.

    Raises
    ------
    NotAnAnswer : it has no choices, or they are none
    """
    if not isinstance(body, Mapping):
        raise NotAnAnswer(f"the answer is not a chat completion: {one_line(body)}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        # Gateways answer 200 with an error inside.
        raise NotAnAnswer(f"the answer is not a chat completion: {one_line(body.get('error') or body)}")
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return Completion(
        [_choice(choice) for choice in _in_order(choices)],
        input_tokens=counted_tokens(usage.get("prompt_tokens")) or None,
        output_tokens=_written(usage),
        seed=seed,
        adjusted=dict(adjusted),
    )


def _written(usage: Mapping[str, Any]) -> int | None:
    """Output tokens, those of thinking among them: all are paid, and some providers count the latter only apart."""
    found = counted_tokens(usage.get("completion_tokens"))
    details = usage.get("completion_tokens_details")
    thought = counted_tokens(details.get("reasoning_tokens")) if isinstance(details, Mapping) else None
    total = counted_tokens(usage.get("total_tokens"))
    if found is None or not thought or total is None:
        return found
    return found + thought if total == (counted_tokens(usage.get("prompt_tokens")) or 0) + found + thought else found


def text_of(content: Any) -> str | None:
    """The text of a message's content; None where it holds none."""
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, list):
        return None
    texts = [_part(part) for part in parts]
    found = [text for text in texts if text is not None]
    return "".join(found) if found else None


def _part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("type") not in _TEXT_PARTS:
        return None  # thinking, reasoning, tool calls, pictures
    text = part.get("text")
    return text if isinstance(text, str) else None


def _in_order(choices: list[Any]) -> list[Mapping[str, Any]]:
    by_index: dict[int, Mapping[str, Any]] = {}
    for place, choice in enumerate(choices):
        if not isinstance(choice, Mapping):
            raise NotAnAnswer(f"the answer has a choice that is none: {one_line(choice)}")
        index = choice.get("index")
        by_index.setdefault(index if type(index) is int else place, choice)
    return [by_index[index] for index in sorted(by_index)]


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise NotAnAnswer(f"the answer has a choice without a message: {one_line(choice)}")
    finish = str(choice.get("finish_reason") or "unknown")
    ids = choice.get("token_ids")
    text = text_of(message.get("content"))
    problem = "" if text else _problem(text, message, finish)
    return Choice(text or "", finish, len(ids) if isinstance(ids, list) else None, problem)


def _problem(text: str | None, message: Mapping[str, Any], finish: str) -> str:
    if message.get("refusal") or finish == "refusal":
        return "refusal"
    if finish == "content_filter":
        return "policy"
    if message.get("tool_calls") or message.get("function_call"):
        return "tool calls"
    # Text that is empty is a response; so is none where all tokens went into thinking, as a user would see it.
    return "" if text == "" or finish in ("length", "max_tokens") else "no text"


def counted_tokens(value: Any) -> int | None:
    """A number of tokens; None where it is none."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
