"""The callback that LiteLLM calls: every hook."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from litellm import Router
from litellm.integrations.custom_logger import CustomLogger

from litellm_erp.budgets.totals import Totals
from litellm_erp.conversations.memory import Conversations
from litellm_erp.conversations.shared import SharedConversations
from litellm_erp.decision_log.writer import DecisionLog
from litellm_erp.drift.shared import Drifts
from litellm_erp.embedding.base import Embedder
from litellm_erp.errors import ServingError
from litellm_erp.goals import settings as settings_file
from litellm_erp.goals.settings import Settings
from litellm_erp.goals.tenant import Tenant, mode_of
from litellm_erp.metrics.recorder import metrics
from litellm_erp.proxy import arms, litellm_router, modes, self_test
from litellm_erp.proxy import litellm_request as request_of
from litellm_erp.proxy.access import Access
from litellm_erp.proxy.answers import streams
from litellm_erp.proxy.answers.endings import Endings
from litellm_erp.proxy.answers.litellm_answer import CallEvent, answer_call, answer_text, call_of_response
from litellm_erp.proxy.guard import OverBudget, first_that_works, guarded
from litellm_erp.proxy.pick import Pick, why
from litellm_erp.proxy.request_note import (
    called,
    group_called,
    known_note,
    metadata_of,
    note_of,
    tell_loggers,
    tenant_of,
)
from litellm_erp.proxy.watch import Watch
from litellm_erp.serving.checks import Finding, check_router, router_view
from litellm_erp.serving.deployments import MemberTable
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.known_teams import KnownTeams
from litellm_erp.serving.note import Decision, Note
from litellm_erp.serving.reload import ReloadedBundle
from litellm_erp.serving.sharing import BudgetSharing
from litellm_erp.serving.spend import Spending
from litellm_erp.telemetry import Once, log_decisions_to_stderr, logger

_GOLDEN = (5**0.5 - 1) / 2
_once = Once()


class ErpRouter(CustomLogger):  # type: ignore[misc]
    """LiteLLM callback that chooses among the deployments of configured routing groups.

    Parameters
    ----------
    settings : validated settings; None takes them from ``ERP_SETTINGS`` or the running proxy's config file
    embedder : replaces the embedder of every bundle
    router : the one it serves; None takes the proxy's, once there is one

    Raises
    ------
    ErpError : bad settings or a bad bundle; a proxy does not start
    """

    def __init__(
        self, settings: Settings | None = None, *, embedder: Embedder | None = None, router: Router | None = None
    ) -> None:
        super().__init__()
        self._router = router
        self.groups: dict[str, RoutedGroup] = {}
        self.members = MemberTable(litellm_router.model_info, litellm_router.window)
        self._embedder = embedder
        self._access = Access(self.members, self.router)
        self._drawn = time.time() % 1.0
        self.totals = Totals()
        self.spending = Spending(self.groups, self.members, self.totals)
        self.pacer = self.spending.book
        self.sharing = BudgetSharing(self.spending.book, litellm_router.redis_of_process)
        self._teams = KnownTeams()
        self._conversations = SharedConversations(Conversations(), self.sharing.redis)
        self._settings: Settings | None = None
        self.drift = Drifts(self.groups, self.sharing.redis)
        self._endings = Endings(self.groups, self.members, self._access, self.spending, self._conversations, self.drift)
        self.recent, self.desk = self._endings.recent, self._endings.desk
        self._ways = (self._pick_by_prompt, self._pick_unread, self._pick_cheapest)
        self._watch = Watch(self, self.sharing.keep_running)
        self.configure(settings)
        if litellm_router.proxy_server() is not None:
            self._watch.start()
            litellm_router.at_shutdown(self.sharing.refresh)

    def router(self) -> Router | None:
        """The router it serves, None before there is one."""
        return self._router or litellm_router.router_of_process()

    @property
    def follows(self) -> Mapping[str, bool] | None:
        """Whether LiteLLM follows what is decided, by group, as far as that could be tried; None before it was."""
        return self._watch.follows

    @property
    def log(self) -> DecisionLog | None:
        """Where decisions are written down; None where nobody does."""
        return self._endings.log

    def configure(self, settings: Settings | None = None) -> None:
        """Load what the settings name, once: those that are given, else the process's, which may come late."""
        if self._settings is not None or (settings := settings or _settings_of_process()) is None:
            return
        self.groups |= {
            name: RoutedGroup(
                group,
                ReloadedBundle(group, embedder=self._embedder, reload_s=settings.reload_s),
                pacer=self.pacer,
            )
            for name, group in settings.groups.items()
        }
        if settings.decision_log.path is not None:
            self._endings.log = DecisionLog(settings.decision_log)
        self._settings = settings
        metrics.teams.configure(name for group in settings.groups.values() for name in group.teams)
        self.sharing.configure(settings)
        if settings.log_decisions:
            log_decisions_to_stderr()
        for name, group in self.groups.items():
            verdict = group.state.bundle.frontier.document["verdict"]
            logger.log(logging.INFO if verdict["helps"] else logging.WARNING, "group %r: %s", name, verdict["text"])

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Leave in the deployments of the pool model with the highest expected reward minus λ times cost.

        Parameters
        ----------
        model : the group's name; deployments of other groups are returned as they came
        healthy_deployments : what LiteLLM offers; never changed in place

        Returns
        -------
        some of what was offered; none of it only where the key or its team may use none

        An internal error does not reach the client: means and costs decide then, it is counted, and a header names it.
        """
        self._watch.check_periodically()
        group = self.groups.get(model)
        if group is None or not healthy_deployments or not request_of.is_call(request_kwargs):
            return healthy_deployments
        if litellm_router.is_foreign(self.router(), healthy_deployments):
            return healthy_deployments
        started = time.perf_counter()
        pick = Pick(group, messages, request_kwargs or {}, healthy_deployments, started)
        try:
            left: list[Any] | None = await first_that_works(model, self._ways, pick)
        finally:
            _tell(pick, parent_otel_span)
        if left is None:
            raise ServingError(f"group {model!r}: nothing could be picked; the log says why")
        return left

    async def _pick_by_prompt(self, pick: Pick) -> list[Any]:
        if (forced := self_test.forced()) is not None:
            return self_test.left_in(pick.offered, self.members, forced)
        pick.read(self.members)
        self._teams.remember(pick.tenant)
        if not self._admits(pick):
            return []
        await pick.recall(self._conversations)
        modes.enter(pick, self.log)
        if pick.request.get(request_of.TARGET_ORDER_KEY) is not None:
            if any(deployment["litellm_params"].get("order") is not None for deployment in pick.offered):
                pick.note.fell_back("order-fallback", [member.id for member in pick.members])
                return list(pick.offered)
            # Nobody configured an order, so a client sent this one, and nothing would be left at it.
            pick.request.pop(request_of.TARGET_ORDER_KEY)
        if pick.timed_out:
            self.spending.abandoned(pick.note)
        # Whatever name the request came by, an alias or a fallback: its budget was not asked under this one.
        name = pick.group.settings.name
        refusal = None
        if pick.mode.name != "shadow":
            refusal = self.spending.refusal_for(name, pick.note, pick.tenant, pick.answers)
        if refusal is not None:
            pick.note.fell_back("exhausted")
            pick.note.refusal = refusal
            raise OverBudget(refusal)
        left = await litellm_router.left_later(self.router(), name, pick.offered, pick.messages, pick.request)
        if not left:
            # LiteLLM refuses it, for a reason that it finds by looking at all of them.
            pick.note.fell_back("none-left", [member.id for member in pick.members])
            return list(pick.offered)
        pick.keep(left)
        if pick.granted is not None and pick.granted.problem:
            _once.warn(f"group {name!r}: {pick.granted.problem}; ignored")
        decision = await pick.decide(self._draw(pick.note))
        return self._narrow(pick, decision, pick.reason_of(decision))

    def _admits(self, pick: Pick) -> bool:
        """Whether anything is left in a pick that whoever asks may use."""
        if request_of.is_of_nobody(pick.request, pick.metadata):
            # Whose allow list counts is not known: nobody's may be broken.
            pick.note.fell_back("no-tenant")
            return False
        if not pick.permit(self._access):
            pick.note.fell_back("no-permitted-model")
            return False
        return True

    def _narrow(self, pick: Pick, decision: Decision, reason: str) -> list[Any]:
        """Leave in what a decision says, and write down what follows from it."""
        bound = pick.bound(decision)
        left: Sequence[Any]
        left, model = pick.left_in(decision, bound, lambda: litellm_router.retries_of(self.router()))
        modes.tell(pick, decision, model, bound, lambda: self._shares(pick))
        if (story := pick.note.story) is not None:
            self.desk.expect(story.request_id, story.account, story.group)
        if bound is not None:
            reason = "bound"
        note, granted = pick.note, pick.known_grant
        note.untouched = False
        decided = model
        if modes.lets_be(pick, decision):
            left, model = modes.left_be(pick, decision, bound)
            note.decided(decision, granted, model, "shadow")
        else:
            note.decided(decision, granted, model, "retry" if pick.failed else reason)
        self.spending.reserve(pick.group.settings.name, note, granted, decision, pick.answers)
        if note.conversation is not None:
            # Its client may go on before LiteLLM tells that this was answered.
            self._conversations.serves(note.conversation, decided, 0.0, draw=note.arm_draw)
            # The next turn is decided as if this one had been served as decided.
            note.stays_at = decided if note.reason == "shadow" else None
        pick.record(decision)
        # Where nothing is to change, what LiteLLM offered goes back as the very list that it gave.
        return left if isinstance(left, list) else list(left)

    def _shares(self, pick: Pick) -> litellm_router.Shares:
        return litellm_router.shares_of(self.router(), pick.group.settings.name, pick.each_once, pick.request)

    async def _pick_unread(self, pick: Pick, error: Exception) -> list[Any]:
        """Leave in what goals, means and costs say, the prompt unread: an error lifts no budget and no allow list."""
        name, note = pick.group.settings.name, pick.note
        if not pick.permitted:
            # Nothing below may serve what could not be read to be allowed.
            pick.identify(self.members)
            note = pick.note
            note.asked(name)
            if not self._admits(pick):
                return []
            modes.enter(pick, self.log)
        draw = self._draw(note)
        agreed = self.spending.fallback(name, pick.tenant, note, draw)
        decision = await pick.decide_unread(self.members, draw, agreed)
        return self._narrow(pick, decision, f"fallback:{why(error)}")

    async def _pick_cheapest(self, pick: Pick, error: Exception) -> list[Any]:
        """Leave in the cheapest, where nothing else is known but that it is allowed."""
        if not pick.permitted:
            raise error
        pick.note.fell_back("error")
        return list(pick.offered) if pick.mode.name == "shadow" else pick.cheapest(self.members)

    @guarded
    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Say in headers which pool model really served, and why it was chosen."""
        note = known_note(data)
        if note is None or note.group not in self.groups:
            return None
        call = None if response is None else call_of_response(note, data, response, litellm_call_info or {})
        return self._endings.headers(note, call) or None

    @guarded
    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> Any:
        """Say in the body what the headers say, where the request asks for it: clients' SDKs hide headers."""
        return streams.told_along(response, self._explanation(data, response))

    def _explanation(self, data: Mapping[str, Any], response: Any) -> dict[str, object]:
        """What a request that asks why is told in its answer's body; nothing for all others."""
        note = known_note(data)
        if note is None or note.group not in self.groups or not request_of.wants_explanation(metadata_of(data)):
            return {}
        return self._endings.explanation(note, call_of_response(note, data, response, {}))

    @guarded
    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
        """Refuse a request whose budget is spent and says ``on_exhausted: reject``: HTTP 429, before any routing.

        Here, because whatever a later hook raises LiteLLM retries. The request gets its note here too: a fallback
        copies the metadata, and what only the copy holds is lost.
        """
        if not self.groups or not isinstance(data, dict):
            return data
        request_of.drop_routers_own(data)
        metadata = metadata_of(data)
        note = note_of(metadata)
        note.is_several = request_of.asks_several(data)
        for group in self._access.named(data.get("model"), self.groups):
            asked, tenant = request_of.answers_asked(data.get("messages"), data), tenant_of(metadata, note)
            if mode_of(self.groups[group].settings, tenant)[0].name == "shadow":
                continue
            refusal = self.spending.refusal_for(group, note, tenant, asked)
            if refusal is not None:
                raise OverBudget(refusal)
        return data

    @guarded
    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        """Note who is called, and keep the cached answers of different models apart.

        LiteLLM's cache knows a group by its name alone, and would give one model's answer for another's.
        """
        note, deployment_id = called(kwargs)
        if note is None or note.group not in self.groups:
            return None
        # Where LiteLLM translates a route into another, it comes here twice, the second time without a deployment.
        note.calls(deployment_id)
        as_arm = None
        if note.left_as or note.arms:
            is_picked = group_called(kwargs) in (note.group, *self._access.known(note.group)[1])
            as_arm = arms.with_parameters(kwargs, call_type, note, deployment_id, is_picked=is_picked)
        member = self.members.by_id(deployment_id, note.arms)
        if member is None or note.untouched:
            return as_arm
        return litellm_router.with_cache_of(as_arm or kwargs, member.pool_model) or as_arm

    @guarded
    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Compare what was decided with what served, and count what it cost; streams report once, at their end."""
        event = CallEvent(kwargs, response_obj)
        text = functools.partial(answer_text, response_obj)
        called = functools.partial(answer_call, response_obj)
        self._endings.answered(event.note, event.call, event.tenant, text, called, kwargs)

    @guarded
    async def async_post_call_failure_hook(
        self, request_data: Any, original_exception: Any, user_api_key_dict: Any, traceback_str: Any = None
    ) -> Any:
        """Give back what was held for a request that failed after all its tries, unless its client was what failed.

        Returns
        -------
        the 429 of a request that fell back into a group whose budget is spent: LiteLLM would tell its client of the
        failure that it fell back for; else None
        """
        note = known_note(request_data)
        if note is None:
            return None
        self._endings.failed(note, request_data, original_exception)
        return None if note.refusal is original_exception else note.refusal

    def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> Any:
        """Count streams that nobody reads to their end, of which LiteLLM tells nothing on most routes.

        And say in the last piece what was decided, where the request asks for it.
        """
        note = known_note(request_data)
        if note is not None and request_of.wants_explanation(metadata_of(request_data)):
            response = streams.explained(response, functools.partial(self._explanation, request_data, None))
        if note is None or (note.story is None and (note.ticket is None or not note.ticket.holds)):
            return response
        return streams.watched(response, request_data, functools.partial(self._endings.abandoned_midway, note))

    def tenants(self) -> list[Tenant]:
        """Teams by account: those in the settings, and those that have sent requests, as they were last seen."""
        return self._teams.with_named(
            name for g in self.groups.values() for name in (*g.settings.teams, *g.settings.modes)
        )

    def offer(self, group: str, tenant: Tenant) -> tuple[Sequence[Any], list[Any]]:
        """Deployments of a group that a tenant may use, whether they are up or not, and their members."""
        listed = litellm_router.members_of(self.router(), group)
        offered, members = self._access.permitted(group, listed, [self.members.member(d) for d in listed], tenant)
        return offered, [each for member in members for each in member.each]

    def check(self, router: Router) -> list[Finding]:
        """What in a router keeps the configured groups from being routed as their owner thinks."""
        if self._settings is None:
            return []
        bundles = {name: group.state.bundle for name, group in self.groups.items()}
        view = router_view(litellm_router.deployments_of(router), litellm_router.settings_of(router))
        return check_router(view, self._settings, bundles, self.members)

    def _draw(self, note: Note) -> float:
        """The request's number in [0, 1): drawn at its first pick, evenly spread over requests."""
        if note.draw is None:
            # Multiples of the golden ratio keep any share to within a request or two of itself; a client cannot
            # choose its number, as it could if it came from the prompt or from LiteLLM's call id.
            self._drawn = (self._drawn + _GOLDEN) % 1.0
            note.draw = self._drawn
        return note.draw


def _tell(pick: Pick, span: Any) -> None:
    """Count what was decided, and how long it took; a pick of the self-test has no reason and is none."""
    note = pick.note
    if note.reason:
        tell_loggers(note, pick.metadata, span)
        seconds = time.perf_counter() - pick.started_s
        metrics.decision(pick.group.settings.name, metrics.teams.of(pick.tenant), note.model, note.reason, seconds)


def _settings_of_process() -> Settings | None:
    """Settings from ``ERP_SETTINGS`` or from the config file that this process's proxy was started with."""
    path = os.environ.get(settings_file.SETTINGS_ENV) or litellm_router.config_path_of_process()
    if path is None:
        if litellm_router.proxy_server() is not None:
            _once.warn(f"no config file on disk and no {settings_file.SETTINGS_ENV}: nothing is routed yet")
        return None
    # Not resolved: LiteLLM looks for included files beside the name it was given, which may be a link.
    found = settings_file.load_settings(Path(path).absolute())
    if found is None:
        _once.warn(f"{path} has no erp_settings: nothing is routed")
    return found
