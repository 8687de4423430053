"""Adding a pool model to a bundle and taking one out, with every other probe's bytes as they were.

The bundle's β, its embedder and its uncertainty basis stay. What looks at the whole pool (the frontier, the verdict) is
computed again, out of fold, from the outcomes of the run that the bundle was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.grown_pool import GrownPool, frontier_of, pool_of, rated_rows, train_rows
from erp_trainer.bundles.previous import copy_files
from erp_trainer.bundles.records import created, write_json, write_model, write_stats, write_uncertainty
from erp_trainer.bundles.write import lock_bundle, replace_bundle
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.ridge import MIN_ROWS, r_squared, variance_line
from erp_trainer.learning.stack import combined_probes, label_totals
from erp_trainer.learning.training_table import category_names
from erp_trainer.outcomes.run import Run
from erp_trainer.policies.frontier import default_lambdas, number_or_none
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST, Manifest, ModelRecord
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price
from litellm_erp.embedding.base import Embedder
from litellm_erp.errors import BundleError, PricesError

_REWRITTEN = (MANIFEST, "frontier.json", "uncertainty.safetensors")


@dataclass(frozen=True)
class Added:
    """A bundle with its newcomer, and what is to be said of it.

    Attributes
    ----------
    report : model, rows, audit, r2, r2_by_category, mean_reward, place, of, wins (share of prompts by category at
        λ = 0), gains (reward and cost before and after, by λ), verdict
    """

    bundle: Bundle
    report: dict[str, Any]


def add_model(
    path: Path, run: Run, name: str, embedder: Embedder, advance: Callable[[int], None] = lambda steps: None
) -> Added:
    """Fit one more model on a run's outcomes of it, and write it into a bundle.

    Parameters
    ----------
    path : the bundle; it is replaced as a whole, and only by a whole one
    run : the one that the bundle was fitted on, with outcomes of ``name``

    Raises
    ------
    BundleError : no ERP bundle, it has the model already, or another writer holds it
    RunError : another run's prompts, or no outcomes of a model
    FitError : too few outcomes
    """
    with _alone(path, run, (name,), embedder, advance, lambda bundle: check_newcomer(bundle, name)) as (target, bundle):
        models = tuple(sorted((*bundle.models, name)))
        price = run.prices().get(name, UNKNOWN_PRICE)
        if price.known and (price.relative_cost is not None) != (bundle.manifest.cost_kind == "relative"):
            raise PricesError(f"{name}: its price is of another kind than the bundle's ({bundle.manifest.cost_kind})")
        pool = pool_of(bundle, run, models, {**_prices(bundle), name: price}, embedder, newcomer=name)
        m = models.index(name)
        added = _rewrite(target, bundle, pool, newcomer=m, price=price, parameters=run.parameters().get(name))
        return Added(added, _report(pool.reported(), m, bundle, added))


def check_newcomer(bundle: Bundle, name: str) -> None:
    """Raise `BundleError` where the bundle has the model already."""
    if name in bundle.models:
        raise BundleError(
            f"{bundle.path}: has a probe of {name!r} already; take it out with `erp-train remove-model` first"
        )


def remove_model(
    path: Path, run: Run, name: str, embedder: Embedder, advance: Callable[[int], None] = lambda steps: None
) -> Bundle:
    """Take a model out of a bundle: its probe and statistics go, the frontier is that of the others.

    Raises
    ------
    BundleError : the bundle has no such model, or no other, or another writer holds it
    RunError : as `add_model`
    """
    with _alone(path, run, (), embedder, advance, lambda bundle: _check_leaver(bundle, name)) as (target, bundle):
        models = tuple(model for model in bundle.models if model != name)
        return _rewrite(target, bundle, pool_of(bundle, run, models, _prices(bundle), embedder))


def _check_leaver(bundle: Bundle, name: str) -> None:
    if name not in bundle.models:
        raise BundleError(f"{bundle.path}: no probe of {name!r}; it has {', '.join(bundle.models)}")
    if len(bundle.models) == 1:
        raise BundleError(f"{bundle.path}: {name!r} is its only model; a bundle needs at least one")


@contextmanager
def _alone(
    path: Path,
    run: Run,
    newcomers: Sequence[str],
    embedder: Embedder,
    advance: Callable[[int], None],
    check: Callable[[Bundle], None],
) -> Iterator[tuple[Path, Bundle]]:
    """A bundle's folder, and the bundle as it is once no other writer is at work, for this writer alone.

    Prompts are embedded before, into the run's cache: others need not wait for that.
    """
    found = load_bundle(path)
    check(found)
    outcomes = run.outcomes()
    train_rows(found, run, outcomes, newcomers)
    embed_run(run, outcomes, embedder, advance)
    with lock_bundle(path) as target:
        bundle = load_bundle(path)
        check(bundle)
        if bundle.manifest.embedder != found.manifest.embedder:
            raise BundleError(f"{path}: was just fitted with another embedder; run the same command again")
        yield target, bundle


def _prices(bundle: Bundle) -> dict[str, Price]:
    return {record.name: record.price for record in bundle.manifest.models}


def _rewrite(
    target: Path,
    bundle: Bundle,
    pool: GrownPool,
    newcomer: int | None = None,
    price: Price = UNKNOWN_PRICE,
    parameters: Mapping[str, Any] | None = None,
) -> Bundle:
    """Put the bundle of a changed pool in its place: what looks at the whole pool anew, every other probe as it was."""
    manifest, models = bundle.manifest, pool.table.models
    kept = [record for record in manifest.models if record.name in models]
    stay, go = (
        {file.file for record in records for file in (record.probe, *record.stats)}
        for records in (kept, [record for record in manifest.models if record.name not in models])
    )
    with replace_bundle(target) as folder:
        copy_files(bundle.path, folder, leave={*(go - stay), *_REWRITTEN})
        if newcomer is not None:
            kept.append(replace(_write_newcomer(folder, pool, newcomer, price, manifest), parameters=parameters))
        changed = replace(
            manifest,
            models=tuple(sorted(kept, key=lambda record: models.index(record.name))),
            uncertainty=write_uncertainty(folder, _uncertainty(bundle, pool, newcomer)),
            frontier=write_json(folder, "frontier.json", frontier_of(pool)),
            prompt_set=pool.prompts,
            created=created(),
        )
        write_json(folder, MANIFEST, changed.to_json())
    return load_bundle(bundle.path)


def _uncertainty(bundle: Bundle, pool: GrownPool, newcomer: int | None) -> Uncertainty:
    """The bundle's, with the variances of the models that it is to have."""
    found, models = bundle.uncertainty, pool.table.models
    variances = dict(zip(bundle.models, zip(found.noise_M, found.slope_M, strict=True), strict=True))
    if newcomer is not None:
        errors_P = pool.table.rewards_PM[:, newcomer] - pool.predicted_PM[:, newcomer]
        rated = np.where(rated_rows(pool, newcomer), errors_P, np.nan)
        noise, slope = variance_line(rated[:, None], pool.leverage_P)
        variances[models[newcomer]] = noise[0], slope[0]
    noise_M, slope_M = np.array([variances[model] for model in models]).T
    return replace(found, noise_M=noise_M, slope_M=slope_M)


