"""Warnings and the decision log. Neither ever holds text of a prompt; counters are in ``metrics/``."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

logger = logging.getLogger("litellm_erp")
decisions = logging.getLogger("litellm_erp.decisions")


def log_decisions_to_stderr() -> None:
    """Write one JSON line per decision to stderr, whatever the program's own logging does."""
    if not decisions.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        decisions.addHandler(handler)
        decisions.propagate = False
    decisions.setLevel(logging.INFO)


def logs_decisions() -> bool:
    """Whether somebody listens to :func:`log_decision`."""
    return decisions.isEnabledFor(logging.INFO)


def log_decision(fields: dict[str, Any]) -> None:
    """Log one decision as a JSON line."""
    decisions.info(json.dumps({"event": "erp_decision", **fields}, ensure_ascii=False, default=str))


class Once:
    """Warnings that are worth saying once, not once a request."""

    def __init__(self, max_remembered: int = 1000) -> None:
        self._said: set[str] = set()
        self._max_remembered = max_remembered

    def warn(self, message: str) -> None:
        """Log a warning unless it was logged before."""
        if message not in self._said and len(self._said) < self._max_remembered:
            self._said.add(message)
            logger.warning("%s", message)
