"""PURE. The payload of ``erp-train evaluate``: every measure of one evaluation under its key (docs/evaluation.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from erp_trainer.evaluation.contenders import Contender, oracle, oracle_kind
from erp_trainer.evaluation.curves import Curve, mixture_vertices, pareto, trace
from erp_trainer.evaluation.duels import at_lambda, over_lambda
from erp_trainer.evaluation.economics import Market, compare, gained_on
from erp_trainer.evaluation.pairs import Scores, bound_tightness, pair_measures, win_rates
from erp_trainer.evaluation.predictions import model_measures
from erp_trainer.evaluation.studies.newcomers import price_of_adding
from erp_trainer.evaluation.studies.routellm import two_model_measures
from erp_trainer.evaluation.studies.tasks import categories_of, entropy_bins, task_rows, tasks_of
from erp_trainer.evaluation.studies.unseen import unseen_tasks
from erp_trainer.evaluation.verdict import verdict
from erp_trainer.learning.bootstrap import Estimates, Interval
from erp_trainer.learning.training_table import Table

if TYPE_CHECKING:
    from erp_trainer.evaluation.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class _Traced:
    """All curves of an evaluation; the bundle's is the first."""

    curves: Mapping[str, Curve]
    market: Market
    best: int

    @property
    def bundle(self) -> Curve:
        return next(iter(self.curves.values()))


def of(ev: Evaluation) -> dict[str, Any]:
    """Measure everything."""
    traced = _trace(ev)
    entries = _curve_entries(ev, traced)
    manifest = ev.bundle.manifest
    usd = manifest.cost_kind == "usd"
    scores = _scored(ev)
    return {
        "lambda": ev.lambdas[0],
        "counts": _counts(ev),
        "test_prompts": len(ev.test),
        "left_out": ev.left_out,
        "models_left_out": sorted(set(ev.bundle.models) - set(ev.test.models)),
        "missing_rivals": ev.missing_rivals,
        "cost": {
            "kind": manifest.cost_kind,
            "unit": "USD" if usd else "relative cost",
            "label": _cost_label(ev),
            "scale": ev.test.cost_scale,
            "known": not bool(np.isnan(traced.bundle.cost.value_S).any()),
        },
        "reward": dict(manifest.reward),
        "intervals": {"level": 0.95, "resamples": len(ev.resamples.weights_RG), "seed": ev.options.seed},
        "policies": _policies(ev, traced),
        "curves": entries,
        "oracle": _oracle(ev, traced),
        "models": _models(ev),
        "pairs": pair_measures(ev.test, _pair_scores(ev), ev.resamples),
        "win_rates": win_rates(ev.test, ev.predicted_PM, ev.resamples),
        "proposition": bound_tightness(ev.test, ev.resamples, seed=ev.options.seed),
        "categories": _categories(ev, traced),
        "tasks": _tasks(ev, traced, scores),
        "entropy": entropy_bins(ev.test, ev.predicted_PM, ev.resamples),
        "routellm": two_model_measures(ev.test, ev.train.mean_reward_M, scores, ev.resamples, seed=ev.options.seed),
        "leave_one_task_out": _unseen(ev) if ev.options.leave_one_task_out else None,
        "price_of_adding": _adding(ev) if ev.options.price_of_adding else None,
        "verdict": _verdict(ev, traced, entries),
    }


def _cost_label(ev: Evaluation) -> str:
    return "USD per 1,000 requests" if ev.bundle.manifest.cost_kind == "usd" else "of relative cost per request"


def _counts(ev: Evaluation) -> dict[str, Any]:
    return {
        "test_prompts": len(ev.test),
        "train_prompts": len(ev.train),
        "left_out": ev.left_out,
        "clusters": ev.resamples.weights_RG.shape[1],
        "models": len(ev.test.models),
        "samples": ev.samples,
        "single_rewards": ev.test.samples_PMK is not None,
    }


