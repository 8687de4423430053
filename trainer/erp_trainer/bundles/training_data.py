"""From a run's outcomes to the rows that a bundle is fitted on: vectors, costs, expected output tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from erp_trainer.learning.ridge import MIN_ROWS, assign_folds, cross_fit, mean_squared_error
from erp_trainer.learning.stack import BETAS
from erp_trainer.learning.training_table import EmbeddedPrompts, TrainingTable
from erp_trainer.outcomes.table import OutcomesTable
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price, PriceTable

# Of a recalibration; beyond, few prompts speak.
MAX_SLOPE = 2.0


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training rows, and the probes of expected output tokens where some model's are known."""

    table: TrainingTable
    output_tokens: Probes | None


def training_data(
    outcomes: OutcomesTable,
    embedded: EmbeddedPrompts,
    train_P: np.ndarray,
    prices: Mapping[str, Price],
    expected_tokens: float,
    *,
    token_heads: bool,
    seed: int = 0,
    least: int | None = None,
) -> TrainingData:
    """The training rows of a run, with the costs that a router can expect of them.

    Parameters
    ----------
    train_P : shape (P,), bool
    token_heads : expect output tokens by the prompt, not ``expected_tokens`` of every one
    least : prompts for which a model's output tokens must be known; by default half of them. One that has fewer is
        expected to need as many on every prompt
    """
    table = table_of(outcomes, embedded, prices, expected_tokens).rows(train_P)
    if not token_heads:
        return TrainingData(table, None)
    costs, estimated = _price_table(table.models, prices), embedded.input_tokens_P[:, None]
    known = np.where(np.isnan(table.rewards_PM), np.nan, output_tokens(outcomes, costs, estimated)[train_P])
    counts_M = (~np.isnan(known)).sum(axis=0)
    learned = np.flatnonzero(counts_M >= max(MIN_ROWS, len(table) // 2 if least is None else least))
    if not len(learned):
        return TrainingData(table, None)
    targets = known[:, learned]
    names = [table.models[m] for m in learned]
    fitted = cross_fit(table.embeddings_PD, targets, assign_folds(table.groups_P, seed), names)
    beta = min(BETAS, key=lambda b: mean_squared_error(fitted.out_of_fold(b), targets))
    heads = Probes(
        np.zeros((table.embeddings_PD.shape[1], len(table.models)), dtype=np.float32),
        _mean_tokens(known, expected_tokens).astype(np.float32),
    )
    predicted, (weights_DM, intercept_M) = fitted.out_of_fold(beta), fitted.probes(beta)
    slope_M, centre_M = _calibration(predicted, targets)
    heads.weights_DM[:, learned] = slope_M * weights_DM
    heads.intercept_M[learned] = slope_M * intercept_M + (1 - slope_M) * centre_M
    tokens = np.broadcast_to(heads.intercept_M, known.shape).astype(np.float64)
    tokens[:, learned] = slope_M * predicted + (1 - slope_M) * centre_M
    cost_PM = costs.expected_cost(estimated[train_P], np.maximum(tokens, 1.0))
    return TrainingData(replace(table, expected_cost_PM=cost_PM), heads)


def table_of(
    outcomes: OutcomesTable, embedded: EmbeddedPrompts, prices: Mapping[str, Price], expected_tokens: float
) -> TrainingTable:
    """Outcomes with their vectors and costs.

    Realised cost is the recorded cost; else price times recorded tokens; else price times the estimated input and
    ``expected_tokens`` of output. Expected cost leaves out what is known only after the call: output tokens are the
    model's mean over train.
    """
    costs = _price_table(outcomes.models, prices)
    estimated = embedded.input_tokens_P[:, None]
    tokens_in = np.where(np.isnan(outcomes.input_tokens_PM), estimated, outcomes.input_tokens_PM)
    tokens_out = np.where(np.isnan(outcomes.output_tokens_PM), expected_tokens, outcomes.output_tokens_PM)
    by_tokens = costs.expected_cost(tokens_in, tokens_out)
    train_P = np.array([split == "train" for split in outcomes.splits])
    known = output_tokens(outcomes, costs, estimated)[train_P]
    mean_tokens = np.broadcast_to(_mean_tokens(known, expected_tokens), tokens_out.shape)
    return TrainingTable(
        models=outcomes.models,
        embeddings_PD=embedded.embeddings_PD,
        rewards_PM=outcomes.rewards_PM,
        expected_cost_PM=costs.expected_cost(estimated, mean_tokens),
        realised_cost_PM=np.where(np.isnan(outcomes.cost_usd_PM), by_tokens, outcomes.cost_usd_PM),
        groups_P=outcomes.duplicate_groups(),
        categories_P=np.array(outcomes.categories),
        cost_scale=1.0 if is_relative(prices) else 1000.0,
        tags_P=_tags(outcomes),
        log_likelihood_PM=outcomes.log_likelihood_PM,
        self_check_PM=outcomes.self_check_PM,
        samples_PMK=outcomes.samples_PMK,
        noise_PM=outcomes.reward_std_PM**2 / np.maximum(outcomes.n_samples_PM, 1),
    )


def output_tokens(outcomes: OutcomesTable, costs: PriceTable, estimated: np.ndarray) -> np.ndarray:
    """Output tokens, shape (P, M): as recorded, else as many as the recorded cost pays for; NaN where neither is known.

    Parameters
    ----------
    estimated : shape (P, 1), input tokens where none were recorded

    A recorded cost says more than a stand-in: reasoning and verbosity differ by model, and show in what was charged.
    """
    tokens_in = np.where(np.isnan(outcomes.input_tokens_PM), estimated, outcomes.input_tokens_PM)
    price_M = np.where(costs.output_M > 0, costs.output_M, np.nan)
    paid_for = np.maximum((outcomes.cost_usd_PM - costs.input_M * tokens_in) / price_M, 0.0)
    return np.where(np.isnan(outcomes.output_tokens_PM), paid_for, outcomes.output_tokens_PM)


def _calibration(predicted_PM: np.ndarray, targets_PM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of targets on out-of-fold predictions, and the means that they turn around, shape (M,).

    One penalty serves the whole pool and shrinks some models' predictions too far. Those that go the wrong way are
    worth nothing: 0 leaves the mean.
    """
    missing = np.isnan(targets_PM)
    x = np.where(missing, np.nan, predicted_PM)
    centre_M = np.nanmean(x, axis=0)
    x = x - centre_M
    spread = np.nansum(x * x, axis=0)
    slope_M = np.divide(np.nansum(x * targets_PM, axis=0), spread, out=np.zeros(len(spread)), where=spread > 0)
    return np.clip(slope_M, 0.0, MAX_SLOPE), centre_M


def _mean_tokens(known_PM: np.ndarray, otherwise: float) -> np.ndarray:
    counts = (~np.isnan(known_PM)).sum(axis=0)
    return np.divide(np.nansum(known_PM, axis=0), counts, out=np.full(len(counts), otherwise), where=counts > 0)


def _tags(outcomes: OutcomesTable) -> np.ndarray | None:
    if not any(outcomes.tags):
        return None
    tags_P = np.empty(len(outcomes.tags), dtype=object)
    tags_P[:] = outcomes.tags
    return tags_P


def is_relative(prices: Mapping[str, Price]) -> bool:
    """Whether costs are relative, not USD."""
    return any(price.relative_cost is not None for price in prices.values())


def _price_table(models: tuple[str, ...], prices: Mapping[str, Price]) -> PriceTable:
    return PriceTable.from_prices([prices.get(model, UNKNOWN_PRICE) for model in models])
