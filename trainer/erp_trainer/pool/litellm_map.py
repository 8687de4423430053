"""IO. LiteLLM as the trainer uses it: without the network, which importing it otherwise asks for its price map."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any


def offline_litellm() -> Any:
    """The ``litellm`` module, with the price map that it was installed with."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return importlib.import_module("litellm")


def listed_model(model: str) -> Mapping[str, Any] | None:
    """What LiteLLM's map says of a provider's model, None where it does not know it."""
    try:
        return dict(offline_litellm().get_model_info(model))
    except Exception:  # LiteLLM raises bare Exception for a model it does not know
        return None


def per_mtok(usd_per_token: float) -> float:
    """USD per million tokens, in 12 digits: 1.5e-07 times a million should print as 0.15."""
    return float(f"{usd_per_token * 1e6:.12g}")
