"""PURE. The only place where a choice is made, in the proxy and in offline evaluation alike.

The rules, in the order in which they count:

1. ``tier``: a lower tier ranks first whatever the rewards (the proxy puts models that lack a capability
   the request needs into a later tier).
2. A model without a probe (its expected reward is NaN) stands where ``unknown`` says: after all others
   (``last``), before them (``first``), or nowhere (``exclude``).
3. At λ > 0, a model whose cost is unknown stands after every model whose cost is known.
4. Higher utility ER − λ · scale · cost first. At λ = 0 that is the highest expected reward.
5. Ties go to the cheaper model, then to the one whose name sorts first, so that the order in which a pool
   is written down changes nothing.

A conversation may hold on to the model that served it last (`Held`): a margin counts as utility of that model, so that
another has to be better by more than it. No margin crosses a tier, and one without bound ranks it first of its tier.

Safety: predictions lean towards the models' mean rewards by a trust in [0, 1]. At 0 the prediction is a
constant per model, so the ranking is that of the best single model at this λ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

UnknownPlace = Literal["last", "first", "exclude"]
UNKNOWN_PLACES: tuple[str, ...] = get_args(UnknownPlace)

# λ is stated per USD per 1,000 requests, costs are USD per request.
REQUESTS_PER_LAMBDA_UNIT = 1000.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ranked models, best first along the last axis.

    Attributes
    ----------
    order : shape (..., M), int; indices of models, best first. With ``unknown="exclude"`` the excluded
        stand at the end and ``n_ranked`` says how many count.
    utility : shape (..., M), in reward units, in model order (not in rank order); NaN for unknown models
    expected_reward : shape (..., M), after safety, in model order
    n_ranked : shape (...), int
    leaned : shape (...), bool; whether safety decided: trust 0, or another first choice than without it
    """

    order: np.ndarray
    utility: np.ndarray
    expected_reward: np.ndarray
    n_ranked: np.ndarray
    leaned: np.ndarray


class RankedOne(NamedTuple):
    """The models of one prompt, best first.

    Attributes
    ----------
    order : indices of models, without those that ``unknown="exclude"`` leaves out
    expected_reward : after safety, in model order
    leaned : as in :class:`Ranking`
    """

    order: list[int]
    expected_reward: list[float]
    leaned: bool


class Held(NamedTuple):
    """The model that a conversation was served by last.

    Attributes
    ----------
    position : its index among the models
    margin : by how much another has to be better, in reward units, at least 0; inf where no other may answer
    """

    position: int
    margin: float


def name_order(names: Sequence[str]) -> np.ndarray:
    """Shape (M,), int: the position of each name in sorted order, for breaking ties."""
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[np.argsort(np.array(names, dtype=object), kind="stable")] = np.arange(len(names))
    return ranks


def lean(expected_reward: np.ndarray, mean_reward_M: np.ndarray, trust: float | np.ndarray) -> np.ndarray:
    """Pull predictions towards each model's mean reward.

    Parameters
    ----------
    expected_reward : shape (..., M), in reward units
    mean_reward_M : shape (M,), the models' mean training rewards
    trust : scalar or shape (..., 1), in [0, 1]; 1 leaves the predictions, 0 leaves only the means

    Source: ours. A constant is a hard baseline; it is one end of this line.
    """
    return mean_reward_M + trust * (expected_reward - mean_reward_M)


def rank(
    expected_reward: np.ndarray,
    cost: np.ndarray,
    lambda_: float,
    *,
    tie_order_M: np.ndarray,
    mean_reward_M: np.ndarray | None = None,
    trust: float | np.ndarray = 1.0,
    cost_scale: float = REQUESTS_PER_LAMBDA_UNIT,
    tier: np.ndarray | None = None,
    unknown: UnknownPlace = "last",
    held: Held | None = None,
) -> Ranking:
    """Rank M models for one prompt, shape (M,), or for P prompts, shape (P, M).

    Parameters
    ----------
    expected_reward : shape (..., M), in reward units; NaN where a model has no probe
    cost : shape (M,) or (..., M), USD per request, or relative cost; NaN where unknown
    lambda_ : at least 0, reward units per ``cost_scale`` units of cost
    tie_order_M : shape (M,), see :func:`name_order`
    mean_reward_M : shape (M,); None switches safety off
    trust : scalar or shape (..., 1), see :func:`lean`
    tier : shape (M,) or (..., M), int; lower ranks first
    unknown : the place of models without a probe
    held : counts in the order alone; utilities and rewards are told without it

    Source: arXiv 2603.20217, eq. 7; the tie, missing-price, safety and holding rules are ours.
    """
    raw = np.asarray(expected_reward, dtype=np.float64)
    cost = _as_wide(cost, raw)
    no_probe, no_cost = np.isnan(raw), np.isnan(cost)
    any_no_probe, any_no_cost = np.count_nonzero(no_probe), np.count_nonzero(no_cost)
    leant = raw if mean_reward_M is None else lean(raw, mean_reward_M, trust)
    price = (lambda_ * cost_scale) * (np.where(no_cost, 0.0, cost) if any_no_cost else cost)
    utility = leant - price

    # A sort puts NaN last and leaves NaNs in the order of the keys before. Keys that decide nothing are left out.
    wanted = utility if held is None else _with_margin(utility, held)
    keys = [_as_wide(tie_order_M, raw), cost, -wanted]
    if any_no_cost and lambda_ > 0:
        keys.append(no_cost if held is None or held.margin < math.inf else _but_for(no_cost, held.position))
    if tier is not None or any_no_probe:
        holds = held is not None and held.margin == math.inf and unknown != "exclude"
        without_probe = _but_for(no_probe, held.position) if held is not None and holds else no_probe
        keys.append(_tiers(without_probe, tier, unknown))
    order = np.argsort(keys[2]) if raw.ndim == 1 and len(keys) == 3 else None
    if order is None or not _descends(wanted, order):
        order = np.lexsort(keys, axis=-1)
    n_ranked = np.full(raw.shape[:-1], raw.shape[-1])
    if any_no_probe and unknown == "exclude":
        n_ranked = n_ranked - no_probe.sum(axis=-1)
    raw_utility = raw - price if held is None else _with_margin(raw - price, held)
    return Ranking(order, utility, leant, n_ranked, _leaned(raw_utility, order, mean_reward_M, trust))


