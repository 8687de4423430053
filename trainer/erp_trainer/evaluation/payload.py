"""The payload of ``erp-train evaluate``: every measure of one evaluation under its key (docs/evaluation.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from erp_trainer.console import Progress, silent
from erp_trainer.evaluation.evaluation import Evaluation
from erp_trainer.evaluation.pairs import PairScore, bound_tightness, pair_measures, win_rates
from erp_trainer.evaluation.predictions import model_measures
from erp_trainer.evaluation.studies.categories import category_measures
from erp_trainer.evaluation.tables.base import MeasuredTable
from erp_trainer.evaluation.tables.best_chosen import BEST_CHOSEN
from erp_trainer.evaluation.tracing import Traced, curve_entries, policy_rows, traced
from erp_trainer.learning.outcome import PolicyOutcome
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.learning.verdict import judge

# Measures that the reports draw as tables of their own, in this order.
TABLES: tuple[MeasuredTable, ...] = (BEST_CHOSEN,)
# What only the papers' studies need.
STUDIES = ("proposition", "tasks", "entropy", "routellm")
_ORACLES = {
    "ex-post": "the largest recorded reward of each prompt, in hindsight: too high where rewards are noisy",
    "split-sample": "the best model of each prompt by half of its samples, scored on the other half",
}
_BRACKETS = {
    "ex-post": "from what routing or the best single model earned, which is too low, to the largest recorded reward of "
    "each prompt, which is too high; two samples per prompt and model would narrow it",
    "split-sample": "from the best model of each prompt by half of its samples, scored on the other half, which is too "
    "low, to the largest recorded mean reward of each prompt, which is too high",
}


def payload_of(ev: Evaluation, progress: Progress = silent) -> dict[str, Any]:
    """Measure everything that the options ask for."""
    test, resamples, options = ev.test, ev.resamples, ev.options
    served, manifest = ev.served, ev.served.bundle.manifest
    with progress(len(ev.contenders), "measuring") as advance:
        found = traced(ev, advance)
    curves = curve_entries(ev, found)
    earned = _earned(ev)
    routed = {key: outcome for key, outcome in earned.items() if key != "random"}
    cost = _cost(ev, found)
    choice_P = ev.choice(ev.lambdas[0])
    return {
        "of": ev.of,
        "lambda": ev.lambdas[0],
        "counts": _counts(ev),
        "test_prompts": len(test),
        "left_out": ev.left_out,
        "models_left_out": sorted(set(served.bundle.models) - set(test.models)),
        "missing_rivals": ev.missing_rivals,
        "cost": cost,
        "reward": dict(manifest.reward),
        "intervals": {"level": 0.95, "resamples": len(resamples.weights_RG), "seed": options.seed},
        "policies": policy_rows(ev, found),
        "curves": curves,
        "oracle": _oracle(ev, found),
        "models": _models(ev),
        "pairs": pair_measures(test, _pair_scores(ev), resamples),
        "win_rates": win_rates(test, served.predicted_PM, resamples),
        "categories": category_measures(test, ev.train, routed, found.best, choice_P, resamples),
        **(_studies(ev, found, earned) if options.studies else dict.fromkeys(STUDIES)),
        "tables": {table.key: table.to_json(ev) for table in TABLES},
        "leave_one_task_out": _unseen(ev, progress) if options.leave_one_task_out else None,
        "price_of_adding": _adding(ev, progress) if options.price_of_adding else None,
        "verdict": _verdict(ev, found.best),
        "bundle_verdict": dict(served.bundle.frontier.document["verdict"]),
    }


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


def _cost(ev: Evaluation, found: Traced) -> dict[str, Any]:
    kind = ev.served.bundle.manifest.cost_kind
    usd = kind == "usd"
    return {
        "kind": kind,
        "unit": "USD" if usd else "relative cost",
        "label": "USD per 1,000 requests" if usd else "of relative cost per request",
        "scale": ev.test.cost_scale,
        "known": not bool(np.isnan(found.bundle.cost.value_S).any()),
    }


def _earned(ev: Evaluation) -> dict[str, PolicyOutcome]:
    """What each policy that chooses earns at the λ asked."""
    kept = [c for c in ev.contenders if c.kind in ("bundle", "rival") or c.key in ("category-best", "random")]
    return {contender.key: contender.outcome(ev.test, ev.lambdas[0]) for contender in kept}


def _scores(ev: Evaluation) -> dict[str, np.ndarray]:
    """What each policy believes, without the bundle's second entry, which believes the same."""
    return {
        contender.key: contender.scores_PM
        for i, contender in enumerate(ev.contenders)
        if contender.scores_PM is not None and (i == 0 or contender.kind != "bundle")
    }


