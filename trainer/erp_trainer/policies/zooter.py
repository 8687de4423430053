"""PURE. Zooter: the distribution of the best answer over the pool, distilled into a linear softmax of the prompt.

The teacher is softmax(rewards / τ) over the models, averaged over samples where single rewards are on record. Rewards
are first mixed with what each model earns on prompts of the same tags, γ · r + (1 − γ) · mean. A prompt's utility of a
model is τ · logit − λ · cost: τ · logit is the reward up to a constant per prompt, which no choice depends on.

Source: Lu et al. (2023), arXiv 2311.08692; arXiv 2603.20217, section 4.3, for its place beside ERP.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from erp_trainer.learning.ridge import assign_folds
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.base import PolicySpec, out_of_fold, routed_utility, tuning_rows
from erp_trainer.policies.methods.logistic import Linear, fit_multinomial, softmax
from erp_trainer.policies.methods.prompt_groups import tag_means
from litellm_erp.bundle.probe import Probes

BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# Multiples of the spread of rewards between the models of a prompt.
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
GAMMAS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


@dataclass(frozen=True, slots=True)
class ZooterOptions:
    """What is chosen by cross-validation.

    Attributes
    ----------
    beta : penalty of the softmax's weights, sum form
    tau : temperature, in reward units
    gamma : share of a prompt's own rewards in its label; the rest is its tags'
    """

    beta: float
    tau: float
    gamma: float


def reward_spread(table: TrainingTable) -> float:
    """Root mean square of rewards about their prompt's mean over models; 1 where the models never differ."""
    centred = table.rewards_PM - np.nanmean(table.rewards_PM, axis=1, keepdims=True)
    spread = float(np.sqrt(np.nanmean(centred**2)))
    return spread if spread > 0 else 1.0


def teacher(table: TrainingTable, options: ZooterOptions, seed: int) -> np.ndarray:
    """Target distribution of each prompt over the models it has outcomes of, shape (P, M); NaN for the others."""
    present = ~np.isnan(table.rewards_PM)
    likely = np.zeros(table.rewards_PM.shape)
    by_tag = tag_means(table, seed) if options.gamma < 1 else 0.0
    samples = _samples(table)
    for rewards in samples:
        likely += softmax((options.gamma * rewards + (1 - options.gamma) * by_tag) / options.tau, present)
    return np.where(present, likely / len(samples), np.nan)


def _samples(table: TrainingTable) -> list[np.ndarray]:
    """One array of rewards per sample; a model's mean stands in where it has fewer."""
    if table.samples_PMK is None:
        return [table.rewards_PM]
    samples = np.moveaxis(table.samples_PMK, 2, 0)
    return [np.where(np.isnan(rewards), table.rewards_PM, rewards) for rewards in samples]


def train_zooter(table: TrainingTable, options: ZooterOptions, seed: int = 0) -> Probes:
    """Distil the teacher into linear scores.

    Returns
    -------
    Probes whose predictions are τ · logit, shifted so that their mean over models is the pool's mean reward
    """
    return _scores(_distil(table, options, seed, None), options, table)


def tune_zooter(table: TrainingTable, seed: int = 0) -> ZooterOptions:
    """β, then τ, then γ, then β again, each by out-of-fold routed utility on the rewards as recorded."""
    table = tuning_rows(table, seed)
    folds = assign_folds(table.groups_P, seed)
    starts: dict[int, Linear] = {}

    def utility(options: ZooterOptions) -> float:
        def train(part: TrainingTable, fold: int) -> Probes:
            starts[fold] = _distil(part, options, seed, starts.get(fold))
            return _scores(starts[fold], options, part)

        return routed_utility(table, out_of_fold(table, folds, train))

    spread = reward_spread(table)
    found = ZooterOptions(beta=1.0, tau=spread, gamma=1.0)
    # From strong penalties to weak ones, each fit starts where the last one ended.
    by_beta = BETAS[::-1]
    found = max((replace(found, beta=beta) for beta in by_beta), key=utility)
    found = max((replace(found, tau=scale * spread) for scale in TEMPERATURES), key=utility)
    found = max((replace(found, gamma=gamma) for gamma in GAMMAS), key=utility)
    return max((replace(found, beta=beta) for beta in by_beta), key=utility)


def _distil(table: TrainingTable, options: ZooterOptions, seed: int, start: Linear | None) -> Linear:
    return fit_multinomial(table.embeddings_PD, teacher(table, options, seed), options.beta, start)


def _scores(fitted: Linear, options: ZooterOptions, table: TrainingTable) -> Probes:
    weights = options.tau * (fitted.weights_DQ - fitted.weights_DQ.mean(axis=1, keepdims=True))
    intercept = options.tau * (fitted.intercept_Q - fitted.intercept_Q.mean()) + table.mean_reward_M.mean()
    return Probes(weights.astype(np.float32), intercept.astype(np.float32))


ZOOTER = PolicySpec("zooter", "Zooter", train_zooter, tune_zooter)