def _trace(ev: Evaluation) -> _Traced:
    train_reward, train_cost = ev.train.mean_reward_M, ev.train.mean_cost_M
    best = int(np.nanargmax(train_reward))
    known = ~np.isnan(train_cost)
    cheapest = int(np.nanargmin(train_cost)) if known.any() else best
    oracle_P = oracle(ev.test, 0.0).reward_P
    baseline_P = ev.test.rewards_PM[:, best]
    found = {}
    for contender in ev.contenders:
        found[contender.key] = trace(contender, ev.test, ev.grid, ev.resamples, oracle_P, baseline_P)
    singles = [found[f"single:{name}"] for name in ev.test.models]
    if len(vertices := mixture_vertices(train_cost, train_reward)) > 1:
        found["mixture"] = _mixture([singles[m] for m in vertices])
    costs = np.array([curve.cost.value_S[0] for curve in singles])
    references = {"best_single": singles[best]}
    references |= {"mixture": found["mixture"]} if "mixture" in found else {}
    references["category_best"] = found["category-best"]
    priced = costs[~np.isnan(costs)]
    market = Market(
        singles[cheapest],
        singles[best],
        float(priced.min()) if priced.size else float("nan"),
        float(priced.max()) if priced.size else float("nan"),
        references,
    )
    return _Traced(found, market, best)


def _mixture(vertices: list[Curve]) -> Curve:
    """Single models as the points of one curve, between which lie their mixtures."""

    def joined(which: str) -> Estimates:
        parts: list[Estimates] = [getattr(curve, which) for curve in vertices]
        return Estimates(
            np.concatenate([part.value_S for part in parts]), np.hstack([part.resampled_RS for part in parts])
        )

    contender = Contender("mixture", "mixture of single models", "baseline", False, vertices[0].contender.outcome)
    return Curve(
        contender,
        (None,) * len(vertices),
        joined("reward"),
        joined("cost"),
        joined("regret"),
        joined("gain"),
        np.vstack([curve.share_LM for curve in vertices]),
        min(curve.prompts for curve in vertices),
    )


def _curve_entries(ev: Evaluation, traced: _Traced) -> dict[str, Any]:
    marked = pareto(list(traced.curves.values()))
    highest = ev.train.lambda_unit
    entries = {}
    for (key, curve), best in zip(traced.curves.items(), marked, strict=True):
        contender = curve.contender
        entries[key] = {
            "label": contender.label,
            "kind": contender.kind,
            "servable": contender.servable,
            "prompts": curve.prompts,
            "points": _points(ev, curve, best),
            "bundle_ahead": over_lambda(traced.bundle, curve, highest, ev.test.cost_scale),
            **compare(curve, traced.market, ev.lambdas[0]),
        }
    return entries


def _points(ev: Evaluation, curve: Curve, best: np.ndarray) -> list[dict[str, Any]]:
    reward, cost, regret = curve.reward.intervals(), curve.cost.intervals(), curve.regret.intervals()
    gain = curve.gain.intervals()
    return [
        {
            "lambda": lambda_,
            **_figures(reward[i], cost[i], regret[i]),
            "against_best_single": gain[i].to_json(),
            "share": _share(ev, curve, i),
            "pareto": bool(best[i]),
        }
        for i, lambda_ in enumerate(curve.lambdas)
    ]


def _figures(reward: Interval, cost: Interval, regret: Interval) -> dict[str, Any]:
    return {
        "reward": reward.mean,
        "reward_ci": [reward.low, reward.high],
        "cost_usd": cost.mean,
        "cost_ci": [cost.low, cost.high],
        "regret": regret.mean,
        "regret_ci": [regret.low, regret.high],
    }


def _share(ev: Evaluation, curve: Curve, index: int) -> dict[str, float]:
    return {name: float(share) for name, share in zip(ev.test.models, curve.share_LM[index], strict=True) if share > 0}


def _policies(ev: Evaluation, traced: _Traced) -> dict[str, dict[str, Any]]:
    best = traced.curves[f"single:{ev.test.models[traced.best]}"]
    found = {"best single model": _policy(ev, traced, best, None)}
    for lambda_ in ev.lambdas:
        for curve in traced.curves.values():
            if curve.contender.by_lambda:
                found[f"{curve.contender.label} λ={lambda_:.4g}"] = _policy(ev, traced, curve, lambda_)
    for key, curve in traced.curves.items():
        if not curve.contender.by_lambda and key != "mixture":
            found[curve.contender.label] = _policy(ev, traced, curve, None)
    return found


