"""From a run to a bundle on disk: the one place where outcomes, embedder, fit and files meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.policy_records import FittedRival, fit_rival
from erp_trainer.bundles.records import (
    copy_embedder,
    created,
    fitted_rows,
    prompt_set,
    write_features,
    write_json,
    write_model,
    write_stats,
    write_tensors,
    write_uncertainty,
)
from erp_trainer.bundles.training_data import is_relative, training_data
from erp_trainer.bundles.write import lock_bundle, replace_bundle
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.training_table import EmbeddedPrompts
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.policies.erp import FittedERP, Preset, fit_erp, refit_erp
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST, Manifest
from litellm_erp.bundle.policy_files import policy_file, tensors_of
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import UNKNOWN_PRICE
from litellm_erp.embedding.base import Embedder
from litellm_erp.errors import FitError


@dataclass(frozen=True, slots=True)
class FitSpec:
    """What is fitted, and how.

    Attributes
    ----------
    policy : erp, or another that a bundle can hold (``policies.registry``)
    preset, beta : of erp; ``beta`` fixes the ridge penalty
    seed : of the cross-validation folds
    refit_all : of erp: choose on train, then fit what is served on test rows too
    """

    policy: str = "erp"
    preset: Preset = "best"
    beta: float | None = None
    seed: int = 0
    refit_all: bool = False


@dataclass(frozen=True, slots=True)
class FittedPool:
    """Everything that a bundle records of the rows it was fitted on.

    Attributes
    ----------
    models : M names, in the order of all arrays
    rival : the policy, where it is another than erp
    output_tokens : probes of expected output tokens, where there are any
    rows_M : shape (M,), int, training outcomes
    prompts, reward : what the manifest says of the prompts and of the reward
    """

    models: tuple[str, ...]
    erp: FittedERP
    rival: FittedRival | None
    output_tokens: Probes | None
    rows_M: np.ndarray
    prompts: Mapping[str, Any]
    reward: Mapping[str, Any]


def fit_bundle(
    run: Run,
    embedder: Embedder,
    out: Path,
    spec: FitSpec = FitSpec(),
    advance: Callable[[int], None] = lambda steps: None,
) -> Bundle:
    """Fit a bundle on a run's train split and write it.

    Parameters
    ----------
    out : the bundle's folder; an existing bundle there is replaced as a whole, and only by a whole one
    advance : called with the number of prompts just embedded

    Returns
    -------
    the bundle, loaded back from disk

    Raises
    ------
    FitError : too little data
    """
    outcomes = run.outcomes()
    embedded = embed_run(run, outcomes, embedder, advance)
    return save_fitted(run, embedder, fit_pool(run, outcomes, embedded, spec), spec, out)


def fit_pool(run: Run, outcomes: OutcomesTable, embedded: EmbeddedPrompts, spec: FitSpec) -> FittedPool:
    """Choose and fit everything on the training rows of outcomes, which need not be all of the run's.

    Raises
    ------
    FitError : too little data
    """
    train = fitted_rows(outcomes, refitted=False)
    check_training_rows(run, int(train.sum()))
    of_rows = partial(
        training_data,
        outcomes,
        embedded,
        prices=run.prices(),
        expected_tokens=float(run.manifest["expected_output_tokens"]),
        token_heads=spec.preset == "best",
        seed=spec.seed,
    )
    data = of_rows(train)
    rival = None if spec.policy == "erp" else fit_rival(data.table, spec.policy, spec.seed)
    erp = fit_erp(data.table, preset=spec.preset, beta=spec.beta, seed=spec.seed) if rival is None else rival.pool
    rows = train
    if spec.refit_all:
        rows = fitted_rows(outcomes, refitted=True)
        data = of_rows(rows)
        erp = refit_erp(erp, data.table, seed=spec.seed)
    return FittedPool(
        models=data.table.models,
        erp=erp,
        rival=rival,
        output_tokens=data.output_tokens,
        rows_M=(~np.isnan(data.table.rewards_PM)).sum(axis=0),
        prompts=prompt_set(outcomes, rows, refitted=spec.refit_all),
        reward=_reward(run, outcomes),
    )


def check_training_rows(run: Run, n_train: int) -> None:
    """Raise `FitError` where there is nothing to fit on."""
    if not n_train:
        raise FitError(f"{run.path}: no row has split 'train'; import the outcomes again, or without a split column")


def save_fitted(run: Run, embedder: Embedder, fitted: FittedPool, spec: FitSpec, out: Path) -> Bundle:
    """Write what was fitted as a bundle, in place of the one that is there, and load it back."""
    with lock_bundle(out) as target:
        with replace_bundle(target) as folder:
            write_json(folder, MANIFEST, _write(folder, run, embedder, fitted, spec).to_json())
        return load_bundle(out)


def _write(folder: Path, run: Run, embedder: Embedder, fitted: FittedPool, spec: FitSpec) -> Manifest:
    """Every file but the manifest, which is returned."""
    prices, erp, rival = run.prices(), fitted.erp, fitted.rival
    parameters = run.parameters()
    stats = write_stats(folder, erp.blocks, totals=erp.label_totals)
    tensors = {} if rival is None else tensors_of(rival.predictor)
    return Manifest(
        policy=spec.policy,
        preset=spec.preset,
        safety=rival is None and spec.preset == "best",
        embedder=embedder.spec,
        embedder_files=copy_embedder(folder, embedder),
        reward=fitted.reward,
        cost_kind="relative" if is_relative(prices) else "usd",
        expected_output_tokens=float(run.manifest["expected_output_tokens"]),
        prompt_set=fitted.prompts,
        created=created(),
        uncertainty=write_uncertainty(folder, erp.uncertainty),
        frontier=write_json(folder, "frontier.json", erp.frontier),
        features=write_features(folder, erp.features),
        stack=erp.stack.weights,
        tasks=erp.tasks,
        models=tuple(
            write_model(
                folder,
                name,
                m,
                erp.probes,
                erp.cells_FM,
                fitted.output_tokens,
                rows=int(fitted.rows_M[m]),
                beta=erp.stack.beta,
                mean_reward=float(erp.mean_reward_M[m]),
                r2=erp.r2_M[m],
                r2_by_category={category: r2_M[m] for category, r2_M in erp.r2_by_category.items()},
                price=prices.get(name, UNKNOWN_PRICE),
                constant_cost_usd=float(erp.constant_cost_M[m]),
                stats=stats.get(m, ()),
                parameters=parameters.get(name),
            )
            for m, name in enumerate(fitted.models)
        ),
        policy_files=(write_tensors(folder, policy_file(spec.policy), tensors),) if tensors else (),
        policy_options={} if rival is None else rival.options,
    )


def _reward(run: Run, outcomes: OutcomesTable) -> dict[str, Any]:
    """What a reward is, as far as the run knows: a run that was scored here recorded it, an import has a name."""
    imported = {"models": [outcomes.reward_model or "rewards"], "unit": "reward", "normalisation": "none"}
    samples = outcomes.n_samples_PM[outcomes.n_samples_PM > 0]
    recorded = run.manifest["options"].get("reward") or imported
    return {"zero": None, **recorded, "samples_per_prompt": int(np.median(samples))}
