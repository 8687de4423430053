"""Adding a pool model to a bundle and taking one out, with every other probe's bytes as they were.

The bundle's β, its embedder and its uncertainty basis stay. What looks at the whole pool (the frontier, the verdict) is
computed again, out of fold, from the outcomes of the run that the bundle was fitted on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.fit import created, penalties_of, write_probe, write_stats, write_uncertainty
from erp_trainer.bundles.grown_pool import GrownPool, audited_frontier, pool_of, rated_rows, train_rows
from erp_trainer.bundles.write import lock_bundle, replace_bundle, write_json
from erp_trainer.evaluation.evaluation import default_lambdas
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.ridge import MIN_ROWS, r_squared, variance_line
from erp_trainer.learning.training_table import category_names
from erp_trainer.outcomes.run import Run
from erp_trainer.policies.frontier import frontier, number_or_none
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST, Manifest, ModelRecord
from litellm_erp.bundle.probe import Probes
from litellm_erp.choice.cost import Price
from litellm_erp.embedding import Embedder
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
    found = load_bundle(path)
    check_newcomer(found, name)
    with _changing(found, run, (name,), embedder, advance) as (target, bundle):
        check_newcomer(bundle, name)
        return _add(target, bundle, run, name, embedder)


def _add(target: Path, bundle: Bundle, run: Run, name: str, embedder: Embedder) -> Added:
    models = tuple(sorted((*bundle.models, name)))
    prices = {**_prices(bundle), name: run.prices().get(name, Price())}
    if prices[name].known and (prices[name].relative_cost is not None) != (bundle.manifest.cost_kind == "relative"):
        raise PricesError(f"{name}: its price is of another kind than the bundle's ({bundle.manifest.cost_kind})")
    pool = pool_of(bundle, run, models, prices, embedder)
    m = models.index(name)
    noise, slope = variance_line(
        np.where(rated_rows(pool, m), pool.table.rewards_PM[:, m] - pool.predicted_PM[:, m], np.nan)[:, None],
        pool.leverage_P,
    )
    found = bundle.uncertainty
    noise_by_name = {**dict(zip(bundle.models, found.noise_M, strict=True)), name: noise[0]}
    slope_by_name = {**dict(zip(bundle.models, found.slope_M, strict=True)), name: slope[0]}
    with replace_bundle(target) as folder:
        _copy(bundle, folder, leave=set())
        record = _record(folder, pool, m, prices[name], bundle.manifest)
        uncertainty = replace(
            found,
            noise_M=np.array([noise_by_name[model] for model in models]),
            slope_M=np.array([slope_by_name[model] for model in models]),
        )
        records = sorted((*bundle.manifest.models, record), key=lambda r: models.index(r.name))
        _finish(folder, bundle.manifest, records, pool, write_uncertainty(folder, uncertainty))
    added = load_bundle(bundle.path)
    return Added(added, _report(pool, m, record, bundle, added))


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
    found = load_bundle(path)
    _check_leaver(found, name)
    with _changing(found, run, (), embedder, advance) as (target, bundle):
        _check_leaver(bundle, name)
        return _remove(target, bundle, run, name, embedder)


def _remove(target: Path, bundle: Bundle, run: Run, name: str, embedder: Embedder) -> Bundle:
    m = bundle.models.index(name)
    models = tuple(model for model in bundle.models if model != name)
    pool = pool_of(bundle, run, models, _prices(bundle), embedder)
    records = [record for record in bundle.manifest.models if record.name != name]
    kept = {record.file for r in records for record in (r.probe, *r.stats)}
    gone = bundle.manifest.models[m]
    found = bundle.uncertainty
    with replace_bundle(target) as folder:
        _copy(bundle, folder, leave={record.file for record in (gone.probe, *gone.stats)} - kept)
        uncertainty = replace(found, noise_M=np.delete(found.noise_M, m), slope_M=np.delete(found.slope_M, m))
        _finish(folder, bundle.manifest, records, pool, write_uncertainty(folder, uncertainty))
    return load_bundle(bundle.path)


def _check_leaver(bundle: Bundle, name: str) -> None:
    if name not in bundle.models:
        raise BundleError(f"{bundle.path}: no probe of {name!r}; it has {', '.join(bundle.models)}")
    if len(bundle.models) == 1:
        raise BundleError(f"{bundle.path}: {name!r} is its only model; a bundle needs at least one")


@contextmanager
def _changing(
    found: Bundle, run: Run, newcomers: Sequence[str], embedder: Embedder, advance: Callable[[int], None]
) -> Iterator[tuple[Path, Bundle]]:
    """A bundle's folder, and the bundle as it is once no other writer is at work, for this writer alone.

    Prompts are embedded before, into the run's cache: others need not wait for that.
    """
    outcomes = run.outcomes()
    train_rows(found, run, outcomes, newcomers)
    embed_run(run, outcomes, embedder, advance)
    with lock_bundle(found.path) as target:
        bundle = load_bundle(found.path)
        if bundle.manifest.embedder != found.manifest.embedder:
            raise BundleError(f"{found.path}: was just fitted with another embedder; run the same command again")
        yield target, bundle


def _prices(bundle: Bundle) -> dict[str, Price]:
    return {record.name: record.price for record in bundle.manifest.models}


def _record(folder: Path, pool: GrownPool, m: int, price: Price, manifest: Manifest) -> ModelRecord:
    table, name = pool.table, pool.table.models[m]
    weights, intercepts = pool.fitted.probes(penalties_of(manifest))
    blocks = [(b.columns, moments) for b, moments in zip(pool.fitted.blocks, pool.fitted.moments, strict=True)]
    rated = rated_rows(pool, m)
    categories = category_names(table.categories_P)
    return ModelRecord(
        name=name,
        probe=write_probe(folder, name, Probes(weights, intercepts), pool.head, m),
        rows=int((~np.isnan(table.rewards_PM[:, m])).sum()),
        beta=manifest.models[0].beta,
        task_beta=manifest.models[0].task_beta,
        mean_reward=float(table.mean_reward_M[m]),
        r2=number_or_none(_r2(pool, m, rated)),
        r2_by_category={c: number_or_none(_r2(pool, m, rated & (table.categories_P == c))) for c in categories},
        price=price,
        constant_cost_usd=number_or_none(table.mean_cost_M[m]) if manifest.preset == "paper" else None,
        stats=write_stats(folder, blocks, only={m})[m],
    )


def _r2(pool: GrownPool, m: int, rows: np.ndarray) -> float:
    if rows.sum() < MIN_ROWS:
        return float("nan")
    return float(r_squared(pool.predicted_PM[rows][:, [m]], pool.table.rewards_PM[rows][:, [m]])[0])


def _finish(
    folder: Path, manifest: Manifest, records: Sequence[ModelRecord], pool: GrownPool, uncertainty: Any
) -> None:
    """Write the frontier and, last, the manifest."""
    if pool.partial_M.any():
        document = audited_frontier(pool)
    else:
        document = frontier(pool.table, pool.predicted_PM, pool.trust_P, safe=pool.safe)
    changed = replace(
        manifest,
        models=tuple(records),
        uncertainty=uncertainty,
        frontier=write_json(folder, "frontier.json", document),
        created=created(),
    )
    write_json(folder, MANIFEST, changed.to_json())


def _report(pool: GrownPool, m: int, record: ModelRecord, old: Bundle, new: Bundle) -> dict[str, Any]:
    table = pool.table
    served = replace(table, rewards_PM=np.zeros_like(table.rewards_PM))
    _, first = pool.choose(served, 0.0, float(new.frontier.shrinkage_L[0]))
    categories = np.unique(table.categories_P).tolist()
    newcomer = np.arange(len(table.models)) == m
    complete, known = pool.without(newcomer | pool.partial_M), pool.without(newcomer)
    gains = []
    for lambda_ in default_lambdas(old):
        _, base = pool.choose(complete, lambda_)
        gain: dict[str, Any] = {"lambda": lambda_}
        for when, available in (("before", known), ("after", table)):
            _, choice = pool.choose(available, lambda_)
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
        "mean_reward": record.mean_reward,
        "place": 1 + int((table.mean_reward_M > record.mean_reward).sum()),
        "of": len(table.models),
        "wins": {name: float((first == m)[table.categories_P == name].mean()) for name in categories},
        "share": float((first == m).mean()),
        "gains": gains,
        "verdict": new.frontier.document["verdict"],
    }


def _copy(bundle: Bundle, folder: Path, leave: set[str]) -> None:
    """Every other file as it is, by link where the file system has them."""
    for source in sorted(bundle.path.rglob("*")):
        name = source.relative_to(bundle.path).as_posix()
        if not source.is_file() or name in leave or name in _REWRITTEN:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # some network file systems have no hard links
            shutil.copyfile(source, target)
