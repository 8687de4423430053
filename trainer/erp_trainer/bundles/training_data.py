"""From a run's outcomes to the rows that a bundle is fitted on: vectors, costs, expected output tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from erp_trainer.learning.ridge import assign_folds, cross_fit, mean_squared_error
from erp_trainer.learning.stack import BETAS
from erp_trainer.learning.training_table import EmbeddedPrompts, TrainingTable
from erp_trainer.outcomes.table import OutcomesTable
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price, PriceTable


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training rows, and the probes of expected output tokens where every model recorded them."""

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
    least : prompts for which each model must have recorded its output tokens; by default half of them
    """
    table = table_of(outcomes, embedded, prices, expected_tokens).rows(train_P)
    if not token_heads:
        return TrainingData(table, None)
    recorded = np.where(np.isnan(table.rewards_PM), np.nan, outcomes.output_tokens_PM[train_P])
    if (~np.isnan(recorded)).sum(axis=0).min() < max(1, len(table) // 2 if least is None else least):
        return TrainingData(table, None)
    fitted = cross_fit(table.embeddings_PD, recorded, assign_folds(table.groups_P, seed), table.models)
    beta = min(BETAS, key=lambda b: mean_squared_error(fitted.out_of_fold(b), recorded))
    costs = _price_table(table.models, prices)
    cost_PM = costs.expected_cost(embedded.input_tokens_P[train_P][:, None], np.maximum(fitted.out_of_fold(beta), 1.0))
    return TrainingData(replace(table, expected_cost_PM=cost_PM), Probes(*fitted.probes(beta)))


def table_of(
    outcomes: OutcomesTable, embedded: EmbeddedPrompts, prices: Mapping[str, Price], expected_tokens: float
) -> TrainingTable:
    """Outcomes with their vectors and costs.

    Realised cost is the recorded cost; else price times recorded tokens; else price times the estimated input and
    ``expected_tokens`` of output. Expected cost leaves out what is known only after the call.
    """
    costs = _price_table(outcomes.models, prices)
    estimated = embedded.input_tokens_P[:, None]
    tokens_in = np.where(np.isnan(outcomes.input_tokens_PM), estimated, outcomes.input_tokens_PM)
    tokens_out = np.where(np.isnan(outcomes.output_tokens_PM), expected_tokens, outcomes.output_tokens_PM)
    by_tokens = costs.expected_cost(tokens_in, tokens_out)
    return TrainingTable(
        models=outcomes.models,
        embeddings_PD=embedded.embeddings_PD,
        rewards_PM=outcomes.rewards_PM,
        expected_cost_PM=costs.expected_cost(estimated, np.full_like(tokens_out, expected_tokens)),
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
