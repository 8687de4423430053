"""PURE. λ from what people have: a λ, a budget, or a quality floor.

Everything is solved on a bundle's frontier, the out-of-fold curve of mean reward and mean cost over λ, so
nothing here looks at a request. A curve of finitely many λ hits few costs; what lies between two of them is reached by
giving some requests the one λ and the others the other: the *upper concave envelope* of the curve.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np

from litellm_erp.errors import SettingsError
from litellm_erp.section import Section
from litellm_erp.windows import is_timezone

Goal = Literal["lambda", "budget_usd_per_1k_requests", "min_quality", "budget_usd"]
GOALS: tuple[Goal, ...] = ("lambda", "budget_usd_per_1k_requests", "min_quality", "budget_usd")
# Goals in money: whoever may spend less by them may not be made to spend more by somebody below.
MONEY: frozenset[Goal] = frozenset({"budget_usd_per_1k_requests", "budget_usd"})

Per = Literal["hour", "day", "week", "month"]
OnExhausted = Literal["cheapest", "reject", "ignore"]
Count = Literal["group", "everything"]
_WINDOW_KEYS = frozenset({"per", "timezone", "on_exhausted", "count"})
POLICY_KEYS = frozenset({*GOALS, *_WINDOW_KEYS})


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
class Policy:
    """What a group, a team, a key or a request asks for: one goal and its number; ``window`` for ``budget_usd``."""

    goal: Goal
    value: float
    window: Window | None = None

    @classmethod
    def from_mapping(cls, value: object, *, where: str) -> Policy:
        """Read one goal: ``{lambda: x}``, ``{budget_usd_per_1k_requests: x}``, ``{min_quality: q}``, or
        ``{budget_usd: x, per: day}`` with its window's options.

        Raises
        ------
        SettingsError : no goal, two goals, an unknown key, or a number outside its range
        """
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: found {value!r}; expected a map such as {{lambda: 0.5}}")
        entry = Section(value, where, SettingsError, POLICY_KEYS)
        goals = [goal for goal in GOALS if goal in entry]
        if len(goals) != 1:
            found = " and ".join(goals) or "nothing"
            raise SettingsError(f"{where}: found {found}; expected exactly one of {', '.join(GOALS)}")
        goal = goals[0]
        return cls(goal, _number(value[goal], goal, where=f"{where}.{goal}"), _window(entry, goal))


def _number(value: object, goal: Goal, *, where: str) -> float:
    try:
        sensible = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(float(value))
    except OverflowError:
        sensible = False
    if not sensible:
        raise SettingsError(f"{where}: found {_short(value)}; expected a finite number")
    number = float(cast(float, value))
    if number < 0:
        raise SettingsError(f"{where}: found {number:g}; expected at least 0")
    if goal == "min_quality" and number > 1:
        raise SettingsError(f"{where}: found {number:g}; expected a share from 0 (the cheapest model) to 1 (the best)")
    return number


def _short(value: object) -> str:
    # What a client sent may be of any size, and ends in a log line.
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _timezone(entry: Section) -> str:
    name = entry.text("timezone", "UTC")
    if not is_timezone(name):
        raise entry.wrong("timezone", _short(name), "a time zone that this machine knows; pip install tzdata")
    return name


def _window(entry: Section, goal: Goal) -> Window | None:
    if goal != "budget_usd":
        if extra := sorted(_WINDOW_KEYS & set(entry)):
            raise SettingsError(f"{entry.at(extra[0])}: belongs to budget_usd only; found {goal}")
        return None
    return Window(
        per=cast(Per, entry.choice("per", get_args(Per))),
        timezone=_timezone(entry),
        on_exhausted=cast(OnExhausted, entry.choice("on_exhausted", get_args(OnExhausted), "cheapest")),
        count=cast(Count, entry.choice("count", get_args(Count), "group")),
    )


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two neighbouring λ: a share of the requests gets the higher, the others the lower.

    Attributes
    ----------
    share_high : in [0, 1]
    """

    low: float
    high: float
    share_high: float

    @classmethod
    def of(cls, lambda_: float) -> Mixture:
        """One λ for everybody."""
        return cls(lambda_, lambda_, 0.0)

    def at(self, u: float) -> float:
        """λ of the request that drew ``u``, uniform in [0, 1)."""
        return self.high if u < self.share_high else self.low


