"""PURE. What a client is told about the choice that was made for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm_erp.routing import Decision
from litellm_erp.settings import HeaderLevel
from litellm_erp.spending import Ticket
from litellm_erp.tenancy import Grant


class Note(dict[str, object]):
    """One request's decision, carried in LiteLLM's request metadata.

    It is made at the first pick, or when a budget is looked at before, and changed in place by every later pick. A
    class of its own, so that nothing a client puts into its metadata can pass for it; a dict, so that whoever logs
    metadata can write it down.

    Attributes
    ----------
    grant : whose goals it was decided by, for whoever counts what it cost; None where nothing was decided
    draw : the request's own number in [0, 1), the same at every pick
    ticket : what budgets hold back for it
    """

    grant: Grant | None = None
    draw: float | None = None
    ticket: Ticket | None = None

    @property
    def group(self) -> str:
        """The routed group that was asked last."""
        return str(self.get("group", ""))

    @group.setter
    def group(self, name: str) -> None:
        self["group"] = name

    @property
    def model(self) -> str:
        """The pool model that ranked first; "" where LiteLLM's own order was left."""
        return str(self.get("model", ""))

    @property
    def reason(self) -> str:
        """As in ``x-erp-reason``, without its suffix."""
        return str(self.get("reason", ""))

    def failed(self, metadata: Mapping[str, Any]) -> frozenset[str]:
        """Ids of the deployments that failed in this request so far; called once a pick.

        A pick after the first means that the deployment LiteLLM wrote down after the one before it has failed.
        LiteLLM's own list of failures is only asked whether there was one: in some versions it is shared by all
        requests, and a client can send one.
        """
        info = metadata.get("model_info")
        last = info.get("id") if isinstance(info, Mapping) else None
        before = self.get("failed")
        found = frozenset(before) if isinstance(before, (list, tuple)) else frozenset()
        if self.reason and metadata.get("previous_models") and last is not None:
            found |= {str(last)}
        self["failed"] = sorted(found)
        return found

    def decided(self, decision: Decision, granted: Grant, *, retry: bool) -> None:
        """Record a decision; on a retry the reason says so."""
        self.grant = granted
        self.update(
            model=decision.models[0],
            reason="retry" if retry else decision.reason,
            override_ignored=granted.refused,
            best_single_cost=decision.best_single_cost,
            bundle=decision.bundle_id,
            expected_reward=decision.expected_reward,
            expected_cost_usd=decision.expected_cost,
        )
        self["lambda"] = decision.lambda_

    def fell_back(self, why: str) -> None:
        """Record that LiteLLM's own order was left."""
        kept = {key: self[key] for key in ("group", "failed") if key in self}
        self.clear()
        self.grant = None
        self.update(kept, reason=f"fallback:{why}")


def response_headers(note: Note, served: str | None, level: HeaderLevel) -> dict[str, str]:
    """Headers for a response.

    Parameters
    ----------
    served : the pool model whose deployment answered; None where it is none of a routed group's, which happens
        after LiteLLM fell back to another group
    level : how much a client may see
    """
    if level == "none":
        return {}
    reason = note.reason
    if served is None:
        reason = "fallback:other-group"
    headers = {"x-erp-reason": reason + (";override-ignored" if note.get("override_ignored") else "")}
    if level == "reason" or served is None:
        return headers
    headers["x-erp-model"] = served
    if "bundle" in note:
        headers["x-erp-bundle"] = str(note["bundle"])
        headers["x-erp-lambda"] = f"{note['lambda']:.6g}"
        for header, key in (
            ("x-erp-expected-reward", "expected_reward"),
            ("x-erp-expected-cost-usd", "expected_cost_usd"),
        ):
            values = note[key]
            value = values.get(served) if isinstance(values, dict) else None
            if value is not None:
                headers[header] = f"{value:.6g}"
    return headers
