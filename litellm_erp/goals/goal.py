"""What somebody wants of routing: a λ, a budget per request, a quality floor, or a sum of money per window.

A new form of goal is an entry of `FORMS`: how it is written, and the λ that meets it. A budget takes the highest mean
reward whose mean cost fits; a quality floor takes the lowest mean cost whose mean reward is at least
R_cheapest + q · (R_best − R_cheapest); both on the envelope. A sum of money per window says nothing of a request's cost
before there is traffic: it starts from the curve's best reward, and pacing does the rest.

Source: arXiv 2603.20217, eq. 4 and 6: λ is the multiplier of the budget constraint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, cast, get_args

import numpy as np

from litellm_erp.bundle.frontier import Frontier
from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError
from litellm_erp.goals.curve import Solution, between, on_envelope, one_lambda
from litellm_erp.goals.windows import Per, is_timezone


@dataclass(frozen=True, slots=True)
class GoalForm:
    """A form of goal.

    Attributes
    ----------
    name : the key that it is written under, in settings, metadata and requests
    solve : from a frontier and the goal's number to its λ
    high : the largest number; the smallest is 0
    money : in USD, so that whoever may spend less by it may not be made to spend more by somebody below
    windowed : a sum per window, with a window's options; a team's or a key's, because one request has no windows
    option, help : of ``erp-train calibrate``; no option, not offered there
    floor : the mean reward that must be reached, where there is one
    """

    name: str
    solve: Callable[[Frontier, float], Solution]
    high: float = inf
    money: bool = False
    windowed: bool = False
    option: str = ""
    help: str = ""
    floor: Callable[[Frontier, float], float] | None = None


def quality_floor(frontier: Frontier, share: float) -> float:
    """Mean reward ``share`` of the way from the cheapest single model to the best, in reward units."""
    known = np.where(np.isnan(frontier.single_cost_M), np.inf, frontier.single_cost_M)
    cheapest = frontier.single_reward_M[np.argmin(known)]
    best = frontier.single_reward_M.max()
    return float(cheapest + share * (best - cheapest))


def _cost_within(frontier: Frontier, usd_per_1k: float) -> Solution:
    hull = frontier.envelope
    if len(hull) == 0:
        return _nothing_known(frontier)
    return on_envelope(frontier, hull, frontier.cost_L[hull], usd_per_1k / 1000.0, at_least=False)


def _reward_of_at_least(frontier: Frontier, share: float) -> Solution:
    hull = frontier.envelope
    if len(hull) == 0:
        return _nothing_known(frontier)
    return on_envelope(frontier, hull, frontier.reward_L[hull], quality_floor(frontier, share), at_least=True)


def _best_reward(frontier: Frontier, usd_per_window: float) -> Solution:
    hull = frontier.envelope
    return between(frontier, hull[-1], hull[-1], 0.0, reached=True) if len(hull) else _nothing_known(frontier)


def _nothing_known(frontier: Frontier) -> Solution:
    """No cost is known, so none can be met."""
    return between(frontier, 0, 0, 0.0, reached=False)


# In the order in which they are listed to people.
FORMS: Mapping[str, GoalForm] = {
    form.name: form
    for form in (
        GoalForm("lambda", one_lambda, option="--lambda", help="What one λ gives."),
        GoalForm(
            "budget_usd_per_1k_requests",
            _cost_within,
            money=True,
            option="--budget",
            help="USD per 1,000 requests: the best reward that it buys.",
        ),
        GoalForm(
            "min_quality",
            _reward_of_at_least,
            high=1.0,  # a share of the way from the cheapest model to the best
            option="--min-quality",
            help="Share of the way from the cheapest model to the best: its lowest cost.",
            floor=quality_floor,
        ),
        GoalForm("budget_usd", _best_reward, money=True, windowed=True),
    )
}
# Goals in money: whoever may spend less by them may not be made to spend more by somebody below.
MONEY = frozenset(name for name, form in FORMS.items() if form.money)
_WINDOWED = tuple(name for name, form in FORMS.items() if form.windowed)

OnExhausted = Literal["cheapest", "reject", "ignore"]
Count = Literal["group", "everything"]
_WINDOW_KEYS = frozenset({"per", "timezone", "on_exhausted", "count"})
GOAL_KEYS = frozenset({*FORMS, *_WINDOW_KEYS})


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
    """What a group, a team, a key or a request asks for: one goal and its number; ``window`` where its form has one."""

    form: str
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
        stated = [name for name in FORMS if name in entry]
        if len(stated) != 1:
            found = " and ".join(stated) or "nothing"
            raise SettingsError(f"{where}: found {found}; expected exactly one of {', '.join(FORMS)}")
        form = FORMS[stated[0]]
        return cls(form.name, entry.number(form.name, low=0.0, high=form.high), _window(entry, form))


def _timezone(entry: Section) -> str:
    name = entry.text("timezone", "UTC")
    if not is_timezone(name):
        raise entry.wrong("timezone", name, "a time zone that this machine knows; pip install tzdata")
    return name


def _window(entry: Section, form: GoalForm) -> Window | None:
    if not form.windowed:
        if extra := sorted(_WINDOW_KEYS & set(entry)):
            raise SettingsError(f"{entry.at(extra[0])}: belongs to {' or '.join(_WINDOWED)} only; found {form.name}")
        return None
    return Window(
        per=cast(Per, entry.choice("per", get_args(Per))),
        timezone=_timezone(entry),
        on_exhausted=cast(OnExhausted, entry.choice("on_exhausted", get_args(OnExhausted), "cheapest")),
        count=cast(Count, entry.choice("count", get_args(Count), "group")),
    )
