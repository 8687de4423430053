"""From a log to the figures of a report: what was served, what other policies would have cost and earned.

Three kinds of figure are told apart and never mixed:

* *real*: what providers charged;
* *predicted*: the probes' expected rewards, and expected costs set right by the ratio of real to expected cost of the
  models that served. An interval of these says which requests happened to come, not how wrong predictions are;
* *measured*: feedback and real costs of what was served, weighed by propensities; refused where support is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erp_trainer.learning.bootstrap import Estimates, Resamples
from erp_trainer.logged import estimators
from erp_trainer.logged.estimators import MIN_EFFECTIVE, Seen
from erp_trainer.logged.log import Log
from erp_trainer.logged.targets import (
    Target,
    chosen_at,
    default_lambdas,
    mixture,
    one_hot,
    shown_singles,
    single,
)
from erp_trainer.words import from_to, percent, signed
from litellm_erp.errors import DecisionLogError

# Groups of requests that are drawn together; more would only take memory.
_MAX_BLOCKS = 4000
# Served answers from which a model's own ratio of real to expected cost is taken; less take the pool's.
_MIN_SERVED = 20
_MIN_REQUESTS = 50
# Of the requests, at which a model that is compared with by itself was a candidate.
_MIN_PRESENT = 0.9
# With fewer of the propensities known, no choice but what was served is measured.
_KNOWN_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about.

    Attributes
    ----------
    lambdas : to look at; none for some around the one at work
    choices : at each λ the column chosen of each request, where a bundle was asked; else the log's candidates choose
    bundle : of which the predictions are, where it is not the log's own
    """

    lambdas: tuple[float, ...] = ()
    choices: Mapping[float, np.ndarray] | None = None
    bundle: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Costs:
    """Expected costs at the scale of real ones.

    Attributes
    ----------
    ratio_RM : shape (1 + R, M), real over expected, on all requests and in every resample
    own_M : bool, whether a model served enough for a ratio of its own
    """

    expected_PM: np.ndarray
    ratio_RM: np.ndarray
    own_M: np.ndarray

    def of(self, policy_PM: np.ndarray, resamples: Resamples) -> Estimates:
        """Mean cost of a policy; NaN where a model it takes has no expected cost."""
        if (np.isnan(self.expected_PM) & (policy_PM > 0)).any():
            return Estimates.of(np.full(len(self.ratio_RM), np.nan))
        used = np.flatnonzero((policy_PM > 0).any(axis=0))
        share = policy_PM[:, used] * np.nan_to_num(self.expected_PM[:, used])
        found = resamples.ratios(share, np.ones((len(share), 1)))
        whole = np.vstack([found.value_S[None], found.resampled_RS])
        return Estimates.of((whole * self.ratio_RM[:, used]).sum(axis=1))


def proof(log: Log, asked: Asked | None = None) -> dict[str, Any]:
    """The figures of a report, as plain numbers.

    Raises
    ------
    DecisionLogError : too few requests that say anything
    """
    asked = asked or Asked()
    known, log = _propensities(log), _with_candidates(log)
    resamples = Resamples.draw(_blocks(log.block_P, asked.seed), seed=asked.seed)
    costs = _costs(log, resamples)
    rewards = _seen(log, resamples, log.reward_P, asked.seed)
    money = _seen(log, resamples, log.real_cost_P, asked.seed, model_PM=costs.expected_PM * costs.ratio_RM[0])
    targets = _targets(log, asked, costs)
    figures = [_figures(target, log, costs, rewards, money, resamples) for target in targets]
    main = _main(targets, bool(log.route_P.all()) and asked.bundle is None)
    found = [_described(target, mine, figures[0], log, costs) for target, mine in zip(targets, figures, strict=True)]
    return {
        "counts": dict(log.counts),
        "asked": {"bundle": asked.bundle, "lambdas": [t.lambda_ for t in targets if t.kind == "lambda"]},
        "models": _models(log, costs),
        "feedback": int(rewards.observed_P.sum()),
        "propensities": known,
        "shadow": bool(not log.route_P.any() and (log.propensity_PM.max(axis=1) >= 1 - 1e-9).all()),
        "routes": bool(log.route_P.all()),
        "targets": found,
        "verdict": verdict(found, main, _over_mixture(targets, figures, main[0])),
        "intervals": {"level": 0.95, "resamples": len(resamples.weights_RG), "blocks": resamples.weights_RG.shape[1]},
        "least_effective": MIN_EFFECTIVE,
    }


