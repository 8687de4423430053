"""What LiteLLM's hooks tell of an answer: who gave it, and what it cost.

Nothing that an upstream reports makes a function here raise: what is odd counts as not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from litellm_erp.budgets.amounts import amount
from litellm_erp.choice.conversation import first_call
from litellm_erp.goals.tenant import Tenant
from litellm_erp.proxy.litellm_request import field_of, map_of, tenant_in, text_of
from litellm_erp.proxy.request_note import metadata_of, noted, tenant_of
from litellm_erp.serving.call_cost import FinishedCall
from litellm_erp.serving.note import Note

_MAX_TOKENS = 1e9
_MAX_ID_CHARS = 200
_NO_TEXT = ("tool_calls", "function_call", "images", "audio")
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")


class CallEvent:
    """The arguments of a logging hook, read once.

    Attributes
    ----------
    note : the request's; None where no routed group was asked
    """

    def __init__(self, kwargs: object, response: object) -> None:
        event = map_of(kwargs)
        params = map_of(event.get("litellm_params"))
        self.note, self._metadata = noted(params)
        if self.note is None:
            self._metadata = metadata_of(params)
        tokens_in, tokens_out = _tokens(event, response)
        answer_id = field_of(response, "id")
        self.call = FinishedCall(
            _answered_by(self.note, map_of(params.get("model_info")).get("id")),
            text_of(self._metadata.get("model_group")),
            event.get("cache_hit") is True,
            answer_id[:_MAX_ID_CHARS] if isinstance(answer_id, str) else "",
            amount(event.get("response_cost")),
            tokens_in,
            tokens_out,
        )

    def tenant(self) -> Tenant:
        """Who asked."""
        return tenant_in(self._metadata) if self.note is None else tenant_of(self._metadata, self.note)


def call_of_response(
    note: Note, data: Mapping[str, Any], response: object, call_info: Mapping[str, Any]
) -> FinishedCall:
    """Who answered, from the arguments of the headers hook; the logging object alone is right after a fallback."""
    logged = data.get("litellm_logging_obj")
    params = map_of(getattr(logged, "litellm_params", None))
    details = map_of(getattr(logged, "model_call_details", None))
    return FinishedCall(
        _answered_by(note, map_of(params.get("model_info")).get("id") or call_info.get("model_id")),
        text_of(noted(params)[1].get("model_group")),
        details.get("cache_hit") is True or map_of(getattr(response, "_hidden_params", None)).get("cache_hit") is True,
    )


def answer_text(response: object, most: int) -> str | None:
    """The text of a finished answer, whichever route it came by, a stream's too: LiteLLM hands over the whole of it.

    Reasoning, tool calls, images and sound are no part of it.

    Parameters
    ----------
    most : characters that are given, the first

    Returns
    -------
    "" for an answer that is empty; None where there are several, or it has anything but text
    """
    try:
        return _text(response, most)
    except Exception:
        return None


def answer_call(response: object) -> str | None:
    """Id of the first tool call of a finished answer, see ``choice.conversation.first_call``."""
    try:
        choices = field_of(response, "choices")
        if choices is not None:
            return first_call([field_of(choice, "message") for choice in choices])
        return first_call(field_of(response, "output") or [response])
    except Exception:
        return None


def _text(response: object, most: int) -> str | None:
    choices = field_of(response, "choices")
    if choices is not None:
        if len(choices) != 1:
            return None
        said = field_of(choices[0], "message") or choices[0]
        if any(field_of(said, name) for name in _NO_TEXT):
            return None
        return _joined(field_of(said, "content") or field_of(said, "text") or field_of(said, "refusal") or "", most)
    if (output := field_of(response, "output")) is not None:
        kinds = {field_of(item, "type") for item in output} - {"reasoning"}
        messages = [item for item in output if field_of(item, "type") == "message"]
        parts = [part for message in messages for part in field_of(message, "content") or ()]
        return _joined(parts, most) if kinds <= {"message"} else None
    if (candidates := field_of(response, "candidates")) is not None:
        if len(candidates) != 1:
            return None
        return _joined(field_of(field_of(candidates[0], "content"), "parts") or (), most)
    blocks = field_of(response, "content")
    return None if blocks is None else _joined(blocks, most)


def _joined(found: object, most: int) -> str | None:
    """Text, or the texts of parts; None where a part is something else."""
    if isinstance(found, str):
        return found[:most]
    texts: list[str] = []
    for part in cast(Iterable[object], found):
        if field_of(part, "type") in _THOUGHTS or field_of(part, "thought") is True:
            continue
        text = field_of(part, "text")
        if not isinstance(text, str):
            return None
        texts.append(text[:most])
    return "".join(texts)[:most]


def _answered_by(note: Note | None, stated: object) -> str:
    named = str(stated or "")
    return named if note is None else note.answered_by(named)


def _tokens(event: Mapping[str, Any], response: object) -> tuple[float | None, float | None]:
    """Tokens of the prompt and of the answer; None where what was said makes no sense, 0 where nothing was."""
    logged = map_of(event.get("standard_logging_object"))
    usage = field_of(response, "usage")
    return (
        _said(logged.get("prompt_tokens"), field_of(usage, "prompt_tokens"), field_of(usage, "input_tokens")),
        _said(logged.get("completion_tokens"), field_of(usage, "completion_tokens"), field_of(usage, "output_tokens")),
    )


def _said(*told: object) -> float | None:
    """The most of what was told; None where one makes no sense, a sign that the others do not either."""
    most = 0.0
    for value in told:
        if value is not None:
            number = amount(value, _MAX_TOKENS)
            if number is None:
                return None
            most = max(most, number)
    return most
