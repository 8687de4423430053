"""From an embedding to a ranking by one bundle: the steps that proxy and command line share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.features import FeatureProbes
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import PriceTable
from litellm_erp.choice.decision import Held, RankedOne, Ranking, UnknownPlace, rank, rank_one

# Up to so many models a sort by Python is quicker than numpy's calls, and the more so the colder the caches.
FEW = 32


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a bundle predicts for one prompt, or for P of them.

    Attributes
    ----------
    expected_reward : shape (M,) or (P, M), as the policy's predictor says, before safety
    cost : shape (M,) or (P, M), expected USD per request or relative cost; NaN unknown
    leverage : shape () or (P,)
    trust : shape () or (P,), in [0, 1], how far the prompt's predictions are believed
    """

    expected_reward: np.ndarray
    cost: np.ndarray
    leverage: np.ndarray
    trust: np.ndarray


def predict_pool(
    bundle: Bundle,
    embeddings: np.ndarray,
    input_tokens: float | np.ndarray,
    *,
    prices: PriceTable,
    max_output_tokens: float | None = None,
) -> Predictions:
    """Predict reward and cost of every pool model.

    Parameters
    ----------
    embeddings : shape (D,) or (P, D), float32, L2-normalised
    input_tokens : scalar or shape (P, 1), of the full prompts
    max_output_tokens : the request's own limit; expected output tokens are clipped to [1, limit]
    """
    output_tokens = np.maximum(bundle.output_tokens.predict(embeddings), 1.0)
    if (longest_M := bundle.longest_M) is not None:
        output_tokens = np.minimum(output_tokens, longest_M)
    if max_output_tokens is not None:
        output_tokens = np.minimum(output_tokens, max_output_tokens)
    cost, leverage = prices.expected_cost(input_tokens, output_tokens), bundle.uncertainty.leverage(embeddings)
    rewards, memberships = _rewards(bundle, embeddings)
    believed = np.ones_like(leverage)
    if memberships is not None and bundle.features is not None:
        believed = bundle.features.trust(memberships)
    return Predictions(rewards, cost, leverage, believed)


def _rewards(bundle: Bundle, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What the policy's predictor says, and the memberships that it says so by; None where it has none."""
    if not isinstance(bundle.predictor, FeatureProbes):
        return bundle.predictor.predict(embeddings), None
    features = bundle.predictor.features
    memberships = features.memberships(features.scores(embeddings))
    return bundle.predictor.predict(embeddings, memberships), memberships


def rank_pool(
    bundle: Bundle,
    predictions: Predictions,
    lambda_: float,
    *,
    safety: bool = True,
    tier: np.ndarray | None = None,
) -> Ranking:
    """Rank the whole pool of a bundle at one λ."""
    everyone = np.arange(len(bundle.models))
    return rank_among(bundle, predictions, lambda_, everyone, 0, safety=safety, tier=tier)


def rank_among(
    bundle: Bundle,
    predictions: Predictions,
    lambda_: float,
    columns: np.ndarray,
    n_unknown: int,
    *,
    safety: bool = True,
    tier: np.ndarray | None = None,
    unknown: UnknownPlace = "last",
    held: Held | None = None,
    mean_reward_M: np.ndarray | None = None,
) -> Ranking:
    """Rank some pool models, and models the bundle has no probe for.

    Parameters
    ----------
    columns : shape (C,), int; the pool models to rank, as columns of ``predictions``
    n_unknown : how many models without a probe come after them, in the order of their names
    tier, held : of C + n_unknown positions, see ``decision.rank``
    mean_reward_M : what predictions lean towards, where that is not what the bundle says

    Returns
    -------
    Ranking over C + n_unknown positions
    """
    reward = predictions.expected_reward[..., columns].astype(np.float64)
    cost = predictions.cost[..., columns]
    mean = (bundle.mean_reward_M if mean_reward_M is None else mean_reward_M)[columns]
    ties = bundle.tie_order_M[columns]
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
        trust=np.asarray(trust(bundle, predictions, lambda_))[..., None],
        cost_scale=bundle.cost_scale,
        tier=tier,
        unknown=unknown,
        held=held,
    )


