"""One row per policy: what it earned and cost on the held-out prompts.

The ERP rows are made of what the stub was asked; the others of the recorded outcomes and the same token table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from demo.prepare import HeldOut
from demo.sending import Served
from erp_trainer.learning.bootstrap import Interval, Resamples, interval
from erp_trainer.learning.outcome import best_of
from litellm_erp.bundle.frontier import upper_hull
from litellm_erp.choice.decision import name_order


@dataclass(frozen=True, eq=False)
class Row:
    """One policy on P prompts.

    Attributes
    ----------
    reward_P, cost_P : shape (P,), of what it chose; its expectation where it chooses at random
    share_M : shape (M,), sums to 1
    gain : reward minus the best single model's, paired by prompt
    lambda_, safety : of an ERP row; λ is None in the others
    team : of an ERP row, and of what it is compared with at equal cost
    """

    name: str
    reward_P: np.ndarray
    cost_P: np.ndarray
    share_M: np.ndarray
    gain: Interval
    lambda_: float | None = None
    team: str = ""
    safety: bool = False

    @property
    def reward(self) -> float:
        """Mean reward."""
        return float(self.reward_P.mean())

    @property
    def cost_usd(self) -> float:
        """Mean cost of a request."""
        return float(self.cost_P.mean())

    def to_json(self, models: Sequence[str]) -> dict[str, Any]:
        """The row as it stands in ``summary.json``."""
        share = {model: float(part) for model, part in zip(models, self.share_M, strict=True)}
        return {"reward": self.reward, "cost_usd": self.cost_usd, "share": share}


def gain_over(data: HeldOut, row: Row, other: Row) -> Interval:
    """Reward of one row less another's, paired by prompt."""
    return interval(row.reward_P - other.reward_P, data.groups_P)


def saving(data: HeldOut, row: Row, other: Row) -> Interval:
    """The share of another row's cost that a row does not need."""
    found = Resamples.draw(data.groups_P).ratios(row.cost_P[:, None], other.cost_P[:, None]).interval()
    return Interval(1 - found.mean, 1 - found.high, 1 - found.low)


def best_single(data: HeldOut) -> int:
    """The model with the highest mean reward on the train split, the cheaper one of equals; the hard baseline."""
    return _best(data, data.train.rewards_PM)


def _best(data: HeldOut, rewards_PM: np.ndarray) -> int:
    return best_of(np.nanmean(rewards_PM, axis=0), data.cost_PM.mean(axis=0), name_order(data.outcomes.models))


def rows(data: HeldOut, served: Sequence[Served]) -> list[Row]:
    """All rows, those of the proxy first.

    Parameters
    ----------
    served : one per (prompt, team, safety), prompts in the order of ``data``, none failed
    """
    groups: dict[tuple[float, str, bool], list[Served]] = {}
    for request in served:
        groups.setdefault((request.lambda_, request.team, not request.safety), []).append(request)
    models, rewards_PM, cost_PM = data.outcomes.models, data.outcomes.rewards_PM, data.cost_PM
    single, cheap = best_single(data), int(np.argmin(cost_PM.mean(axis=0)))
    # Known only afterwards; the cheapest of equals.
    oracle_P = np.where(rewards_PM == rewards_PM.max(axis=1, keepdims=True), cost_PM, np.inf).argmin(axis=1)
    share = np.full(len(models), 1 / len(models))
    erp = [_erp(data, groups[key]) for key in sorted(groups)]
    return [
        *erp,
        *(mixed(data, row) for row in erp if row.safety),
        _chosen(data, f"best single model: {models[single]}", np.full(len(data), single)),
        _chosen(data, f"cheapest: {models[cheap]}", np.full(len(data), cheap)),
        _row(data, "random (expectation)", rewards_PM.mean(axis=1), cost_PM.mean(axis=1), share),
        _chosen(data, "per-category best (oracle categories)", _per_category(data)),
        _chosen(data, "oracle", oracle_P),
    ]


def mixed(data: HeldOut, row: Row) -> Row:
    """Single models mixed at random at a row's mean cost, as well as train says that they can be; its expectation."""
    train_M, cost_M = np.nanmean(data.train.rewards_PM, axis=0), data.cost_PM.mean(axis=0)
    hull = upper_hull(cost_M, train_M)
    share = np.zeros(len(train_M))
    at = min(max(row.cost_usd, cost_M[hull[0]]), cost_M[hull[-1]])
    for model, unit in zip(hull, np.eye(len(hull)), strict=True):
        share[model] = np.interp(at, cost_M[hull], unit)
    name = f"single models mixed at the cost of {row.team}"
    return replace(_row(data, name, data.outcomes.rewards_PM @ share, data.cost_PM @ share, share), team=row.team)


def _erp(data: HeldOut, served: Sequence[Served]) -> Row:
    first, models = served[0], data.outcomes.models
    name = f"ERP λ={first.lambda_:.3g} ({first.team})" + ("" if first.safety else ", no safety")
    row = _chosen(data, name, np.array([models.index(request.stub_model or "") for request in served]))
    return replace(row, lambda_=first.lambda_, team=first.team, safety=first.safety)


def _chosen(data: HeldOut, name: str, choice_P: np.ndarray) -> Row:
    prompts = np.arange(len(data))
    share = np.bincount(choice_P, minlength=len(data.outcomes.models)) / len(data)
    return _row(data, name, data.outcomes.rewards_PM[prompts, choice_P], data.cost_PM[prompts, choice_P], share)


def _row(data: HeldOut, name: str, reward_P: np.ndarray, cost_P: np.ndarray, share_M: np.ndarray) -> Row:
    single_P = data.outcomes.rewards_PM[:, best_single(data)]
    return Row(name, reward_P, cost_P, share_M, interval(reward_P - single_P, data.groups_P))


def _per_category(data: HeldOut) -> np.ndarray:
    """Best model of each prompt's own category on the train split; no router is told the category."""
    categories = np.array(data.train.categories)
    best = {name: _best(data, data.train.rewards_PM[categories == name]) for name in set(categories.tolist())}
    return np.array([best.get(category, best_single(data)) for category in data.outcomes.categories])
