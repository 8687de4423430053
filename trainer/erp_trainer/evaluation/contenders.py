"""PURE. What is compared: a bundle's policy, its rivals, what is not learned, single models and the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from erp_trainer.learning.outcome import PolicyOutcome, category_best, chosen, permuted, single, uniform
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Applied, Choose, PolicySpec, Tuning
from litellm_erp.errors import FitError

Kind = Literal["bundle", "rival", "baseline", "single", "bound"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy in an evaluation.

    Attributes
    ----------
    key : its name in the payload, such as ``erp`` or ``single:gpt-4``
    label : what people read
    kind : ``bundle`` is what is evaluated, ``rival`` another learned policy, ``baseline`` one that is not learned,
        ``single`` always one model, ``bound`` what no router can do (it looks at test rewards, or pays for every model)
    by_lambda, outcome, scores_PM, pair_probability : see `Applied`; only a ``bound`` looks at the rewards to choose
    servable : whether a bundle can hold it
    """

    key: str
    label: str
    kind: Kind
    by_lambda: bool
    outcome: Callable[[TrainingTable, float], PolicyOutcome]
    scores_PM: np.ndarray | None = None
    pair_probability: Callable[[int, int], np.ndarray] | None = None
    servable: bool = False


def rival(policy: PolicySpec, applied: Applied) -> Contender:
    """A policy of the registry on the test prompts."""
    return Contender(
        policy.key,
        policy.label,
        "bound" if applied.sees_truth else "rival",
        applied.by_lambda,
        applied.outcome,
        applied.scores_PM,
        applied.pair_probability,
        policy.servable,
    )


def rivals_of(
    name: str, preset: str, tuning: Tuning, test: TrainingTable, advance: Callable[[int], None] = lambda steps: None
) -> tuple[list[Contender], dict[str, str]]:
    """Every other policy that the data can feed, and why others are missing.

    Parameters
    ----------
    name, preset : of the bundle's policy, which is not its own rival
    tuning : holds the policies and the train split
    advance : called as policies are done
    """
    found, missing = [], {}
    alone = "one pool model with test outcomes leaves nothing to choose" if len(test.models) < 2 else None
    for policy in tuning.policies:
        advance(1)
        if policy.name == name and policy.preset in ("", preset):
            continue
        if alone:
            missing[policy.key] = alone
            continue
        try:
            found.append(rival(policy, tuning.apply(policy, test)))
        except FitError as error:
            missing[policy.key] = str(error)
    return found, missing


def baselines(test: TrainingTable, train: TrainingTable, bundle: str, bundle_choice: Choose) -> list[Contender]:
    """What any learned policy has to beat, the oracle, and the single models.

    Parameters
    ----------
    bundle, bundle_choice : label of the bundle's policy, and what it chooses at a λ
    """
    found = [
        Contender("category-best", "per-category best", "baseline", True,
                  lambda table, lambda_: category_best(table, train, lambda_)),
        Contender("permutation", f"{bundle}'s choices, permuted", "baseline", True,
                  lambda table, lambda_: permuted(table, bundle_choice(table, lambda_), lambda_)),
        Contender("random", "random", "baseline", False, lambda table, _: uniform(table)),
        Contender("oracle", "oracle", "bound", True, oracle),
    ]  # fmt: skip
    return [*found, *(_single(name, m) for m, name in enumerate(test.models))]


def _single(name: str, m: int) -> Contender:
    return Contender(f"single:{name}", f"single: {name}", "single", False, lambda table, _: single(table, m))


def oracle_kind(table: TrainingTable) -> str:
    """``split-sample`` where some prompt has two samples of every model on record, else ``ex-post``."""
    return "ex-post" if _split_rows(table) is None else "split-sample"


def oracle(table: TrainingTable, lambda_: float) -> PolicyOutcome:
    """What the best model of each prompt earns.

    ``split-sample``: the model is chosen on one half of the samples and scored on the other, both ways, because the
    largest of noisy means is too large; NaN at prompts where a model has no two samples. ``ex-post``: the largest
    recorded mean, where no prompt has two samples of every model on record.

    Source: ours, for arXiv 2603.20217, eq. 5.
    """
    penalty = lambda_ * table.cost_scale * np.nan_to_num(table.realised_cost_PM)
    split = _split_rows(table)
    if split is None:
        return chosen(table, table.choose(table.rewards_PM - penalty, 0.0), lambda_)
    rows, first, second = split
    reward, cost = np.full(len(table), np.nan), np.full(len(table), np.nan)
    reward[rows], cost[rows] = 0.0, 0.0
    share = np.zeros(len(table.models))
    for chosen_on, scored_on in ((first, second), (second, first)):
        choice = table.choose(chosen_on - penalty, 0.0)
        reward[rows] += scored_on[rows, choice[rows]] / 2
        cost[rows] += table.cost_of(choice)[rows] / 2
        share += np.bincount(choice[rows], minlength=len(share)) / (2 * rows.sum())
    return PolicyOutcome(lambda_, reward, cost, share)


@dataclass(frozen=True, slots=True)
class OracleBracket:
    """Between what the best model of each prompt earns, which nobody knows: its expected reward, not its best draw.

    Attributes
    ----------
    kind : of :func:`oracle_kind`
    low_P : shape (P,), what a choice earned that looked at no reward it is judged by; its mean is not too high
    high_P : shape (P,), the largest recorded reward; its mean is not too low
    """

    kind: str
    low_P: np.ndarray
    high_P: np.ndarray

    @classmethod
    def of(cls, table: TrainingTable, fair: Sequence[np.ndarray]) -> OracleBracket:
        """From the split-sample oracle where there is one, and from what no oracle can earn less than.

        Parameters
        ----------
        fair : rewards of policies that look at no test reward, shape (P,) each; NaN where they have none, the first
            nowhere
        """
        candidates = [fair[0], *fair[1:]]
        kind = oracle_kind(table)
        if kind == "split-sample":
            candidates.append(oracle(table, 0.0).reward_P)
        whole = [np.where(np.isnan(reward_P), fair[0], reward_P) for reward_P in candidates]
        return cls(kind, max(whole, key=lambda reward_P: float(reward_P.mean())), np.nanmax(table.rewards_PM, axis=1))


def _split_rows(table: TrainingTable) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Prompts at which every model with an outcome has both halves, and the halves' mean rewards."""
    halves = table.halves()
    if halves is None:
        return None
    missing = np.isnan(table.rewards_PM)
    rows = ((np.isnan(halves[0]) == missing) & (np.isnan(halves[1]) == missing)).all(axis=1)
    return (rows, *halves) if rows.any() else None
