"""A bundle's pool, changed by a model, on the rows of the run that the bundle was fitted on; all out of fold.

A newcomer may have been asked only some prompts, chosen to be informative, and an audit of random ones
(`learning/selection.py`). Its probe, and its mean, follow from all of them and from the rest of the pool
(`learning/newcomer.py`). Whatever is *judged* rests on the audit: its R² and residuals on the audit rows; what a policy
earns with it by the difference estimator

    mean over all rows of a prediction  +  mean over the audit of (outcome − prediction)

which is unbiased whatever rows were chosen besides, and as precise as the prediction is good. For policies the
prediction is what the pool without the newcomer earned.

Source: the difference estimator of survey sampling (Cochran, 1977); ours for frontiers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.records import fitted_rows, probe_file, prompt_set, stack_of
from erp_trainer.bundles.training_data import training_data
from erp_trainer.files.atomic import atomic_file
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.features import Labelling, labels_of
from erp_trainer.learning.newcomer import Newcomer, newcomer_of, newcomer_out_of_fold
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.ridge import MIN_ROWS, CrossFit
from erp_trainer.learning.stack import Stack
from erp_trainer.learning.training_table import SingleMeans, TrainingTable
from erp_trainer.learning.verdict import judge
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.policies.erp import (
    LEVERAGE_BETA,
    CrossFitted,
    fit_out_of_fold,
    recorded_cost,
    trust_where_evident,
    with_constant_cost,
)
from erp_trainer.policies.frontier import (
    MeanEstimate,
    frontier,
    frontier_document,
    frontier_point,
    swept,
)
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.features import Features
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import Price
from litellm_erp.embedding.base import Embedder
from litellm_erp.errors import BundleError, FitError, RunError
from litellm_erp.strict_files import MAX_JSON_BYTES, parse_json, read_whole

ADDED = "added"


@dataclass(frozen=True, slots=True)
class GrownPool:
    """A pool on a run's training rows.

    Attributes
    ----------
    newcomers : by column, models that were asked only some prompts
    partial_M : bool, models of which only chosen and audit rows have outcomes
    audit_P : bool, rows that estimates with them rest on; all rows where there is none
    prompts : what the manifest is to say of the rows
    reported_P : bool, rows of the train split: what the frontier is of, whatever rows are fitted
    """

    table: TrainingTable
    fitted: CrossFit
    newcomers: Mapping[int, Newcomer]
    labels: tuple[Labelling, ...]
    stack: Stack
    features: Features | None
    predicted_PM: np.ndarray
    leverage_P: np.ndarray
    trust_P: np.ndarray
    output_tokens: Probes | None
    partial_M: np.ndarray
    audit_P: np.ndarray
    safe: bool
    prompts: Mapping[str, Any]
    reported_P: np.ndarray

    def choose(self, table: TrainingTable, lambda_: float) -> np.ndarray:
        """First choices at one λ, shape (P,)."""
        if not self.safe:
            return table.choose(self.predicted_PM, lambda_)
        mean = self.table.mean_reward_M
        return table.choose(self.predicted_PM, lambda_, mean_reward_M=mean, trust=self.trust_P[:, None])

    def reported(self) -> GrownPool:
        """The pool on the rows that figures are of."""
        rows = self.reported_P
        taken = {name: getattr(self, name)[rows] for name in ("predicted_PM", "trust_P", "audit_P", "reported_P")}
        return replace(self, table=self.table.rows(rows), **taken)

    def without(self, out_M: np.ndarray) -> TrainingTable:
        """The table in which some models are never available; they keep their columns and their means."""
        table = self.table
        means = SingleMeans(table.mean_reward_M, table.mean_cost_M)
        return replace(table, rewards_PM=np.where(out_M, np.nan, table.rewards_PM), stated_means=means)

    def estimate(self, before_P: np.ndarray, after_P: np.ndarray) -> MeanEstimate:
        """Mean of ``after_P``, known on audit rows, with ``before_P``, known on all, as its prediction."""
        difference = (after_P - before_P)[self.audit_P]
        error = np.sqrt(before_P.var() / len(before_P) + difference.var() / len(difference))
        return MeanEstimate(float(before_P.mean() + difference.mean()), float(error))


def record_audit(run: Path, name: str, audit: Sequence[str] | None) -> None:
    """Note which of a model's prompts were random; None where it was asked all of them."""
    path = run / ADDED / (Path(probe_file(name)).stem + ".json")
    if audit is None:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps({"model": name, "audit": list(audit)}, indent=1) + "\n", encoding="utf-8")


