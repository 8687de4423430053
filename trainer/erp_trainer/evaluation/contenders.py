"""PURE. Policies that are not learned: per category, mixed, permuted, random, the oracle, and every single model."""

from __future__ import annotations

from functools import partial

from erp_trainer.evaluation import curves
from erp_trainer.evaluation.contender import Contender
from erp_trainer.evaluation.rivals import Choose
from erp_trainer.learning.outcome import Outcome, category_best, permuted, single, uniform
from erp_trainer.learning.training_table import Table


def baselines(test: Table, train: Table, bundle: str, bundle_choice: Choose) -> list[Contender]:
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
        Contender("oracle", "oracle", "bound", True, curves.oracle),
    ]  # fmt: skip
    return [*found, *(_single(name, m) for m, name in enumerate(test.models))]


def _single(name: str, m: int) -> Contender:
    return Contender(f"single:{name}", f"single: {name}", "single", False, partial(_always, m))


def _always(m: int, table: Table, lambda_: float) -> Outcome:
    return single(table, m)
