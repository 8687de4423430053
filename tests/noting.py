"""A LiteLLM callback that writes down what LiteLLM hands to loggers: for the tests."""

import json
import os
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from litellm_erp.metrics.recorder import metrics
from tests.harness import GROUP


class Noting(CustomLogger):
    """One JSON line for each answer, in the file that ``ERP_TEST_NOTES`` names."""

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        logged = kwargs.get("standard_logging_object") or {}
        kept = logged.get("metadata", {}).get("spend_logs_metadata")
        with open(os.environ["ERP_TEST_NOTES"], "a", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123
            file.write(json.dumps(kept) + "\n")
        # Stands for whoever feeds rewards back.
        metrics.rewarded(GROUP, "", "small", 0.5)


noting = Noting()
