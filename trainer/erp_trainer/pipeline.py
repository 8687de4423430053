"""From a pool file to a bundle. Every stage leaves its work in the run folder, and starts from what it finds there.

prompts → sample → score → assemble → embed → fit → bundle
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.fit import FitSpec, fit_bundle
from erp_trainer.bundles.grown_pool import record_audit
from erp_trainer.bundles.members import Added, add_model, check_newcomer
from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.console import Progress
from erp_trainer.files.records import only_process
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.selection import select
from erp_trainer.outcomes.from_samples import ModelCounts, outcomes_of
from erp_trainer.outcomes.run import Run, complete_run, open_run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.pool.pool import Pool, PoolModel
from erp_trainer.pool.prices import resolve_prices
from erp_trainer.preflight import check_ahead, identities_of
from erp_trainer.prompts.prompt_set import PROMPTS, Prompt, fingerprint, messages_of, read_prompt_set
from erp_trainer.prompts.sources import prepare
from erp_trainer.rewards.combining import Normalisation, combine, weighted
from erp_trainer.rewards.stage import ScoreSummary, score_run
from erp_trainer.sampling.stage import sample_parts, sample_pool_model
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.choice.cost import Price
from litellm_erp.embedding import Embedder, load_embedder
from litellm_erp.errors import ErpError, RunError, SamplingError, SettingsError

Warn = Callable[[str], None]


def run_pool(pool: Pool, progress: Progress, warn: Warn) -> dict[str, Any]:
    """Do whatever of the pipeline is not done yet.

    Parameters
    ----------
    progress : `console.progress`, or like it
    warn : called with one line about each thing that is worth a look and stops nothing

    Returns
    -------
    the summary that the command prints

    Raises
    ------
    ErpError : a stage failed; what was recorded before is kept
    """
    with only_process(pool.run):
        gathered = prepare(pool.run, pool.prompts, pool.source.parent)
        models = list(pool.models.values())
        worth_asking = check_ahead(pool, gathered.prompts, models, warn)
        failed = sample_models(pool.run, worth_asking, models, progress, warn)
        parts = {model.name: sample_parts(pool.run, model) for model in models}
        scored = score_run(pool.run, gathered.prompts, parts, pool.rewards, progress)
        run, counts = assemble(pool, gathered.prompts, scored, warn)
        spec = FitSpec(preset="paper" if pool.preset == "paper" else "best", refit_all=pool.refit_all)
        with (
            closing(load_embedder(pool.embedder)) as embedder,
            progress(run.manifest["counts"]["prompts"], "embedding") as advance,
        ):
            bundle = fit_bundle(run, embedder, pool.bundle, spec, advance)
    return {
        "run": str(pool.run),
        "bundle": str(pool.bundle),
        "id": bundle.id,
        "prompts": {**dict(run.manifest["counts"]["splits"]), "sha256": fingerprint(gathered.prompts)},
        "models": {name: {**found.to_json(), "failed": failed[name]} for name, found in counts.items()},
        "rewards": _reward_counts(scored),
        "verdict": bundle.frontier.document["verdict"],
    }


def sample_models(
    run: Path, prompts: Sequence[Prompt], models: Sequence[PoolModel], progress: Progress, warn: Warn
) -> dict[str, int]:
    """Sample every model; one that cannot be sampled does not keep the others from it.

    Returns
    -------
    prompts that failed this time, by model; another run asks them again

    Raises
    ------
    SamplingError : some model could not be sampled to the end
    """
    failed: dict[str, int] = {}
    errors: list[ErpError] = []
    for model in models:
        try:
            with progress(len(prompts), f"sampling {model.name}") as advance:
                summary = sample_pool_model(run, prompts, model, advance)
        except (SamplingError, SettingsError) as e:
            errors.append(e)
            continue
        failed[model.name] = summary.failed
        for remark in summary.remarks():
            warn(remark)
        if summary.failed:
            warn(f"{model.name}: {summary.failed} prompts failed and are left out; {summary.failures[0]}. Run it again")
    if errors:
        others = f" ({len(models) - len(errors)} of {len(models)} models are sampled)" if len(models) > 1 else ""
        raise type(errors[0])(f"{errors[0]}{others}") from errors[0]
    return failed


def assemble(
    pool: Pool, prompts: Sequence[Prompt], scored: ScoreSummary, warn: Warn
) -> tuple[Run, dict[str, ModelCounts]]:
    """Complete the run folder: outcomes, prices, manifest."""
    weights = {spec.name: spec.weight for spec in pool.rewards}
    combined = combine(scored.scores, weights, {p.prompt_id for p in prompts if p.split == "train"})
    if combined.incomplete:
        warn(f"{combined.incomplete} (prompt, model) pairs lack a reward of some reward model and are left out")
    outcomes, counts = outcomes_of(
        prompts,
        {model.name: sample_parts(pool.run, model) for model in pool.models.values()},
        combined.rewards,
        reward_model=" + ".join(name for name, found in combined.normalisation.items() if found.weight > 0),
    )
    reward = {
        "models": list(weights),
        "unit": combined.unit,
        "normalisation": {name: found.to_json() for name, found in combined.normalisation.items()},
        "identities": scored.identities,
    }
    run = complete_run(
        pool.run,
        outcomes,
        _prices(pool, outcomes.models, warn),
        source=pool.source,
        options={
            "reward": reward,
            "sampling": {name: model.sampling.to_json() for name, model in pool.models.items()},
            "models": {name: found.to_json() for name, found in counts.items()},
            "parameters": _parameters(pool, pool.models),
        },
        expected_output_tokens=pool.expected_output_tokens,
    )
    return run, counts


def add_sampled_model(
    bundle: Path, pool: Pool, name: str, n_prompts: int | None, progress: Progress, warn: Warn, *, seed: int = 0
) -> Added:
    """Sample, score and fit one more model on the prompts of the run that a bundle was fitted on.

    Parameters
    ----------
    n_prompts : ask that many of the train prompts, a random audit among them; None asks all prompts

    Raises
    ------
    ErpError : see `members.add_model`; or a stage failed, and what was recorded before is kept
    """
    if name not in pool.models:
        raise SettingsError(f"{pool.source}: models: no {name!r}; found {', '.join(pool.models)}")
    model, loaded = pool.models[name], load_bundle(bundle)
    check_newcomer(loaded, name)
    embedder = bundle_embedder(loaded)
    try:
        with only_process(pool.run):
            run = open_run(pool.run)
            _check_same_rewards(run, pool, identities_of(pool))
            asked, audit = _asked(run, loaded, embedder, n_prompts, seed, progress)
            check_ahead(pool, asked, [model], warn)
            sample_models(pool.run, asked, [model], progress, warn)
            parts = {name: sample_parts(pool.run, model)}
            scored = score_run(pool.run, asked, parts, pool.rewards, progress)
            rewards = _combined_as_before(run, pool, scored)
            newcomer, _ = outcomes_of(asked, parts, rewards)
            outcomes = run.outcomes().with_model(newcomer)
            record_audit(pool.run, name, audit)
            prices = run.prices() | _prices(pool, [name], warn)
            run = complete_run(
                pool.run,
                outcomes,
                {model: prices[model] for model in outcomes.models},
                source=pool.source,
                options={
                    **run.manifest["options"],
                    "parameters": {**run.parameters(), **_parameters(pool, [name])},
                },
                split_seed=run.manifest["split_seed"],
                expected_output_tokens=run.manifest["expected_output_tokens"],
            )
            return add_model(bundle, run, name, embedder)
    finally:
        embedder.close()


def _asked(
    run: Run, bundle: Bundle, embedder: Embedder, n: int | None, seed: int, progress: Progress
) -> tuple[list[Prompt], list[str] | None]:
    outcomes = run.outcomes()
    prompts = _recorded_prompts(run, outcomes)
    if n is None:
        return prompts, None
    old = outcomes.of_models([model for model in bundle.models if model in outcomes.models])
    train = np.flatnonzero(
        np.array([split == "train" for split in outcomes.splits]) & (old.n_samples_PM > 0).any(axis=1)
    )
    with progress(len(prompts), "embedding") as advance:
        embedded = embed_run(run, outcomes, embedder, advance)
    found = select(embedded.embeddings_PD[train], n, bundle.manifest.models[0].beta, seed=seed)
    audit, chosen = ([prompts[p] for p in train[rows].tolist()] for rows in (found.audit, found.chosen))
    return [*audit, *chosen], [prompt.prompt_id for prompt in audit]


def _recorded_prompts(run: Run, outcomes: OutcomesTable) -> list[Prompt]:
    """The prompts of a run's outcomes; with their references where the run has its prompt set."""
    known = {p.prompt_id: p for p in read_prompt_set(run.path)} if (run.path / PROMPTS).exists() else {}
    found = []
    for p, prompt_id in enumerate(outcomes.prompt_ids):
        cell = outcomes.prompts[p]
        made = Prompt(
            prompt_id, messages_of(cell) or cell, outcomes.categories[p], outcomes.splits[p], None, outcomes.tags[p]
        )
        found.append(replace(made, reference=known[prompt_id].reference) if prompt_id in known else made)
    return found


