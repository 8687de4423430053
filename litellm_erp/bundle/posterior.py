"""What a bundle believes of the mean rewards of models on offer, those without a probe among them, for exploring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.ranking import Ranked
from litellm_erp.choice.cost import PriceTable
from litellm_erp.choice.decision import Held, UnknownPlace
from litellm_erp.choice.exploration import DRAWS, Allowance, Trial, choices

# Models' means spread at least as if one more lay off by the root of this share of an answer's variance.
_MEAN_SPREAD = 0.1


@dataclass(frozen=True)
class Pool:
    """Models on offer: those of a bundle, then newcomers, of which it has no probe.

    Attributes
    ----------
    columns : of the former in the bundle, at least one
    names : of all
    newcomers : prices of the latter
    """

    bundle: Bundle
    columns: np.ndarray
    names: Sequence[str]
    newcomers: PriceTable

    @cached_property
    def ties_M(self) -> np.ndarray:
        """How ties are broken, see ``decision.name_order``."""
        last = len(self.bundle.models) + np.arange(len(self.names) - len(self.columns))
        return np.concatenate([self.bundle.tie_order_M[self.columns], last])

    @cached_property
    def variance_per_leverage_M(self) -> np.ndarray:
        """Variance of each probe's mean reward per unit of leverage; inf of one without rows.

        Ridge's own is the noise of an answer; where it is more out of fold, that counts. The leverage is of the rows
        that the pool has in common: a probe of fewer knows less in proportion, one that has learned from a log
        more.
        """
        bundle, found = self.bundle, self.bundle.uncertainty
        rows = np.array([bundle.manifest.models[m].rows for m in self.columns], dtype=np.float64)
        variance = np.maximum(found.slope_M, found.noise_M)[self.columns]
        share = np.divide(1.0, rows * found.base, out=np.full(len(rows), np.inf), where=rows * found.base > 0)
        return np.where(variance > 0, variance * share, 0.0)

    def beliefs(self, embedding: np.ndarray, input_tokens: float, max_output_tokens: float | None) -> Beliefs:
        """What is believed for one request; parameters as of ``Candidates.rank``."""
        costs = np.empty(0)
        if len(self.names) > len(self.columns):
            # An answer of a newcomer is taken to be as long as those of the others are.
            tokens = np.maximum(self.bundle.output_tokens.predict(embedding), 1.0).mean()
            tokens = tokens if max_output_tokens is None else min(tokens, max_output_tokens)
            costs = self.newcomers.expected_cost(input_tokens, float(tokens))
        leverage = float(self.bundle.uncertainty.leverage(embedding))
        return Beliefs(self, leverage * self.variance_per_leverage_M, costs)


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What is believed of a pool for one request, before its λ.

    Attributes
    ----------
    variance_M : of the probes' mean rewards
    newcomers_cost : expected, NaN where unknown
    """

    pool: Pool
    variance_M: np.ndarray
    newcomers_cost: np.ndarray

    def rewards(self, expected_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each model's mean reward, newcomers last.

        A model of which nothing is known is one of the pool: its mean is theirs on this prompt, and it lies off by as
        much as they do. The others are so too, as far as their rows do not say otherwise.

        Parameters
        ----------
        expected_M : of those with a probe, after safety

        Source: empirical Bayes (Efron and Morris, 1975), the prior from the pool's own spread.
        """
        noise = self.pool.bundle.uncertainty.noise_M[self.pool.columns].mean()
        mean = expected_M.mean()
        known = self.variance_M[np.isfinite(self.variance_M)]
        prior = (np.square(expected_M - mean).sum() + _MEAN_SPREAD * noise) / len(expected_M)
        prior += known.mean() if len(known) else noise
        n_new = len(self.newcomers_cost)
        variance = prior - np.square(prior) / (prior + self.variance_M) if prior > 0 else np.zeros(len(expected_M))
        return (
            np.concatenate([expected_M, np.full(n_new, mean)]),
            np.sqrt(np.maximum(np.concatenate([variance, np.full(n_new, prior)]), 0.0)),
        )

    def costs(self, ranked: Ranked) -> np.ndarray:
        """Expected cost of each model, newcomers last."""
        return np.concatenate([np.asarray(ranked.cost)[: len(self.pool.columns)], self.newcomers_cost])

    def choices(
        self,
        ranked: Ranked,
        lambda_: float,
        allowance: float,
        *,
        tier: Sequence[int] | None,
        unknown: UnknownPlace,
        held: Held | None,
    ) -> np.ndarray:
        """The position that every draw would choose, shape (DRAWS,); see ``exploration.choices``.

        Parameters
        ----------
        ranked : the same models at this λ without exploring, at least one of them
        tier, unknown, held : that they were ranked with
        """
        known, greedy = len(self.pool.columns), ranked.order[0]
        if greedy >= known or (held is not None and held.margin == np.inf):
            return np.full(DRAWS, greedy)
        reward_M, std_M = self.rewards(np.asarray(ranked.expected_reward, dtype=np.float64)[:known])
        if held is not None:
            reward_M[held.position] += held.margin
        allowed_M = np.ones(len(reward_M), dtype=bool)
        allowed_M[known:] = unknown != "exclude"
        if tier is not None:
            allowed_M &= np.asarray(tier) <= tier[greedy]
        return choices(
            reward_M,
            std_M,
            self.costs(ranked),
            lambda_,
            greedy=greedy,
            names=self.pool.names,
            tie_order_M=self.pool.ties_M,
            allowed_M=allowed_M,
            allowance=allowance,
            cost_scale=self.pool.bundle.cost_scale,
        )


class Exploring:
    """Whether and what one request explores, of the pool that it was ranked among.

    Parameters
    ----------
    share : of requests that explore
    limit : the request's own, of output tokens
    tier, unknown : that it is ranked with
    """

    def __init__(
        self,
        trial: Trial,
        share: float,
        allowance: Allowance,
        pool: Pool,
        embedding: np.ndarray,
        input_tokens: float,
        *,
        limit: float | None,
        tier: Sequence[int] | None,
        unknown: UnknownPlace,
    ) -> None:
        self._trial, self._share, self._allowance, self._pool = trial, share, allowance, pool
        self._request = (embedding, input_tokens, limit)
        self._tier, self._unknown = tier, unknown
        self._beliefs: Beliefs | None = None

    def choice(self, ranked: Ranked, lambda_: float, held: Held | None) -> tuple[int, float]:
        """The position that serves, and by how much it is expected to be dearer than the first; counts both.

        Parameters
        ----------
        ranked : at the request's λ, without exploring
        """
        place, greedy = self._trial.place(self._share), ranked.order[0]
        chosen = greedy if place is None else int(self._choices(ranked, lambda_, held)[place])
        extra = 0.0 if chosen == greedy else float(self.costs(ranked)[chosen] - self._cost_of(ranked))
        if self._trial.serves and self._trial.allowance is None:
            self._trial.allowance = self._allowance.at(self._cost_of(ranked))
            self._allowance.count(self._cost_of(ranked), extra)
        return chosen, extra

    def shares(self, ranked: Ranked, lambda_: float, held: Held | None) -> dict[int, float]:
        """Probability of each position to serve at a λ, where it is not 0; to be asked before `choice` counts."""
        counts = np.bincount(self._choices(ranked, lambda_, held))
        found = {int(i): self._share * float(counts[i]) / DRAWS for i in np.flatnonzero(counts)}
        found[ranked.order[0]] = found.get(ranked.order[0], 0.0) + 1.0 - self._share
        return found

    def costs(self, ranked: Ranked) -> np.ndarray:
        """Expected cost of each model, newcomers last."""
        return self._known().costs(ranked)

    def _known(self) -> Beliefs:
        if self._beliefs is None:
            self._beliefs = self._pool.beliefs(*self._request)
        return self._beliefs

    def _choices(self, ranked: Ranked, lambda_: float, held: Held | None) -> np.ndarray:
        left = self._trial.allowance
        if left is None:
            left = self._allowance.at(self._cost_of(ranked))
        return self._known().choices(ranked, lambda_, left, tier=self._tier, unknown=self._unknown, held=held)

    def _cost_of(self, ranked: Ranked) -> float:
        """What the first is expected to cost; NaN of a newcomer, of which nobody knows."""
        greedy = ranked.order[0]
        return float(ranked.cost[greedy]) if greedy < len(self._pool.columns) else float("nan")
