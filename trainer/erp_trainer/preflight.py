"""Everything after sampling that can be found wrong before it: no sample is paid for that nothing can be made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from erp_trainer.pool.pool import Pool, PoolModel
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.rewards.base import RewardModel
from erp_trainer.rewards.registry import load_reward_model
from erp_trainer.sampling.stage import is_sampled
from litellm_erp.embedding import load_embedder
from litellm_erp.errors import EmbeddingError, SettingsError

Warn = Callable[[str], None]


def check_keys(models: Sequence[PoolModel]) -> None:
    """Every reference to the environment, and every key that LiteLLM reads from there by itself.

    Raises
    ------
    SettingsError : one is missing; names it
    """
    for model in models:
        model.served()
        model.secret()
        if model.engine == "litellm" and model.api_key is None and model.api_base is None:
            from erp_trainer.sampling.litellm_engine import missing_keys

            if missing := missing_keys(model):
                raise SettingsError(
                    f"models.{model.name}: environment variable {missing[0]} is not set, which LiteLLM wants for "
                    f"{model.model}. Set it, or name another: api_key: os.environ/NAME"
                )


def identities_of(pool: Pool) -> dict[str, Mapping[str, Any]]:
    """Make every reward model of the file, without weights: kinds, options, callables, configurations.

    Raises
    ------
    SettingsError : one cannot be made
    """
    models = _reward_models(pool)
    try:
        return {model.name: model.identity() for model in models}
    finally:
        _close(models)


def check_ahead(pool: Pool, prompts: Sequence[Prompt], models: Sequence[PoolModel], warn: Warn) -> list[Prompt]:
    """Check keys, rewards, references, embedder and reward models, in that order; the last two are slow.

    Where everything is sampled already, the embedder and the reward models are left to their stages.

    Returns
    -------
    the prompts that are worth sampling: those that every reward model can score

    Raises
    ------
    ErpError : the first that is wrong
    """
    check_keys(models)
    rewards = _reward_models(pool)
    try:
        scorable = _with_reference(pool, rewards, prompts, warn)
        if not all(is_sampled(pool.run, scorable, model) for model in models):
            _check_embedder(pool.embedder, pool.source)
            for reward in rewards:
                reward.check()
    finally:
        _close(rewards)
    return scorable


def _reward_models(pool: Pool) -> list[RewardModel]:
    if len(pool.rewards) > 1 and not any(spec.weight > 0 for spec in pool.rewards):
        raise SettingsError(f"{pool.source}: rewards: the weights sum to zero; expected at least one above it")
    return [load_reward_model(spec) for spec in pool.rewards]


def _with_reference(pool: Pool, rewards: Sequence[RewardModel], prompts: Sequence[Prompt], warn: Warn) -> list[Prompt]:
    """A prompt that a reward model with a weight cannot score has no reward at all."""
    counting = {spec.name for spec in pool.rewards if spec.weight > 0 or len(pool.rewards) == 1}
    needing = [reward for reward in rewards if reward.needs_reference and reward.name in counting]
    having = [prompt for prompt in prompts if prompt.reference is not None] if needing else list(prompts)
    lacking = len(prompts) - len(having)
    if lacking and not having:
        raise SettingsError(
            f"{needing[0].where}: needs a reference, and none of {lacking} prompts has one. Name its column: prompts: "
            "{source: …, reference_column: …}, and make them anew: erp-train prompts "
            f"{pool.source} --force; or take a reward that needs none"
        )
    if lacking:
        warn(
            f"{lacking} of {len(prompts)} prompts have no reference, which rewards.{needing[0].name} needs; they are "
            "not sampled"
        )
    return having


def _check_embedder(name: str, source: Path) -> None:
    try:
        with closing(load_embedder(name)) as embedder:
            embedder.embed(["Does it answer?"])
    except EmbeddingError as e:
        raise type(e)(f"{source}: embedder: {e}") from e


def _close(rewards: Sequence[RewardModel]) -> None:
    for reward in rewards:
        reward.close()
