"""The parts of a LiteLLM proxy's config that the trainer works with, as far as they have the shape LiteLLM expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litellm_erp.serving.deployments import Deployment

# LiteLLM reads these of litellm_settings where router_settings lacks them.
_EITHER = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks", "num_retries")
SECTIONS = ("litellm_settings", "general_settings", "router_settings", "environment_variables")


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What has another shape is left out; `config_checks.check_shape` names it.

    Attributes
    ----------
    sections : by name, empty where the config has none
    model_list : deployments with a name and a model
    groups : routing groups with a list of models
    """

    sections: Mapping[str, Mapping[str, Any]]
    model_list: tuple[Deployment, ...]
    groups: tuple[Mapping[str, Any], ...]

    @property
    def members(self) -> set[str]:
        """The models of all routing groups."""
        return {str(model) for group in self.groups for model in group["models"]}

    @property
    def router_settings(self) -> dict[str, Any]:
        """What the router is made with: its own settings, and of LiteLLM's those that it takes from there."""
        general, own = self.sections["litellm_settings"], self.sections["router_settings"]
        # An empty list counts as none, a zero does not.
        return {**own, **{key: general[key] for key in _EITHER if own.get(key) in (None, []) and key in general}}


def parse_config(document: Mapping[str, Any]) -> ProxyConfig:
    """Take a config apart."""
    sections = {name: found if isinstance(found := document.get(name), Mapping) else {} for name in SECTIONS}
    groups = [
        group for group in _listed(sections["router_settings"].get("routing_groups")) if isinstance(group, Mapping)
    ]
    return ProxyConfig(
        sections,
        tuple(dict(entry) for entry in _listed(document.get("model_list")) if is_deployment(entry)),
        tuple(group for group in groups if isinstance(group.get("models"), list)),
    )


def is_deployment(entry: object) -> bool:
    """Whether an entry of the model list has a name and a model."""
    params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
    named = isinstance(entry, Mapping) and bool(entry.get("model_name"))
    return named and isinstance(params, Mapping) and isinstance(params.get("model"), str)


def info_of(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its ``model_info``, empty where it is none."""
    info = deployment.get("model_info")
    return info if isinstance(info, Mapping) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
