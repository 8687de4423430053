"""A LiteLLM callback that undoes what was decided, as a LiteLLM that ignores callbacks would: for the tests."""

from typing import Any

from litellm.caching.dual_cache import DualCache
from litellm.router_utils.pre_call_checks.deployment_affinity_check import DeploymentAffinityCheck

from litellm_erp.proxy.litellm_router import members_of, router_of_process

GROUP = "erp-undone"


class Undoing(DeploymentAffinityCheck):
    """Leaves in the deployments of the group that were not left in; an affinity check, because those go last."""

    async def async_filter_deployments(
        self, model: str, healthy_deployments: list[Any], *args: Any, **kwargs: Any
    ) -> list[Any]:
        if model != GROUP:
            return healthy_deployments
        kept = {deployment["model_info"]["id"] for deployment in healthy_deployments}
        others = [d for d in members_of(router_of_process(), model) if d["model_info"]["id"] not in kept]
        return others or healthy_deployments


undoing = Undoing(cache=DualCache(), ttl_seconds=1, enable_user_key_affinity=False, enable_responses_api_affinity=False)