def kept_rows(log: Log) -> np.ndarray:
    """Requests that figures are of, ascending, int: answered, with predictions on record, and propensities if any."""
    rows = ~np.isnan(log.expected_PM).all(axis=1) & log.usable_P
    return np.flatnonzero(rows & log.known_P if _propensities(log) else rows)


def _with_candidates(log: Log) -> Log:
    """The requests of which predictions are on record and that a model answered."""
    from dataclasses import fields, replace

    rows = kept_rows(log)
    if len(rows) < _MIN_REQUESTS:
        raise DecisionLogError(
            f"the log has {len(rows)} answered requests with candidates; at least "
            f"{_MIN_REQUESTS} are needed to say anything. Let it run longer"
        )
    taken: dict[str, Any] = {each.name: getattr(log, each.name)[rows] for each in fields(log) if "_P" in each.name}
    names: dict[str, Any] = {name: tuple(getattr(log, name)[p] for p in rows) for name in ("request_ids", "accounts")}
    if not _propensities(log):
        # As if nothing else could have served: what was served is known, and no other choice can be measured.
        taken["propensity_PM"] = one_hot(taken["served_P"], len(log.models))
    return replace(log, **names, **taken)


def _propensities(log: Log) -> bool:
    """Whether propensities are known of all but a few answered requests, which are then left out."""
    answered = log.usable_P
    return bool(answered.any()) and float(log.known_P[answered].mean()) >= _KNOWN_SHARE


def _blocks(block_P: np.ndarray, seed: int) -> np.ndarray:
    """At most so many groups of requests, repeated prompts together: a bootstrap over them is as good, and bounded."""
    names, place = np.unique(block_P, return_inverse=True)
    if len(names) <= _MAX_BLOCKS:
        return np.asarray(place)
    return np.asarray((np.random.default_rng(seed).permutation(len(names)) % _MAX_BLOCKS)[place])


def _costs(log: Log, resamples: Resamples) -> _Costs:
    n_models = len(log.models)
    rows = np.arange(len(log.served_P))
    expected_P = log.cost_PM[rows, log.served_P]
    known = ~np.isnan(log.real_cost_P) & ~np.isnan(expected_P)
    mine = one_hot(log.served_P, n_models) * known[:, None]
    sums = resamples.sums(
        np.hstack([mine * np.nan_to_num(log.real_cost_P)[:, None], mine * np.nan_to_num(expected_P)[:, None]])
    )
    whole = np.vstack([sums[0][None], sums[1]])
    real, expected = whole[:, :n_models], whole[:, n_models:]
    with np.errstate(invalid="ignore", divide="ignore"):
        pool = real.sum(axis=1) / expected.sum(axis=1)
        ratio = real / expected
    pool = np.where(np.isfinite(pool), pool, 1.0)
    own_M = mine.sum(axis=0) >= _MIN_SERVED
    return _Costs(log.cost_PM, np.where(own_M & np.isfinite(ratio), ratio, pool[:, None]), own_M)


def _seen(log: Log, resamples: Resamples, outcome_P: np.ndarray, seed: int, model_PM: np.ndarray | None = None) -> Seen:
    if model_PM is None:
        model_PM = estimators.recalibrated(log.expected_PM, log.served_P, outcome_P, log.block_P, seed)
    # A model that was no candidate is as good as the others at that prompt: it only must be some number.
    blank = np.isnan(model_PM)
    if blank.any():
        known = (~blank).sum(axis=1, keepdims=True)
        middle = np.where(blank, 0.0, model_PM).sum(axis=1, keepdims=True) / np.maximum(known, 1)
        model_PM = np.where(blank, middle, model_PM)
    return Seen(log.propensity_PM, log.served_P, outcome_P, model_PM, resamples)


