"""IO. From a run and a bundle to an evaluation: embed the prompts, predict the rewards, fit the rivals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.bundles.records import stack_of
from erp_trainer.bundles.training_data import table_of
from erp_trainer.console import Progress, silent
from erp_trainer.evaluation.contenders import Contender, baselines, rivals_of
from erp_trainer.evaluation.evaluation import Evaluation, EvaluationOptions, ServedBundle
from erp_trainer.evaluation.kept import origin
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.outcomes.run import Run, open_run
from erp_trainer.policies.base import Tuning, routed
from erp_trainer.policies.erp import recorded_cost, with_constant_cost
from erp_trainer.policies.frontier import default_lambdas
from erp_trainer.policies.registry import POLICIES
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import predict_pool
from litellm_erp.embedding import Embedder
from litellm_erp.errors import RunError

# A long table is measured at every other λ of the bundle's frontier.
_MANY_PROMPTS = 20_000


def measured(
    run: Path, bundle: Path, progress: Progress, *, embedder_url: str | None, trust_remote_code: bool, **options: Any
) -> Evaluation:
    """:func:`evaluation_of` what two folders hold.

    Parameters
    ----------
    embedder_url : where an endpoint embedder is now, if it has moved
    options : of ``EvaluationOptions``
    """
    opened, loaded = open_run(run), load_bundle(bundle)
    embedder = bundle_embedder(loaded, url=embedder_url, trust_remote_code=trust_remote_code)
    try:
        return evaluation_of(opened, loaded, embedder, EvaluationOptions(**options), progress)
    finally:
        embedder.close()


def evaluation_of(
    run: Run,
    bundle: Bundle,
    embedder: Embedder,
    options: EvaluationOptions,
    progress: Progress = silent,
) -> Evaluation:
    """Choose on the test prompts as the bundle serves, and fit what it is compared with; the bundle is not changed.

    Test prompts whose text also occurs in train are left out and counted.

    Raises
    ------
    RunError : the run has no test prompts, or none of a pool model's outcomes
    """
    if bundle.manifest.prompt_set.get("refitted"):
        raise RunError(
            f"{bundle.path}: was fitted on test prompts too (--refit-all), so nothing is left to measure it on; "
            "evaluate one that is fitted on the same run without --refit-all: the same choices on fewer prompts"
        )
    outcomes = run.outcomes()
    if missing := sorted(set(bundle.models) - set(outcomes.models)):
        raise RunError(f"{run.path}: no outcomes of pool model {missing[0]!r}; evaluate on a run that has them")
    with progress(len(outcomes.prompt_ids), "embedding") as advance:
        embedded = embed_run(run, outcomes, embedder, advance)
    everything = table_of(outcomes, embedded, run.prices(), bundle.manifest.expected_output_tokens)
    everything = everything.columns([outcomes.models.index(name) for name in bundle.models])
    splits = np.array(outcomes.splits)
    answered = ~np.isnan(everything.rewards_PM).all(axis=1)
    train = everything.rows((splits == "train") & answered)
    seen = np.isin(everything.groups_P, train.groups_P)
    held_out = (splits == "test") & ~seen & answered
    if not held_out.any():
        raise RunError(f"{run.path}: no test prompt that is not in train too; import outcomes with a test split")
    test = everything.rows(held_out)
    # A model added with a part of the prompts may have no test outcomes; it cannot be measured here.
    measured = np.flatnonzero(~np.isnan(test.rewards_PM).all(axis=0))
    test, train = test.columns(measured.tolist()), train.columns(measured.tolist())
    # Rivals, as the bundle, know what a model without a price cost on train.
    test, train = (with_constant_cost(table, recorded_cost(train)) for table in (test, train))
    predictions = predict_pool(
        bundle, test.embeddings_PD, embedded.input_tokens_P[held_out][:, None], prices=bundle.prices()
    )
    served, tuning = ServedBundle(bundle, predictions, measured), Tuning(POLICIES, train, options.seed)
    with progress(len(POLICIES), "fitting rivals") as advance:
        contenders, missing_rivals = _contenders(served, test, tuning, advance, rivals=options.rivals)
    lambdas = tuple(options.lambdas or default_lambdas(bundle.frontier))
    step = 1 if len(test) <= _MANY_PROMPTS else 2
    counts = outcomes.n_samples_PM[held_out]
    rows = np.flatnonzero(held_out).tolist()
    return Evaluation(
        options=options,
        of=origin(run, bundle, options),
        test=test,
        train=train,
        prompt_ids=tuple(outcomes.prompt_ids[row] for row in rows),
        prompts=tuple(outcomes.prompts[row] for row in rows),
        served=served,
        lambdas=lambdas,
        grid=tuple(sorted({0.0, *lambdas, *bundle.frontier.lambda_L[::step].tolist()})),
        contenders=contenders,
        missing_rivals=missing_rivals,
        tuning=tuning,
        stack=stack_of(bundle.manifest) if bundle.manifest.policy == "erp" else None,
        resamples=Resamples.draw(test.groups_P, seed=options.seed),
        left_out=int(((splits == "test") & seen).sum()),
        samples=int(np.median(counts[counts > 0])),
    )


def _contenders(
    served: ServedBundle, test: TrainingTable, tuning: Tuning, advance: Callable[[int], None], *, rivals: bool
) -> tuple[list[Contender], dict[str, str]]:
    """The bundle first, with and without safety, and what it is compared with; and why rivals are missing."""

    def bundle(key: str, label: str, *, safety: bool = True) -> Contender:
        outcome = routed(partial(served.choose, safety=safety))
        return Contender(key, label, "bundle", True, outcome, served.predicted_PM, servable=True)

    manifest = served.bundle.manifest
    name = manifest.policy
    found = [bundle(name, name)]
    if manifest.safety:
        found.append(bundle(f"{name}-no-safety", f"{name} --no-safety", safety=False))
    fitted, missing = rivals_of(name, manifest.preset, tuning, test, advance) if rivals else ([], {})
    return [*found, *fitted, *baselines(test, tuning.train, name, served.choose)], missing
