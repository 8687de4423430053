"""PURE. What of a request is the continuation of a conversation: its prefixes, and whether tools are at work.

A prompt cache holds what a model has read before, so the next turn of a conversation is cheap where its earlier turns
were served, for as long as the cache lives. Which conversation a request continues is told by its turns: the digest of
all turns up to one of them is that of an earlier request, if a request of the same caller ended there.

No text is kept. Nothing a client sends makes these functions raise, and they take less time than it took to parse it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from litellm_erp.choice.prompt import SYSTEM_ROLES, item_of

# A longer conversation than any; its next turn is decided as if it were the first.
MAX_TURNS = 2000
_DIGEST_BYTES = 16
_MOST_ID_CHARS = 256
# Calls that the client answers; those that an upstream runs itself (a web search) leave nothing open.
_CALLS = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "mcp_approval_request",
    }
)
_ANSWERS = frozenset({"assistant", "model"})
# What a client may write on a turn, or move to another, without its being another turn.
_MARKS = frozenset({"cache_control"})


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


def prefixes(turns: Iterable[Any], scope: str) -> list[bytes]:
    """A digest of the turns up to each of them; the last is that of the whole request.

    System prompts count elsewhere (`digest`): what they say of the time of day makes no other conversation. A text and
    a list of one text are one content, and marks for a cache are none of it.

    Parameters
    ----------
    scope : whose conversation it is; the same turns of another scope have other digests

    Returns
    -------
    as many as there are turns, 16 bytes each
    """
    chain = hashlib.blake2b(scope.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES)
    found: list[bytes] = []
    for turn in turns:
        if not is_system(turn):
            _add(chain, turn)
        found.append(chain.copy().digest())
    return found


def after(request: bytes, call_id: str) -> bytes:
    """A digest of a request, see `prefixes`, with the answer to it that made this tool call.

    Two runs may begin alike and be answered by two models. Ids alone do not tell: some models count theirs from 0.
    """
    return hashlib.blake2b(request + call_id.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).digest()


def digest(turns: list[Any], system: object = None) -> bytes:
    """A digest of what stands before the turns, and of system prompts among them."""
    chain = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    if system is not None:
        _add_text(chain, _json(_plain(system)))
    for turn in turns:
        if is_system(turn):
            _add(chain, turn)
    return chain.digest()


def is_system(turn: object) -> bool:
    """Whether a turn is a system prompt."""
    role = item_of(turn, "role")
    return isinstance(role, str) and role in SYSTEM_ROLES


def asked_before(turns: list[Any]) -> int:
    """How many turns the request had that the last answer was given to; 0 where there was no answer yet."""
    end = len(turns)
    while end and not _is_answer(turns[end - 1]):
        end -= 1
    while end and _is_answer(turns[end - 1]):
        end -= 1
    return end


def awaits_tools(turns: list[Any]) -> bool:
    """Whether the last answer called tools and its model has not spoken since: another would not know why it did.

    An answer may be several items. One that the client has begun itself, at the very end, is none yet.

    Parameters
    ----------
    turns : as from `turns_of`
    """
    return bool(_calling(turns))


def call_in(turns: list[Any]) -> str | None:
    """Id of the first tool call that `awaits_tools` is of; None where there is none, or it has no id."""
    return first_call(_calling(turns))


def first_call(answer: Iterable[Any]) -> str | None:
    """Id of the first tool call of an answer; None where it called none, or it has no id.

    Parameters
    ----------
    answer : its messages or items, as a client sends them back
    """
    for call in (call for turn in answer for call in _calls_in(turn)):
        for name in ("call_id", "id"):
            if isinstance(found := item_of(call, name), str) and found:
                return found[:_MOST_ID_CHARS]
    return None


def _calling(turns: list[Any]) -> list[Any]:
    """The answer that called tools and whose model has not spoken since; empty where there is none."""
    for answer in reversed(_answers(turns)):
        if any(map(_calls_tools, answer)):
            return answer
        if answer[-1] is not turns[-1]:
            break
    return []


def _answers(turns: list[Any]) -> list[list[Any]]:
    """Runs of items that are one answer each; the last two are enough."""
    runs: list[list[Any]] = []
    inside = False
    for turn in reversed(turns):
        answer = _is_answer(turn)
        if answer and not inside:
            if len(runs) == 2:
                break
            runs.insert(0, [])
        if answer:
            runs[0].insert(0, turn)
        inside = answer
    return runs


def _is_answer(turn: object) -> bool:
    kind, role = item_of(turn, "type"), item_of(turn, "role")
    return (isinstance(role, str) and role in _ANSWERS) or (
        isinstance(kind, str) and (kind in ("reasoning", "mcp_approval_request") or kind.endswith("_call"))
    )


def _calls_tools(turn: object) -> bool:
    kind = item_of(turn, "type")
    if item_of(turn, "tool_calls") or item_of(turn, "function_call") or (isinstance(kind, str) and kind in _CALLS):
        return True
    return any(
        item_of(part, "type") == "tool_use" or bool(item_of(part, "functionCall") or item_of(part, "function_call"))
        for part in _parts(turn)
    )


def _calls_in(turn: object) -> list[Any]:
    """Tool calls that a turn is, or has, as far as they have ids."""
    kind, listed = item_of(turn, "type"), item_of(turn, "tool_calls")
    if isinstance(kind, str) and kind in _CALLS:
        return [turn]
    used = [part for part in _parts(turn) if item_of(part, "type") == "tool_use"]
    return [*listed, *used] if isinstance(listed, (list, tuple)) else used


def _parts(turn: object) -> list[Any]:
    content = item_of(turn, "content")
    parts = content if isinstance(content, list) else item_of(turn, "parts")
    return parts if isinstance(parts, list) else []


def _add(chain: Any, turn: object) -> None:
    role, content = item_of(turn, "role"), item_of(turn, "content")
    if isinstance(turn, str):
        role, content = "user", turn
    if isinstance(content, list) and len(content) == 1 and _is_text(content[0]):
        content = item_of(content[0], "text")
    if isinstance(role, str) and isinstance(content, str) and not item_of(turn, "tool_calls"):
        # Most turns: no JSON is written of them.
        _add_text(chain, role)
        _add_text(chain, content)
        return
    _add_text(chain, _json(_plain(turn)))


def _is_text(part: object) -> bool:
    kind = item_of(part, "type")
    return isinstance(kind, str) and kind.endswith("text") and isinstance(item_of(part, "text"), str)


def _plain(turn: object) -> object:
    """A turn without marks, its parts neither; deeper there are none."""
    if isinstance(turn, list):
        return [_unmarked(part) for part in turn]
    if not isinstance(turn, dict):
        return turn
    return {
        key: [_unmarked(part) for part in value] if isinstance(value, list) else value
        for key, value in _unmarked(turn).items()
    }


def _unmarked(part: Any) -> Any:
    return {key: value for key, value in part.items() if key not in _MARKS} if isinstance(part, dict) else part


def _add_text(chain: Any, text: str) -> None:
    # The length before the text keeps two short texts from being one long one.
    chain.update(f"{len(text)}:".encode())
    chain.update(text.encode("utf-8", "surrogatepass"))


def _json(turn: object) -> str:
    if not isinstance(turn, (dict, list, tuple)):
        # Programs append LiteLLM's own message objects to their lists.
        turn = getattr(turn, "__dict__", turn)
    try:
        return json.dumps(turn, default=str)
    except (TypeError, ValueError, RecursionError):
        return ""
