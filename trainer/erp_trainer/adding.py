"""Adding a pool model to a bundle and taking one out, with every other probe's bytes as they were.

The bundle's β, its embedder and its uncertainty basis stay. What looks at the whole pool (the frontier, the verdict) is
computed again, out of fold, from the outcomes of the run that the bundle was fitted on.

A newcomer may have been asked only some prompts, chosen to be informative, and an audit of random ones
(`erp_trainer.selection`). Its probe is fitted on all of them. Whatever is *estimated* rests on the audit: its R² and
residuals on the audit rows; its mean, and what a policy earns with it, by the difference estimator

    mean over all rows of a prediction  +  mean over the audit of (outcome − prediction)

which is unbiased whatever rows were chosen besides, and as precise as the prediction is good. For policies the
prediction is what the pool without the newcomer earned.

Source: the difference estimator of survey sampling (Cochran, 1977); ours for frontiers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.assemble import of_models
from erp_trainer.atomic import atomic_file
from erp_trainer.bundling import (
    TokenHead,
    created,
    fit_token_head,
    number_or_none,
    penalties_of,
    prompt_set,
    table_of,
    with_expected_tokens,
    write_probe,
    write_stats,
    write_uncertainty,
)
from erp_trainer.embed import embed_run
from erp_trainer.evaluation.report import default_lambdas
from erp_trainer.evaluation.table import Table
from erp_trainer.fitting import MIN_ROWS, CrossFit, assign_folds, cross_fit, r_squared, variance_line
from erp_trainer.outcomes import Outcomes
from erp_trainer.policies.erp import (
    LEVERAGE_BETA,
    choose_shrinkage,
    frontier,
    swept,
    trust_where_evident,
    verdict,
)
from erp_trainer.store import Run
from erp_trainer.tasks import task_codes
from litellm_erp import bundle as bundles
from litellm_erp.bundle import Bundle
from litellm_erp.cost import Price
from litellm_erp.embedding import Embedder
from litellm_erp.errors import BundleError, FitError, PricesError, RunError
from litellm_erp.manifest import Manifest, ModelRecord
from litellm_erp.probe import Probes
from litellm_erp.strict_files import MAX_JSON_BYTES, parse_json, read_whole

ADDED = "added"
_REWRITTEN = (bundles.MANIFEST, "frontier.json", "uncertainty.safetensors")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _AuditedTable(Table):
    """A table in which some models' rows were chosen, so that their means are stated instead of taken."""

    stated_reward_M: np.ndarray
    stated_cost_M: np.ndarray

    @property
    def mean_reward_M(self) -> np.ndarray:
        return self.stated_reward_M

    @property
    def mean_cost_M(self) -> np.ndarray:
        return self.stated_cost_M


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool on a run's training rows.

    Attributes
    ----------
    partial_M : bool, models of which only chosen and audit rows have outcomes
    audit_P : bool, rows that estimates with them rest on; all rows where there is none
    """

    table: Table
    fitted: CrossFit
    predicted_PM: np.ndarray
    leverage_P: np.ndarray
    trust_P: np.ndarray
    head: TokenHead | None
    partial_M: np.ndarray
    audit_P: np.ndarray
    safe: bool

    def choose(self, table: Table, lambda_: float, shrinkage: float | None = None) -> tuple[float, np.ndarray]:
        """Shrinkage and first choices at one λ, the shrinkage chosen where it is not given."""
        if not self.safe:
            return 1.0, table.choose(self.predicted_PM, lambda_)
        if shrinkage is None:
            return choose_shrinkage(table, self.predicted_PM, self.trust_P, lambda_)
        trust = shrinkage * self.trust_P[:, None]
        mean = self.table.mean_reward_M
        return shrinkage, table.choose(self.predicted_PM, lambda_, mean_reward_M=mean, trust=trust)

    def without(self, out_M: np.ndarray) -> Table:
        """The table in which some models are never available; they keep their columns and their means."""
        table = self.table
        available = replace(table, rewards_PM=np.where(out_M, np.nan, table.rewards_PM))
        return _stated(available, table.mean_reward_M, table.mean_cost_M)

    def estimate(self, before_P: np.ndarray, after_P: np.ndarray) -> float:
        """Mean of ``after_P``, known on audit rows, with ``before_P``, known on all, as its prediction."""
        return float(before_P.mean() + (after_P - before_P)[self.audit_P].mean())


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
    found = bundles.load(path)
    check_newcomer(found, name)
    with _changing(found, run, (name,), embedder, advance) as (target, bundle):
        check_newcomer(bundle, name)
        return _add(target, bundle, run, name, embedder)


def _add(target: Path, bundle: Bundle, run: Run, name: str, embedder: Embedder) -> Added:
    models = tuple(sorted((*bundle.models, name)))
    prices = {**_prices(bundle), name: run.prices().get(name, Price())}
    if prices[name].known and (prices[name].relative_cost is not None) != (bundle.manifest.cost_kind == "relative"):
        raise PricesError(f"{name}: its price is of another kind than the bundle's ({bundle.manifest.cost_kind})")
    pool = _pool(bundle, run, models, prices, embedder)
    m = models.index(name)
    noise, slope = variance_line(
        np.where(_rated(pool, m), pool.table.rewards_PM[:, m] - pool.predicted_PM[:, m], np.nan)[:, None],
        pool.leverage_P,
    )
    found = bundle.uncertainty
    noise_by_name = {**dict(zip(bundle.models, found.noise_M, strict=True)), name: noise[0]}
    slope_by_name = {**dict(zip(bundle.models, found.slope_M, strict=True)), name: slope[0]}
    with bundles.replacing(target) as folder:
        _copy(bundle, folder, leave=set())
        record = _record(folder, pool, m, prices[name], bundle.manifest)
        uncertainty = replace(
            found,
            noise_M=np.array([noise_by_name[model] for model in models]),
            slope_M=np.array([slope_by_name[model] for model in models]),
        )
        records = sorted((*bundle.manifest.models, record), key=lambda r: models.index(r.name))
        _finish(folder, bundle.manifest, records, pool, write_uncertainty(folder, uncertainty))
    added = bundles.load(bundle.path)
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
    found = bundles.load(path)
    _check_leaver(found, name)
    with _changing(found, run, (), embedder, advance) as (target, bundle):
        _check_leaver(bundle, name)
        return _remove(target, bundle, run, name, embedder)


def _remove(target: Path, bundle: Bundle, run: Run, name: str, embedder: Embedder) -> Bundle:
    m = bundle.models.index(name)
    models = tuple(model for model in bundle.models if model != name)
    pool = _pool(bundle, run, models, _prices(bundle), embedder)
    records = [record for record in bundle.manifest.models if record.name != name]
    kept = {record.file for r in records for record in (r.probe, *r.stats)}
    gone = bundle.manifest.models[m]
    found = bundle.uncertainty
    with bundles.replacing(target) as folder:
        _copy(bundle, folder, leave={record.file for record in (gone.probe, *gone.stats)} - kept)
        uncertainty = replace(found, noise_M=np.delete(found.noise_M, m), slope_M=np.delete(found.slope_M, m))
        _finish(folder, bundle.manifest, records, pool, write_uncertainty(folder, uncertainty))
    return bundles.load(bundle.path)


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
    _train_rows(found, run, outcomes, newcomers)
    embed_run(run, outcomes, embedder, advance)
    with bundles.locked(found.path) as target:
        bundle = bundles.load(found.path)
        if bundle.manifest.embedder != found.manifest.embedder:
            raise BundleError(f"{found.path}: was just fitted with another embedder; run the same command again")
        yield target, bundle


def record_audit(run: Path, name: str, audit: Sequence[str] | None) -> None:
    """Note which of a model's prompts were random; None where it was asked all of them."""
    path = run / ADDED / (Path(bundles.probe_file(name)).stem + ".json")
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


