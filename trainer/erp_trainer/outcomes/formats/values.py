"""PURE. Values in the records of other tools: numbers, prompts and named scores, or a clear word on what is wrong."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from erp_trainer.prompts.conversation import decoded, texts

# Where a request or a sample holds what was asked.
_ASKED_UNDER = ("messages", "input", "prompt", "question", "query", "text")


class BadRecord(ValueError):
    """A record is not what its format promises; says what was found and expected, but not where."""


class NoOutcome(Exception):
    """A sound record that holds no outcome, such as a call that failed; says why in words that can be counted."""


def member(record: Mapping[str, Any], name: str) -> Any:
    """What a record must hold under ``name``.

    Raises
    ------
    BadRecord : it holds nothing there
    """
    if record.get(name) in (None, ""):
        raise BadRecord(f"no {name!r}; found {names(record)}")
    return record[name]


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, also one that was written as text; empty for anything else."""
    value = decoded(value)
    return value if isinstance(value, Mapping) else {}


def names(found: Iterable[str]) -> str:
    """A few names for a message."""
    listed = [" ".join(str(name)[:40].split()) for name in found]
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "") if listed else "nothing"


def number(value: Any) -> float | None:
    """A finite number, also a boolean or a number written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, (bool, int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def reward(value: Any, name: str) -> float:
    """The number that a measure gave.

    Raises
    ------
    BadRecord : it is no finite number
    """
    found = number(value)
    if found is None:
        raise BadRecord(f"{name} is {short(value)}; expected a finite number")
    return found


def count(value: Any) -> int | None:
    """A number of tokens; None where it is not recorded, or recorded as 0, which no call can have."""
    found = number(value)
    return int(found) if found is not None and found > 0 else None


def cost(value: Any) -> float | None:
    """A cost in USD; None where it is not recorded."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def prompt_of(value: Any) -> str:
    """A prompt as the outcomes table holds it: text, or chat messages as a JSON list.

    Parameters
    ----------
    value : text, chat messages (as a list, or as JSON in a text), or an object that holds them as ``messages``

    Raises
    ------
    NoOutcome : messages without any text, such as images alone
    BadRecord : no prompt
    """
    if isinstance(value, str):
        inside = decoded(value)
        # Text that only happens to be JSON, such as a list of numbers to sort, stays text.
        value = inside if _holds_chat(inside) else value
    if isinstance(value, Mapping):
        return prompt_of(next((value[key] for key in _ASKED_UNDER if value.get(key)), None))
    if isinstance(value, list) and value:
        strings = all(isinstance(part, str) for part in value)
        value = "\n\n".join(value) if strings else _chat(value)
    if not isinstance(value, str) or not value.strip():
        raise BadRecord(f"no prompt; found {short(value)}, expected text or chat messages")
    return value


def _holds_chat(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = value.get("messages")
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "role" in v for v in value)


def _chat(messages: list[Any]) -> str | None:
    """Chat messages as JSON, those without text left out; a single user message of text is that text.

    That is how a model without a chat was asked the same, and what the prompt is matched by.
    """
    if not all(isinstance(turn, Mapping) and "content" in turn for turn in messages):
        return None
    turns = [turn for turn in messages if texts(turn["content"])]
    if not turns:
        raise NoOutcome("prompts without text")
    plain = [{"role": str(turn.get("role", "user")), "content": "\n\n".join(texts(turn["content"]))} for turn in turns]
    if len(plain) == 1 and plain[0]["role"] == "user":
        return plain[0]["content"]
    return json.dumps(plain, ensure_ascii=False)


def text_id(*parts: str) -> str:
    """16 hex digits that change with any part; the prompt_id of what has no id of its own."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def chosen(scores: Mapping[str, Any], metric: str | None, known: Iterable[str]) -> str:
    """Which of several measures is the reward.

    Parameters
    ----------
    scores : name to value, at least one
    metric : the one asked for
    known : names in the order in which they are taken where none was asked for

    Raises
    ------
    BadRecord : the wanted one is missing, or none is known and there are several
    """
    if metric is not None:
        if metric not in scores:
            raise BadRecord(f"no measure {metric!r}; found {names(scores)}. Choose one of them with --metric")
        return metric
    found = next((name for name in known if name in scores), None)
    if found is not None:
        return found
    if len(scores) == 1:
        return next(iter(scores))
    raise BadRecord(f"several measures: {names(scores)}; expected one. Choose it with --metric NAME")


def short(value: Any) -> str:
    """A value for a message."""
    found = repr(value)
    return found if len(found) <= 60 else f"{found[:57]}…"