def audits(run: Path) -> dict[str, frozenset[str]]:
    """Prompt ids of each audit on record, by model."""
    found = {}
    for path in sorted((run / ADDED).glob("*.json")):
        try:
            record = parse_json(read_whole(path, MAX_JSON_BYTES))
            found[str(record["model"])] = frozenset(map(str, record["audit"]))
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise RunError(f"{path}: not the record of an added model ({e}); add the model again") from e
    return found


def train_rows(bundle: Bundle, run: Run, outcomes: OutcomesTable, models: Sequence[str]) -> np.ndarray:
    """The rows that a bundle was fitted on, shape (P,), bool, if the run is that bundle's.

    Raises
    ------
    BundleError : no ERP bundle
    RunError : another run's prompts, or no outcomes of one of the models
    """
    manifest = bundle.manifest
    if manifest.policy != "erp":
        raise BundleError(
            f"{bundle.path}: found policy {manifest.policy}; models can be added to and removed from erp bundles "
            f"only. Refit on outcomes of the whole pool: erp-train fit RUN --out BUNDLE --policy {manifest.policy}"
        )
    if missing := sorted({*models, *bundle.models} - set(outcomes.models)):
        raise RunError(f"{run.path}: no outcomes of pool model {missing[0]!r}; found {', '.join(outcomes.models)}")
    answered = (outcomes.of_models(bundle.models).n_samples_PM > 0).any(axis=1)
    train = fitted_rows(outcomes, refitted=is_refitted(bundle)) & answered
    if prompt_set(outcomes, train)["fingerprint"] != manifest.prompt_set.get("fingerprint"):
        raise RunError(
            f"{run.path}: its train prompts are not those that {bundle.path} was fitted on; name the run it was "
            "fitted on, or fit a new bundle"
        )
    return train


def is_refitted(bundle: Bundle) -> bool:
    """Whether what is served was fitted on test rows too."""
    return bool(bundle.manifest.prompt_set.get("refitted"))


def pool_of(
    bundle: Bundle,
    run: Run,
    models: Sequence[str],
    prices: Mapping[str, Price],
    embedder: Embedder,
    newcomer: str | None = None,
) -> GrownPool:
    """The models a bundle is to have, cross-fitted on its run with the bundle's own penalties.

    Parameters
    ----------
    models : the pool as it is to be, in order
    prices : of each of them
    newcomer : the one that the bundle does not have yet

    Raises
    ------
    BundleError, RunError : see `train_rows`
    FitError : a model that was asked only some prompts was asked too few random ones
    """
    manifest = bundle.manifest
    outcomes = run.outcomes()
    train = train_rows(bundle, run, outcomes, models)
    # A prompt that only a leaver answered has nothing to say of the others.
    train &= (outcomes.of_models(models).n_samples_PM > 0).any(axis=1)
    embedded = embed_run(run, outcomes, embedder)
    data = training_data(
        outcomes.of_models(models),
        embedded,
        train,
        prices,
        manifest.expected_output_tokens,
        token_heads=bool(bundle.output_tokens.weights_DM.any()),
        least=MIN_ROWS,
    )
    table = data.table
    features = bundle.features
    labels = () if features is None else labels_of(features, table.embeddings_PD, table.categories_P, manifest.tasks)
    ids = np.array(outcomes.prompt_ids, dtype=object)[train]
    partial = {models.index(name): np.isin(ids, list(audit)) for name, audit in audits(run.path).items()
               if name in models}  # fmt: skip
    new = set(partial) | ({models.index(newcomer)} if newcomer in models else set())
    some = [m for m in sorted(new) if np.isnan(table.rewards_PM[:, m]).any()]
    found, newcomers = grow(table, labels, stack_of(manifest), features, some)
    leverage = found.ridge.out_of_fold_leverage(LEVERAGE_BETA)
    table, audit = _audited(table, found.predicted_PM, partial, newcomers)
    if manifest.preset == "paper":
        table = replace(table, expected_cost_PM=np.broadcast_to(table.mean_cost_M, table.rewards_PM.shape))
    else:
        table = with_constant_cost(table, recorded_cost(table))
    partial_M = np.isin(np.arange(len(models)), list(partial))
    prompts = prompt_set(outcomes, train, refitted=is_refitted(bundle))
    return GrownPool(
        table, found.ridge, newcomers, labels, found.stack, features, found.predicted_PM, leverage, found.trust_P,
        data.output_tokens, partial_M, audit, manifest.safety, prompts, np.array(outcomes.splits)[train] == "train"
    )  # fmt: skip


