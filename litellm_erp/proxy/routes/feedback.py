"""``POST /erp/feedback``: what an answer was worth, by the team or the key that asked for it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

from litellm_erp.decision_log.desk import FeedbackDesk, RewardRange
from litellm_erp.decision_log.record import MOST_ID_CHARS, Feedback
from litellm_erp.decision_log.writer import DecisionLog
from litellm_erp.drift.shared import Drifts
from litellm_erp.metrics.recorder import metrics
from litellm_erp.proxy.litellm_request import tenant_of_caller
from litellm_erp.proxy.routes.caller import ApiError
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.shown import is_finite_number

_KEYS = frozenset({"request_id", "reward", "thumbs"})
_THUMBS = {"up": 1.0, "down": 0.0}


class Plugin(Protocol):
    """Where feedback goes."""

    groups: dict[str, RoutedGroup]
    log: DecisionLog | None
    desk: FeedbackDesk
    drift: Drifts


def feedback(plugin: Plugin, auth: Any, body: object) -> tuple[int, dict[str, Any]]:
    """Take what an answer was worth.

    Parameters
    ----------
    body : ``request_id``, and ``reward`` in the bundle's unit or ``thumbs``, ``up`` or ``down``, which are 1 and 0

    Returns
    -------
    200 where this process knows the request as the caller's, 202 where it does not: the line then counts only if the
    request turns out to be

    Raises
    ------
    ApiError : a body that makes no sense, another team's request, a second word on the same one, or too many
    """
    request_id, reward = _checked(body)
    if plugin.log is None:
        raise ApiError(503, "this proxy keeps no feedback: erp_settings.decision_log is not set")
    tenant = tenant_of_caller(auth)
    account = tenant.account
    if not account:
        raise ApiError(403, "feedback needs a key of a team, or one that LiteLLM knows")
    asked = plugin.desk.asked(request_id, account)
    allowed = _range(plugin, asked[0] if asked else None)
    if reward not in allowed:
        raise ApiError(400, f"reward: expected a number from {allowed.low:g} to {allowed.high:g}, as the bundle's are")
    verdict = plugin.desk.judge(request_id, account, tenant.key_account or account)
    if verdict == "too-many":
        raise ApiError(429, "too much feedback from this key; try again in a minute")
    if verdict == "foreign":
        raise ApiError(404, "request_id: no request of this team or key is known by it")
    if verdict == "repeated":
        raise ApiError(409, "request_id: there is feedback on this request already, and the first counts")
    entry = Feedback(time.time(), request_id, reward, "api", account)
    if not plugin.log.add(entry):
        plugin.desk.forget(entry)
        raise ApiError(503, "the decision log takes no lines at the moment; try again later")
    plugin.drift.said(request_id, account, reward, known=verdict == "verified")
    if asked is not None and asked[1] is not None:
        metrics.rewarded(asked[0], metrics.teams.of(tenant), asked[1], reward)
    return (200 if verdict == "verified" else 202), {"recorded": True, "verified": verdict == "verified"}


def reward_range(group: RoutedGroup) -> RewardRange:
    """Rewards that feedback on a group may have: what its settings say, else what its bundle's look like."""
    if group.settings.feedback_range is not None:
        return RewardRange(*group.settings.feedback_range)
    bundle = group.state.bundle
    deviations = [math.sqrt(max(noise, 0.0)) for noise in bundle.uncertainty.noise_M.tolist()]
    return RewardRange.of(bundle.mean_reward_M.tolist(), deviations)


def _range(plugin: Plugin, group: str | None) -> RewardRange:
    """Of one group; of all together where it is not known which."""
    known = plugin.groups.get(group or "")
    found = [reward_range(of) for of in ([known] if known is not None else plugin.groups.values())]
    low, high = min((r.low for r in found), default=-math.inf), max((r.high for r in found), default=math.inf)
    return RewardRange(low, high)


def _checked(body: object) -> tuple[str, float]:
    if not isinstance(body, Mapping):
        raise ApiError(400, "expected a JSON object with request_id, and reward or thumbs")
    if unknown := sorted(str(key) for key in body if key not in _KEYS):
        raise ApiError(400, f"unknown key {unknown[0][:80]!r}; expected request_id, and reward or thumbs")
    request_id, reward, thumbs = body.get("request_id"), body.get("reward"), body.get("thumbs")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= MOST_ID_CHARS or not request_id.isprintable():
        raise ApiError(400, f"request_id: expected 1 to {MOST_ID_CHARS} characters, the answer's x-litellm-call-id")
    if (reward is None) == (thumbs is None):
        raise ApiError(400, "expected either reward, a number, or thumbs, up or down")
    if thumbs is not None:
        if not isinstance(thumbs, str) or thumbs not in _THUMBS:
            raise ApiError(400, "thumbs: expected up or down")
        return request_id, _THUMBS[thumbs]
    if reward is None or not is_finite_number(reward):
        raise ApiError(400, "reward: expected a finite number")
    return request_id, float(reward)
