"""What was expected of recent answers, until somebody says what they were worth.

A request is known by a digest of its id and its account, so that what is passed between processes holds no client's
text.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.decision_log.desk import RewardRange
from litellm_erp.decision_log.record import Record
from litellm_erp.goals.settings import GroupSettings

_MOST_REQUESTS = 50_000
_MOST_EARLY = 10_000
_SMALLEST = 1e-9


@dataclass(frozen=True, slots=True)
class Expected:
    """What was expected of one answer.

    Attributes
    ----------
    fitted : which fit of the model expected it, see :func:`fit_of`
    account : a digest
    reward, std_error : as the probe says, before safety, in reward units; the error holds the answer's noise
    span : of rewards, in reward units
    """

    group: str
    model: str
    fitted: str
    account: str
    reward: float
    std_error: float
    span: float


@dataclass(frozen=True, slots=True)
class Residual:
    """How much better an answer was than expected, and the standard error of that; both as shares of the span."""

    group: str
    model: str
    fitted: str
    account: str
    away: float
    std_error: float


class Expectations:
    """Joins what was expected to the first word on each request, whichever comes first.

    Parameters
    ----------
    most : requests that are remembered; the oldest are forgotten first
    """

    def __init__(self, most: int = _MOST_REQUESTS) -> None:
        self._most = most
        self._expected: OrderedDict[str, Expected] = OrderedDict()
        self._early: OrderedDict[str, float] = OrderedDict()

    def expect(self, digest: str, expected: Expected) -> Residual | None:
        """Remember what was expected; the residual where somebody has spoken already."""
        early = self._early.pop(digest, None)
        if early is not None:
            return _residual(expected, early)
        self._expected[digest] = expected
        while len(self._expected) > self._most:
            self._expected.popitem(last=False)
        return None

    def said(self, digest: str, reward: float) -> Residual | None:
        """The residual of a request; None where it is not known, or not yet."""
        expected = self._expected.pop(digest, None)
        if expected is not None:
            return _residual(expected, reward)
        self._early.setdefault(digest, reward)
        while len(self._early) > _MOST_EARLY:
            self._early.popitem(last=False)
        return None


def expected_of(
    settings: GroupSettings, bundle: Bundle, record: Record, predicted: float | None, account: str
) -> Expected | None:
    """What was expected of a request's answer; None where nothing can be said of it.

    Parameters
    ----------
    bundle : the one in use, which may have replaced the one that decided
    predicted : by the probe of the model that served, before safety
    account : a digest
    """
    if predicted is None or record.served is None or record.failed or not record.followed or record.bundle != bundle.id:
        return None
    candidate = record.candidates.get(record.served)
    error = None if candidate is None else candidate.std_error
    fitted = fit_of(bundle, record.served)
    if error is None or fitted is None:
        return None
    return Expected(record.group, record.served, fitted, account, predicted, error, span_of(settings, bundle))


def fit_of(bundle: Bundle, model: str) -> str | None:
    """What tells one fit of a model from another: its files' hashes; None of a model that the bundle lacks."""
    for record in bundle.manifest.models:
        if record.name == model:
            files = [record.probe, *bundle.manifest.policy_files]
            return digest_of([file.sha256 for file in files])
    return None


def span_of(settings: GroupSettings, bundle: Bundle) -> float:
    """Between the least and the greatest reward, in reward units: 1 where rewards are shares.

    Where they have no bounds, twice their largest deviation, which is what the span of shares is at most.
    """
    if settings.feedback_range is not None:
        return settings.feedback_range[1] - settings.feedback_range[0]
    deviations = [math.sqrt(max(noise, 0.0)) for noise in bundle.uncertainty.noise_M.tolist()]
    found = RewardRange.of(bundle.mean_reward_M.tolist(), deviations)
    if (found.low, found.high) == (0.0, 1.0):
        return 1.0
    return 2.0 * max(deviations, default=0.0)


def digest_of(parts: Sequence[str]) -> str:
    """32 hex digits of some text."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()[:32]


def _residual(expected: Expected, reward: float) -> Residual | None:
    if not (math.isfinite(reward) and expected.span > _SMALLEST):
        return None
    away, error = (reward - expected.reward) / expected.span, expected.std_error / expected.span
    return Residual(expected.group, expected.model, expected.fitted, expected.account, away, error)