def _policy(ev: Evaluation, traced: _Traced, curve: Curve, lambda_: float | None) -> dict[str, Any]:
    at = 0 if lambda_ is None else curve.at(lambda_)
    reward, cost, regret, gain = (
        estimates.column(at).intervals()[0] for estimates in (curve.reward, curve.cost, curve.regret, curve.gain)
    )
    return {
        "lambda": lambda_,
        **_figures(reward, cost, regret),
        "share": _share(ev, curve, at),
        "curve": curve.contender.key,
        "label": curve.contender.label,
        "kind": curve.contender.kind,
        "prompts": curve.prompts,
        "against_best_single": gain.to_json(),
        "against_mixture": gained_on(curve, traced.market, "mixture", at),
        "against_category_best": _against_category_best(traced, curve, at, lambda_),
        "bundle_ahead": at_lambda(
            traced.bundle, curve, ev.lambdas[0] if lambda_ is None else lambda_, ev.test.cost_scale
        ),
    }


def _against_category_best(traced: _Traced, curve: Curve, at: int, lambda_: float | None) -> dict[str, float] | None:
    other = traced.curves["category-best"]
    if lambda_ is None or curve.prompts != other.prompts:
        return None
    return (curve.reward.column(at) - other.reward.column(other.at(lambda_))).intervals()[0].to_json()


def _oracle(ev: Evaluation, traced: _Traced) -> dict[str, Any]:
    kind = oracle_kind(ev.test)
    curve = traced.curves["oracle"]
    text = {
        "ex-post": "the largest recorded reward of each prompt, in hindsight: too high where rewards are noisy",
        "split-sample": "the best model of each prompt by half of its samples, scored on the other half",
    }[kind]
    ex_post = float(np.nanmax(ev.test.rewards_PM, axis=1).mean())
    reward = curve.reward.column(curve.at(0.0)).intervals()[0].to_json()
    return {"kind": kind, "reward": reward, "ex_post_reward": ex_post, "prompts": curve.prompts, "text": text}


def _models(ev: Evaluation) -> dict[str, dict[str, Any]]:
    measures = model_measures(ev.test, ev.predicted_PM, ev.std_error_PM, ev.resamples)
    for m, name in enumerate(ev.test.models):
        measures[name]["train_mean_reward"] = float(ev.train.mean_reward_M[m])
        measures[name]["train_rows"] = int((~np.isnan(ev.train.rewards_PM[:, m])).sum())
    return measures


def _pair_scores(ev: Evaluation) -> dict[str, Scores]:
    predicted = ev.predicted_PM.astype(np.float64)
    found: dict[str, Scores] = {ev.contenders[0].key: lambda a, b: predicted[:, b] - predicted[:, a]}
    for contender in ev.contenders:
        if contender.pair_probability is not None:
            found[contender.key] = contender.pair_probability
    return found


def _scored(ev: Evaluation) -> dict[str, np.ndarray]:
    """Scores by policy, without the bundle's second entry, which has the same."""
    return {
        contender.key: contender.scores_PM
        for i, contender in enumerate(ev.contenders)
        if contender.scores_PM is not None and (i == 0 or contender.kind != "bundle")
    }


