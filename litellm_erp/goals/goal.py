"""What somebody wants of routing: a λ, a budget per request, a quality floor, or a sum of money per window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, cast, get_args

from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError
from litellm_erp.goals.windows import Per, is_timezone

GoalForm = Literal["lambda", "budget_usd_per_1k_requests", "min_quality", "budget_usd"]
GOAL_FORMS: tuple[GoalForm, ...] = ("lambda", "budget_usd_per_1k_requests", "min_quality", "budget_usd")
# Goals in money: whoever may spend less by them may not be made to spend more by somebody below.
MONEY: frozenset[GoalForm] = frozenset({"budget_usd_per_1k_requests", "budget_usd"})

OnExhausted = Literal["cheapest", "reject", "ignore"]
Count = Literal["group", "everything"]
_WINDOW_KEYS = frozenset({"per", "timezone", "on_exhausted", "count"})
GOAL_KEYS = frozenset({*GOAL_FORMS, *_WINDOW_KEYS})


@dataclass(frozen=True, slots=True)
class Window:
    """When a sum of money starts anew, and what follows once it is spent.

    Attributes
    ----------
    timezone : IANA name; days, weeks (from Monday) and months start at its midnight
    on_exhausted : ``cheapest`` ranks by cost alone, ``reject`` refuses, ``ignore`` goes on as if nothing were
    count : ``group`` counts requests to the routed group, ``everything`` also those to other model groups
    """

    per: Per
    timezone: str = "UTC"
    on_exhausted: OnExhausted = "cheapest"
    count: Count = "group"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a group, a team, a key or a request asks for: one goal and its number; ``window`` for ``budget_usd``."""

    form: GoalForm
    value: float
    window: Window | None = None

    @classmethod
    def from_mapping(cls, value: object, *, where: str) -> Goal:
        """Read one goal: ``{lambda: x}``, ``{budget_usd_per_1k_requests: x}``, ``{min_quality: q}``, or
        ``{budget_usd: x, per: day}`` with its window's options.

        Raises
        ------
        SettingsError : no goal, two goals, an unknown key, or a number outside its range
        """
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: found {value!r}; expected a map such as {{lambda: 0.5}}")
        entry = Section(value, where, SettingsError, GOAL_KEYS)
        forms = [form for form in GOAL_FORMS if form in entry]
        if len(forms) != 1:
            found = " and ".join(forms) or "nothing"
            raise SettingsError(f"{where}: found {found}; expected exactly one of {', '.join(GOAL_FORMS)}")
        form = forms[0]
        # A quality is a share of the way from the cheapest model to the best.
        number = entry.number(form, low=0.0, high=1.0 if form == "min_quality" else inf)
        return cls(form, number, _window(entry, form))


def _timezone(entry: Section) -> str:
    name = entry.text("timezone", "UTC")
    if not is_timezone(name):
        raise entry.wrong("timezone", name, "a time zone that this machine knows; pip install tzdata")
    return name


def _window(entry: Section, form: GoalForm) -> Window | None:
    if form != "budget_usd":
        if extra := sorted(_WINDOW_KEYS & set(entry)):
            raise SettingsError(f"{entry.at(extra[0])}: belongs to budget_usd only; found {form}")
        return None
    return Window(
        per=cast(Per, entry.choice("per", get_args(Per))),
        timezone=_timezone(entry),
        on_exhausted=cast(OnExhausted, entry.choice("on_exhausted", get_args(OnExhausted), "cheapest")),
        count=cast(Count, entry.choice("count", get_args(Count), "group")),
    )
