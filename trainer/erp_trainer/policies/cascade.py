"""PURE. Cascades: ask models from cheap to dear until an answer is accepted, and pay for every one that was asked.

``frugalgpt`` accepts an answer whose recorded reward reaches a threshold, and keeps the best of those it has seen. It
sees the rewards that it is judged by, so it is shown as a bound; served, it would pay for the reward model too.

``automix`` accepts by the model's own check of its answer, the outcomes' ``self_check``, and keeps the last answer.

The chain (at most three models) and its thresholds are chosen on train, at each λ, by mean utility.

Source: Chen et al. (2023), FrugalGPT, arXiv 2305.05176, with the reward model as the scorer; Madaan et al. (2023),
AutoMix, arXiv 2310.12963, the threshold variant, over more than two models.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

import numpy as np

from erp_trainer.learning.outcome import PolicyOutcome
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Applied, PolicySpec
from litellm_erp.errors import FitError

Signal = Literal["reward", "self_check"]
MAX_CANDIDATES = 8
_QUANTILES = np.linspace(0.05, 0.95, 10)


@dataclass(frozen=True, slots=True)
class Chain:
    """Models to ask in turn, and the signal from which the answer of each but the last is accepted.

    ``reward`` and ``cost`` are its means on train.
    """

    models: tuple[int, ...]
    thresholds: tuple[float, ...]
    reward: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class FittedCascade:
    """Chains with their mean reward and cost on train, one of which is taken at each λ."""

    signal: Signal
    chains: tuple[Chain, ...]

    def chain(self, table: TrainingTable, lambda_: float) -> Chain:
        """The chain with the highest mean utility on train; of equal ones the shortest."""
        utility = [chain.reward - lambda_ * table.cost_scale * chain.cost for chain in self.chains]
        return self.chains[int(np.argmax(utility))]

    def outcome(self, test: TrainingTable, lambda_: float) -> PolicyOutcome:
        """What the cascade earns and what all of its calls cost; ``share_M`` says whose answer is kept."""
        return run_chain(test, self.signal, self.chain(test, lambda_), lambda_)


def fit_cascade(train: TrainingTable, signal: Signal) -> FittedCascade:
    """Measure all chains of up to three models, with thresholds on a grid of quantiles, on train.

    Models stand in a chain by rising mean cost. Of more than eight, the eight with the highest mean reward are taken,
    and the cheapest. Here a missing outcome counts as its model's mean, and an unknown cost as none.

    Raises
    ------
    FitError : the outcomes hold no such signal
    """
    values = _signal_of(train, signal)
    cost_M = np.nan_to_num(train.mean_cost_M)
    best = np.argsort(-train.mean_reward_M, kind="stable")[:MAX_CANDIDATES].tolist()
    by_cost = sorted({*best, int(np.argmin(cost_M))}, key=lambda m: (cost_M[m], train.models[m]))
    missing = np.isnan(train.rewards_PM)
    reward = np.where(missing, train.mean_reward_M, train.rewards_PM)
    cost = np.where(missing, cost_M, np.nan_to_num(train.realised_cost_PM))
    accept = np.where(missing | np.isnan(values), -np.inf, values)
    chains: list[Chain] = []
    for length in (1, 2, 3):
        for models in combinations(by_cost, length):
            chains += _measured(models, reward[:, models], cost[:, models], accept[:, models], signal)
    return FittedCascade(signal, tuple(chains))


def run_chain(table: TrainingTable, signal: Signal, chain: Chain, lambda_: float | None = None) -> PolicyOutcome:
    """Ask the models of a chain on every prompt.

    A model without an outcome of a prompt is passed over; a prompt that no model of the chain answered earns NaN.
    """
    values = _signal_of(table, signal)
    kept, cost = np.full(len(table), -1), np.zeros(len(table))
    best, going = np.full(len(table), -np.inf), np.ones(len(table), dtype=bool)
    for place, m in enumerate(chain.models):
        asked = going & ~np.isnan(table.rewards_PM[:, m])
        value = np.nan_to_num(values[:, m], nan=-np.inf)
        cost[asked] += table.realised_cost_PM[asked, m]
        better = asked & ((value >= best) | (kept < 0)) if signal == "reward" else asked
        kept[better], best[better] = m, value[better]
        if place < len(chain.thresholds):
            going &= ~(asked & (value >= chain.thresholds[place]))
    reward = np.where(kept >= 0, table.reward_of(np.maximum(kept, 0)), np.nan)
    share = np.bincount(kept[kept >= 0], minlength=len(table.models)) / max(1, int((kept >= 0).sum()))
    return PolicyOutcome(lambda_, reward, np.where(kept >= 0, cost, np.nan), share)


def _measured(
    models: tuple[int, ...], reward_PL: np.ndarray, cost_PL: np.ndarray, accept_PL: np.ndarray, signal: Signal
) -> list[Chain]:
    """One chain with every combination of thresholds: mean reward and cost, as products of who stops where."""
    kept_PL = np.maximum.accumulate(reward_PL, axis=1) if signal == "reward" else reward_PL
    paid_PL = np.cumsum(cost_PL, axis=1)
    grids = [_thresholds(accept) for accept in accept_PL[:, :-1].T]
    goes = [(accept[:, None] < grid).astype(np.float64) for accept, grid in zip(accept_PL.T, grids, strict=False)]

    def means(values_PL: np.ndarray) -> np.ndarray:
        """Of what is had at the first model, and of what each further one adds where it is asked."""
        added_PL = np.diff(values_PL, axis=1)
        total = np.array(values_PL[:, 0].mean())
        if goes:
            total = total + (goes[0] * added_PL[:, :1]).mean(axis=0)
        if len(goes) > 1:
            total = total[:, None] + goes[0].T @ (goes[1] * added_PL[:, 1:]) / len(values_PL)
        return total.ravel()

    return [
        Chain(models, thresholds, float(reward), float(cost))
        for thresholds, reward, cost in zip(
            product(*map(np.ndarray.tolist, grids)), means(kept_PL), means(paid_PL), strict=True
        )
    ]


def _thresholds(accept_P: np.ndarray) -> np.ndarray:
    """Quantiles of a signal, ascending; those between missing outcomes, which are -inf, are none."""
    with np.errstate(invalid="ignore"):
        found = np.unique(np.quantile(accept_P, _QUANTILES))
    thresholds: np.ndarray = found[~np.isnan(found)]
    return thresholds


def _signal_of(table: TrainingTable, signal: Signal) -> np.ndarray:
    """What answers are accepted by, shape (P, M)."""
    found = table.rewards_PM if signal == "reward" else table.self_check_PM
    if found is None:
        raise FitError("no self_check in the outcomes; import outcomes with that column, in [0, 1] per answer")
    return found


FRUGALGPT = PolicySpec(
    "frugalgpt",
    "cascade by reward (FrugalGPT)",
    train=lambda table, options, seed: fit_cascade(table, "reward"),
    apply=lambda fitted, test: Applied(fitted.outcome, sees_truth=True),
    servable=False,
)
AUTOMIX = PolicySpec(
    "automix",
    "cascade by self-check (AutoMix)",
    train=lambda table, options, seed: fit_cascade(table, "self_check"),
    apply=lambda fitted, test: Applied(fitted.outcome),
    needs="self_check",
    servable=False,
)