class Ranked(NamedTuple):
    """Candidates ranked for one request.

    Attributes
    ----------
    order : positions of candidates, best first, without those that are excluded
    expected_reward, cost : by position; after safety, and USD per request or relative cost; NaN unknown
    leaned : see ``decision.Ranking``
    stayed : whether the first would be another without what the conversation has been served by
    best_single_cost : of the bundle's best single model, whether it is a candidate or not; NaN unknown
    predicted_s : ``time.perf_counter()`` between the predictions and the ranking
    predicted : as ``expected_reward``, before safety and whatever has drifted, of candidates with a probe
    """

    order: list[int]
    expected_reward: Sequence[float] | np.ndarray
    cost: Sequence[float] | np.ndarray
    leaned: bool
    best_single_cost: float
    predicted_s: float
    stayed: bool = False
    predicted: Sequence[float] | np.ndarray = ()


@dataclass(frozen=True, slots=True)
class Warm:
    """What candidates are to a conversation that they have served.

    Attributes
    ----------
    held : the one that served it last, and by how much another has to be better; None where it is no candidate
    cached : positions of candidates, and the tokens of the request that each is expected to find in its prompt cache
    """

    held: Held | None
    cached: Sequence[tuple[int, float]] = ()

    @property
    def has_margin(self) -> bool:
        """Whether another candidate has to be better than the held one by anything."""
        return self.held is not None and self.held.margin != 0.0

    def longest(self, input_tokens: float) -> float:
        """The tokens of the request that the warmest of them finds."""
        return min(max((tokens for _, tokens in self.cached), default=0.0), input_tokens)


