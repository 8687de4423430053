"""PURE. What of a request is the continuation of a conversation: its prefixes, and whether tools are at work.

A prompt cache holds what a model has read before, so the next turn of a conversation is cheap where its earlier turns
were served, for as long as the cache lives. Which conversation a request continues is told by its turns: the digest of
all turns up to one of them is that of an earlier request, if a request of the same caller ended there.

No text is kept. Nothing a client sends makes these functions raise, and they take bounded time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

# Turns beyond the first of these are one last turn, and so no request continues another there.
MAX_TURNS = 256
_DIGEST_BYTES = 16
# Of a longer text the ends and the length stand for it: an image would take milliseconds.
_WHOLE_CHARS, _END_CHARS = 4096, 1024
# Calls that the client answers; those that an upstream runs itself (a web search) leave nothing open.
_CALLS = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
)
_ANSWERS = frozenset({"assistant", "model"})
_MAPPING = (dict, Mapping)


def turns_of(messages: object, request: Mapping[str, Any]) -> list[Any]:
    """The turns of a request on any route, oldest first: chat and Anthropic messages, Responses items, Google contents.

    Parameters
    ----------
    messages : chat messages, where LiteLLM passes them apart from the rest
    """
    for found in (messages, request.get("messages"), request.get("input"), request.get("contents")):
        if isinstance(found, (list, tuple)) and found:
            return list(found)
        if isinstance(found, str) and found:
            return [found]
    return []


def prefixes(turns: Iterable[Any], scope: str, system: object = None) -> list[bytes]:
    """A digest of the turns up to each of them; the last is that of the whole request.

    Parameters
    ----------
    scope : whose conversation it is; the same turns of another scope have other digests
    system : what stands before the turns

    Returns
    -------
    at most `MAX_TURNS` digests of 16 bytes
    """
    chain = hashlib.blake2b(scope.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES)
    _add(chain, system)
    found = []
    for i, turn in enumerate(turns):
        _add(chain, turn)
        if i < MAX_TURNS - 1:
            found.append(chain.copy().digest())
    if len(found) == MAX_TURNS - 1:
        found.append(chain.digest())
    return found


def asked_before(turns: list[Any]) -> int:
    """How many turns the request had that the last answer was given to; 0 where there was no answer yet."""
    end = len(turns)
    while end and not _is_answer(turns[end - 1]):
        end -= 1
    while end and _is_answer(turns[end - 1]):
        end -= 1
    return end


def awaits_tools(turns: list[Any]) -> bool:
    """Whether the last answer called tools and its model has not yet spoken since: another would not know why it did.

    Parameters
    ----------
    turns : as from `turns_of`
    """
    for turn in reversed(turns):
        if _is_answer(turn):
            return _calls_tools(turn)
    return False


def _is_answer(turn: object) -> bool:
    kind, role = _get(turn, "type"), _get(turn, "role")
    return (isinstance(role, str) and role in _ANSWERS) or (
        isinstance(kind, str) and (kind == "reasoning" or kind.endswith("_call"))
    )


def _calls_tools(turn: object) -> bool:
    kind = _get(turn, "type")
    if _get(turn, "tool_calls") or _get(turn, "function_call") or (isinstance(kind, str) and kind in _CALLS):
        return True
    content = _get(turn, "content")
    parts = content if isinstance(content, list) else _get(turn, "parts")
    return isinstance(parts, list) and any(
        _get(part, "type") == "tool_use" or bool(_get(part, "functionCall") or _get(part, "function_call"))
        for part in parts
    )


def _add(chain: Any, turn: object) -> None:
    if isinstance(turn, str):
        _add_text(chain, turn)
        return
    role, content = _get(turn, "role"), _get(turn, "content")
    if isinstance(role, str) and isinstance(content, str) and not _get(turn, "tool_calls"):
        # Most turns: no JSON is written of them.
        _add_text(chain, role)
        _add_text(chain, content)
        return
    _add_text(chain, _json(turn))


def _add_text(chain: Any, text: str) -> None:
    if len(text) > _WHOLE_CHARS:
        text = f"{len(text)}:{text[:_END_CHARS]}:{text[-_END_CHARS:]}"
    # The length before the text keeps two short texts from being one long one.
    chain.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))


def _json(turn: object) -> str:
    if not isinstance(turn, (dict, list, tuple)):
        # Programs append LiteLLM's own message objects to their lists.
        turn = getattr(turn, "__dict__", turn)
    try:
        return json.dumps(turn, default=str)
    except (TypeError, ValueError, RecursionError):
        return ""


def _get(item: object, key: str) -> Any:
    return item.get(key) if isinstance(item, _MAPPING) else getattr(item, key, None)