def _targets(log: Log, asked: Asked, costs: _Costs) -> list[Target]:
    n_models = len(log.models)
    found = [Target("served", "what was served", "served", log.propensity_PM)]
    if not log.route_P.any() and asked.bundle is None and (log.chosen_P >= 0).all():
        found.append(Target("routed", "routing as decided", "routed", one_hot(_greedy(log), n_models)))
    elif not log.route_P.all() and asked.bundle is None:
        chosen = np.where(log.route_P | (log.chosen_P < 0), log.served_P, _greedy(log))
        policy = np.where(log.route_P[:, None], log.propensity_PM, one_hot(chosen, n_models))
        found.append(Target("routed", "routing as decided", "routed", policy))
    if asked.choices is not None:
        choices = dict(asked.choices)
    else:
        lambdas = asked.lambdas or default_lambdas(log.lambda_P, log.expected_PM, log.cost_PM)
        choices = {value: chosen_at(log.expected_PM, log.cost_PM, value, log.models) for value in lambdas}
    for value, chosen_P in sorted(choices.items()):
        found.append(Target(f"lambda={value:g}", f"λ = {value:g}", "lambda", one_hot(chosen_P, n_models), value))
    best_P = chosen_at(log.expected_PM, log.cost_PM, 0.0, log.models)
    # A model that could not have served all the time is no alternative by itself; its mean is of other requests.
    usual_M = (~np.isnan(log.expected_PM)).mean(axis=0) >= _MIN_PRESENT
    single_M = np.where(usual_M, _single_means(log.expected_PM), np.nan)
    cost_M = _single_means(log.cost_PM) * costs.ratio_RM[0]
    served_M = np.bincount(log.served_P, minlength=n_models)
    for m in shown_singles(single_M, cost_M, served_M):
        policy = single(m, log.expected_PM, best_P)
        found.append(Target(f"always={log.models[m]}", f"always {log.models[m]}", "single", policy))
    mixed = _mixed(log, found, costs, single_M, cost_M, best_P, asked.bundle is None and bool(log.route_P.all()))
    return found if mixed is None else [*found, mixed]


def _greedy(log: Log) -> np.ndarray:
    """What is decided without exploring, shape (P,): a request's own draw must not say what it is compared with."""
    found = log.chosen_P.copy()
    lambda_P = np.nan_to_num(log.lambda_P)
    for value in np.unique(lambda_P[log.explored_P]).tolist():
        rows = np.flatnonzero(log.explored_P & (lambda_P == value))
        found[rows] = chosen_at(log.expected_PM[rows], log.cost_PM[rows], value, log.models)
    return found


def _mixed(
    log: Log,
    found: Sequence[Target],
    costs: _Costs,
    single_M: np.ndarray,
    cost_M: np.ndarray,
    best_P: np.ndarray,
    all_route: bool,
) -> Target | None:
    """The mixture of single models that costs what routing does."""
    routed = found[_main(found, all_route)[0]]
    parts = mixture(
        float(np.nansum(routed.policy_PM * costs.expected_PM * costs.ratio_RM[0], axis=1).mean()), single_M, cost_M
    )
    if parts is None:
        return None
    policy = np.sum([part * single(m, log.expected_PM, best_P) for m, part in parts.items()], axis=0)
    names = " and ".join(f"{log.models[m]} {part:.0%}" for m, part in parts.items())
    return Target("mixture", f"at random, {names}", "mixture", np.asarray(policy))


