"""PURE. Conversations in the shapes that data sets, request logs and clients have them in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def first_user_turn(conversation: object) -> str | None:
    """Text of the first user turn of a conversation of ``{from, value}`` or ``{role, content}``; None without one."""
    for turn in conversation if isinstance(conversation, list) else []:
        if not isinstance(turn, Mapping):
            continue
        if turn.get("from") in ("human", "user"):
            value = turn.get("value")
            return value if isinstance(value, str) and value.strip() else None
        if turn.get("role") == "user":
            return "\n\n".join(texts(turn.get("content"))) or None
    return None


def decoded(value: Any) -> Any:
    """What JSON in a text says; anything else as it is. Spend logs hold JSON as text."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def texts(content: Any) -> list[str]:
    """Texts of a message's content, which is text or a list of parts; blank ones are left out."""
    return [text for text in _parts(content) if text.strip()]


def plain_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose contents are texts, for chat templates that know nothing else; other parts are left out."""
    return [
        {"role": str(message.get("role", "user")), "content": "\n".join(_parts(message.get("content")))}
        for message in messages
    ]


def _parts(content: Any) -> list[str]:
    parts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    found = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return [text for text in found if isinstance(text, str)]