def rank_one(
    expected_reward: Sequence[float],
    cost: Sequence[float],
    lambda_: float,
    *,
    tie_order: Sequence[int],
    mean_reward: Sequence[float] | None = None,
    trust: float = 1.0,
    cost_scale: float = REQUESTS_PER_LAMBDA_UNIT,
    tier: Sequence[int] | None = None,
    unknown: UnknownPlace = "last",
    held: Held | None = None,
) -> RankedOne:
    """Rank a handful of models for one prompt; parameters as of :func:`rank`, as plain numbers.

    Source: as :func:`rank`, to the bit. A request's few models take numpy twenty calls, each fetched from memory anew
    where LiteLLM has emptied the caches, and Python one sort.
    """
    price_of_one = lambda_ * cost_scale
    means = expected_reward if mean_reward is None else mean_reward
    first_tier = -1 if unknown == "first" else 1
    held_at, margin = (-1, 0.0) if held is None else held
    span = 1 + max(tier) - min(tier) if tier and unknown == "exclude" else int(unknown == "exclude")
    leant: list[float] = []
    keys = []
    best_raw = math.nan
    for i, (raw, usd, mean) in enumerate(zip(expected_reward, cost, means, strict=True)):
        reward = raw if mean_reward is None else mean + trust * (raw - mean)
        no_cost = usd != usd
        price = price_of_one * (0.0 if no_cost else usd)
        utility, raw_utility = reward - price, raw - price
        leant.append(reward)
        no_probe = raw != raw
        if i == held_at:
            utility, raw_utility = utility + margin, raw_utility + margin
            if margin == math.inf:
                utility, raw_utility, no_cost = margin, margin, False
                no_probe = no_probe and unknown == "exclude"
        if not raw_utility <= best_raw and raw_utility == raw_utility:
            best_raw = raw_utility
        place = 3 * tier[i] if tier else 0
        if no_probe:
            place += first_tier * (1 + 3 * span)
        # A NaN compares with nothing; a sort by (is it one, else its number) puts it last.
        no_utility = utility != utility
        keys.append(
            (
                place,
                no_cost and lambda_ > 0,
                no_utility,
                0.0 if no_utility else -utility,
                usd != usd,
                0.0 if usd != usd else usd,
                tie_order[i],
                i,
                raw_utility,
            )
        )
    keys.sort()
    order = [key[7] for key in keys]
    leaned = mean_reward is not None and (trust == 0 or keys[0][8] < best_raw)
    if unknown == "exclude":
        order = [i for i in order if expected_reward[i] == expected_reward[i]]
    return RankedOne(order, leant, leaned)


def _with_margin(utility: np.ndarray, held: Held) -> np.ndarray:
    wanted = utility.copy()
    wanted[..., held.position] = math.inf if held.margin == math.inf else utility[..., held.position] + held.margin
    return wanted


def _but_for(flags: np.ndarray, position: int) -> np.ndarray:
    """Flags of models, with that of one of them taken off."""
    kept = flags.copy()
    kept[..., position] = False
    return kept


