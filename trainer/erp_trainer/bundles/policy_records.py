"""PURE. What a bundle records of a policy other than ERP: its predictor, and what is measured out of fold beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from erp_trainer.learning.ridge import assign_folds, cross_fit, r_squared, r_squared_by_category
from erp_trainer.learning.stack import Stack
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import out_of_fold
from erp_trainer.policies.erp import FittedERP, recorded_cost, uncertainty_of, with_constant_cost
from erp_trainer.policies.frontier import frontier
from erp_trainer.policies.registry import served
from litellm_erp.bundle.predictors import Predictor
from litellm_erp.bundle.probe import Probes

# Leverage needs a penalty, and these policies have none that is a ridge's.
LEVERAGE_BETA = 30.0


@dataclass(frozen=True, slots=True)
class FittedRival:
    """A tuned and trained policy.

    Attributes
    ----------
    options : what tuning chose, for the manifest
    pool : what the bundle records of the pool; without sufficient statistics, because nothing can be added to it
    """

    predictor: Predictor
    options: dict[str, Any]
    pool: FittedERP


def fit_rival(table: TrainingTable, policy: str, seed: int = 0) -> FittedRival:
    """Tune and train a policy on training rows, and measure it out of fold.

    The options are chosen on all training rows, as β is for ERP; predictions for the frontier are then made by others
    that did not see a prompt's fold. No shrinkage and no safety: the policy is served as its authors describe it.

    Raises
    ------
    FitError : a policy that no bundle can hold, or too few prompts or outcomes
    """
    spec, constant_cost = served(policy), recorded_cost(table)
    # What is chosen by here is what the bundle is served with.
    table = with_constant_cost(table, constant_cost)
    folds = assign_folds(table.groups_P, seed)
    crossed = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models)
    options = spec.tune(table, seed)
    predicted = out_of_fold(table, folds, lambda part, fold: spec.train(part, options, seed))
    predictor = spec.train(table, options, seed)
    leverage = crossed.out_of_fold_leverage(LEVERAGE_BETA)
    pool = FittedERP(
        probes=predictor if isinstance(predictor, Probes) else _constants(table),
        uncertainty=uncertainty_of(crossed, table.rewards_PM - predicted, leverage, LEVERAGE_BETA),
        stack=Stack(float(getattr(options, "beta", 0.0)), (1.0,)),
        features=None,
        cells_FM=np.zeros((0, len(table.models)), dtype=np.float32),
        mean_reward_M=table.mean_reward_M,
        constant_cost_M=constant_cost,
        safe=False,
        r2_M=r_squared(predicted, table.rewards_PM),
        r2_by_category=r_squared_by_category(predicted, table.rewards_PM, table.categories_P),
        frontier=frontier(table, predicted, np.ones(len(table)), safe=False),
        blocks=(),
    )
    return FittedRival(predictor, asdict(options), pool)


def _constants(table: TrainingTable) -> Probes:
    """Probes that say each model's mean reward, where the policy's own file does the predicting."""
    weights = np.zeros((table.embeddings_PD.shape[1], len(table.models)), dtype=np.float32)
    return Probes(weights, table.mean_reward_M.astype(np.float32))
