"""PURE. What a request asks for itself: ``x-erp-lambda: 0.5``, or ``metadata.erp`` in its body.

Nothing a client sends is an error: what makes no sense is a goal that is not granted. Nothing it sends is kept,
quoted or logged either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import Goal, GoalForm

HEADER = "x-erp-lambda"
KEY = "erp"
# A sum of money per window is a team's or a key's; one request has no windows.
GOAL_FORMS: tuple[GoalForm, ...] = ("lambda", "budget_usd_per_1k_requests", "min_quality")
_NUMBER = re.compile(r"[0-9eE.+-]{1,40}", re.ASCII)
_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class RequestGoal:
    """A goal that a request states; None where what it states makes no sense."""

    goal: Goal | None


def read_request_goal(metadata: Mapping[str, Any]) -> RequestGoal | None:
    """The goal in the metadata that LiteLLM attached to a request; the header counts before the body.

    LiteLLM keeps the request's headers in ``headers``, and the client's own metadata in ``requester_metadata``, on
    every route; a program that calls a ``litellm.Router`` itself puts ``erp`` beside them.

    Returns
    -------
    None where the request asks for nothing
    """
    headers = metadata.get("headers")
    if isinstance(headers, Mapping) and HEADER in headers:
        return RequestGoal(_from_text(headers[HEADER]))
    for source in (metadata.get("requester_metadata"), metadata):
        if isinstance(source, Mapping) and source.get(KEY) is not None:
            return RequestGoal(_from_value(source[KEY]))
    return None


def _from_value(value: object) -> Goal | None:
    if isinstance(value, str):
        # OpenAI's own metadata has text as its values.
        number = _from_text(value)
        return number if number is not None or "{" not in value else _from_json(value)
    return _from_map(value) if isinstance(value, Mapping) else None


def _from_json(text: str) -> Goal | None:
    if len(text) > _MAX_CHARS:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _from_map(value) if isinstance(value, Mapping) else None


def _from_map(value: Mapping[Any, Any]) -> Goal | None:
    if len(value) != 1 or next(iter(value)) not in GOAL_FORMS:
        return None
    try:
        return Goal.from_mapping(value, where=KEY)
    except SettingsError:
        return None


def _from_text(value: object) -> Goal | None:
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Goal.from_mapping({"lambda": float(text)}, where=HEADER)
    except (ValueError, SettingsError):
        return None
