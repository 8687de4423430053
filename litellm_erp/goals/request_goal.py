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
EXPLAIN = "explain"
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
    def from_body(cls, value: object) -> RequestGoal | None:
        """What stands under ``erp``: a goal as settings have it, or its JSON or a λ, as text.

        None where only an explanation is asked for.
        """
        number = _of_text(value)
        if number is not None:
            return cls(number)
        stated = _map_of(value)
        if stated is None or EXPLAIN not in stated:
            return cls(_of_map(stated))
        goal = {name: own for name, own in stated.items() if name != EXPLAIN}
        return cls(_of_map(goal)) if goal else None


def asks_why(value: object) -> bool:
    """Whether what stands under ``erp`` asks for the decision in the answer's body: ``explain: true``, and no less."""
    stated = _map_of(value)
    return stated is not None and stated.get(EXPLAIN) is True


def _of_text(value: object) -> Goal | None:
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Goal.from_mapping({"lambda": float(text)}, where=HEADER)
    except (ValueError, SettingsError):
        return None


def _map_of(value: object) -> Mapping[str, object] | None:
    """A map, or one that stands as JSON in a text, as OpenAI's own metadata has its values."""
    if isinstance(value, str) and "{" in value and len(value) <= _MAX_CHARS:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None


def _of_map(value: object) -> Goal | None:
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in REQUEST_FORMS:
        return None
    try:
        return Goal.from_mapping(value, where=KEY)
    except SettingsError:
        return None