@dataclass(frozen=True)
class Frontier:
    """Out-of-fold curve of the safe policy over λ, and the single models beside it.

    Attributes
    ----------
    lambda_L : shape (L,), ascending from 0, reward units per USD per 1,000 requests
    reward_L, cost_L : shape (L,), mean reward and mean cost per request of what the policy chooses
    shrinkage_L : shape (L,), in [0, 1]; how far probes are believed at each λ, 0 meaning the best single model
    single_reward_M, single_cost_M : shape (M,), the same means for always choosing one model
    document : the whole of frontier.json, with intervals, shares and the verdict
    """

    lambda_L: np.ndarray
    reward_L: np.ndarray
    cost_L: np.ndarray
    shrinkage_L: np.ndarray
    single_reward_M: np.ndarray
    single_cost_M: np.ndarray
    document: Mapping[str, Any]

    def chooses(self, model: str, lambda_: float) -> bool:
        """Whether a pool model got some prompts at the λ of the curve that are next to one."""
        above = int(np.searchsorted(self.lambda_L, lambda_))
        near = {max(above - 1, 0), min(above, len(self.lambda_L) - 1)}
        return any(self.document["points"][i]["share"].get(model, 0.0) > 0 for i in near)

    def shrinkage(self, lambda_: float) -> float:
        """Shrinkage at any λ: the smaller of the two neighbouring grid points', so never bolder than either."""
        # Asked for on every request, where plain numbers cost less than numpy's calls.
        lambdas, shrinkages = self._steps
        right = bisect_left(lambdas, lambda_)
        if right == len(lambdas):
            return shrinkages[-1]
        if lambdas[right] == lambda_:
            return shrinkages[right]
        return min(shrinkages[right - 1], shrinkages[right])

    @cached_property
    def _steps(self) -> tuple[list[float], list[float]]:
        return self.lambda_L.tolist(), self.shrinkage_L.tolist()

    @cached_property
    def envelope(self) -> np.ndarray:
        """Points of the upper concave envelope, from the cheapest to the one with the highest reward.

        Returns
        -------
        shape (V,), int, indices into the curve; cost and reward both rise along it. Empty where no cost is known.

        Source: the monotone chain (Andrew, 1979).
        """
        known = np.flatnonzero(np.isfinite(self.cost_L))
        hull: list[int] = []
        # By cost; of equal costs the highest reward first, and of equal points the highest λ.
        for point in known[np.lexsort((-self.lambda_L[known], -self.reward_L[known], self.cost_L[known]))].tolist():
            if hull and self.reward_L[point] <= self.reward_L[hull[-1]]:
                continue
            while len(hull) >= 2 and self._slope(hull[-2], hull[-1]) <= self._slope(hull[-2], point):
                hull.pop()
            hull.append(point)
        return np.array(hull, dtype=np.intp)

    def _slope(self, a: int, b: int) -> float:
        return float((self.reward_L[b] - self.reward_L[a]) / (self.cost_L[b] - self.cost_L[a]))


@dataclass(frozen=True, slots=True)
class Solution:
    """The λ, or the two, that meet a goal, and what the frontier expects of them.

    Attributes
    ----------
    reward, cost : mean reward and mean cost of a request; a cost is NaN where prices are unknown
    points : the curve's points it is made of and their weights, to read anything else off them
    """

    mixture: Mixture
    reward: float
    cost: float
    reached: bool
    points: tuple[tuple[int, float], ...]

    @property
    def lambda_(self) -> float:
        """The λ that most requests get."""
        return self.mixture.high if self.mixture.share_high > 0.5 else self.mixture.low


def solve(policy: Policy, frontier: Frontier) -> Solution:
    """Find the λ of a policy on a frontier.

    A budget takes the highest mean reward whose mean cost fits; a quality floor takes the lowest mean cost
    whose mean reward is at least R_cheapest + q · (R_best − R_cheapest); both on the envelope. Where no point meets
    the goal, the nearest is taken and ``reached`` is False. A sum of money per window (``budget_usd``) says nothing of
    a request's cost before there is traffic: it starts from the curve's best reward, and pacing does the rest.

    Source: arXiv 2603.20217, eq. 4 and 6: λ is the multiplier of the budget constraint.
    """
    if policy.goal == "lambda":
        return _at_lambda(frontier, policy.value)
    hull = frontier.envelope
    if len(hull) == 0:
        return _between(frontier, 0, 0, 0.0, reached=False)
    if policy.goal == "budget_usd":
        return _between(frontier, hull[-1], hull[-1], 0.0, reached=True)
    if policy.goal == "min_quality":
        return _on(frontier, hull, frontier.reward_L[hull], quality_floor(frontier, policy.value), at_least=True)
    return _on(frontier, hull, frontier.cost_L[hull], policy.value / 1000.0, at_least=False)


