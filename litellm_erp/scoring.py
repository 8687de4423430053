"""PURE. From an embedding to a ranking by one bundle: the steps that proxy and command line share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from litellm_erp.bundle import Bundle
from litellm_erp.cost import PriceTable
from litellm_erp.decision import Ranking, UnknownPlace, rank


@dataclass(frozen=True, slots=True)
class Scores:
    """What a bundle predicts for one prompt, or for P of them.

    Attributes
    ----------
    expected_reward : shape (M,) or (P, M), as the policy's predictor says, before safety
    cost : shape (M,) or (P, M), expected USD per request or relative cost; NaN unknown
    leverage : shape () or (P,)
    """

    expected_reward: np.ndarray
    cost: np.ndarray
    leverage: np.ndarray


def score(
    bundle: Bundle,
    embeddings: np.ndarray,
    input_tokens: float | np.ndarray,
    *,
    prices: PriceTable,
    max_output_tokens: float | None = None,
) -> Scores:
    """Predict reward and cost of every pool model.

    Parameters
    ----------
    embeddings : shape (D,) or (P, D), float32, L2-normalised
    input_tokens : scalar or shape (P, 1), of the full prompts
    max_output_tokens : the request's own limit; expected output tokens are clipped to [1, limit]
    """
    output_tokens = np.maximum(bundle.output_tokens.predict(embeddings), 1.0)
    if max_output_tokens is not None:
        output_tokens = np.minimum(output_tokens, max_output_tokens)
    return Scores(
        bundle.predictor.predict(embeddings),
        prices.expected_cost(input_tokens, output_tokens),
        bundle.uncertainty.leverage(embeddings),
    )


def rank_scores(
    bundle: Bundle,
    scores: Scores,
    lambda_: float,
    *,
    safety: bool = True,
    tier: np.ndarray | None = None,
) -> Ranking:
    """Rank the whole pool of a bundle at one λ."""
    everyone = np.arange(len(bundle.models))
    return rank_among(bundle, scores, lambda_, everyone, 0, safety=safety, tier=tier)


def rank_among(
    bundle: Bundle,
    scores: Scores,
    lambda_: float,
    columns: np.ndarray,
    n_unknown: int,
    *,
    safety: bool = True,
    tier: np.ndarray | None = None,
    unknown: UnknownPlace = "last",
) -> Ranking:
    """Rank some pool models, and models the bundle has no probe for.

    Parameters
    ----------
    columns : shape (C,), int; the pool models to rank, as columns of ``scores``
    n_unknown : how many models without a probe come after them, in the order of their names
    tier : shape (C + n_unknown,), see ``decision.rank``

    Returns
    -------
    Ranking over C + n_unknown positions
    """
    reward = scores.expected_reward[..., columns].astype(np.float64)
    cost = scores.cost[..., columns]
    mean, ties = bundle.mean_reward_M[columns], bundle.tie_order_M[columns]
    if n_unknown:
        blank = np.full((*reward.shape[:-1], n_unknown), np.nan)
        reward, cost = np.concatenate([reward, blank], axis=-1), np.concatenate([cost, blank], axis=-1)
        mean = np.concatenate([mean, np.full(n_unknown, np.nan)])
        ties = np.concatenate([ties, len(bundle.models) + np.arange(n_unknown)])
    safe = safety and bundle.manifest.safety
    return rank(
        reward,
        cost,
        lambda_,
        tie_order_M=ties,
        mean_reward_M=mean if safe else None,
        trust=trust(bundle, scores, lambda_)[..., None],
        cost_scale=bundle.cost_scale,
        tier=tier,
        unknown=unknown,
    )


def trust(bundle: Bundle, scores: Scores, lambda_: float) -> np.ndarray:
    """How far predictions are believed at this λ, shape () or (P,): the bundle's shrinkage times the prompts' trust."""
    return bundle.frontier.shrinkage(lambda_) * bundle.uncertainty.trust(scores.leverage)