def grow(
    table: TrainingTable, labels: Sequence[Labelling], stack: Stack, features: Features | None, some: Sequence[int]
) -> tuple[CrossFitted, dict[int, Newcomer]]:
    """PURE. Predict every row from the other folds, and fit those models that were asked only some of the prompts.

    Parameters
    ----------
    stack, features : of the bundle
    some : columns of those models; the others are what they are placed among
    """
    found = fit_out_of_fold(table, labels, stack, unusual=0.0 if features is None else features.unusual)
    others = np.setdiff1d(np.arange(len(table.models)), some)
    if not len(some) or not len(others):
        return found, {}
    predicted, rewards = found.predicted_PM.copy(), table.rewards_PM
    newcomers = {}
    for m in some:
        predicted[:, m] = newcomer_out_of_fold(found.ridge, rewards, m, others, labels, stack)
        newcomers[m] = newcomer_of(found.ridge, rewards, m, others, labels, stack)
    trust = found.trust_P
    if not trust.any():
        # What the few prompts of a newcomer seemed to say, fitted by itself, need not stand.
        trust = np.ones(len(table))
        if features is not None:
            trust = features.trust(features.memberships(features.scores(table.embeddings_PD)))
    return replace(found, predicted_PM=predicted, trust_P=trust_where_evident(table, predicted, trust)), newcomers


def _audited(
    table: TrainingTable,
    predicted: np.ndarray,
    partial: Mapping[int, np.ndarray],
    newcomers: Mapping[int, Newcomer],
) -> tuple[TrainingTable, np.ndarray]:
    """State the means of models that were asked only some prompts; and the rows that all of their audits share."""
    shared = np.ones(len(table), dtype=bool)
    reward, cost = table.mean_reward_M.copy(), table.mean_cost_M.copy()
    for m, audit in partial.items():
        rows = audit & ~np.isnan(table.rewards_PM[:, m])
        if rows.sum() < MIN_ROWS:
            raise FitError(
                f"model {table.models[m]!r}: {int(rows.sum())} of its random prompts have outcomes; at least "
                f"{MIN_ROWS} are needed to judge it. Add it with more --prompts"
            )
        reward[m] = predicted[:, m].mean() + (table.rewards_PM[rows, m] - predicted[rows, m]).mean()
        expected = table.expected_cost_PM[:, m]
        cost[m] = expected.mean() + (table.realised_cost_PM[rows, m] - expected[rows]).mean()
        shared &= rows
    for m, newcomer in newcomers.items():
        reward[m] = newcomer.mean
    if not shared.any():
        raise FitError("the models added with --prompts share no random prompt; add them with the same --seed")
    if not partial and not newcomers:
        return table, shared
    return replace(table, stated_means=SingleMeans(reward, cost)), shared


def rated_rows(pool: GrownPool, m: int) -> np.ndarray:
    """Rows on which a model is judged."""
    present = ~np.isnan(pool.table.rewards_PM[:, m])
    return present & pool.audit_P if pool.partial_M[m] else present


def frontier_of(pool: GrownPool) -> dict[str, Any]:
    """frontier.json; see the module docstring where some models were asked only some prompts."""
    pool = pool.reported()
    if not pool.partial_M.any():
        return frontier(pool.table, pool.predicted_PM, pool.trust_P, safe=pool.safe)
    table, base = pool.table, pool.without(pool.partial_M)
    points, lambdas, choices = [], [], []
    shrinkage = 1.0 if not pool.safe or pool.trust_P.any() else 0.0
    for lambda_, after in swept(table, partial(pool.choose, table)):
        before = pool.choose(base, lambda_)
        lambdas.append(lambda_)
        choices.append(after)
        shares = [pool.estimate((before == m) * 1.0, (after == m) * 1.0).mean for m in range(len(table.models))]
        reward = pool.estimate(base.reward_of(before), table.reward_of(after))
        cost = pool.estimate(base.cost_of(before), table.cost_of(after))
        share_M = np.clip(shares, 0.0, None) / np.clip(shares, 0.0, None).sum()
        points.append(frontier_point(table.models, lambda_, shrinkage, reward, cost, share_M))
    best_is_partial = pool.partial_M[best_single(table)]
    rows = pool.audit_P if best_is_partial else np.ones(len(table), dtype=bool)
    oracle = pool.estimate(np.nanmax(base.rewards_PM, axis=1), np.nanmax(table.rewards_PM, axis=1))
    judged = judge(table.rows(rows), lambdas, [choice[rows] for choice in choices])
    audited = [name for name, partly in zip(table.models, pool.partial_M, strict=True) if partly]
    return {
        **frontier_document(table, points, oracle.mean, judged),
        "audited": {"models": audited, "prompts": int(pool.audit_P.sum())},
    }