def at_lambdas(frontier: Frontier, parts: Sequence[tuple[float, float]], *, reached: bool = True) -> Solution:
    """What a frontier expects of several λ, each for a share of the requests.

    Parameters
    ----------
    parts : each λ and its share, highest λ first; shares sum to 1
    """
    found = [(_at_lambda(frontier, lambda_), share) for lambda_, share in parts]
    points: dict[int, float] = {}
    for solution, share in found:
        for point, weight in solution.points:
            points[point] = points.get(point, 0.0) + share * weight
    return Solution(
        # Between the highest and the lowest there may be one more, where a budget stands above a budget.
        Mixture(parts[-1][0], parts[0][0], 0.0 if len(parts) == 1 else 1.0 - parts[-1][1]),
        reward=float(sum(share * solution.reward for solution, share in found)),
        cost=float(sum(share * solution.cost for solution, share in found)),
        reached=reached,
        points=tuple(points.items()),
    )


def quality_floor(frontier: Frontier, share: float) -> float:
    """Mean reward ``share`` of the way from the cheapest single model to the best, in reward units."""
    known = np.where(np.isnan(frontier.single_cost_M), np.inf, frontier.single_cost_M)
    cheapest = frontier.single_reward_M[np.argmin(known)]
    best = frontier.single_reward_M.max()
    return float(cheapest + share * (best - cheapest))


def _on(frontier: Frontier, hull: np.ndarray, values_V: np.ndarray, target: float, *, at_least: bool) -> Solution:
    """Where the envelope has a value, which rises along it: exactly there, or at the end that is nearest."""
    if target <= values_V[0]:
        # A mean of equal costs may differ from them in its last digit.
        reached = bool(at_least or np.isclose(target, values_V[0], rtol=1e-9, atol=0.0))
        return _between(frontier, hull[0], hull[0], 0.0, reached=reached)
    if target >= values_V[-1]:
        reached = bool(not at_least or target == values_V[-1])
        return _between(frontier, hull[-1], hull[-1], 0.0, reached=reached)
    right = int(np.searchsorted(values_V, target))
    weight = (target - values_V[right - 1]) / (values_V[right] - values_V[right - 1])
    return _between(frontier, hull[right - 1], hull[right], float(weight), reached=True)


def _between(frontier: Frontier, a: int, b: int, weight_b: float, *, reached: bool) -> Solution:
    """The mixture of two points of the curve; ``weight_b`` of the requests get the second's λ."""
    (low, weight_low), (high, weight_high) = sorted(
        ((int(a), 1.0 - weight_b), (int(b), weight_b)), key=lambda part: frontier.lambda_L[part[0]]
    )
    points = ((low, 1.0),) if low == high else ((low, weight_low), (high, weight_high))
    return Solution(
        Mixture(float(frontier.lambda_L[low]), float(frontier.lambda_L[high]), 0.0 if low == high else weight_high),
        reward=float(sum(weight * frontier.reward_L[point] for point, weight in points)),
        cost=float(sum(weight * frontier.cost_L[point] for point, weight in points)),
        reached=reached,
        points=points,
    )


def _at_lambda(frontier: Frontier, lambda_: float) -> Solution:
    """One λ for everybody; between two points of the curve its reward and cost are read off the line between them."""
    right = min(int(np.searchsorted(frontier.lambda_L, lambda_)), len(frontier.lambda_L) - 1)
    left = max(right - 1, 0)
    gap = frontier.lambda_L[right] - frontier.lambda_L[left]
    weight = 1.0 if gap == 0 else min(1.0, float((lambda_ - frontier.lambda_L[left]) / gap))
    found = _between(frontier, left, right, weight, reached=True)
    return Solution(Mixture.of(lambda_), found.reward, found.cost, True, found.points)
