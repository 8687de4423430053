"""PURE. What a request asks for itself: ``x-erp-lambda: 0.5``, or ``metadata.erp`` in its body.

Nothing a client sends is an error: what makes no sense is a wish that is not granted. Nothing it sends is kept,
quoted or logged either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litellm_erp.budget import Goal, Policy
from litellm_erp.errors import SettingsError

HEADER = "x-erp-lambda"
KEY = "erp"
# A sum of money per window is a team's or a key's; one request has no windows.
GOALS: tuple[Goal, ...] = ("lambda", "budget_usd_per_1k_requests", "min_quality")
_NUMBER = re.compile(r"[0-9eE.+-]{1,40}", re.ASCII)
_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """A goal that a request states; None where what it states makes no sense."""

    policy: Policy | None


def read_wish(metadata: Mapping[str, Any]) -> Wish | None:
    """The wish in the metadata that LiteLLM attached to a request; the header counts before the body.

    LiteLLM keeps the request's headers in ``headers``, and the client's own metadata in ``requester_metadata``, on
    every route; a program that calls a ``litellm.Router`` itself puts ``erp`` beside them.

    Returns
    -------
    None where the request asks for nothing
    """
    headers = metadata.get("headers")
    if isinstance(headers, Mapping) and HEADER in headers:
        return Wish(_from_text(headers[HEADER]))
    for source in (metadata.get("requester_metadata"), metadata):
        if isinstance(source, Mapping) and source.get(KEY) is not None:
            return Wish(_from_value(source[KEY]))
    return None


def _from_value(value: object) -> Policy | None:
    if isinstance(value, str):
        # OpenAI's own metadata has text as its values.
        number = _from_text(value)
        return number if number is not None or "{" not in value else _from_json(value)
    return _from_map(value) if isinstance(value, Mapping) else None


def _from_json(text: str) -> Policy | None:
    if len(text) > _MAX_CHARS:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _from_map(value) if isinstance(value, Mapping) else None


def _from_map(value: Mapping[Any, Any]) -> Policy | None:
    if len(value) != 1 or next(iter(value)) not in GOALS:
        return None
    try:
        return Policy.from_mapping(value, where=KEY)
    except SettingsError:
        return None


def _from_text(value: object) -> Policy | None:
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Policy.from_mapping({"lambda": float(text)}, where=HEADER)
    except (ValueError, SettingsError):
        return None