class Candidates:
    """Some pool models of a bundle, and models it has no probe for, ready to be ranked for one request after another.

    What does not depend on the request is gathered once, so that a request of few candidates takes one product of its
    embedding with a matrix and one sort. Between two requests a busy proxy empties the caches: what counts is not the
    arithmetic but how many calls and places of memory it takes.

    Parameters
    ----------
    columns : the pool models, as columns of the bundle
    n_unknown : how many models without a probe come after them, in the order of their names
    prices : of all pool models of the bundle
    """

    def __init__(self, bundle: Bundle, columns: Sequence[int], n_unknown: int, prices: PriceTable) -> None:
        self._bundle, self._prices, self._n_unknown = bundle, prices, n_unknown
        models = bundle.models
        best = bundle.frontier.document["verdict"].get("best_single")
        self._best = models.index(best) if best in models else None
        self._columns = np.array(columns, dtype=np.intp)
        self._few = len(columns) + n_unknown <= FEW
        self._safe, self._cost_scale = bundle.manifest.safety, bundle.cost_scale
        # Positions of what is predicted: the candidates, and the best single model for comparison.
        wanted = list(dict.fromkeys([*columns, *([] if self._best is None else [self._best])]))
        self._n, self._wanted = len(columns), np.array(wanted, dtype=np.intp)
        self._longest_M = bundle.longest_M
        self._longest: list[float] | None = None if self._longest_M is None else self._longest_M[self._wanted].tolist()
        self._best_position = None if self._best is None else wanted.index(self._best)
        if not self._few:
            return
        unknown = [np.nan] * n_unknown
        self._means: list[float] = bundle.mean_reward_M[self._columns].tolist() + unknown
        ties: list[int] = bundle.tie_order_M[self._columns].tolist()
        self._ties = ties + [len(models) + i for i in range(n_unknown)]
        columns_of_prices = (prices.input_M, prices.output_M, prices.fixed_M)
        self._price_rows = list(zip(*(column[self._wanted].tolist() for column in columns_of_prices), strict=True))
        self._heads = _stacked(bundle, self._wanted)
        self._features = bundle.features
        if isinstance(bundle.predictor, FeatureProbes):
            self._cells_FM = np.ascontiguousarray(bundle.predictor.cells_FM[:, self._wanted])

    def rank(
        self,
        embedding: np.ndarray | None,
        input_tokens: float,
        lambda_: float,
        *,
        max_output_tokens: float | None = None,
        safety: bool = True,
        tier: Sequence[int] | None = None,
        unknown: UnknownPlace = "last",
        warm: Warm | None = None,
        losses: Mapping[int, float] | None = None,
    ) -> Ranked:
        """Rank the candidates; what `predict_pool` and ``rank_among`` say of one prompt, up to float32's last digit.

        Parameters
        ----------
        embedding : shape (D,), float32, L2-normalised; None ranks by the models' mean rewards
        max_output_tokens : the request's own limit; expected output tokens are clipped to [1, limit]
        tier : one number per candidate, see ``decision.rank``
        warm : which of them the conversation is warm at, in the cost of each
        losses : by position, of models that have drifted: such a model counts for its prediction or its mean, whichever
            is less, less its loss, in reward units
        """
        if not self._few:
            return self._rank_many(
                embedding, input_tokens, lambda_, max_output_tokens, safety, tier, unknown, warm, losses
            )
        rewards, tokens, believed = self._predict(embedding)
        predicted, means = rewards[: self._n], self._means
        for position, loss in (losses or {}).items():
            rewards, means = [*rewards], [*means]
            rewards[position] = min(rewards[position], means[position]) - loss
            means[position] -= loss
        costs = self._costs(input_tokens, tokens, max_output_tokens)
        predicted_s = time.perf_counter()
        best = np.nan if self._best_position is None else costs[self._best_position]
        blank = [np.nan] * self._n_unknown
        safe = safety and self._safe
        ranked_at = partial(
            rank_one,
            rewards[: self._n] + blank,
            lambda_=lambda_,
            tie_order=self._ties,
            mean_reward=means if safe else None,
            trust=self._bundle.frontier.shrinkage(lambda_) * believed if safe else 0.0,
            cost_scale=self._cost_scale,
            tier=tier,
            unknown=unknown,
        )
        ranked = ranked_at(costs[: self._n] + blank)
        if warm is None:
            return Ranked(
                ranked.order, ranked.expected_reward, costs, ranked.leaned, best, predicted_s, predicted=predicted
            )
        cold, saved = ranked, self._saved(warm, input_tokens)
        for position, usd in saved:
            costs[position] -= usd
        if saved or warm.has_margin:
            ranked = ranked_at(costs[: self._n] + blank, held=warm.held)
        # Whoever had served the whole conversation would be warm in it.
        best -= warm.longest(input_tokens) * self._cache_saves(self._best)
        stayed = _stayed(warm, ranked, cold)
        return Ranked(ranked.order, ranked.expected_reward, costs, ranked.leaned, best, predicted_s, stayed, predicted)

    def _saved(self, warm: Warm, input_tokens: float) -> list[tuple[int, float]]:
        """Candidates that cost less for what they find in their prompt caches, and by how much, USD."""
        found = [
            (position, min(tokens, input_tokens) * self._cache_saves(self._columns[position]))
            for position, tokens in warm.cached
            if position < self._n
        ]
        return [(position, usd) for position, usd in found if usd != 0.0]

    def _cache_saves(self, column: int | None) -> float:
        """USD that a token from the prompt cache costs less at a pool model; 0 where its cost is a constant."""
        if column is None or not np.isnan(self._prices.fixed_M[column]):
            return 0.0
        return float(self._prices.cache_saves_M[column])

    def _predict(self, embedding: np.ndarray | None) -> tuple[list[float], list[float], float]:
        """Rewards and output tokens of what is predicted, and how far the prompt's predictions are believed."""
        n = len(self._wanted)
        if embedding is None:
            unit = self._bundle.manifest.expected_output_tokens
            return self._bundle.mean_reward_M[self._wanted].tolist(), [unit] * n, 0.0
        if self._heads is None:
            predicted = self._bundle.predictor.predict(embedding)[self._wanted].tolist()
            return predicted, self._bundle.output_tokens.predict(embedding)[self._wanted].tolist(), 1.0
        found = self._heads.predict(embedding)
        if self._features is None:
            both: list[float] = found.tolist()
            return both[:n], both[n:], 1.0
        memberships = self._features.memberships(found[2 * n :])
        rewards = found[:n] + memberships.dot(self._cells_FM)
        return rewards.tolist(), found[n : 2 * n].tolist(), self._features.trust_of_one(memberships)

    def _costs(self, input_tokens: float, output_tokens: list[float], limit: float | None) -> list[float]:
        costs = []
        if self._longest is not None:
            output_tokens = list(map(min, output_tokens, self._longest))
        for (input_usd, output_usd, fixed), expected in zip(self._price_rows, output_tokens, strict=True):
            tokens = max(expected, 1.0) if limit is None else min(max(expected, 1.0), limit)
            costs.append(fixed if fixed == fixed else input_usd * input_tokens + output_usd * tokens)
        return costs

    def _rank_many(
        self,
        embedding: np.ndarray | None,
        input_tokens: float,
        lambda_: float,
        max_output_tokens: float | None,
        safety: bool,
        tier: Sequence[int] | None,
        unknown: UnknownPlace,
        warm: Warm | None,
        losses: Mapping[int, float] | None,
    ) -> Ranked:
        bundle = self._bundle
        believed = 1.0
        if embedding is None:
            rewards, tokens = bundle.mean_reward_M, np.full(len(bundle.models), bundle.manifest.expected_output_tokens)
        else:
            tokens = np.maximum(bundle.output_tokens.predict(embedding), 1.0)
            rewards, memberships = _rewards(bundle, embedding)
            if memberships is not None and bundle.features is not None:
                believed = bundle.features.trust_of_one(memberships)
        if self._longest_M is not None:
            tokens = np.minimum(tokens, self._longest_M)
        if max_output_tokens is not None:
            tokens = np.minimum(tokens, max_output_tokens)
        cost = self._prices.expected_cost(input_tokens, tokens)
        predicted, means = rewards[self._columns], None
        if losses:
            rewards, means = rewards.astype(np.float64), bundle.mean_reward_M.astype(np.float64)
            for position, loss in losses.items():
                column = self._columns[position]
                rewards[column] = min(rewards[column], means[column]) - loss
                means[column] -= loss
        # Leverage is for standard errors, which no ranking needs.
        predictions = Predictions(rewards, cost, np.float64(0.0), np.float64(believed))
        predicted_s = time.perf_counter()
        best = np.nan if self._best is None else float(predictions.cost[self._best])
        ranked_by = partial(
            rank_among,
            bundle,
            lambda_=lambda_,
            columns=self._columns,
            n_unknown=self._n_unknown,
            safety=safety,
            tier=None if tier is None else np.array(tier),
            unknown=unknown,
            mean_reward_M=means,
        )
        ranking = cold = ranked_by(predictions)
        if warm is not None:
            saved = self._saved(warm, input_tokens)
            for position, usd in saved:
                predictions.cost[self._columns[position]] -= usd
            if saved or warm.has_margin:
                ranking = ranked_by(predictions, held=warm.held)
            best -= warm.longest(input_tokens) * self._cache_saves(self._best)
        return Ranked(
            ranking.order[: int(ranking.n_ranked)].tolist(),
            ranking.expected_reward,
            predictions.cost[self._columns],
            bool(ranking.leaned),
            best,
            predicted_s,
            warm is not None and _stayed(warm, ranking, cold),
            predicted,
        )


