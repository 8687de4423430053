"""What the held-out prompts of llmrouter_example bring at each λ, and a month of made-up traffic of them.

Rewards are recorded, tokens those of the stub; the router is a bundle fitted on the other prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from demo.prepare import HeldOut
from erp_trainer.learning.embed import embed_prompts
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.ranking import predict_pool, rank_pool
from litellm_erp.embedding.static import StaticEmbedder

DAY_S = 86400.0
DAYS = 30
# A Monday, midnight UTC.
START_S = 1_780_272_000.0
PER_DAY = 2000


@dataclass(frozen=True, eq=False)
class World:
    """What P prompts would bring at each λ of a grid.

    Attributes
    ----------
    reward_PM, cost_PM : shape (P, M), recorded reward, and USD at the prices the bundle knows
    expected_PM : shape (P, M), USD, as the bundle predicts
    choice : by λ, shape (P,), int: the model the router chooses
    cheapest_P : shape (P,), int: by expected cost
    """

    reward_PM: np.ndarray
    cost_PM: np.ndarray
    expected_PM: np.ndarray
    choice: Mapping[float, np.ndarray]
    cheapest_P: np.ndarray


def build(bundle: Bundle, data: HeldOut, lambdas: Sequence[float], input_tokens_P: np.ndarray | None = None) -> World:
    """Let the bundle choose for every prompt at every λ.

    Parameters
    ----------
    input_tokens_P : shape (P,), on which costs are expected; None takes those that the embedder counts, as a proxy does
    """
    embedded = embed_prompts(tuple(data.outcomes.prompts), StaticEmbedder())
    tokens_P = embedded.input_tokens_P if input_tokens_P is None else input_tokens_P
    scores = predict_pool(bundle, embedded.embeddings_PD, tokens_P[:, None], prices=bundle.prices())
    columns = [data.outcomes.models.index(name) for name in bundle.models]
    return World(
        data.outcomes.rewards_PM[:, columns],
        data.cost_PM[:, columns],
        scores.cost,
        {x: rank_pool(bundle, scores, x).order[:, 0] for x in lambdas},
        np.nanargmin(scores.cost, axis=1),
    )


@dataclass(frozen=True, eq=False)
class Month:
    """R requests of a month, in order.

    Attributes
    ----------
    at_R : shape (R,), Unix seconds
    prompt_R : shape (R,), int
    factor_RM : shape (R, M) or (R, 1); real over known prices at that moment
    """

    at_R: np.ndarray
    prompt_R: np.ndarray
    factor_RM: np.ndarray


@dataclass(frozen=True)
class Traffic:
    """What a month is made of.

    Attributes
    ----------
    bursts : how many times five-fold traffic comes for 20 to 60 minutes
    step_at : day and fraction from which traffic is ten-fold; None never
    prices : whether the dear models cost half as much again from day 10 to day 20, which nobody tells the router
    """

    bursts: int = 25
    step_at: float | None = None
    prices: bool = False
    per_day: int = PER_DAY


def month(world: World, traffic: Traffic, seed: int) -> Month:
    """Draw a month."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(DAYS * 1440)
    hour, day = (minutes / 60.0) % 24, minutes // 1440
    shape = np.exp(1.3 * np.cos((hour - 14.5) * 2 * np.pi / 24))
    shape = shape / np.exp(1.3 * np.cos(np.arange(0, 24, 0.1) * 2 * np.pi / 24)).mean()
    weekly = np.where(day % 7 >= 5, 0.3, 1.0)
    daily = np.exp(rng.normal(0.0, 0.15, DAYS))[day]
    rate = traffic.per_day / 1440.0 * shape * weekly * daily
    burst = np.ones(len(minutes))
    for begin in rng.integers(0, len(minutes), traffic.bursts):
        burst[begin : begin + rng.integers(20, 60)] = 5.0
    rate = rate * burst
    if traffic.step_at is not None:
        rate[int(traffic.step_at * 1440) :] *= 10.0
    count = rng.poisson(rate)
    at = START_S + 60.0 * (np.repeat(minutes, count) + rng.random(count.sum()))
    at.sort()
    prompt = rng.integers(0, len(world.cheapest_P), len(at))
    factor = np.ones((len(at), world.cost_PM.shape[1]))
    if traffic.prices:
        dear = world.cost_PM.mean(axis=0) > np.median(world.cost_PM.mean(axis=0))
        inside = (at >= START_S + 10 * DAY_S) & (at < START_S + 20 * DAY_S)
        factor[np.ix_(inside, dear)] = 1.5
    return Month(at, prompt, factor)