def _combined_as_before(run: Run, pool: Pool, scored: ScoreSummary) -> dict[tuple[str, str], np.ndarray]:
    """A newcomer's rewards on the scale of the run's: normalised by what the run recorded, not by its own."""
    _check_same_rewards(run, pool, scored.identities)
    recorded = run.manifest["options"].get("reward")
    if recorded is None:
        return dict(next(iter(scored.scores.values())))
    scales = {name: Normalisation(**found) for name, found in recorded["normalisation"].items()}
    return weighted(scored.scores, scales)


def _check_same_rewards(run: Run, pool: Pool, identities: Mapping[str, Mapping[str, Any]]) -> None:
    recorded = run.manifest["options"].get("reward")
    if recorded is None and len(pool.rewards) > 1:
        raise SettingsError(
            f"{pool.source}: rewards: {run.path} was imported and does not say how several reward models were "
            "combined; state the one that its rewards are from"
        )
    if recorded is not None and recorded["identities"] != identities:
        raise RunError(
            f"{pool.source}: rewards: not those that {run.path} was scored with "
            f"({', '.join(recorded['normalisation'])}); one model's rewards would not compare with the others'"
        )


def _parameters(pool: Pool, names: Iterable[str]) -> dict[str, Any]:
    """What requests are sent with, of the models that are told apart by it."""
    return {name: dict(pool.models[name].parameters) for name in names if pool.models[name].parameters}


def _prices(pool: Pool, names: Sequence[str], warn: Warn) -> dict[str, Price]:
    """Stated prices; for a model called through LiteLLM, or at an effort, the price listed for what it is called."""
    stated = {name: pool.models[name].price for name in names if pool.models[name].price.known}
    relative = any(price.relative_cost is not None for price in stated.values())
    for name in names:
        model = pool.models[name]
        # The efforts of one model cost the same a token.
        if name not in stated and (model.engine == "litellm" or model.parameters) and not relative:
            listed = resolve_prices([model.model], {}, warn=lambda message: None)[model.model]
            stated |= {name: listed} if listed.known else {}
    return resolve_prices(names, stated, warn=warn)


def _reward_counts(scored: ScoreSummary) -> Mapping[str, Any]:
    return {
        name: {
            "scored": found.prompts,
            "reused": found.reused,
            "truncated": found.truncated,
            "skipped": dict(Counter(found.skipped)),
        }
        for name, found in scored.by_reward.items()
    }
