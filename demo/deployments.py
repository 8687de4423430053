"""Parts of a proxy's config.yaml, as the live demo and the benchmarks write them."""

from collections.abc import Iterable, Mapping
from typing import Any

# ``general_settings`` with the master key from the environment, and with the keys of :mod:`demo.auth` too.
MASTER_KEY = {"master_key": "os.environ/LITELLM_MASTER_KEY"}
TEAM_KEYS = MASTER_KEY | {"custom_auth": "demo.auth.user_api_key_auth"}


def deployment(
    name: str,
    served: str,
    api_base: str,
    usd_per_mtok: tuple[float, float] | None = None,
    info: dict[str, Any] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """One entry of ``model_list``, of an OpenAI-compatible server that wants no key.

    Parameters
    ----------
    served : what the server calls the model
    usd_per_mtok : for input and output
    info, params : laid over ``model_info`` and ``litellm_params``
    """
    prices = {}
    if usd_per_mtok is not None:
        prices = {
            f"{side}_cost_per_token": usd / 1e6 for side, usd in zip(("input", "output"), usd_per_mtok, strict=True)
        }
    return {
        "model_name": name,
        "litellm_params": {"model": f"openai/{served}", "api_base": api_base, "api_key": "none"} | prices | params,
        "model_info": {"id": f"dep-{name}"} | (info or {}),
    }


def router_settings(groups: Mapping[str, Iterable[str]], **others: Any) -> dict[str, Any]:
    """``router_settings`` with routing groups, by name their members."""
    listed = [
        {"group_name": name, "models": list(models), "routing_strategy": "simple-shuffle"}
        for name, models in groups.items()
    ]
    return {"routing_groups": listed} | others
