"""The kinds of reward models there are. A kind's module is imported when a pool file names it."""

from __future__ import annotations

import importlib

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import RewardModel
from litellm_erp.errors import SettingsError

KINDS: dict[str, str] = {
    "text-pair": "erp_trainer.rewards.kinds.text_pair:TextPair",
    "chat-template": "erp_trainer.rewards.kinds.chat_template:ChatTemplate",
    "classifier": "erp_trainer.rewards.kinds.classifier:Classifier",
    "internlm": "erp_trainer.rewards.kinds.internlm:load_internlm",
    "pooling-server": "erp_trainer.rewards.kinds.pooling_server:PoolingServer",
    "exact-match": "erp_trainer.rewards.kinds.exact_match:ExactMatch",
    "regex": "erp_trainer.rewards.kinds.regex:Regex",
    "callable": "erp_trainer.rewards.kinds.own_callable:OwnCallable",
}


def load_reward_model(spec: RewardSpec) -> RewardModel:
    """Make the reward model that an entry of ``rewards:`` describes.

    Raises
    ------
    SettingsError : no such kind, or options it cannot be made from
    """
    if spec.kind not in KINDS:
        raise SettingsError(f"rewards.{spec.name}: kind: found {spec.kind!r}; expected one of {', '.join(KINDS)}")
    module, _, name = KINDS[spec.kind].partition(":")
    made: RewardModel = getattr(importlib.import_module(module), name)(spec)
    return made