def _pair_scores(ev: Evaluation) -> dict[str, PairScore]:
    predicted = ev.served.predicted_PM.astype(np.float64)
    found: dict[str, PairScore] = {ev.contenders[0].key: lambda a, b: predicted[:, b] - predicted[:, a]}
    return found | {c.key: c.pair_probability for c in ev.contenders if c.pair_probability is not None}


def _oracle(ev: Evaluation, found: Traced) -> dict[str, Any]:
    bracket, curve = found.bracket, found.curves["oracle"]
    low, high = ev.resamples.means(np.column_stack([bracket.low_P, bracket.high_P])).intervals()
    return {
        "kind": bracket.kind,
        "bracket": [low.low, high.high],
        "low": low.to_json(),
        "high": high.to_json(),
        "reward": curve.reward.interval(curve.at(0.0)).to_json(),
        "ex_post_reward": float(np.nanmax(ev.test.rewards_PM, axis=1).mean()),
        "prompts": curve.prompts,
        "text": _ORACLES[bracket.kind],
        "bracket_text": _BRACKETS[bracket.kind],
    }


def _models(ev: Evaluation) -> dict[str, dict[str, Any]]:
    measures = model_measures(ev.test, ev.served.predicted_PM, ev.served.std_error_PM, ev.resamples)
    rows_M = (~np.isnan(ev.train.rewards_PM)).sum(axis=0)
    for m, name in enumerate(ev.test.models):
        measures[name] |= {"train_mean_reward": float(ev.train.mean_reward_M[m]), "train_rows": int(rows_M[m])}
    return measures


def _studies(ev: Evaluation, found: Traced, earned: Mapping[str, PolicyOutcome]) -> dict[str, Any]:
    # scipy's statistics are slow to load, and nothing else needs them.
    from erp_trainer.evaluation.studies.routellm import two_model_measures
    from erp_trainer.evaluation.studies.tasks import entropy_bins

    scores, seed = _scores(ev), ev.options.seed
    measured = (
        bound_tightness(ev.test, ev.resamples, seed=seed),
        _tasks(ev, found, scores, earned),
        entropy_bins(ev.test, ev.served.predicted_PM, ev.resamples),
        two_model_measures(ev.test, ev.train.mean_reward_M, scores, ev.resamples, seed=seed),
    )
    return dict(zip(STUDIES, measured, strict=True))


def _tasks(
    ev: Evaluation, found: Traced, scores: Mapping[str, np.ndarray], earned: Mapping[str, PolicyOutcome]
) -> dict[str, Any] | None:
    from erp_trainer.evaluation.studies.tasks import task_rows, tasks_of

    tasks = tasks_of(ev.test, found.best)
    if tasks is None:
        return None
    rewards = {key: outcome.reward_P for key, outcome in earned.items()}
    labels = {contender.key: contender.label for contender in ev.contenders}
    return {"tasks": list(tasks.names), "rows": task_rows(tasks, scores, rewards, labels, ev.test, ev.resamples)}


def _unseen(ev: Evaluation, progress: Progress) -> dict[str, Any] | None:
    from erp_trainer.evaluation.studies.unseen import unseen_tasks

    preset = ev.served.bundle.manifest.preset
    with progress(None, "leaving tasks out") as advance:
        return unseen_tasks(ev.tuning, ev.test, preset, ev.lambdas[0], ev.resamples, rivals=ev.options.rivals,
                            advance=advance)  # fmt: skip


def _adding(ev: Evaluation, progress: Progress) -> dict[str, Any] | None:
    if ev.stack is None:
        return None
    served, lambda_ = ev.served, ev.lambdas[0]

    def choose(table: TrainingTable, predicted_PM: np.ndarray, mean_reward_M: np.ndarray) -> np.ndarray:
        return served.choose_by(table, predicted_PM, mean_reward_M, lambda_)

    from erp_trainer.evaluation.studies.newcomers import price_of_adding

    with progress(None, "adding models") as advance:
        return price_of_adding(ev.train, ev.test, served.predicted_PM, served.mean_reward_M, choose, ev.stack,
                               served.bundle.features, lambda_, ev.resamples, seed=ev.options.seed,
                               advance=advance)  # fmt: skip


def _verdict(ev: Evaluation, best: int) -> dict[str, Any]:
    """What the bundle says of itself, said of the test split."""
    frontier = ev.served.bundle.frontier
    lambdas = frontier.lambda_L.tolist()
    choices = [ev.choice(lambda_) for lambda_ in lambdas]
    advised = frontier.document["verdict"].get("recommended")
    return judge(ev.test, lambdas, choices, rows="test split", best=best, advised=advised)
