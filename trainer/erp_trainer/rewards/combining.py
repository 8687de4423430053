"""PURE. Several reward models' rewards as one.

One reward model alone stays raw; one of weight 0 is scored and recorded, and takes no part in anything else. Several
are normalised, each on its own, to zero mean and unit standard deviation over all samples of all pool models on the
prompts of the train split, and averaged with their weights:

    r = Σᵣ wᵣ (rewardᵣ − meanᵣ) / stdᵣ  /  Σᵣ wᵣ

so that a reward model counts by its weight and not by the size of its logits. Test prompts take no part in mean and
standard deviation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from litellm_erp.errors import SettingsError

Key = tuple[str, str]
Scores = Mapping[Key, np.ndarray]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What was done to one reward model's rewards: ``weight · (reward − mean) / std``, weights summing to 1."""

    mean: float
    std: float
    weight: float

    def to_json(self) -> dict[str, Any]:
        """For the bundle's manifest."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Combined:
    """One reward for every sample.

    Attributes
    ----------
    rewards : by (prompt_id, pool model), shape (S,)
    normalisation : by reward model; mean 0, std 1, weight 1 where only one has a weight, and weight 0 for the others
    incomplete : keys that some reward model with a weight scored and another did not, which are left out
    """

    rewards: dict[Key, np.ndarray]
    normalisation: dict[str, Normalisation]
    incomplete: int

    @property
    def unit(self) -> str:
        """What a reward is counted in."""
        weighted = sum(n.weight > 0 for n in self.normalisation.values())
        return "raw reward" if weighted == 1 else "standard deviations over the train split"


def combine(scores: Mapping[str, Scores], weights: Mapping[str, float], train: Collection[str]) -> Combined:
    """Combine rewards.

    Parameters
    ----------
    scores : by reward model, by (prompt_id, pool model): rewards by sample, shape (S,), float64, finite
    weights : by reward model, ≥ 0
    train : prompt ids of the train split

    Raises
    ------
    SettingsError : weights that sum to zero, or a reward model that cannot be normalised

    Source: ours; the paper uses one reward model at a time.
    """
    normalisation = _normalisation(scores, weights, set(train))
    rewards = weighted(scores, normalisation)
    known = set().union(*(scores[name] for name, n in normalisation.items() if n.weight > 0))
    return Combined(rewards, normalisation, len(known) - len(rewards))


def weighted(scores: Mapping[str, Scores], normalisation: Mapping[str, Normalisation]) -> dict[Key, np.ndarray]:
    """Rewards on the scale of a normalisation, where every reward model with a weight gave one."""
    counted = {name: n for name, n in normalisation.items() if n.weight > 0}
    complete = set.intersection(*(set(scores[name]) for name in counted))
    return {
        key: np.sum([n.weight * (scores[name][key] - n.mean) / n.std for name, n in counted.items()], axis=0)
        for key in scores[next(iter(counted))]
        if key in complete
    }


def _normalisation(
    scores: Mapping[str, Scores], weights: Mapping[str, float], train: set[str]
) -> dict[str, Normalisation]:
    if len(scores) == 1:
        return {next(iter(scores)): Normalisation(0.0, 1.0, 1.0)}
    weighted = [name for name in scores if weights[name] > 0]
    if not weighted:
        raise SettingsError("rewards: the weights sum to zero; expected at least one above it")
    made = {name: Normalisation(0.0, 1.0, 0.0) for name in scores}
    if len(weighted) == 1:
        return made | {weighted[0]: Normalisation(0.0, 1.0, 1.0)}
    total = sum(weights[name] for name in weighted)
    for name in weighted:
        of_model = scores[name]
        trained = [rewards for (prompt_id, _), rewards in of_model.items() if prompt_id in train]
        samples = np.concatenate(trained) if trained else np.empty(0)
        mean, std = (float(samples.mean()), float(samples.std())) if len(samples) else (0.0, 0.0)
        if std <= 1e-12 * max(abs(mean), 1.0):
            found = "gave every response the same reward" if len(samples) else "scored no response"
            raise SettingsError(
                f"rewards.{name}: {found} on the train split, so it cannot be normalised to combine it with others. "
                "Take it out of rewards:, or look at its options"
            )
        made[name] = Normalisation(mean, std, weights[name] / total)
    return made