def _single_means(values_PM: np.ndarray) -> np.ndarray:
    """Means by model over the requests where it is known; NaN where it never is."""
    known = ~np.isnan(values_PM)
    counts = known.sum(axis=0)
    return np.where(counts > 0, np.where(known, values_PM, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True, slots=True)
class _Figures:
    """One policy's estimates; measured ones are None where refused."""

    cost: Estimates
    cost_is: str
    predicted: Estimates
    measured: Mapping[str, Estimates] | None
    refused: str | None
    effective: float
    share_M: np.ndarray


def _figures(target: Target, log: Log, costs: _Costs, rewards: Seen, money: Seen, resamples: Resamples) -> _Figures:
    policy = target.policy_PM
    predicted = resamples.means((policy * np.nan_to_num(log.expected_PM)).sum(axis=1)[:, None])
    held = estimators.support(policy, rewards)
    refused = _refusal(held, log, int(rewards.observed_P.sum()))
    measured = None if refused else estimators.estimates(policy, rewards, held.supported_P)
    if target.kind == "served":
        cost, cost_is = resamples.means(log.real_cost_P[:, None]), "real"
    else:
        paid = estimators.support(policy, money)
        if paid.enough:
            cost, cost_is = estimators.doubly_robust(policy, money, paid.supported_P), "real, weighted"
        else:
            cost, cost_is = costs.of(policy, resamples), "expected, calibrated"
    return _Figures(cost, cost_is, predicted, measured, refused, held.effective, policy.mean(axis=0))


def _refusal(held: estimators.Support, log: Log, n_feedback: int) -> str | None:
    """Why nothing can be said of a policy from feedback; None where something can."""
    if n_feedback == 0:
        kinds = log.counts["feedback_of"]
        return "no feedback in the log" if kinds is None else f"no feedback of {' or '.join(kinds)} in the log"
    if n_feedback < estimators.MIN_EVEN:
        return f"too little: feedback on {n_feedback} answers, {estimators.MIN_EVEN:.0f} are needed for anything"
    if held.share < 1 - estimators.MAX_UNSUPPORTED:
        worst = ", ".join(f"{log.models[m]} ({share:.1%})" for m, share in list(held.unsupported.items())[:3])
        return f"no support: it would choose {worst} where that could not be served"
    if held.unseen:
        names = ", ".join(log.models[m] for m in held.unseen[:3])
        return f"no support: it would choose {names}, of which no answer has feedback"
    if held.effective < held.least:
        return (
            f"too little: for this choice the feedback counts as {held.effective:.0f} answers (effective sample size), "
            f"{held.least:.0f} are needed"
        )
    if held.repeats:
        return (
            f"too little: the feedback is on the same prompts again and again, which count as {held.prompts:.0f} "
            f"different ones; {estimators.MIN_PROMPTS:.0f} are needed"
        )
    return None


def _described(target: Target, mine: _Figures, base: _Figures, log: Log, costs: _Costs) -> dict[str, Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        less = base.cost - mine.cost
        saved = Estimates(less.value_S / base.cost.value_S, less.resampled_RS / base.cost.resampled_RS)
    measured: dict[str, Any] = {"refused": mine.refused, "effective": mine.effective}
    if mine.measured is not None:
        measured |= {name: each.interval().to_json() for name, each in mine.measured.items()}
        if base.measured is not None and target.kind != "served":
            gain = mine.measured["dr"] - base.measured["dr"]
            measured["gain"] = gain.interval().to_json()
    own = bool(costs.own_M[mine.share_M > 0].all())
    return {
        "key": target.key,
        "label": target.label,
        "kind": target.kind,
        "lambda": target.lambda_,
        "share": {log.models[m]: float(part) for m, part in enumerate(mine.share_M) if part > 0},
        "cost_usd": mine.cost.interval().to_json(),
        "cost_is": mine.cost_is if own or mine.cost_is != "expected, calibrated" else "expected, calibrated by others",
        "saved": None if target.kind == "served" else saved.interval().to_json(),
        "predicted": mine.predicted.interval().to_json(),
        "predicted_gain": None if target.kind == "served" else (mine.predicted - base.predicted).interval().to_json(),
        "measured": measured,
    }


def _models(log: Log, costs: _Costs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for m, name in enumerate(log.models):
        rows = log.served_P == m
        real, reward = log.real_cost_P[rows], log.reward_P[rows]
        said = reward[~np.isnan(reward)]
        found[name] = {
            "served": int(rows.sum()),
            "share": float(rows.mean()),
            "cost_usd": float(np.nanmean(real)) if (~np.isnan(real)).any() else None,
            "cost_ratio": float(costs.ratio_RM[0, m]) if costs.own_M[m] else None,
            "expected_reward": _or_none(_single_means(log.expected_PM[:, [m]])[0]),
            "feedback": len(said),
            "mean_feedback": float(said.mean()) if len(said) else None,
            "could_serve": float((log.propensity_PM[:, m] > 0).mean()),
        }
    return found


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _main(targets: Sequence[Target], all_route: bool) -> tuple[int, int]:
    """The policy that the report is about, and the one that it is held against, by place.

    Where routing served, it is held against the model that is best by itself; else routing against what was served.
    """
    kinds = [target.kind for target in targets]
    if "routed" in kinds:
        return kinds.index("routed"), 0
    if all_route and "single" in kinds:
        return 0, kinds.index("single")
    return kinds.index("lambda"), 0


def _over_mixture(targets: Sequence[Target], figures: Sequence[_Figures], main: int) -> dict[str, Any] | None:
    """What the policy that the report is about earns beyond the mixture of single models that costs the same."""
    mixed = next((i for i, target in enumerate(targets) if target.kind == "mixture"), None)
    if mixed is None:
        return None
    mine, theirs = figures[main], figures[mixed]
    if mine.measured is not None and theirs.measured is not None:
        return {"how": "measured", **(mine.measured["dr"] - theirs.measured["dr"]).interval().to_json()}
    return {"how": "predicted", **(mine.predicted - theirs.predicted).interval().to_json()}


def verdict(
    targets: Sequence[Mapping[str, Any]], main: tuple[int, int], over_mixture: Mapping[str, Any] | None
) -> dict[str, Any]:
    """One headline and one paragraph.

    It helps, or hurts, where measured reward is above, or below, that of single models drawn at random at its cost.
    """
    one, other = (targets[i] for i in main)
    served = one["kind"] == "served"
    record, sign = (other, -1.0) if served else (one, 1.0)  # differences on record are from what was served
    mine, theirs = one["cost_usd"]["mean"], other["cost_usd"]["mean"]
    saved = 1 - mine / theirs if theirs and np.isfinite(mine) and np.isfinite(theirs) else None
    gain, measured = one["predicted"]["mean"] - other["predicted"]["mean"], record["measured"].get("gain")
    who = "Routing" if one["kind"] != "lambda" else f"Routing at {one['label']}"
    than = other["label"] if served else "what was served"
    if measured is None:
        sentences = [f"Predicted reward {signed(gain)}; not measured: {record['measured']['refused']}."]
    else:
        ends = sorted((sign * measured["low"], sign * measured["high"]))
        sentences = [f"Measured reward {signed(sign * measured['mean'])} ({from_to(*ends, sign=True)})."]
    if over_mixture is not None:
        ends = [over_mixture["low"], over_mixture["high"]]
        sentences.append(
            f"Against single models drawn at random at the same cost: {over_mixture['how']} reward "
            f"{signed(over_mixture['mean'])} ({from_to(*ends, sign=True)})."
        )
    return {
        "kind": _kind(over_mixture),
        "headline": f"{who} {_saving(saved, served)} against {than}{_beside(over_mixture)}",
        "sentences": sentences,
        "text": " ".join(sentences),
        "policy": one["key"],
        "against": other["key"],
        "saved": saved,
        "predicted_gain": gain,
        "measured_gain": None if measured is None else sign * measured["mean"],
        "over_mixture": over_mixture,
    }


def _beside(over_mixture: Mapping[str, Any] | None) -> str:
    """What a saving is worth, where single models drawn at random clearly earn more for the same money."""
    if over_mixture is None or not over_mixture["high"] < 0:
        return ""
    return f"; single models drawn at random at that cost: {over_mixture['how']} reward {signed(-over_mixture['mean'])}"


def _kind(over_mixture: Mapping[str, Any] | None) -> str:
    if over_mixture is None or over_mixture["how"] != "measured":
        return "unclear"
    return "helps" if over_mixture["low"] > 0 else "hurts" if over_mixture["high"] < 0 else "unclear"


def _saving(saved: float | None, served: bool) -> str:
    if saved is None:
        return "has no cost on record to compare"
    if abs(saved) < 0.005:
        return "cost the same" if served else "would have cost the same"
    amount = percent(abs(saved))
    if saved > 0:
        return f"saved {amount}" if served else f"would have saved {amount}"
    return f"cost {amount} more" if served else f"would have cost {amount} more"
