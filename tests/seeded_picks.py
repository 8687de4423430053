"""A callback that seeds LiteLLM's dice before every pick with the number in the request's ``user``."""

import random
from typing import Any

from litellm.integrations.custom_logger import CustomLogger


class Seeding(CustomLogger):
    """Leaves in everything."""

    async def async_filter_deployments(
        self, model: str, healthy_deployments: list[Any], messages: Any, request_kwargs: Any = None, **more: Any
    ) -> list[Any]:
        """What is on offer, as it came."""
        user = (request_kwargs or {}).get("user") or ""
        if str(user).startswith("seed-"):
            random.seed(int(user.removeprefix("seed-")))
        return healthy_deployments


seeding = Seeding()
