"""What becomes of a request once it was picked for: whose answer it was, what it cost, what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from litellm_erp.conversations.shared import SharedConversations
from litellm_erp.decision_log.desk import FeedbackDesk
from litellm_erp.decision_log.record import Record
from litellm_erp.decision_log.writer import MOST_ANSWER_CHARS, DecisionLog
from litellm_erp.drift.shared import Drifts
from litellm_erp.goals.tenant import Tenant
from litellm_erp.metrics.recorder import metrics
from litellm_erp.proxy import litellm_request as request_of
from litellm_erp.proxy import litellm_router
from litellm_erp.proxy.access import Access
from litellm_erp.serving.call_cost import FinishedCall
from litellm_erp.serving.deployments import Member, MemberTable
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.note import Following, Note, facts, response_headers
from litellm_erp.serving.recent import RecentDecisions
from litellm_erp.serving.spend import Spending
from litellm_erp.telemetry import Once

_once = Once()


class Endings:
    """Compares each answer with what was decided, and hands it on to whoever counts, remembers or writes down.

    Parameters
    ----------
    groups : by name; may be filled later

    Attributes
    ----------
    log : None where nobody writes decisions down
    """

    def __init__(
        self,
        groups: Mapping[str, RoutedGroup],
        members: MemberTable,
        access: Access,
        spending: Spending,
        conversations: SharedConversations,
        drift: Drifts,
    ) -> None:
        self._groups, self._members, self._access = groups, members, access
        self._spending, self._conversations, self._drift = spending, conversations, drift
        self.recent = RecentDecisions()
        self.desk = FeedbackDesk()
        self.log: DecisionLog | None = None

    def headers(self, note: Note, call: FinishedCall | None) -> dict[str, str]:
        """Response headers of a request that asked a routed group.

        Parameters
        ----------
        call : None where it failed: whoever was tried last has not served it
        """
        level = self._groups[note.group].settings.headers
        if call is None:
            return response_headers(note, note.model, "reason" if level != "none" else level)
        return response_headers(note, _name(self._served_by(note, call)), level, self._following(note, call))

    def explanation(self, note: Note, call: FinishedCall) -> dict[str, object]:
        """What a request that asks why is told in its answer's body."""
        level = self._groups[note.group].settings.headers
        return facts(note, _name(self._served_by(note, call)), level, self._following(note, call))

    def answered(
        self,
        note: Note | None,
        call: FinishedCall,
        tenant: Callable[[], Tenant],
        text: Callable[[int], str | None],
        called: Callable[[], str | None],
        told: Mapping[str, Any],
    ) -> None:
        """Count an answer, and compare what served with what was decided; of a stream at its end.

        Parameters
        ----------
        note : None where no routed group was asked
        tenant : who asked; read only where it counts
        text : the answer's, cut to so many characters; read only where answers are kept
        called : id of the answer's first tool call; read only where it counts
        told : what LiteLLM's logging hook is given
        """
        self._spending.succeeded(call, note, tenant)
        if note is None or note.group not in self._groups:
            return
        served, following = self._served_by(note, call), self._compared(note, call)
        if note.conversation is not None and served is not None and not call.cached:
            # Whoever served a conversation is where it is warm, whoever was decided on.
            model, tokens = served.pool_model, call.tokens_in or 0.0
            if note.stays_at is not None:
                model, tokens = note.stays_at, 0.0
            self._conversations.serves(note.conversation, model, tokens, draw=note.arm_draw, call_id=called())
        if note.story is not None and served is not None and self.log is not None and self.log.keeps_answers:
            note.story.answer = text(MOST_ANSWER_CHARS)
        self._write(note, following, call, served)
        self.recent.answered(note, call, _name(served), following, told)

    def failed(self, note: Note, request: Mapping[str, Any], error: object) -> None:
        """Give back what was held for a request that failed after all its tries, unless its client was what failed."""
        if request_of.was_abandoned(error):
            self._spending.abandoned(note)
        else:
            self._spending.failed(note)
        self._write(note)
        self.recent.failed(note, request)

    def abandoned_midway(self, note: Note, tokens_in: float, tokens_out: float) -> None:
        """Count a stream that nobody read to its end; 0 tokens out leave the estimate."""
        self._spending.abandoned_midway(note, tokens_in, tokens_out)
        self._write(note)

    def _served_by(self, note: Note, call: FinishedCall) -> Member | None:
        """Who answered, as the pool model that it was asked as; None of none of ours."""
        return self._members.by_id(call.deployment_id, note.arms)

    def _following(self, note: Note, call: FinishedCall) -> Following:
        ids, aliases = self._access.known(note.group)
        return note.following(call.group, call.deployment_id, ids, aliases, cached=call.cached)

    def _compared(self, note: Note, call: FinishedCall) -> Following:
        following = self._following(note, call)
        metrics.served(note.group, following)
        if following == "not-followed":
            _once.warn(
                f"group {note.group!r}: LiteLLM {litellm_router.version()} served deployment {call.deployment_id!r}, "
                f"which was not left in for model {note.model!r}; the metric erp_served counts how often"
            )
        return following

    def _write(
        self,
        note: Note,
        following: Following = "followed",
        call: FinishedCall | None = None,
        served: Member | None = None,
    ) -> None:
        """Have the line of a request written that has ended: answered by a call, failed or abandoned."""
        if self.log is None or note.story is None:
            return
        usd = None if call is None else self._spending.cost_of(note, call)
        ended = _line_of(note, following, call, served, usd)
        if ended is not None:
            self.log.add(ended)
            self.desk.remember(ended)
            group = self._groups[ended.group]
            self._drift.ended(group, group.state.bundle, ended, note.story.predicted)


def _line_of(
    note: Note, following: Following, call: FinishedCall | None, member: Member | None, usd: float | None
) -> Record | None:
    """The line of a request that has ended; None where nobody writes it down, or it was made before.

    Parameters
    ----------
    call : what brought the answer; None where it failed, or nobody waited for it
    member : the deployment that answered; None where it is none of the group's
    """
    if note.story is None:
        return None
    if call is None:
        return note.story.end(reason=note.reason, failed=True, followed=False)
    elsewhere = call.cached or following == "other-group"
    return note.story.end(
        reason={"followed": note.reason, "other-group": "fallback:other-group"}.get(following, following),
        served=None if member is None or elsewhere else member.pool_model,
        followed=following in ("followed", "cached"),
        tokens=(call.tokens_in, call.tokens_out),
        usd=usd,
    )


def _name(member: Member | None) -> str | None:
    return None if member is None else member.pool_model