def _prices(bundle: Bundle) -> dict[str, Price]:
    return {record.name: record.price for record in bundle.manifest.models}


def _train_rows(bundle: Bundle, run: Run, outcomes: Outcomes, models: Sequence[str]) -> np.ndarray:
    """The rows that a bundle was fitted on, shape (P,), bool, if the run is that bundle's."""
    manifest = bundle.manifest
    if manifest.policy != "erp":
        raise BundleError(
            f"{bundle.path}: found policy {manifest.policy}; models can be added to and removed from erp bundles "
            f"only. Refit on outcomes of the whole pool: erp-train fit RUN --out BUNDLE --policy {manifest.policy}"
        )
    if missing := sorted({*models, *bundle.models} - set(outcomes.models)):
        raise RunError(f"{run.path}: no outcomes of pool model {missing[0]!r}; found {', '.join(outcomes.models)}")
    answered = (of_models(outcomes, bundle.models).n_samples_PM > 0).any(axis=1)
    train = np.array([split == "train" for split in outcomes.splits]) & answered
    if prompt_set(outcomes, train)["fingerprint"] != manifest.prompt_set.get("fingerprint"):
        raise RunError(
            f"{run.path}: its train prompts are not those that {bundle.path} was fitted on; name the run it was "
            "fitted on, or fit a new bundle"
        )
    return train


