"""IO. A reward model that scores on a cluster, under the same identity as in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from erp_trainer.pool.pool import RaySettings, RewardSpec
from erp_trainer.pool.ray import Workers
from erp_trainer.rewards.base import Advance, Pair, RewardModel, RewardOptions, Scored
from erp_trainer.rewards.registry import load_reward_model

_PAIRS_PER_JOB = 256


class RayRewardModel(RewardModel):
    """One reward model, loaded once in every actor; checked and identified in this process, without its weights."""

    def __init__(self, spec: RewardSpec, settings: RaySettings) -> None:
        local = load_reward_model(spec)
        self.name = local.name
        self.needs_reference = local.needs_reference
        self._identity = local.identity()
        local.close()
        # What "auto" means here must hold on every worker: the dtype is part of the identity.
        if "dtype" in self._identity:
            spec = replace(spec, options={**spec.options, "dtype": self._identity["dtype"]})
        self._make = partial(_scorer, spec)
        self._settings = settings
        self._workers: Workers | None = None

    def read(self, options: RewardOptions) -> None:
        """Nothing: the kind has read them."""

    def identity(self) -> dict[str, Any]:
        return self._identity

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        self._workers = self._workers or Workers(self._settings, self._make)
        # At least one job for every worker, so that none is idle in a small chunk.
        size = max(1, min(_PAIRS_PER_JOB, -(-len(pairs) // self._settings.workers)))
        jobs = (list(pairs[start : start + size]) for start in range(0, len(pairs), size))
        scored: list[Scored] = []
        for found in self._workers.map(jobs):
            scored += found
            advance(len(found))
        return scored

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()


def loader(settings: RaySettings) -> Callable[[RewardSpec], RewardModel]:
    """For ``score_run``: every reward model of a run on the cluster."""
    return lambda spec: RayRewardModel(spec, settings)


def _scorer(spec: RewardSpec) -> Callable[[list[Pair]], list[Scored]]:
    model = load_reward_model(spec)
    return lambda pairs: model.score(pairs, lambda n: None)
