"""Whether what is decided serves a request, what serves it else, and what is written down of both.

In ``shadow``, and for the share of users whom ``percent`` leaves out, LiteLLM gets back the very list that it offered,
or the deployments of the baseline model. Allow lists hold in every mode. Budgets refuse and move nobody in ``shadow``;
for a share of users a budget that is spent holds on both sides, since a client may choose its side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from litellm_erp.choice.prompt import cell_of
from litellm_erp.conversations.memory import Served
from litellm_erp.decision_log.record import MOST_ID_CHARS, Arm
from litellm_erp.decision_log.story import Story, mixed
from litellm_erp.decision_log.writer import MOST_PROMPT_CHARS, DecisionLog
from litellm_erp.goals.mode import Mode
from litellm_erp.goals.tenant import Tenant, mode_of
from litellm_erp.proxy import litellm_request as request_of
from litellm_erp.proxy.litellm_router import Shares
from litellm_erp.serving.deployments import Deployment, Member, narrowed
from litellm_erp.serving.group import RoutedGroup
from litellm_erp.serving.note import Decision, Note
from litellm_erp.telemetry import Once

_once = Once()
# Its own, so that LiteLLM's picks are what they would be without us; it decides nothing that is secret.
_arms = random.Random()  # noqa: S311


class Pick(Protocol):
    """What a mode asks of ``pick.Pick``."""

    group: RoutedGroup
    messages: Any
    request: dict[str, Any]
    metadata: dict[str, Any]
    note: Note
    tenant: Tenant
    last: Served | None
    offered: Sequence[Deployment]
    members: list[Member]
    failed: frozenset[str]
    mode: Mode
    routes: bool
    whole: Sequence[Deployment]
    told: bool
    carriers: tuple[Sequence[Deployment], list[Member]] | None

    def leave(self, kept: list[int], models: Sequence[str]) -> list[int]:
        """See ``pick.Pick``."""


def enter(pick: Pick, log: DecisionLog | None) -> None:
    """Find whether what is decided is to serve, the same at every pick of a request, and begin its line."""
    settings, note = pick.group.settings, pick.note
    pick.whole = pick.offered
    pick.mode, problem = mode_of(settings, pick.tenant)
    if problem:
        _once.warn(f"group {settings.name!r}: {problem}; ignored")
    account = pick.tenant.account
    pick.routes = _routes(pick, account)
    if log is None:
        return
    pick.told = True
    if note.story is None or note.story.group != settings.name:
        arm: Arm = "route" if pick.routes else "baseline"
        name, call_id = settings.name, request_of.call_id_of(pick.request)
        note.story = Story(call_id[:MOST_ID_CHARS], name, account or None, pick.tenant.label, pick.mode.name, arm)
        if log.keeps_prompts:
            note.story.prompt = cell_of(pick.messages, pick.request, MOST_PROMPT_CHARS)


def _routes(pick: Pick, account: str) -> bool:
    mode, note = pick.mode, pick.note
    if mode.name != "percent":
        return mode.name == "route"
    who = request_of.user_in(pick.request, pick.metadata)
    if who is not None:
        return mode.routes(pick.group.settings.name, account, who)
    # A key alone is an application, whose users would all be on one side. A conversation stays on its own.
    if note.arm_draw is None and pick.last is not None and pick.last.goes_on:
        note.arm_draw = pick.last.draw
    if note.arm_draw is None:
        note.arm_draw = _arms.random()
    return note.arm_draw < mode.share


def lets_be(pick: Pick, decision: Decision) -> bool:
    """Whether something else than the decision serves."""
    return not pick.routes and (pick.mode.name == "shadow" or not _is_spent(decision))


def left_be(pick: Pick, decision: Decision, bound: int | None) -> tuple[Sequence[Deployment], str]:
    """What LiteLLM had offered, as it came; or the baseline model's deployments, and its name.

    Parameters
    ----------
    bound : position of the deployment that the request is bound to, see ``Pick.bound``
    """
    baseline = _baseline(pick)
    if baseline is None:
        pick.note.untouched = True
        pick.note.left_as = {}
        pick.note.left_in = frozenset([str((d.get("model_info") or {}).get("id") or "") for d in pick.whole])
        return pick.whole, ""
    models = (baseline, *(model for model in decision.models if model != baseline))
    kept = [bound] if bound is not None else narrowed(pick.members, models, pick.failed, decision.needs)
    kept = pick.leave(kept, models)
    return [pick.offered[i] for i in kept], pick.members[kept[0]].pool_model


def tell(pick: Pick, decision: Decision, chosen: str, bound: int | None, shares: Callable[[], Shares]) -> None:
    """Write down what was decided at the first pick of a request: later ones come after a failure.

    Parameters
    ----------
    chosen : the pool model that the decision would have serve
    bound : as in :func:`left_be`
    shares : how LiteLLM itself would choose, see ``litellm_router.shares_of``; asked only where it does
    """
    story = pick.note.story
    if story is None or story.is_told:
        return
    story.propensity_unknown = None
    routed = decision.propensity if bound is None else {pick.members[bound].pool_model: 1.0}
    others = None
    if pick.mode.share < 1.0:
        spent = pick.mode.name != "shadow" and _is_spent(decision)
        others = routed if spent else _propensity_of_others(pick, story, bound, shares)
    story.propensity = mixed(pick.mode.share, routed, others)
    story.models, story.chosen = decision.models, chosen
    story.bundle, story.lambda_ = decision.bundle_id, decision.lambda_
    story.expected_reward, story.std_error = decision.expected_reward, decision.std_error
    story.predicted = decision.predicted
    if pick.group.state.bundle.manifest.cost_kind == "usd":
        story.expected_cost = decision.expected_cost


def _propensity_of_others(
    pick: Pick, story: Story, bound: int | None, shares: Callable[[], Shares]
) -> dict[str, float] | None:
    """Probability of each pool model to serve where the decision does not."""
    baseline = _baseline(pick)
    if baseline is not None:
        return {baseline if bound is None else pick.members[bound].pool_model: 1.0}
    found = shares() if bound is None else "the request is bound to one deployment"
    if isinstance(found, str):
        story.propensity_unknown = found
        return None
    by_model: dict[str, float] = {}
    members = pick.members if pick.carriers is None else pick.carriers[1]
    for member, share in zip(members, found, strict=True):
        by_model[member.pool_model] = by_model.get(member.pool_model, 0.0) + share
    return by_model


def _baseline(pick: Pick) -> str | None:
    """The baseline model, where it is on offer and may be used."""
    named = pick.mode.baseline
    return named if any(member.pool_model == named for member in pick.members) else None


def _is_spent(decision: Decision) -> bool:
    return decision.request_lambda.exhausted in ("cheapest", "reject")