def _pool(
    bundle: Bundle,
    run: Run,
    models: Sequence[str],
    prices: Mapping[str, Price],
    embedder: Embedder,
) -> _Pool:
    manifest = bundle.manifest
    outcomes = run.outcomes()
    train = _train_rows(bundle, run, outcomes, models)
    narrow = of_models(outcomes, models)
    embedded = embed_run(run, outcomes, embedder)
    table = table_of(narrow, embedded, prices, manifest.expected_output_tokens).rows(train)
    folds = assign_folds(table.groups_P, 0)
    penalties = penalties_of(manifest)
    tasks = None if manifest.models[0].task_beta is None else task_codes(table.categories_P)
    fitted = cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models, tasks)
    predicted, leverage = fitted.out_of_fold(penalties), fitted.out_of_fold_leverage(LEVERAGE_BETA)
    head = None
    if bundle.output_tokens.weights_DM.any():
        head = fit_token_head(table, narrow.output_tokens_PM[train], 0, least=MIN_ROWS)
    if head is not None:
        table = with_expected_tokens(table, embedded.input_tokens_P[train], head.out_of_fold_PM, prices)
    ids = np.array(outcomes.prompt_ids, dtype=object)[train]
    partial = {models.index(name): np.isin(ids, list(audit)) for name, audit in audits(run.path).items()
               if name in models}  # fmt: skip
    table, audit = _audited(table, predicted, partial)
    if manifest.preset == "paper":
        table = replace(table, expected_cost_PM=np.broadcast_to(table.mean_cost_M, table.rewards_PM.shape))
    partial_M = np.isin(np.arange(len(models)), list(partial))
    trust = trust_where_evident(table, predicted, bundle.uncertainty.trust(leverage))
    return _Pool(table, fitted, predicted, leverage, trust, head, partial_M, audit, manifest.safety)


def _audited(table: Table, predicted: np.ndarray, partial: Mapping[int, np.ndarray]) -> tuple[Table, np.ndarray]:
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
    if not partial:
        return table, shared
    if not shared.any():
        raise FitError("the models added with --prompts share no random prompt; add them with the same --seed")
    return _stated(table, reward, cost), shared


def _stated(table: Table, reward_M: np.ndarray, cost_M: np.ndarray) -> Table:
    fields = {name: getattr(table, name) for name in Table.__dataclass_fields__}
    return _AuditedTable(**fields, stated_reward_M=reward_M, stated_cost_M=cost_M)


def _rated(pool: _Pool, m: int) -> np.ndarray:
    """Rows on which a model is judged."""
    present = ~np.isnan(pool.table.rewards_PM[:, m])
    return present & pool.audit_P if pool.partial_M[m] else present


def _record(folder: Path, pool: _Pool, m: int, price: Price, manifest: Manifest) -> ModelRecord:
    table, name = pool.table, pool.table.models[m]
    weights, intercepts = pool.fitted.probes(penalties_of(manifest))
    blocks = [(b.columns, moments) for b, moments in zip(pool.fitted.blocks, pool.fitted.moments, strict=True)]
    rated = _rated(pool, m)
    categories = sorted(set(table.categories_P.tolist()) - {""})
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


def _r2(pool: _Pool, m: int, rows: np.ndarray) -> float:
    if rows.sum() < MIN_ROWS:
        return float("nan")
    return float(r_squared(pool.predicted_PM[rows][:, [m]], pool.table.rewards_PM[rows][:, [m]])[0])


