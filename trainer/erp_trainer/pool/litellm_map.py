"""IO. LiteLLM as the trainer uses it: without the network, which importing it otherwise asks for its price map."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAP = "model_prices_and_context_window_backup.json"


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


@functools.cache
def price_map() -> Mapping[str, Mapping[str, Any]]:
    """The price map that LiteLLM was installed with; read as a file, because importing LiteLLM takes five seconds.

    Returns
    -------
    model to what is known of it; empty where LiteLLM is not installed or brings no map
    """
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        with contextlib.suppress(OSError, ValueError):
            loaded = json.loads((Path(folder) / _MAP).read_text(encoding="utf-8"))
            return {name: entry for name, entry in loaded.items() if isinstance(entry, dict) and name != "sample_spec"}
    return {}


def per_mtok(usd_per_token: float) -> float:
    """USD per million tokens, in 12 digits: 1.5e-07 times a million should print as 0.15."""
    return float(f"{usd_per_token * 1e6:.12g}")
