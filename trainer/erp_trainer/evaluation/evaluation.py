"""A bundle on a run's test prompts, beside every baseline and rival: the arrays behind a payload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.evaluation.contenders import Contender
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.stack import Stack
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import Tuning
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.ranking import Predictions, trust


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to measure.

    Attributes
    ----------
    lambdas : where policies are listed, the first being the λ asked; empty takes 0 and points down the frontier
    rivals : compare with the other policies, fitted on the same train split
    studies : measure what only the papers' studies need, too
    leave_one_task_out, price_of_adding : measure these too, which fits many times
    seed : of resamples and folds
    """

    lambdas: tuple[float, ...] = ()
    rivals: bool = True
    studies: bool = False
    leave_one_task_out: bool = False
    price_of_adding: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """What a bundle expects on the test prompts, and chooses as it would serve them.

    Attributes
    ----------
    predictions : the bundle's predictions on the test rows, for all of its models
    measured : shape (M,), int; which of the bundle's models have test outcomes, in the order of the test table
    """

    bundle: Bundle
    predictions: Predictions
    measured: np.ndarray

    @property
    def predicted_PM(self) -> np.ndarray:
        """What the bundle expects each measured model to earn, before safety, shape (P, M)."""
        return self.predictions.expected_reward[:, self.measured]

    @property
    def mean_reward_M(self) -> np.ndarray:
        """Mean training rewards of the measured models, as the bundle has them, shape (M,)."""
        return self.bundle.mean_reward_M[self.measured]

    @property
    def std_error_PM(self) -> np.ndarray:
        """Standard error of those predictions against an observed mean, shape (P, M)."""
        return self.bundle.uncertainty.std_error(self.predictions.leverage)[:, self.measured]

    def choose(self, table: TrainingTable, lambda_: float, *, safety: bool = True) -> np.ndarray:
        """First choices among the models recorded in the test table, shape (P,)."""
        return self.choose_by(table, self.predicted_PM, self.mean_reward_M, lambda_, safety=safety)

    def choose_by(
        self,
        table: TrainingTable,
        predicted_PM: np.ndarray,
        mean_reward_M: np.ndarray,
        lambda_: float,
        *,
        safety: bool = True,
    ) -> np.ndarray:
        """First choices by other predictions, leaning towards other means, with the bundle's costs and trust."""
        return table.choose(
            predicted_PM,
            lambda_,
            mean_reward_M=mean_reward_M if safety and self.bundle.manifest.safety else None,
            trust=trust(self.bundle, self.predictions, lambda_)[:, None],
            expected_cost_PM=self.predictions.cost[:, self.measured],
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The arrays behind a payload.

    Attributes
    ----------
    of : what all of it depends on, see `kept.origin`
    test, train : tables of the pool models that have test outcomes
    prompt_ids, prompts : of the test rows
    lambdas : where policies are listed; the first is the λ asked
    grid : λ of the curves, ascending, with all of ``lambdas`` and 0
    contenders : the bundle, then its rivals, the baselines and the single models
    missing_rivals : policies that could not be fitted, and why
    tuning : the rivals' options, chosen on train
    stack : of the bundle's probes; None of a policy that models cannot be added to
    resamples : of the test rows; all intervals share them
    left_out : test prompts whose text occurs in train
    samples : median number of samples behind a test outcome
    """

    options: EvaluationOptions
    of: dict[str, Any]
    test: TrainingTable
    train: TrainingTable
    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    served: ServedBundle
    lambdas: tuple[float, ...]
    grid: tuple[float, ...]
    contenders: Sequence[Contender]
    missing_rivals: dict[str, str]
    tuning: Tuning
    stack: Stack | None
    resamples: Resamples
    left_out: int
    samples: int

    def choice(self, lambda_: float, *, safety: bool = True) -> np.ndarray:
        """The bundle's first choice per test prompt among the models recorded there, shape (P,)."""
        return self.served.choose(self.test, lambda_, safety=safety)
