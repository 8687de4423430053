"""What was decided for a request, what its note remembers of it, and what its client is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from litellm_erp.budgets.holds import Ticket
from litellm_erp.choice.exploration import Trial
from litellm_erp.conversations.memory import Conversation
from litellm_erp.decision_log.story import Story
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.settings import HeaderLevel
from litellm_erp.goals.tenant import Grant, Tenant
from litellm_erp.serving.deployments import NO_NEEDS, Member, Needs

# Who answered, beside what was decided: as decided; another group, after a fallback; LiteLLM's cache; or a deployment
# of the group that was not left in, which nothing explains.
Following = Literal["followed", "other-group", "cached", "not-followed"]
# Clients refuse answers whose headers are longer than some kilobytes.
_LONGEST = 256
_NOTED = 8
_NO_ARMS: Mapping[str, Member] = MappingProxyType({})
_PRINTABLE = "".join(chr(i) for i in range(0x21, 0x7F) if chr(i) != "%")


@dataclass(frozen=True, slots=True)
class Decision:
    """A ranking of pool models for one request.

    Attributes
    ----------
    models : pool models, best first; a model that is not in it is excluded
    expected_reward, expected_cost : by pool model, of the first few, for those with a probe and with a known cost
    reason : ``routed``, ``safe-default``, ``sticky``, ``drifted``, ``explored`` or ``exhausted``
    request_lambda : where the λ comes from
    best_single_cost : expected cost of the best single model on this request; None where it is not known
    needs : what the request asks of a deployment
    std_error : by pool model, of its reward; only where somebody writes decisions down
    propensity : probability of each model to rank first, by the draws alone; only there too
    predicted : by pool model, its probe's reward before safety and drift; only there too
    novelty : the prompt's leverage over that of a usual training prompt; of some requests only
    """

    models: tuple[str, ...]
    expected_reward: Mapping[str, float]
    expected_cost: Mapping[str, float]
    request_lambda: RequestLambda
    reason: str
    bundle_id: str
    best_single_cost: float | None
    needs: Needs = NO_NEEDS
    std_error: Mapping[str, float] = field(default_factory=dict)
    propensity: Mapping[str, float] | None = None
    predicted: Mapping[str, float] = field(default_factory=dict)
    novelty: float | None = None

    @property
    def lambda_(self) -> float:
        """The λ it was decided with."""
        return self.request_lambda.lambda_


class Note(dict[str, object]):
    """One request's decision, carried in LiteLLM's request metadata.

    It is made before the first pick and changed in place by every pick. A class of its own, so that nothing a client
    puts into its metadata can pass for it; a dict, so that whoever logs metadata can write it down.

    Attributes
    ----------
    group : the routed group that was asked last
    model : the pool model that ranked first; "" where LiteLLM's own order was left
    reason : as in ``x-erp-reason``, without its suffix
    grant : whose goals it was decided by, for whoever counts what it cost; None where nothing was decided
    draw : the request's own number in [0, 1), the same at every pick
    ticket : what budgets hold back for it
    tenant, caller : who asks, and the object in LiteLLM's metadata that it was read beside; None before it was read
    left_in : ids of the deployments that the last pick was narrowed to; None where nothing was picked
    left_as : by id, the arms that the last pick left in deployments as; empty where it left in none with arms
    arms : by id, the arms that deployments were called as
    called : id of the deployment that LiteLLM called after the last pick; None where it called none
    picks, dropped : picks in the group so far, and those of them after which LiteLLM called nothing
    callees : ids of all deployments that LiteLLM called
    input_tokens : as counted; None where nobody had to
    refusal : what a client is told whose request ended up where its budget is spent; None where it did not
    conversation : the one that the request belongs to; None where that does not count
    stays_at : the pool model that it counts as served by, where a mode has something else serve; else None
    is_several : the request asks several models, or the same one several times, all with this note
    arm_draw : the request's own number in [0, 1) for a share of requests, where it names no session and no user
    untouched : whether the last pick left LiteLLM what it had offered
    story : what is to be written down of it; None where nobody does
    trial : whether it explores, the same at every pick in a group; None where it may not, or was not asked yet
    """

    # What every hook reads is kept as attributes too: a busy proxy fetches each call from memory anew.
    group: str = ""
    model: str = ""
    reason: str = ""
    grant: Grant | None = None
    draw: float | None = None
    ticket: Ticket | None = None
    tenant: Tenant | None = None
    caller: object = None
    left_in: frozenset[str] | None = None
    left_as: Mapping[str, Member] = _NO_ARMS
    arms: Mapping[str, Member] = _NO_ARMS
    called: str | None = None
    picks: int = 0
    dropped: int = 0
    callees: frozenset[str] = frozenset()
    input_tokens: float | None = None
    refusal: Exception | None = None
    conversation: Conversation | None = None
    stays_at: str | None = None
    is_several: bool = False
    arm_draw: float | None = None
    untouched: bool = False
    story: Story | None = None
    trial: Trial | None = None

    def asked(self, group: str) -> None:
        """Record which routed group is asked."""
        if group != self.group:
            self.picks = self.dropped = 0
            self.conversation = self.trial = None
        self.group = self["group"] = group

    def failed(self, any_failure: bool) -> frozenset[str]:
        """Ids of the deployments that failed in this request so far; called once a pick.

        A pick after a failure means that the deployment LiteLLM called after the pick before it has failed; where it
        called none, a later filter of its own (a rate limit, a region) left nothing of what was left in. LiteLLM's list
        of failures is only asked whether there was one: in some versions it is shared by all requests, and a client
        can send one.

        Parameters
        ----------
        any_failure : whether LiteLLM lists one
        """
        before = self.get("failed")
        found = frozenset(before) if isinstance(before, (list, tuple)) else frozenset()
        if self.left_in is not None and any_failure:
            found |= self.left_in if self.called is None else {self.called}
            self.picks += 1
            self.dropped += self.called is None
        self.called = None
        self["failed"] = sorted(found) if found else []
        return found

    def calls(self, deployment_id: str) -> None:
        """Record that LiteLLM calls a deployment; "" where it does not say which, and called it before."""
        if deployment_id:
            self.called = deployment_id
            self.callees |= {deployment_id}

    def calls_plainly(self, deployment_id: str) -> None:
        """Record that LiteLLM calls a deployment as it is."""
        if deployment_id in self.arms:
            self.arms = {name: arm for name, arm in self.arms.items() if name != deployment_id}

    def calls_as(self, arm: Member) -> None:
        """Record that LiteLLM calls an arm of a deployment: with its parameters."""
        self.arms = {**self.arms, arm.id: arm}

    def answered_by(self, stated: str) -> str:
        """The deployment that answered.

        Parameters
        ----------
        stated : the one that LiteLLM names afterwards, which on some routes is whichever the client named; "" where it
            names none
        """
        return stated if not self.callees or stated in self.callees else self.called or ""

    def decided(self, decision: Decision, granted: Grant | None, model: str, reason: str) -> None:
        """Record a decision.

        Parameters
        ----------
        model : the pool model that was left in, which is not the first of a decision where that has failed
        reason : as in ``x-erp-reason``
        """
        self.grant, self.model, self.reason = granted, model, reason
        self.update(
            model=model,
            reason=reason,
            override_ignored=granted is not None and granted.refused,
            best_single_cost=decision.best_single_cost,
            bundle=decision.bundle_id,
            expected_reward=_first(decision, decision.expected_reward),
            expected_cost_usd=_first(decision, decision.expected_cost),
        )
        self["lambda"] = decision.lambda_

    def fell_back(self, why: str, left_in: Collection[str] | None = None) -> None:
        """Record that nothing was decided about the prompt.

        Parameters
        ----------
        left_in : ids of the deployments that LiteLLM may take; None where it is to take none
        """
        self.left_in = None if left_in is None else frozenset(left_in)
        self.left_as = _NO_ARMS
        kept = {key: self[key] for key in ("group", "failed") if key in self}
        self.clear()
        self.grant, self.model, self.reason = None, "", f"fallback:{why}"
        self.update(kept, reason=self.reason)

    def following(
        self, group: str | None, served_id: str, members: Collection[str], aliases: Collection[str], *, cached: bool
    ) -> Following:
        """What became of the decision.

        Parameters
        ----------
        group : the model group that LiteLLM asked last; None where it does not say
        served_id : id of the deployment that answered; "" where nobody knows
        members : ids of the group's deployments
        aliases : other names of the group
        """
        if cached:
            return "cached"
        elsewhere = group is not None and group != self.group and group not in aliases
        if elsewhere or (served_id and served_id not in members):
            return "other-group"
        if served_id and self.left_in is not None and served_id not in self.left_in:
            return "not-followed"
        if self.left_as and self.arms.get(served_id) is not self.left_as.get(served_id):
            return "not-followed"
        return "followed"


def _first(decision: Decision, values: Mapping[str, float]) -> Mapping[str, float]:
    """What of it others may log with the metadata: a pool may have hundreds of models."""
    if len(values) <= _NOTED:
        return values
    return {model: values[model] for model in decision.models[:_NOTED] if model in values}


def facts(note: Note, served: str | None, level: HeaderLevel, following: Following = "followed") -> dict[str, object]:
    """What may be told of a decision: ``reason``, and what was expected of the model that served.

    Parameters
    ----------
    served : the pool model whose deployment answered; None where that is not known, or none of the group's
    level : how much a client may see
    """
    if level == "none":
        return {}
    reason = {"followed": note.reason, "other-group": "fallback:other-group"}.get(following, following)
    told: dict[str, object] = {"reason": reason + (";override-ignored" if note.get("override_ignored") else "")}
    if level == "reason" or served is None or following == "other-group":
        return told
    told["model"] = served
    if "bundle" in note:
        told["bundle"], told["lambda"] = note["bundle"], note["lambda"]
        for key in ("expected_reward", "expected_cost_usd"):
            values = note[key]
            value = values.get(served) if isinstance(values, Mapping) else None
            if value is not None:
                told[key] = value
    return told


def response_headers(
    note: Note, served: str | None, level: HeaderLevel, following: Following = "followed"
) -> dict[str, str]:
    """Headers for a response: what `facts` tells, with its parameters."""
    told = facts(note, served, level, following)
    return {f"x-erp-{name.replace('_', '-')}": _header(value) for name, value in told.items()}


def _header(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else header_value(str(value))


def header_value(name: str) -> str:
    """A name as a header can carry it: what is not printable ASCII is percent-encoded UTF-8, and so is ``%`` itself.

    Source: RFC 9110, section 5.5, for what a field may hold; RFC 3986, section 2.1, for the encoding.
    """
    plain = name.isascii() and name.isprintable() and "%" not in name and name == name.strip()
    return (name if plain else quote(name[:_LONGEST], _PRINTABLE, errors="replace"))[:_LONGEST]