def first_choices(
    expected_reward_PM: np.ndarray,
    cost: np.ndarray,
    lambda_: float,
    trusts: Sequence[np.ndarray],
    *,
    tie_order_M: np.ndarray,
    mean_reward_M: np.ndarray | None = None,
    cost_scale: float = REQUESTS_PER_LAMBDA_UNIT,
) -> np.ndarray:
    """The first of :func:`rank` for many prompts, without the sort, at several degrees of trust.

    Parameters
    ----------
    trusts : T arrays of shape (P, 1), see :func:`lean`

    Returns
    -------
    shape (T, P), int: what ``rank(…, trust=trust).order[:, 0]`` is for each trust

    Source: as :func:`rank`, to the bit; offline evaluation asks for millions of first choices and no second ones.
    """
    cost_PM = np.broadcast_to(cost, expected_reward_PM.shape)
    # With prompts along the last axis every operation runs over long rows, however small the pool.
    raw_MP = np.array(expected_reward_PM.T, dtype=np.float64, order="C")
    cost_MP = np.array(cost_PM.T, dtype=np.float64, order="C")
    no_cost = np.isnan(cost_MP)
    price_MP = (lambda_ * cost_scale) * np.where(no_cost, 0.0, cost_MP)
    barred = np.isnan(raw_MP) | (no_cost & (lambda_ > 0))
    any_barred = bool(barred.any())
    deviation_MP = raw_MP if mean_reward_M is None else raw_MP - mean_reward_M[:, None]
    number_M = np.arange(len(raw_MP), dtype=np.float32)
    choices = np.empty((len(trusts), raw_MP.shape[1]), dtype=np.int64)
    # One buffer for all degrees of trust: fresh memory would cost more than the arithmetic.
    utility, equal = np.empty_like(raw_MP), np.empty(raw_MP.shape, dtype=bool)
    for chosen_P, trust in zip(choices, trusts, strict=True):
        if mean_reward_M is None:
            np.subtract(raw_MP, price_MP, out=utility)
        else:
            np.multiply(trust[:, 0], deviation_MP, out=utility)
            np.add(mean_reward_M[:, None], utility, out=utility)
            np.subtract(utility, price_MP, out=utility)
        if any_barred:
            utility[barred] = -np.inf
        best_P = utility.max(axis=0)
        np.equal(utility, best_P, out=equal)
        chosen_P[:] = number_M @ equal  # right where a single model is best
        if np.count_nonzero(equal) > len(best_P):
            _break_ties(chosen_P, equal, cost_MP, tie_order_M)
        hopeless = np.flatnonzero(best_P == -np.inf)
        if hopeless.size:
            chosen_P[hopeless] = rank(
                expected_reward_PM[hopeless],
                cost_PM[hopeless],
                lambda_,
                tie_order_M=tie_order_M,
                mean_reward_M=mean_reward_M,
                trust=trust[hopeless],
                cost_scale=cost_scale,
            ).order[:, 0]
    return choices


def _break_ties(chosen_P: np.ndarray, equal_MP: np.ndarray, cost_MP: np.ndarray, tie_order_M: np.ndarray) -> None:
    """Rule 5, in place, where several models have the best utility."""
    prompts = np.flatnonzero(np.count_nonzero(equal_MP, axis=0) > 1)
    equal, cost = equal_MP[:, prompts], cost_MP[:, prompts]
    cost = np.where(equal & ~np.isnan(cost), cost, np.inf)
    equal &= cost <= cost.min(axis=0)
    chosen_P[prompts] = np.where(equal, tie_order_M[:, None], tie_order_M.max() + 1).argmin(axis=0)


def _as_wide(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    # numpy takes longer to find that there is nothing to broadcast than to rank five models.
    return array if np.shape(array) == like.shape else np.broadcast_to(array, like.shape)


def _descends(utility_M: np.ndarray, order_M: np.ndarray) -> bool:
    """Whether every utility is below the one before, so that nothing but utility decides; never where one is NaN."""
    sorted_M = utility_M[order_M]
    return bool((sorted_M[1:] < sorted_M[:-1]).all())


def _tiers(no_probe: np.ndarray, tier: np.ndarray | None, unknown: UnknownPlace) -> np.ndarray:
    """Tiers in which models without a probe have their place."""
    tiers = np.zeros(no_probe.shape, dtype=np.int64) if tier is None else np.broadcast_to(tier, no_probe.shape)
    step = -1 if unknown == "first" else 1
    # The step outweighs every tier for exclude, so that what is excluded stands at the very end.
    span = int(np.ptp(tiers)) + 1 if unknown == "exclude" else 0
    return tiers * 3 + np.where(no_probe, step * (1 + 3 * span), 0)


def _leaned(
    raw_utility: np.ndarray,
    order: np.ndarray,
    mean_reward_M: np.ndarray | None,
    trust: float | np.ndarray,
) -> np.ndarray:
    """Whether safety decided: nothing but the means counted, or the first choice is not the raw one."""
    if mean_reward_M is None:
        return np.zeros(raw_utility.shape[:-1], dtype=bool)
    if raw_utility.ndim == 1:
        first = raw_utility[order[0]]
    else:
        first = np.take_along_axis(raw_utility, order[..., :1], axis=-1)[..., 0]
    switched_off = np.asarray(trust) == 0
    # fmax passes over NaN, and a first choice without a probe is below nothing.
    below_best = first < np.fmax.reduce(raw_utility, axis=-1)
    return below_best | (switched_off[..., 0] if switched_off.ndim else switched_off)