def _stayed(warm: Warm, found: RankedOne | Ranking, cold: RankedOne | Ranking) -> bool:
    """Whether the first is the one that a conversation is warm at, and would be another if it were warm nowhere."""
    return warm.held is not None and bool(len(found.order)) and found.order[0] == warm.held.position != cold.order[0]


def _stacked(bundle: Bundle, columns: np.ndarray) -> Probes | None:
    """Reward and output-token heads of some models, and the pool's features, side by side; None where not linear."""
    if bundle.predictor is not bundle.probes and not isinstance(bundle.predictor, FeatureProbes):
        return None
    weights = [head.weights_DM[:, columns] for head in (bundle.probes, bundle.output_tokens)]
    intercepts = [head.intercept_M[columns] for head in (bundle.probes, bundle.output_tokens)]
    if bundle.features is not None:
        weights.append(bundle.features.weights_DF)
        intercepts.append(bundle.features.bias_F)
    return Probes(np.ascontiguousarray(np.concatenate(weights, axis=1)), np.concatenate(intercepts))


def trust(bundle: Bundle, predictions: Predictions, lambda_: float) -> np.ndarray:
    """How far predictions are believed at this λ, shape () or (P,): the bundle's shrinkage times the prompts' trust."""
    return bundle.frontier.shrinkage(lambda_) * predictions.trust
