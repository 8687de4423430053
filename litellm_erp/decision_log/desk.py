"""Feedback as it comes in: whose request it is about, whether it came before, and how much of it one key may send.

Several workers need not know of one another's requests. The one that served a request knows whose it was. Any other
writes the line down with the account of whoever sent it, and a reader joins it to a request of the same account only
(`Feedback.is_of`): nobody's word counts for another's request, wherever it arrives.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from litellm_erp.decision_log.record import Feedback, Record

Verdict = Literal["verified", "unverified", "repeated", "foreign", "too-many"]
_MOST_REQUESTS = 50_000
_MOST_SENDERS = 10_000
_BURST, _PER_S = 600.0, 10.0
# What nobody here can tell apart from invented ids.
_UNVERIFIED_COST = 5.0


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class FeedbackDesk:
    """What one process knows of recent requests and of who has spoken of them.

    Parameters
    ----------
    most : requests that are remembered; the oldest are forgotten first
    clock : seconds; only differences count
    """

    def __init__(self, most: int = _MOST_REQUESTS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        # Ids may be a client's own, so that two accounts may share one: each has its own request by it.
        self._asked: OrderedDict[tuple[str, str | None], tuple[str, str | None]] = OrderedDict()
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._heard: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def expect(self, request_id: str, account: str | None, group: str) -> None:
        """Remember whose request is under way: its client may speak of the answer before LiteLLM tells of its end."""
        self._remember(request_id, account, group, None)

    def remember(self, record: Record) -> None:
        """Remember whose request one was, of which group, and what served it."""
        self._remember(record.request_id, record.account, record.group, record.served)

    def _remember(self, request_id: str, account: str | None, group: str, served: str | None) -> None:
        self._asked[request_id, account] = (group, served)
        self._asked.move_to_end((request_id, account))
        self._ids[request_id] = None
        self._ids.move_to_end(request_id)
        for known in (self._asked, self._ids):
            while len(known) > self._most:
                known.popitem(last=False)

    def asked(self, request_id: str, account: str) -> tuple[str, str | None] | None:
        """The group that a request was for, and the pool model that served; None where it is not this account's."""
        return self._asked.get((request_id, account))

    def judge(self, request_id: str, account: str, sender: str) -> Verdict:
        """Whether feedback counts; the first of an account on a request does, and is remembered as such.

        Parameters
        ----------
        sender : the key that sends it, which is what a flood is bounded by
        """
        verified = (request_id, account) in self._asked
        if not self._admits(sender, 1.0 if verified else _UNVERIFIED_COST):
            return "too-many"
        if not verified and request_id in self._ids:
            return "foreign"
        if (account, request_id) in self._heard:
            return "repeated"
        self._heard[account, request_id] = None
        while len(self._heard) > self._most:
            self._heard.popitem(last=False)
        return "verified" if verified else "unverified"

    def forget(self, feedback: Feedback) -> None:
        """Take back that feedback was heard, which could not be written."""
        self._heard.pop((feedback.account or "", feedback.request_id), None)

    def _admits(self, sender: str, cost: float) -> bool:
        now = self._clock()
        bucket = self._buckets.pop(sender, None) or _Bucket(_BURST, now)
        bucket.left = min(_BURST, bucket.left + (now - bucket.at_s) * _PER_S)
        bucket.at_s = now
        self._buckets[sender] = bucket
        while len(self._buckets) > _MOST_SENDERS:
            self._buckets.popitem(last=False)
        if bucket.left < cost:
            return False
        bucket.left -= cost
        return True


@dataclass(frozen=True, slots=True)
class RewardRange:
    """Rewards that a group's feedback may have, in the bundle's unit."""

    low: float
    high: float

    @classmethod
    def of(cls, means: list[float], deviations: list[float]) -> RewardRange:
        """What a bundle's rewards look like: shares, where they could be; else ten deviations around the means.

        Parameters
        ----------
        means, deviations : by pool model, of its rewards

        Source: ours. Rewards in [0, 1] have means in it and deviate by a half at most.
        """
        most = max(deviations, default=0.0)
        if all(0.0 <= mean <= 1.0 for mean in means) and most <= 0.6:
            return cls(0.0, 1.0)
        margin = 10.0 * most if most > 0.0 else math.inf
        return cls(min(means) - margin, max(means) + margin)

    def __contains__(self, reward: object) -> bool:
        return isinstance(reward, float) and self.low <= reward <= self.high