def _finish(folder: Path, manifest: Manifest, records: Sequence[ModelRecord], pool: _Pool, uncertainty: Any) -> None:
    """Write the frontier and, last, the manifest."""
    if pool.partial_M.any():
        document = _audited_frontier(pool)
    else:
        document = frontier(pool.table, pool.predicted_PM, pool.trust_P, safe=pool.safe)
    changed = replace(
        manifest,
        models=tuple(records),
        uncertainty=uncertainty,
        frontier=bundles.write_json(folder, "frontier.json", document),
        created=created(),
    )
    bundles.write_json(folder, bundles.MANIFEST, changed.to_json())


def _audited_frontier(pool: _Pool) -> dict[str, Any]:
    """frontier.json where some models were asked only some prompts; see the module docstring."""
    table, base = pool.table, pool.without(pool.partial_M)
    points = []
    zero = np.empty(0, dtype=np.int64)
    for lambda_, shrinkage, after in swept(table, partial(pool.choose, table)):
        _, before = pool.choose(base, lambda_, shrinkage)
        if lambda_ == 0.0:
            zero = after
        points.append(_point(pool, lambda_, shrinkage, before, after))
    best_is_partial = pool.partial_M[int(np.argmax(table.mean_reward_M))]
    rows = pool.audit_P if best_is_partial else np.ones(len(table), dtype=bool)
    oracle = pool.estimate(np.nanmax(base.rewards_PM, axis=1), np.nanmax(table.rewards_PM, axis=1))
    return {
        "points": points,
        "single_models": {
            name: {"reward": float(table.mean_reward_M[m]), "cost_usd": number_or_none(table.mean_cost_M[m])}
            for m, name in enumerate(table.models)
        },
        "oracle_reward": oracle,
        "verdict": verdict(table.rows(rows), zero[rows], points),
        "audited": {
            "models": [name for m, name in enumerate(table.models) if pool.partial_M[m]],
            "prompts": int(pool.audit_P.sum()),
        },
    }


def _point(pool: _Pool, lambda_: float, shrinkage: float, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    table, base, audit = pool.table, pool.without(pool.partial_M), pool.audit_P
    earned, spent = base.reward_of(before), base.cost_of(before)
    shares = [pool.estimate((before == m) * 1.0, (after == m) * 1.0) for m in range(len(table.models))]
    share = np.clip(shares, 0.0, None) / np.clip(shares, 0.0, None).sum()
    return {
        "lambda": lambda_,
        "shrinkage": shrinkage,
        "reward": pool.estimate(earned, table.reward_of(after)),
        "reward_se": _standard_error(earned, table.reward_of(after), audit),
        "cost_usd": number_or_none(pool.estimate(spent, table.cost_of(after))),
        "cost_se": number_or_none(_standard_error(spent, table.cost_of(after), audit)),
        "share": {name: float(share[m]) for m, name in enumerate(table.models) if share[m] > 0},
    }


def _standard_error(before_P: np.ndarray, after_P: np.ndarray, audit_P: np.ndarray) -> float:
    """Of the difference estimator."""
    difference = (after_P - before_P)[audit_P]
    return float(np.sqrt(before_P.var() / len(before_P) + difference.var() / audit_P.sum()))


def _report(pool: _Pool, m: int, record: ModelRecord, old: Bundle, new: Bundle) -> dict[str, Any]:
    table = pool.table
    served = replace(table, rewards_PM=np.zeros_like(table.rewards_PM))
    _, first = pool.choose(served, 0.0, float(new.frontier.shrinkage_L[0]))
    categories = sorted(set(table.categories_P.tolist()))
    newcomer = np.arange(len(table.models)) == m
    complete, known = pool.without(newcomer | pool.partial_M), pool.without(newcomer)
    gains = []
    for lambda_ in default_lambdas(old):
        _, base = pool.choose(complete, lambda_)
        gain: dict[str, Any] = {"lambda": lambda_}
        for when, available in (("before", known), ("after", table)):
            _, choice = pool.choose(available, lambda_)
            gain[f"reward_{when}"] = pool.estimate(complete.reward_of(base), available.reward_of(choice))
            gain[f"cost_usd_{when}"] = number_or_none(pool.estimate(complete.cost_of(base), available.cost_of(choice)))
        gains.append(gain)
    return {
        "model": record.name,
        "rows": record.rows,
        "audit": int(_rated(pool, m).sum()) if pool.partial_M[m] else None,
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
