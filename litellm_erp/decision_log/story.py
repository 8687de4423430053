"""What becomes of one request, gathered from its first pick to its end, for one line of the decision log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from litellm_erp.decision_log.record import Arm, Candidate, Mode, Record

_NOTHING: Mapping[str, float] = {}


@dataclass(slots=True)
class Story:
    """One request of a routed group. What the first pick decides stays: later picks come after a failure.

    Attributes
    ----------
    expected_reward, std_error, expected_cost : by pool model, where known
    predicted : reward by pool model, before safety and drift
    meant : the pool model that was to serve first; "" where LiteLLM's own order was left
    ended : whether its line was made
    """

    request_id: str
    group: str
    account: str | None = None
    team: str | None = None
    mode: Mode = "route"
    arm: Arm = "route"
    bundle: str = ""
    lambda_: float | None = None
    expected_reward: Mapping[str, float] = field(default_factory=dict)
    std_error: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    expected_cost: Mapping[str, float] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    chosen: str = ""
    propensity: Mapping[str, float] | None = None
    propensity_unknown: str | None = "nothing was decided"
    prompt: str | None = None
    answer: str | None = None
    started_s: float = field(default_factory=time.perf_counter)
    ended: bool = False

    @property
    def is_told(self) -> bool:
        """Whether a decision stands in it."""
        return bool(self.models)

    def end(
        self,
        *,
        reason: str,
        served: str | None = None,
        followed: bool = True,
        failed: bool = False,
        tokens: tuple[float | None, float | None] = (None, None),
        usd: float | None = None,
    ) -> Record | None:
        """Its line; None where that was made before: a request ends once."""
        if self.ended:
            return None
        self.ended = True
        return Record(
            time=time.time(),
            request_id=self.request_id,
            group=self.group,
            mode=self.mode,
            arm=self.arm,
            account=self.account,
            team=self.team,
            bundle=self.bundle,
            lambda_=self.lambda_,
            reason=reason,
            candidates={
                model: Candidate(
                    self.expected_reward.get(model), self.std_error.get(model), self.expected_cost.get(model)
                )
                for model in self.models
            },
            chosen=self.chosen,
            served=served,
            propensity=self.propensity,
            propensity_unknown=self.propensity_unknown if self.propensity is None else None,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cost_usd=usd,
            latency_s=time.perf_counter() - self.started_s,
            failed=failed,
            followed=followed,
            prompt=self.prompt,
            answer=self.answer,
        )


def mixed(
    share: float, routed: Mapping[str, float] | None, others: Mapping[str, float] | None
) -> dict[str, float] | None:
    """Probabilities to serve where a share of requests is routed; None where a part that counts is not known.

    Source: ours; the law of total probability over the two arms.
    """
    found: dict[str, float] = {}
    for weight, part in ((share, routed), (1.0 - share, others)):
        if weight <= 0.0:
            continue
        if part is None:
            return None
        for model, probability in part.items():
            found[model] = found.get(model, 0.0) + weight * probability
    return found