def _write_newcomer(folder: Path, pool: GrownPool, m: int, price: Price, manifest: Manifest) -> ModelRecord:
    table, first = pool.table, manifest.models[0]
    blocks = [(b.columns, moments) for b, moments in zip(pool.fitted.blocks, pool.fitted.moments, strict=True)]
    rated_P = rated_rows(pool, m)
    totals = label_totals(table.rewards_PM, pool.labels)
    return write_model(
        folder,
        table.models[m],
        m,
        *_fitted(pool),
        pool.output_tokens,
        rows=int((~np.isnan(table.rewards_PM[:, m])).sum()),
        beta=first.beta,
        mean_reward=float(table.mean_reward_M[m]),
        r2=_r_squared(pool, m, rated_P),
        r2_by_category={
            name: _r_squared(pool, m, rated_P & (table.categories_P == name))
            for name in category_names(table.categories_P)
        },
        price=price,
        constant_cost_usd=float(table.mean_cost_M[m]) if manifest.preset == "paper" or not price.known else None,
        # One placed among the others does not follow from its own sums.
        stats=write_stats(folder, blocks, only={m}, totals=None if m in pool.newcomers else totals)[m],
    )


def _fitted(pool: GrownPool) -> tuple[Probes, np.ndarray]:
    """Probes and cells of every model."""
    probes, cells_FM = combined_probes(pool.fitted, pool.table.rewards_PM, pool.labels, pool.stack)
    for m, newcomer in pool.newcomers.items():
        probes.weights_DM[:, m], probes.intercept_M[m] = newcomer.weights_D, newcomer.intercept
        cells_FM[:, m] = newcomer.cells_F
    return probes, cells_FM


def _r_squared(pool: GrownPool, m: int, rows_P: np.ndarray) -> float:
    if rows_P.sum() < MIN_ROWS:
        return np.nan
    return float(r_squared(pool.predicted_PM[rows_P][:, [m]], pool.table.rewards_PM[rows_P][:, [m]])[0])


def _report(pool: GrownPool, m: int, old: Bundle, new: Bundle) -> dict[str, Any]:
    table, record = pool.table, new.manifest.models[m]
    expected = pool.newcomers[m].expected_mean if m in pool.newcomers else record.mean_reward
    served = replace(table, rewards_PM=np.zeros_like(table.rewards_PM))
    first = pool.choose(served, 0.0)
    categories = np.unique(table.categories_P).tolist()
    newcomer = np.arange(len(table.models)) == m
    complete, known = pool.without(newcomer | pool.partial_M), pool.without(newcomer)
    gains = []
    for lambda_ in default_lambdas(old.frontier):
        base = pool.choose(complete, lambda_)
        gain: dict[str, Any] = {"lambda": lambda_}
        for when, available in (("before", known), ("after", table)):
            choice = pool.choose(available, lambda_)
            reward = pool.estimate(complete.reward_of(base), available.reward_of(choice))
            cost = pool.estimate(complete.cost_of(base), available.cost_of(choice))
            gain |= {f"reward_{when}": reward.mean, f"cost_usd_{when}": number_or_none(cost.mean)}
        gains.append(gain)
    return {
        "model": record.name,
        "rows": record.rows,
        "audit": int(rated_rows(pool, m).sum()) if pool.partial_M[m] else None,
        "r2": record.r2,
        "r2_by_category": dict(record.r2_by_category),
        "mean_reward": expected,
        "place": 1 + int((np.delete(table.mean_reward_M, m) > expected).sum()),
        "of": len(table.models),
        "wins": {name: float((first == m)[table.categories_P == name].mean()) for name in categories},
        "share": float((first == m).mean()),
        "gains": gains,
        "verdict": new.frontier.document["verdict"],
    }
