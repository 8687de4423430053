"""PURE. Outcomes as the arrays that every policy is fitted on and judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from litellm_erp.choice.decision import REQUESTS_PER_LAMBDA_UNIT, first_choices, name_order

# Cells of a table that are looked at together: float64 copies of them stay within a core's cache.
_CELLS = 65_536


@dataclass(frozen=True, slots=True)
class EmbeddedPrompts:
    """Vectors and sizes of P prompts.

    Attributes
    ----------
    embeddings_PD : shape (P, D), float32, L2-normalised
    input_tokens_P : shape (P,), float64, estimated on the full prompt
    """

    embeddings_PD: np.ndarray
    input_tokens_P: np.ndarray


@dataclass(frozen=True, slots=True)
class SingleMeans:
    """What always choosing each model earns and costs, shape (M,) each."""

    reward_M: np.ndarray
    cost_M: np.ndarray


@dataclass(frozen=True)
class TrainingTable:
    """P prompts, M models, D embedding dimensions. What is computed over all rows never copies the whole table.

    Attributes
    ----------
    models : M names
    embeddings_PD : shape (P, D), float32, L2-normalised
    rewards_PM : shape (P, M), NaN where a model has no outcome
    expected_cost_PM : shape (P, M), what a router can know before the call; USD or relative cost, NaN unknown
    realised_cost_PM : shape (P, M), what the recorded responses cost; NaN unknown
    groups_P : shape (P,), int; duplicate prompts share a number
    categories_P : shape (P,), str
    cost_scale : 1000 for USD (λ is per USD per 1,000 requests), 1 for relative cost
    tags_P : shape (P,), object, a tuple of str per prompt; None where nothing was tagged
    log_likelihood_PM : shape (P, M), mean token log-likelihood of the recorded responses; None where not recorded
    self_check_PM : shape (P, M), in [0, 1], how far a model's own check accepts its response; None where not recorded
    samples_PMK : shape (P, M, K), float32, the single rewards that ``rewards_PM`` are the means of, NaN where there are
        fewer; None where they are not on record
    noise_PM : shape (P, M), variance of each recorded mean reward around the expected one, s² / K; NaN where unknown
    stated_means : the models' means, where some models' rows were chosen and their plain means would be biased
    """

    models: tuple[str, ...]
    embeddings_PD: np.ndarray
    rewards_PM: np.ndarray
    expected_cost_PM: np.ndarray
    realised_cost_PM: np.ndarray
    groups_P: np.ndarray
    categories_P: np.ndarray
    cost_scale: float = REQUESTS_PER_LAMBDA_UNIT
    tags_P: np.ndarray | None = None
    log_likelihood_PM: np.ndarray | None = None
    self_check_PM: np.ndarray | None = None
    samples_PMK: np.ndarray | None = None
    noise_PM: np.ndarray | None = None
    stated_means: SingleMeans | None = None

    def __len__(self) -> int:
        return len(self.rewards_PM)

    @cached_property
    def tie_order_M(self) -> np.ndarray:
        """How ties between models are broken, shape (M,)."""
        return name_order(self.models)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The categories there are, sorted; prompts without one have ``""``, which is not among them."""
        return tuple(category_names(self.categories_P))

    def inside(self, category: str) -> np.ndarray:
        """Which rows are of a category, ascending, int; ``""`` is all of them."""
        return np.arange(len(self)) if category == "" else np.flatnonzero(self.categories_P == category)

    @cached_property
    def mean_reward_M(self) -> np.ndarray:
        """Mean reward of always choosing each model, shape (M,), over the prompts it has outcomes for."""
        if self.stated_means is not None:
            return self.stated_means.reward_M
        return self._mean_where_present(self.rewards_PM)

    @cached_property
    def mean_cost_M(self) -> np.ndarray:
        """Mean realised cost of always choosing each model, shape (M,); NaN where its price is unknown."""
        if self.stated_means is not None:
            return self.stated_means.cost_M
        return self._mean_where_present(self.realised_cost_PM)

    @cached_property
    def lambda_unit(self) -> float:
        """The λ at which the cheapest and the dearest model are worth the same on average; 0 without costs.

        Where the dearest model is no better than the cheapest, the spread of mean rewards stands in. It is finite.
        """
        cost = self.mean_cost_M * self.cost_scale
        known = ~np.isnan(cost)
        if known.sum() < 2 or np.ptp(cost[known]) == 0:
            return 0.0
        spread = np.ptp(self.mean_reward_M[known]) or np.nanstd(self.rewards_PM) or 1.0
        with np.errstate(over="ignore"):
            return float(min(spread / np.ptp(cost[known]), np.finfo(float).max))

    def _mean_where_present(self, values_PM: np.ndarray) -> np.ndarray:
        total, count = np.zeros(len(self.models)), np.zeros(len(self.models))
        for rows in self._chunks():
            present = ~np.isnan(self.rewards_PM[rows])
            total += np.where(present, values_PM[rows], 0.0).sum(axis=0, dtype=np.float64)
            count += present.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return total / count

    def _chunks(self) -> Iterator[slice]:
        step = max(1, _CELLS // len(self.models))
        return (slice(start, start + step) for start in range(0, len(self), step))

    def choose(
        self,
        predicted_PM: np.ndarray,
        lambda_: float,
        *,
        mean_reward_M: np.ndarray | None = None,
        trust: float | np.ndarray = 1.0,
        expected_cost_PM: np.ndarray | None = None,
    ) -> np.ndarray:
        """First choice per prompt among the models it has outcomes for, shape (P,), by ``decision``."""
        return self.choose_each(
            predicted_PM, lambda_, (trust,), mean_reward_M=mean_reward_M, expected_cost_PM=expected_cost_PM
        )[0]

    def choose_each(
        self,
        predicted_PM: np.ndarray,
        lambda_: float,
        trusts: Sequence[float | np.ndarray],
        *,
        mean_reward_M: np.ndarray | None = None,
        expected_cost_PM: np.ndarray | None = None,
    ) -> np.ndarray:
        """:meth:`choose` at T degrees of trust in one pass, shape (T, P).

        Parameters
        ----------
        trusts : scalars, or shape (P, 1), all between the first and the last
        """
        cost = np.broadcast_to(
            self.expected_cost_PM if expected_cost_PM is None else expected_cost_PM, self.rewards_PM.shape
        )
        trust_TP = [np.broadcast_to(trust, (len(self), 1)) for trust in trusts]
        choices = np.empty((len(trusts), len(self)), dtype=np.int64)

        def choose(prompts: np.ndarray, degrees: slice) -> np.ndarray:
            predicted = np.where(np.isnan(self.rewards_PM[prompts]), np.nan, predicted_PM[prompts])
            return first_choices(predicted, cost[prompts], lambda_, [trust[prompts] for trust in trust_TP[degrees]],
                                 tie_order_M=self.tie_order_M, mean_reward_M=mean_reward_M,
                                 cost_scale=self.cost_scale)  # fmt: skip

        for rows in self._chunks():
            prompts = np.arange(rows.start, min(rows.stop, len(self)))
            # Utility is linear in trust: whoever is first at both ends is first between them.
            ends = choose(prompts, slice(None, None, max(1, len(trusts) - 1)))
            choices[:, prompts], choices[-1, prompts] = ends[0], ends[-1]
            contested = prompts[ends[0] != ends[-1]]
            if len(trusts) > 2 and contested.size:
                choices[1:-1, contested] = choose(contested, slice(1, -1))
        return choices

    def reward_of(self, choice_P: np.ndarray) -> np.ndarray:
        """Recorded reward of the chosen models, shape (P,)."""
        return np.take_along_axis(self.rewards_PM, choice_P[:, None], axis=1)[:, 0]

    def cost_of(self, choice_P: np.ndarray) -> np.ndarray:
        """Realised cost of the chosen models, shape (P,)."""
        return np.take_along_axis(self.realised_cost_PM, choice_P[:, None], axis=1)[:, 0]

    def expected_of(self, choice_P: np.ndarray) -> np.ndarray:
        """Expected cost of the chosen models, shape (P,)."""
        return np.take_along_axis(self.expected_cost_PM, choice_P[:, None], axis=1)[:, 0]

    def utility_of(self, choice_P: np.ndarray, lambda_: float) -> np.ndarray:
        """Reward minus λ times realised cost of the chosen models, shape (P,); unknown costs count as none."""
        return self.reward_of(choice_P) - lambda_ * self.cost_scale * np.nan_to_num(self.cost_of(choice_P))

    def halves(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean rewards over every other sample, and over the samples between, each shape (P, M).

        NaN where a model has no sample in a half; None where single rewards are not on record.
        """
        if self.samples_PMK is None or self.samples_PMK.shape[2] < 2:
            return None
        return _mean_of_samples(self.samples_PMK[:, :, ::2]), _mean_of_samples(self.samples_PMK[:, :, 1::2])

    def rows(self, mask_P: np.ndarray) -> TrainingTable:
        """The table restricted to some prompts."""
        return replace(self, **self._taken("P", mask_P))

    def columns(self, models: Sequence[int]) -> TrainingTable:
        """The table restricted to some models, in the order given."""
        stated = self.stated_means
        if stated is not None:
            stated = SingleMeans(stated.reward_M[models], stated.cost_M[models])
        names = tuple(self.models[m] for m in models)
        return replace(self, models=names, stated_means=stated, **self._taken("PM", np.s_[:, models]))

    def _taken(self, axes: str, index: Any) -> dict[str, Any]:
        """A part of every array whose first axes these are, as names of fields end in them."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name.rpartition("_")[2].startswith(axes)}
        return {name: None if array is None else array[index] for name, array in arrays.items()}


def category_names(categories_P: np.ndarray) -> list[str]:
    """The categories there are, sorted; prompts without one are in none."""
    return sorted(set(categories_P.tolist()) - {""})


def _mean_of_samples(samples_PMK: np.ndarray) -> np.ndarray:
    missing = np.isnan(samples_PMK)
    total = np.where(missing, 0.0, samples_PMK).sum(axis=2, dtype=np.float64)
    number = (~missing).sum(axis=2)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
