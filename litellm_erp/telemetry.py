"""Counters and the decision log. Neither ever holds text of a prompt.

Counters are Prometheus metrics where ``prometheus_client`` is installed (LiteLLM serves them on ``/metrics``
with ``callbacks: ["prometheus", …]``) and nothing otherwise.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

logger = logging.getLogger("litellm_erp")
decisions = logging.getLogger("litellm_erp.decisions")

_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)


class Metrics:
    """The product's metrics, registered once per process."""

    def __init__(self) -> None:
        try:
            from prometheus_client import Counter, Gauge, Histogram
        except ImportError:
            self._decisions = self._seconds = self._reloads = self._loaded = self._shared = self._lost = None
            self._served = self._self_test = self._failures = None
            return
        self._children: dict[tuple[str, str, str], tuple[Any, Any]] = {}
        self._outcomes: dict[tuple[str, str], Any] = {}
        self._decisions = Counter("erp_decisions", "Routing decisions", ["group", "model", "reason"])
        self._seconds = Histogram("erp_decision_seconds", "Time of a decision", ["group"], buckets=_BUCKETS_S)
        self._reloads = Counter("erp_bundle_reloads", "Bundle reloads", ["group", "outcome"])
        self._loaded = Gauge("erp_bundle_loaded", "1 for the bundle in use", ["group", "bundle"])
        self._shared = Gauge("erp_budgets_shared", "1 while Redis answers, 0 while it is lost")
        self._lost = Counter("erp_redis_failures", "Exchanges with Redis that failed")
        self._served = Counter("erp_served", "Answers by what became of the decision", ["group", "outcome"])
        self._failures = Counter("erp_failures", "Errors of the plugin that no request failed of", ["where"])
        self._self_test = Gauge("erp_self_test", "1 where LiteLLM follows what is decided, 0 where not", ["group"])

    def decision(self, group: str, model: str, reason: str, seconds: float) -> None:
        """Count one decision; ``reason`` has few values, so it is safe as a label."""
        if self._decisions is not None and self._seconds is not None:
            key = (group, model, reason)
            if key not in self._children:
                self._children[key] = (self._decisions.labels(*key), self._seconds.labels(group))
            counter, histogram = self._children[key]
            counter.inc()
            histogram.observe(seconds)

    def served(self, group: str, outcome: str) -> None:
        """Count one answer: ``followed``, ``other-group``, ``cached`` or ``not-followed``."""
        if self._served is not None:
            key = (group, outcome)
            if key not in self._outcomes:
                self._outcomes[key] = self._served.labels(*key)
            self._outcomes[key].inc()

    def failed(self, where: str) -> None:
        """Count an error that no request failed of."""
        if self._failures is not None:
            self._failures.labels(where).inc()

    def self_test(self, group: str, followed: bool) -> None:
        """Say whether LiteLLM picks what is left in."""
        if self._self_test is not None:
            self._self_test.labels(group).set(float(followed))

    def reload(self, group: str, outcome: str) -> None:
        """Count one reload: ``ok`` or ``refused``."""
        if self._reloads is not None:
            self._reloads.labels(group, outcome).inc()

    def loaded(self, group: str, bundle: str, previous: str | None = None) -> None:
        """Say which bundle a group serves from."""
        if self._loaded is not None:
            if previous is not None and previous != bundle:
                self._loaded.remove(group, previous)
            self._loaded.labels(group, bundle).set(1)

    def shared(self, connected: bool) -> None:
        """Say whether budgets are shared with other processes just now."""
        if self._shared is not None and self._lost is not None:
            self._shared.set(float(connected))
            if not connected:
                self._lost.inc()


metrics = Metrics()


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
