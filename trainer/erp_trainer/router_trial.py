"""Whether LiteLLM's own router takes a config: it is made, and thrown away. Nothing is started and nobody is called."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from erp_trainer.config_checks import REFERENCE, Parts
from litellm_erp.checks import Finding

_TRIED = (
    "routing_groups", "routing_strategy", "model_group_alias", "fallbacks", "default_fallbacks",
    "context_window_fallbacks", "content_policy_fallbacks", "num_retries", "optional_pre_call_checks",
    "enable_pre_call_checks", "allowed_fails", "cooldown_time", "timeout",
)  # fmt: skip
_MAX_TEXT = 400


def try_router(parts: Parts) -> list[Finding]:
    """Make a ``litellm.Router`` from a config; one error where the installed LiteLLM refuses it."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    settings = {key: value for key, value in parts.router_settings.items() if key in _TRIED}
    # A router enters its deployments into LiteLLM's map, free of charge; the doctor asks that map for prices.
    known = dict(litellm.model_cost)
    callbacks = list(litellm.callbacks)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        router = litellm.Router(model_list=[_resolved(entry) for entry in parts.model_list], **_resolved(settings))
        router.discard()
    except Exception as e:
        return [Finding("error", f"LiteLLM refuses the config at start: {_said(e, parts)}")]
    finally:
        logging.disable(level)
        litellm.callbacks[:] = callbacks
        litellm.model_cost.clear()
        litellm.model_cost.update(known)
    return []


def _resolved(value: Any) -> Any:
    """A copy in which references to the environment are what LiteLLM makes of them."""
    if isinstance(value, Mapping):
        return {key: _resolved(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolved(entry) for entry in value]
    if isinstance(value, str) and value.startswith(REFERENCE) and "\0" not in value:
        return os.environ.get(value.removeprefix(REFERENCE))
    return value


def _said(error: Exception, parts: Parts) -> str:
    """LiteLLM's words without a value of the config that is nobody's business."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        # Pydantic's own text quotes what it was given.
        text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors())
    else:
        text = str(error)
    for entry in parts.model_list:
        for key, value in _resolved(entry["litellm_params"]).items():
            if isinstance(value, str) and len(value) > 3 and key not in ("model", "custom_llm_provider"):
                text = text.replace(value, f"<{key}>")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