def _categories(ev: Evaluation, traced: _Traced) -> dict[str, dict[str, Any]]:
    """Every category: its models, and what each learned policy earns there at the λ asked."""
    test, lambda_ = ev.test, ev.lambdas[0]
    routed = [c for c in ev.contenders if c.kind in ("bundle", "rival") or c.key == "category-best"]
    outcomes = {contender.key: contender.outcome(test, lambda_) for contender in routed}
    columns = np.column_stack([test.rewards_PM, *(outcome.reward_P for outcome in outcomes.values())])
    gain_P = outcomes[routed[0].key].reward_P - test.rewards_PM[:, traced.best]
    found = {}
    for name in categories_of(test):
        rows = np.flatnonzero(test.categories_P == name)
        resampled = ev.resamples.among(rows)
        inside = resampled.means(columns[rows]).intervals()
        in_train = ev.train.rewards_PM[ev.train.categories_P == name]
        models = dict(zip(test.models, inside, strict=False))
        policies = dict(zip(outcomes, inside[len(test.models) :], strict=True))
        found[name] = {
            "test_prompts": len(rows),
            "train_prompts": len(in_train),
            "models": {
                model: {"reward": i.mean, "reward_ci": [i.low, i.high],
                        "prompts": int((~np.isnan(test.rewards_PM[rows, m])).sum())}
                for m, (model, i) in enumerate(models.items())
            },
            "best_on_train": _best(test.models, in_train),
            "best_on_test": _best(test.models, test.rewards_PM[rows]),
            "policies": {key: {"reward": i.mean, "reward_ci": [i.low, i.high]} for key, i in policies.items()},
            "share": _chosen_in(ev, rows, lambda_),
            "gain": resampled.mean(gain_P[rows]).to_json(),
        }  # fmt: skip
    return found


def _chosen_in(ev: Evaluation, rows: np.ndarray, lambda_: float) -> dict[str, float]:
    counts = np.bincount(ev.choice(lambda_)[rows], minlength=len(ev.test.models)) / len(rows)
    return {name: float(share) for name, share in zip(ev.test.models, counts, strict=True) if share > 0}


def _best(models: tuple[str, ...], rewards_PM: np.ndarray) -> str | None:
    present = ~np.isnan(rewards_PM)
    if not present.any():
        return None
    counts = present.sum(axis=0)
    means = np.divide(np.nansum(rewards_PM, axis=0), counts, out=np.full(len(models), -np.inf), where=counts > 0)
    return models[int(np.argmax(means))]


def _tasks(ev: Evaluation, traced: _Traced, scores: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    tasks = tasks_of(ev.test, traced.best)
    if tasks is None:
        return None
    lambda_ = ev.lambdas[0]
    rewards = {
        c.key: c.outcome(ev.test, lambda_).reward_P
        for c in ev.contenders
        if c.kind in ("bundle", "rival") or c.key in ("category-best", "random")
    }
    labels = {contender.key: contender.label for contender in ev.contenders}
    return {"tasks": list(tasks.names), "rows": task_rows(tasks, scores, rewards, labels, ev.test, ev.resamples)}


def _unseen(ev: Evaluation) -> dict[str, Any] | None:
    return unseen_tasks(
        ev.tuning, ev.test, ev.bundle.manifest.preset, ev.lambdas[0], ev.resamples, rivals=ev.options.rivals
    )


def _adding(ev: Evaluation) -> dict[str, Any] | None:
    if ev.bundle.manifest.policy != "erp":
        return None  # nothing else can be added to

    def choose(table: Table, predicted_PM: np.ndarray, mean_reward_M: np.ndarray) -> np.ndarray:
        return ev.choose_by(table, predicted_PM, mean_reward_M, ev.lambdas[0])

    return price_of_adding(
        ev.train,
        ev.test,
        ev.predicted_PM,
        ev.mean_reward_M,
        choose,
        ev.penalties,
        ev.lambdas[0],
        ev.resamples,
        seed=ev.options.seed,
    )


def _verdict(ev: Evaluation, traced: _Traced, entries: Mapping[str, Any]) -> dict[str, Any]:
    curve, lambda_ = traced.bundle, ev.lambdas[0]
    at = curve.at(lambda_)
    best = traced.market.best
    return verdict(
        best_single=ev.test.models[traced.best],
        best_reward=float(best.reward.value_S[0]),
        gain=curve.gain.column(at).intervals()[0],
        lambda_=lambda_,
        prompts=curve.prompts,
        comparison=next(iter(entries.values())),
        cost={
            "bundle": float(curve.cost.value_S[at]),
            "best_single": float(best.cost.value_S[0]),
            "scale": ev.test.cost_scale,
            "label": _cost_label(ev),
        },
        unit=str(ev.bundle.manifest.reward.get("unit", "reward")),
    )
