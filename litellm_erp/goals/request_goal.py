"""What a request asks for itself: ``x-erp-lambda: 0.5``, or ``metadata.erp`` in its body.

Nothing a client sends is an error: what makes no sense is a goal that is not granted. Nothing it sends is kept,
quoted or logged either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from litellm_erp.errors import SettingsError
from litellm_erp.goals.goal import FORMS, Goal

HEADER = "x-erp-lambda"
KEY = "erp"
# A sum of money per window is a team's or a key's; one request has no windows.
REQUEST_FORMS = frozenset(name for name, form in FORMS.items() if not form.windowed)
_NUMBER = re.compile(r"[0-9eE.+-]{1,40}", re.ASCII)
_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class RequestGoal:
    """A goal that a request states; None where what it states makes no sense."""

    goal: Goal | None

    @classmethod
    def from_header(cls, value: object) -> RequestGoal:
        """What the header states: a λ."""
        return cls(_of_text(value))

    @classmethod
    def from_body(cls, value: object) -> RequestGoal:
        """What stands under ``erp``: a goal as settings have it, or its JSON or a λ, as text."""
        if isinstance(value, str):
            # OpenAI's own metadata has text as its values.
            number = _of_text(value)
            return cls(number if number is not None or "{" not in value else _of_json(value))
        return cls(_of_map(value))


def _of_text(value: object) -> Goal | None:
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Goal.from_mapping({"lambda": float(text)}, where=HEADER)
    except (ValueError, SettingsError):
        return None


def _of_json(text: str) -> Goal | None:
    if len(text) > _MAX_CHARS:
        return None
    try:
        return _of_map(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _of_map(value: object) -> Goal | None:
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in REQUEST_FORMS:
        return None
    try:
        return Goal.from_mapping(value, where=KEY)
    except SettingsError:
        return None
