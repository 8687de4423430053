"""Where the rest of the package counts.

``prometheus_client`` does the work where it is installed; LiteLLM serves what it has on ``/metrics``, with
``callbacks: ["prometheus", …]``. Several workers write into one folder then (``PROMETHEUS_MULTIPROC_DIR``), in which
nothing can be removed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from litellm_erp.metrics import definitions as d
from litellm_erp.metrics.definitions import DEFINITIONS, OTHER, STAGES_EVERY, Definition
from litellm_erp.metrics.teams import TeamLabels
from litellm_erp.telemetry import Once

_once = Once()
_REASONS, _PLACES = frozenset(d.REASONS), frozenset(d.PLACES)
_BOUNDS = ("mean", "low", "high")


class _Nothing:
    """Stands for a metric where there is no ``prometheus_client``."""

    def labels(self, *_: str) -> _Nothing:
        return self

    def inc(self, amount: float = 1) -> None:
        """Nothing."""

    set = observe = inc

    def remove(self, *_: str) -> None:
        """Nothing."""


class Metrics:
    """The product's metrics, registered once per process.

    Attributes
    ----------
    teams : labels of teams
    """

    def __init__(self) -> None:
        self.teams = TeamLabels()
        self._metrics = {definition.name: _made(definition) for definition in DEFINITIONS}
        self._children: dict[tuple[str, ...], Any] = {}
        self._decided = 0
        self._bundles: dict[str, tuple[str, str, str]] = {}
        self._lock = threading.Lock()

    def decision(self, group: str, team: str, model: str, reason: str, seconds: float) -> None:
        """Count one pick.

        Parameters
        ----------
        model : "" where LiteLLM's own order was left
        seconds : of the whole hook
        """
        known = reason if reason in _REASONS else OTHER
        self._child("erp_decisions", group, team, model or "none", known).inc()
        self._child("erp_decision_seconds", group).observe(seconds)

    def stages(self, group: str, embed_s: float | None, predict_s: float, rank_s: float) -> None:
        """Count the time of one decision's stages, of every fourth one; None for a prompt without text."""
        self._decided += 1
        if self._decided % STAGES_EVERY != 1:
            return
        if embed_s is not None:
            self._child("erp_stage_seconds", group, "embed").observe(embed_s)
        self._child("erp_stage_seconds", group, "predict").observe(predict_s)
        self._child("erp_stage_seconds", group, "rank").observe(rank_s)

    def answered(
        self,
        group: str,
        team: str,
        model: str,
        *,
        usd: float,
        expected_usd: float | None,
        best_single_usd: float | None,
        expected_reward: float | None,
    ) -> None:
        """Count what one answer cost, beside what was expected of it; None where that is not known."""
        labels = (group, team, model)
        self._child("erp_answers", *labels).inc()
        self._child("erp_cost_usd", *labels).inc(usd)
        if expected_usd is not None:
            self._child("erp_expected_cost_usd", *labels).inc(expected_usd)
        if best_single_usd is not None and best_single_usd >= 0:
            self._child("erp_compared_cost_usd", group, team).inc(usd)
            self._child("erp_best_single_cost_usd", group, team).inc(best_single_usd)
        if expected_reward is not None:
            self._signed("erp_expected_reward", labels, expected_reward)

    def rewarded(self, group: str, team: str, model: str, reward: float) -> None:
        """Count a reward that was fed back for an answer."""
        self._signed("erp_observed_reward", (group, team, model), reward)

    def explored(self, group: str, extra_cost: float) -> None:
        """Count one choice that is not the best, and by how much it is expected to be dearer."""
        self._signed("erp_explored_cost_usd", (group,), extra_cost)

    def novelty(self, group: str, team: str, model: str, value: float) -> None:
        """Count how far one prompt is from the training prompts."""
        self._child("erp_prompt_novelty", group, team, model).observe(value)

    def drift(self, group: str, team: str, model: str, score: float, quarantined: bool) -> None:
        """Say how far a model has drifted for a team, and whether that is held against it."""
        self._child("erp_drift_score", group, team, model).set(score)
        self._child("erp_model_quarantined", group, team, model).set(float(quarantined))

    def refused(self, group: str, team: str) -> None:
        """Count one request that its budget refuses."""
        self._child("erp_budget_refusals", group, team).inc()

    def served(self, group: str, outcome: str) -> None:
        """Count one answer: ``followed``, ``other-group``, ``cached`` or ``not-followed``."""
        self._child("erp_served", group, outcome).inc()

    def failed(self, where: str) -> None:
        """Count an error that no request failed of."""
        self._child("erp_failures", where if where in _PLACES else OTHER).inc()

    def self_test(self, group: str, followed: bool) -> None:
        """Say whether LiteLLM picks what is left in."""
        self._child("erp_self_test", group).set(float(followed))

    def looked_up(self, group: str, hit: bool) -> None:
        """Count one embedding: at hand, or asked of the embedder."""
        self._child("erp_embedder_lookups", group, "hit" if hit else "miss").inc()

    def breaker(self, group: str, is_open: bool) -> None:
        """Say whether an embedder is left alone."""
        self._child("erp_embedder_breaker_open", group).set(float(is_open))

    def lambda_now(self, group: str, team: str, lambda_: float) -> None:
        """Say which λ a team's requests get."""
        self._child("erp_lambda", group, team).set(lambda_)

    def budget(self, group: str, team: str, *, usd: float, left_usd: float, starts_s: float, ends_s: float) -> None:
        """Say what is left of a team's budget, and when its window began and ends, Unix seconds."""
        for name, value in (
            ("erp_budget_usd", usd),
            ("erp_budget_remaining_usd", left_usd),
            ("erp_budget_window_start_seconds", starts_s),
            ("erp_budget_window_end_seconds", ends_s),
        ):
            self._child(name, group, team).set(value)

    def shared(self, connected: bool) -> None:
        """Say whether budgets are shared with other processes just now."""
        self._metrics["erp_budgets_shared"].set(float(connected))
        if not connected:
            self._metrics["erp_redis_failures"].inc()

    def log_dropped(self, count: int) -> None:
        """Count lines of the decision log that are lost."""
        self._metrics["erp_decision_log_dropped"].inc(count)

    def reload(self, group: str, outcome: str) -> None:
        """Count one reload: ``ok`` or ``refused``."""
        self._child("erp_bundle_reloads", group, outcome).inc()
        self.refusing(group, outcome == "refused")

    def refusing(self, group: str, is_refused: bool) -> None:
        """Say whether what is in a group's folder is refused."""
        self._child("erp_bundle_refused", group).set(float(is_refused))

    def loaded(self, group: str, bundle: str, created_s: float | None, verdict: Mapping[str, Any]) -> None:
        """Say which bundle a group serves from, and what its evaluation found.

        Parameters
        ----------
        created_s : when it was made, Unix seconds; None where it does not say
        verdict : of its frontier.json
        """
        named = (group, bundle, str(verdict.get("best_single") or "none"))
        with self._lock:
            before, self._bundles[group] = self._bundles.get(group), named
        if before is not None and before != named:
            self._replaced("erp_bundle_loaded", before)
        self._child("erp_bundle_loaded", *named).set(1)
        if created_s is not None:
            self._child("erp_bundle_created_seconds", group).set(created_s)
        savings = verdict.get("savings")
        saving = savings.get("1") if isinstance(savings, Mapping) else None
        for name, found in (("erp_bundle_saving_ratio", saving), ("erp_bundle_gain", verdict.get("gain"))):
            for bound in _BOUNDS:
                value = found.get(bound) if isinstance(found, Mapping) else None
                self._child(name, group, bound).set(float("nan") if value is None else value)
        self._begin(group)

    def _begin(self, group: str) -> None:
        """Show at 0 what has not happened yet: Prometheus sees no increase in a count that begins at 1."""
        for name, outcomes in (
            ("erp_bundle_reloads", ("ok", "refused")),
            ("erp_embedder_lookups", ("hit", "miss")),
            ("erp_served", ("followed", "not-followed")),
        ):
            for outcome in outcomes:
                self._child(name, group, outcome)
        self._child("erp_bundle_refused", group)
        self._child("erp_embedder_breaker_open", group)
        for where in d.PLACES:
            self._child("erp_failures", where)

    def _replaced(self, name: str, labels: tuple[str, ...]) -> None:
        self._child(name, *labels).set(0)
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            self._children.pop((name, *labels), None)
            self._metrics[name].remove(*labels)

    def _signed(self, name: str, labels: tuple[str, ...], value: float) -> None:
        # Both at once, so that the one can always be taken from the other.
        plus, minus = self._child(name, *labels, "plus"), self._child(name, *labels, "minus")
        (plus if value >= 0 else minus).observe(abs(value))

    def _child(self, name: str, *labels: str) -> Any:
        key = (name, *labels)
        found = self._children.get(key)
        if found is None:
            try:
                found = self._metrics[name].labels(*labels)
            except Exception as e:
                # Several workers' counts are in files, and their disk may be full.
                _once.warn(f"metric {name} cannot be kept: {type(e).__name__}")
                return _Nothing()
            self._children[key] = found
        return found


def _made(definition: Definition) -> Any:
    try:
        from prometheus_client import Counter, Gauge, Histogram, Summary
    except ImportError:
        return _Nothing()
    args = (definition.name, definition.meaning, definition.labels)
    try:
        if definition.kind == "gauge":
            return Gauge(*args, multiprocess_mode=definition.mode)
        if definition.kind == "histogram":
            return Histogram(*args, buckets=definition.buckets)
        return (Counter if definition.kind == "counter" else Summary)(*args)
    except (ValueError, OSError) as e:
        # Somebody else's metric of that name, or a folder for several workers that cannot be written.
        _once.warn(f"metric {definition.name} is not kept: {e}")
        return _Nothing()


metrics = Metrics()
