"""The last decisions of this process, in memory: names, ids and numbers only, never a prompt."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from litellm_erp.goals.tenant import Tenant
from litellm_erp.serving.call_cost import FinishedCall
from litellm_erp.serving.note import Following, Note

_KEPT = 500
_MAX_CHARS = 200


class RecentDecisions:
    """The last requests that have ended, oldest first; older ones are forgotten."""

    def __init__(self) -> None:
        self._kept: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_KEPT)

    def answered(
        self, note: Note, call: FinishedCall, served: str | None, following: Following, event: Mapping[str, Any]
    ) -> None:
        """Keep a request that got its answer.

        Parameters
        ----------
        served : the pool model that answered; None of none of the group's
        event : what LiteLLM's logging hook is given
        """
        self._keep(
            note,
            event,
            served=served,
            input_tokens=_count(call.tokens_in),
            output_tokens=_count(call.tokens_out),
            cost_usd=_finite(call.usd),
            latency_s=_seconds(event.get("start_time"), event.get("end_time")),
            failed=False,
            followed=following == "followed",
            following=following,
        )

    def failed(self, note: Note, request: Mapping[str, Any]) -> None:
        """Keep a request that failed after all its tries, where a routed group was asked."""
        if not note.group:
            return
        nothing = dict.fromkeys(("served", "input_tokens", "output_tokens", "cost_usd", "latency_s"))
        self._keep(note, request, **nothing, failed=True, followed=False)

    def of(self, tenant: Tenant | None, limit: int) -> list[dict[str, Any]]:
        """The last few, newest first.

        Parameters
        ----------
        tenant : only the decisions of this one; None for everybody's
        """
        account = None if tenant is None else tenant.account
        if account == "":
            return []
        found: list[dict[str, Any]] = []
        for owner, record in reversed(self._kept):
            if len(found) >= limit:
                break
            if account is None or owner == account:
                found.append(record)
        return found

    def _keep(self, note: Note, event: Mapping[str, Any], **ended: Any) -> None:
        tenant = note.tenant
        lambda_ = note.get("lambda")
        record = {
            "v": 1,
            "kind": "decision",
            "time": time.time(),
            "request_id": _text(event.get("litellm_call_id")),
            "group": note.group,
            "team": None if tenant is None else _text(tenant.label),
            "bundle": note.get("bundle"),
            "lambda": _finite(lambda_),
            "reason": note.reason,
            "candidates": _candidates(note),
            "chosen": note.model or None,
            **ended,
        }
        self._kept.append(("" if tenant is None else tenant.account, record))


def _candidates(note: Note) -> dict[str, dict[str, float | None]]:
    rewards, costs = note.get("expected_reward"), note.get("expected_cost_usd")
    rewards = rewards if isinstance(rewards, Mapping) else {}
    costs = costs if isinstance(costs, Mapping) else {}
    return {
        str(name): {"expected_reward": _finite(rewards.get(name)), "expected_cost_usd": _finite(costs.get(name))}
        for name in {**rewards, **costs}
    }


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _count(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else int(value)


def _text(value: object) -> str | None:
    return value[:_MAX_CHARS] if isinstance(value, str) else None


def _seconds(started: object, ended: object) -> float | None:
    if not isinstance(started, datetime) or not isinstance(ended, datetime):
        return None
    try:
        return max((ended - started).total_seconds(), 0.0)
    except TypeError:  # one of them has a time zone
        return None
