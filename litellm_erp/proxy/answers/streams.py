"""Answers as they pass: what was made of a stream that nobody read to its end, and what an answer tells of itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from litellm_erp.choice.prompt import whole_text
from litellm_erp.goals.request_goal import KEY
from litellm_erp.proxy.litellm_request import field_of, map_of

FIELDS_KEY = "provider_specific_fields"
_CHARS_PER_TOKEN = 4.0
# Where text stands in a piece of an answer: chat and completions, tool calls, messages, Google.
_TEXTS = ("content", "text", "reasoning_content", "thinking", "partial_json", "arguments", "refusal")


async def watched(
    response: Any, request: Mapping[str, Any], abandoned: Callable[[float, float], None]
) -> AsyncIterator[object]:
    """The same stream; one that ends early is told of, on whichever route.

    Its client may go at any time, or have set a time-out of its own: LiteLLM then reports a part of the cost, or
    nothing at all.

    Parameters
    ----------
    abandoned : takes about how many tokens the prompt and what was made of the answer have; 0 and 0 for no answer
    """
    tokens = 0.0
    try:
        async for chunk in response:
            tokens += tokens_in(chunk)
            yield chunk
    except BaseException:
        # A stream that failed before it said anything is LiteLLM's to report.
        abandoned(_prompt_tokens(request) if tokens else 0.0, tokens)
        raise


def told_along(answer: Any, told: Mapping[str, object]) -> Any:
    """An answer, or a piece of one, that tells ``told`` in ``provider_specific_fields.erp``.

    It is left as it is where there is nothing to tell.

    It is a copy, since LiteLLM's cache may still hold what it was given. The last event of ``/v1/responses`` has the
    whole answer in itself, and it is there that clients look.
    """
    if not told:
        return answer
    whole = field_of(answer, "response")
    if whole is not None and not isinstance(whole, str):
        return _with(answer, "response", told_along(whole, told))
    return _with(answer, FIELDS_KEY, {**map_of(field_of(answer, FIELDS_KEY)), KEY: dict(told)})


def _with(holder: Any, name: str, value: object) -> Any:
    if isinstance(holder, Mapping):
        return {**holder, name: value}
    changed = holder.model_copy()
    setattr(changed, name, value)
    return changed


async def explained(response: Any, told: Callable[[], Mapping[str, object]]) -> AsyncIterator[object]:
    """The same stream, whose last piece tells what was decided; each piece comes one later.

    Parameters
    ----------
    told : asked at the end, when it is known who answered
    """
    held: list[object] = []
    try:
        async for chunk in response:
            if held and _can_tell(chunk):
                for earlier in held:
                    yield earlier
                held.clear()
            held.append(chunk)
    except Exception:
        for earlier in held:
            yield earlier
        raise
    if held:
        held[0] = _telling(held[0], told)
    for last in held:
        yield last


def _can_tell(chunk: object) -> bool:
    """Whether a piece is more than a sign of life or a mark of the end."""
    if isinstance(chunk, (bytes, str)):
        return ("{" if isinstance(chunk, str) else b"{") in chunk  # type: ignore[operator]
    return chunk is not None


def _telling(chunk: object, told: Callable[[], Mapping[str, object]]) -> object:
    try:
        if isinstance(chunk, bytes):
            return _last_event_telling(chunk.decode("utf-8"), told()).encode("utf-8")
        return _last_event_telling(chunk, told()) if isinstance(chunk, str) else told_along(chunk, told())
    except Exception:
        # Its client gets what it would have got without asking.
        return chunk


def _last_event_telling(text: str, told: Mapping[str, object]) -> str:
    # A text may hold such a line too, but not at the start of one: JSON escapes its line ends.
    *_, last = re.finditer(r"^data:", text, re.MULTILINE)
    start = last.end()
    event, end = json.JSONDecoder().raw_decode(text[start:].lstrip())
    start = len(text) - len(text[start:].lstrip())
    return f"{text[:start]}{json.dumps(told_along(event, told))}{text[start + end :]}"


def tokens_in(chunk: object) -> float:
    """About how many tokens of the answer a piece of a stream has; never raises."""
    try:
        if isinstance(chunk, (bytes, str)):
            return sum(_tokens(event) for event in _events(chunk))
        return _tokens(chunk)
    except Exception:
        return 1.0


def _tokens(event: object) -> float:
    # Pieces are tokens, or several of them.
    return sum(max(1.0, len(text) / _CHARS_PER_TOKEN) for text in _texts(event))


def _texts(event: object) -> Iterator[str]:
    delta = field_of(event, "delta")
    if isinstance(delta, str) and delta:
        yield delta
    elif delta is not None:
        yield from _spoken(delta)
    for choice in field_of(event, "choices") or ():
        yield from _spoken(field_of(choice, "delta") or choice)
    for candidate in field_of(event, "candidates") or ():
        for part in field_of(field_of(candidate, "content"), "parts") or ():
            yield from _spoken(part)


def _spoken(part: object) -> Iterator[str]:
    for name in _TEXTS:
        text = field_of(part, name)
        if isinstance(text, str) and text:
            yield text
    for call in field_of(part, "tool_calls") or ():
        yield from _spoken(field_of(call, "function"))


def _events(chunk: bytes | str) -> Iterator[object]:
    text = chunk.decode("utf-8", "replace") if isinstance(chunk, bytes) else chunk
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if data.startswith("{"):
            yield json.loads(data)


def _prompt_tokens(request: Mapping[str, Any]) -> float:
    return len(whole_text(request.get("messages"), request)) / _CHARS_PER_TOKEN
