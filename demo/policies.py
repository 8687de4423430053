"""PURE. One row per policy: what it earned and cost on the held-out prompts.

The ERP rows are made of what the stub was asked; the others of the recorded outcomes and the same token table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from demo.prepare import HeldOut
from demo.sending import Served
from erp_trainer.learning.bootstrap import Interval, interval


@dataclass(frozen=True, eq=False)
class Row:
    """One policy on P prompts.

    Attributes
    ----------
    reward_P, cost_P : shape (P,), of what it chose; its expectation where it chooses at random
    share_M : shape (M,), sums to 1
    gain : reward minus the best single model's, paired by prompt
    lambda_, safety : of an ERP row; λ is None in the others
    """

    name: str
    reward_P: np.ndarray
    cost_P: np.ndarray
    share_M: np.ndarray
    gain: Interval
    lambda_: float | None = None
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


def erp_name(team: str, lambda_: float, *, safety: bool) -> str:
    """What the ERP row of a team is called."""
    return f"ERP λ={lambda_:g} ({team})" + ("" if safety else ", no safety")


def best_single(data: HeldOut) -> int:
    """The model with the highest mean reward on the train split; the hard baseline."""
    return int(np.argmax(np.nanmean(data.train.rewards_PM, axis=0)))


def cheapest(data: HeldOut) -> int:
    """The model that would cost least if it answered everything."""
    return int(np.argmin(data.cost_PM.mean(axis=0)))


def rows(data: HeldOut, served: Sequence[Served]) -> list[Row]:
    """All rows, those of the proxy first.

    Parameters
    ----------
    served : one per (prompt, team, safety), prompts in the order of ``data``, none failed
    """
    groups: dict[tuple[float, str, bool], list[Served]] = {}
    for request in served:
        groups.setdefault((request.lambda_, request.team, not request.safety), []).append(request)
    single, cheap = best_single(data), cheapest(data)
    models, everywhere = data.outcomes.models, np.ones(len(data), dtype=np.int64)
    return [
        *(_erp(data, groups[key]) for key in sorted(groups)),
        _chosen(data, f"best single model: {models[single]}", single * everywhere),
        _chosen(data, f"cheapest: {models[cheap]}", cheap * everywhere),
        _random(data),
        _chosen(data, "per-category best (oracle categories)", _per_category(data)),
        _chosen(data, "oracle", _oracle(data)),
    ]


def _erp(data: HeldOut, served: Sequence[Served]) -> Row:
    first, models = served[0], data.outcomes.models
    name = erp_name(first.team, first.lambda_, safety=first.safety)
    asked = np.array([models.index(request.stub_model or "") for request in served])
    reward, cost = (np.array([getattr(request, field) for request in served]) for field in ("reward", "cost_usd"))
    share = np.bincount(asked, minlength=len(models)) / len(asked)
    return replace(_row(data, name, reward, cost, share), lambda_=first.lambda_, safety=first.safety)


def _chosen(data: HeldOut, name: str, choice_P: np.ndarray) -> Row:
    prompts, n_models = np.arange(len(data)), len(data.outcomes.models)
    share = np.bincount(choice_P, minlength=n_models) / len(data)
    return _row(data, name, data.outcomes.rewards_PM[prompts, choice_P], data.cost_PM[prompts, choice_P], share)


def _random(data: HeldOut) -> Row:
    n_models = len(data.outcomes.models)
    share = np.full(n_models, 1 / n_models)
    return _row(data, "random (expectation)", data.outcomes.rewards_PM.mean(axis=1), data.cost_PM.mean(axis=1), share)


def _row(data: HeldOut, name: str, reward_P: np.ndarray, cost_P: np.ndarray, share_M: np.ndarray) -> Row:
    single_P = data.outcomes.rewards_PM[:, best_single(data)]
    return Row(name, reward_P, cost_P, share_M, interval(reward_P - single_P, data.groups_P))


def _per_category(data: HeldOut) -> np.ndarray:
    """Best model of each prompt's own category on the train split; no router is told the category."""
    categories = np.array(data.train.categories)
    means: Mapping[str, np.ndarray] = {
        name: np.nanmean(data.train.rewards_PM[categories == name], axis=0) for name in set(categories.tolist())
    }
    single = best_single(data)
    return np.array([int(np.argmax(means[c])) if c in means else single for c in data.outcomes.categories])


def _oracle(data: HeldOut) -> np.ndarray:
    """The highest recorded reward, known only afterwards; the cheapest of equals."""
    rewards = data.outcomes.rewards_PM
    return np.where(rewards == rewards.max(axis=1, keepdims=True), data.cost_PM, np.inf).argmin(axis=1)
