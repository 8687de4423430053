"""A bundle brought up to date by the feedback in a decision log, without the data that it was fitted on.

The sums that a bundle keeps (`stats/`) and the new rows say all that a fit would say, as far as the choices stay what
they were (`sums`). A fifth of the requests, by a hash of their ids, is never learned from: on it the new bundle is held
against the old one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from erp_trainer.bundles.previous import copy_files
from erp_trainer.bundles.records import created, stack_of, write_json, write_stats, write_tensors
from erp_trainer.bundles.write import lock_bundle, replace_bundle
from erp_trainer.learning.bootstrap import Resamples
from erp_trainer.learning.embed import embed_prompts
from erp_trainer.learning.moments import Moments
from erp_trainer.logged.asked_bundle import batches, prompts_of
from erp_trainer.logged.learned import LearnedRequests
from erp_trainer.logged.log import Log, check_shares_models
from erp_trainer.logged.newcomers import Placed, newcomers_in, place, report_of, write_placed
from erp_trainer.logged.sums import ModelSums, NewRows, Updated, mean_rewards, updated
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.features import FeatureProbes
from litellm_erp.bundle.files import checked, read_tensors
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST, FileRecord, ModelRecord
from litellm_erp.bundle.probe import Probes
from litellm_erp.decision_log.desk import RewardRange
from litellm_erp.embedding.base import Embedder
from litellm_erp.errors import BundleError, DecisionLogError

HELD_OUT = 5
_MIN_HELD_OUT = 20
# Rewards further from what was expected than so many of training's standard deviations are of another unit.
_FAR = 2.0


@dataclass(frozen=True, slots=True)
class Learned:
    """What a log has for a bundle to learn.

    Attributes
    ----------
    rows, held_out : to learn from, and to judge by
    requests : by column of model, which rows of the log are learned from
    counts : requests with feedback, how many of them have no text, are of models without sums, were learned before, or
        have a reward that no answer can have
    """

    rows: NewRows
    held_out: NewRows
    requests: dict[int, list[int]]
    counts: dict[str, int]


def update_bundle(
    path: Path,
    log: Log,
    embedder: Embedder,
    *,
    half_life_days: float | None = None,
    require_better: bool = False,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any]:
    """Learn from a log's feedback, and put the new bundle in the old one's place.

    Parameters
    ----------
    half_life_days : after which what was learned counts half; None forgets nothing
    require_better : leave the bundle as it is unless its squared error on held-out requests is no larger than before

    Returns
    -------
    promoted, id, learned and held-out rows, models, squared error before and after with the difference's interval

    Raises
    ------
    BundleError : no ERP bundle with sums, or another writer holds it
    DecisionLogError : nothing new to learn from, rewards of another unit, or a log of other models
    """
    texts = _embedded(log, embedder, advance)
    with lock_bundle(path) as target:
        bundle = load_bundle(path)
        if bundle.manifest.embedder != embedder.spec:
            raise BundleError(f"{path}: was just fitted with another embedder; run the same command again")
        sums = sums_of(bundle)
        check_shares_models(log, bundle)
        known = learned_by(bundle, sums)
        possible = RewardRange.of(bundle.mean_reward_M.tolist(), np.sqrt(bundle.uncertainty.noise_M).tolist())
        here = [p for p in texts if not is_held_out(log.request_ids[p]) and float(log.reward_P[p]) in possible]
        newcomers, waiting = newcomers_in(bundle, log, here)
        learned = _learned(bundle, log, texts, sums, known, newcomers, possible)
        stack = stack_of(bundle.manifest)
        found = updated(sums, len(bundle.models), learned.rows, bundle.features, stack, half_life_days)
        placed = _placed(bundle, log, texts, sums, found, newcomers)
        judged = judge_update(bundle, found, learned.held_out)
        report = {
            "bundle": str(path),
            "rows": len(learned.rows.time_N),
            "models": [bundle.models[m] for m in found.columns.tolist()],
            "newcomers": report_of(placed, bundle.mean_reward_M[list(sums)]),
            "waiting": [{"model": name, "rows": n, "needed": need} for name, (n, need) in waiting.items()],
            "half_life_days": half_life_days,
            **learned.counts,
            "judged": judged,
        }
        if require_better and not judged["no_worse"]:
            return {**report, "promoted": False, "id": bundle.id}
        logged = {
            m: known[m].with_rows(log, rows).tensors() | {"until": np.array([found.until])}
            for m, rows in learned.requests.items()
        }
        expected = predict(bundle, found, learned.rows.embeddings_ND)
        means = mean_rewards(sums, learned.rows, expected, half_life_days)
        with replace_bundle(target) as folder:
            write_updated(folder, bundle, found, means, placed, _matrix(texts), logged)
        return {**report, "promoted": True, "id": load_bundle(path).id, "was": bundle.id}


def sums_of(bundle: Bundle) -> dict[int, ModelSums]:
    """The sums of every model that has all of them, by column.

    Raises
    ------
    BundleError : of another policy than ERP, or none has
    """
    if bundle.manifest.policy != "erp":
        raise BundleError(f"{bundle.path}: its policy is {bundle.manifest.policy}; only erp bundles can be updated")
    shared: dict[str, dict[str, np.ndarray]] = {}
    found = {}
    n_features = 0 if bundle.features is None else len(bundle.features.bias_F)
    start = _seconds(bundle)
    for m, model in enumerate(bundle.manifest.models):
        if len(model.stats) != 2:
            continue
        prompts, own = model.stats
        if prompts.file not in shared:
            shared[prompts.file] = read_tensors(bundle.path, prompts)
        mine = read_tensors(bundle.path, own)
        if "label_sum" in mine:
            sums = _sums(bundle, shared[prompts.file], mine, prompts, own, n_features, start)
            found[m] = replace(sums, mean=model.mean_reward, mean_weight=model.mean_weight)
    if not found:
        raise BundleError(
            f"{bundle.path}: keeps no sums that a log could be added to; fit it again with this release: erp-train fit"
        )
    return found


def _sums(
    bundle: Bundle,
    shared: dict[str, np.ndarray],
    own: dict[str, np.ndarray],
    prompts: FileRecord,
    record: FileRecord,
    n_features: int,
    start: float,
) -> ModelSums:
    dimension, most = bundle.manifest.embedder.dimension, np.inf
    theirs, mine = bundle.path / prompts.file, bundle.path / record.file
    moments = Moments(
        float(checked(shared, "weight", (1,), theirs, most=most)[0]),
        checked(shared, "sum", (dimension,), theirs, most=most),
        checked(shared, "gram", (dimension, dimension), theirs, most=most),
        checked(own, "sum_y", (1,), mine, most=most),
        checked(own, "sum_yy", (1,), mine, most=most),
        checked(own, "xty", (dimension,), mine, most=most)[:, None],
    )
    labels = [checked(own, key, (n_features,), mine, most=most) for key in ("label_sum", "label_count")]
    until = float(checked(own, "until", (1,), mine, most=most)[0]) if "until" in own else start
    return ModelSums(prompts.file, moments, np.stack(labels), until)


def learned_by(bundle: Bundle, models: Collection[int]) -> dict[int, LearnedRequests]:
    """Which requests of logs models have learned from, by column."""
    found = {}
    for m in models:
        _, own = bundle.manifest.models[m].stats
        found[m] = LearnedRequests.of(read_tensors(bundle.path, own), bundle.path / own.file)
    return found


def _seconds(bundle: Bundle) -> float:
    """When a bundle was made, seconds since 1970: how old what it was fitted on is at least."""
    try:
        return datetime.fromisoformat(str(bundle.manifest.created.get("at"))).timestamp()
    except ValueError:
        return 0.0


def _embedded(log: Log, embedder: Embedder, advance: Callable[[int], None]) -> dict[int, np.ndarray]:
    """Embeddings of the requests with feedback and text, by row of the log."""
    place = {request: p for p, request in enumerate(zip(log.request_ids, log.accounts, strict=True))}
    wanted = ((request, text) for request, text in prompts_of(log) if not np.isnan(log.reward_P[place[request]]))
    found: dict[int, np.ndarray] = {}
    for requests, texts in batches(wanted):
        vectors = embed_prompts(tuple(texts), embedder, advance).embeddings_PD
        found |= {place[request]: vector for request, vector in zip(requests, vectors, strict=True)}
    return found


def _learned(
    bundle: Bundle,
    log: Log,
    vectors: dict[int, np.ndarray],
    sums: dict[int, ModelSums],
    known: Mapping[int, LearnedRequests],
    newcomers: Mapping[str, list[int]],
    possible: RewardRange,
) -> Learned:
    column_of = {name: m for m, name in enumerate(bundle.models)}
    said = np.flatnonzero(~np.isnan(log.reward_P) & (log.served_P >= 0))
    seen = {m: each.has(log) for m, each in known.items()}
    rows, columns, before, without = [], [], 0, 0
    for p in said.tolist():
        m = column_of.get(log.models[log.served_P[p]], -1)
        if p not in vectors or m not in sums:
            without += m not in sums and p in vectors and log.models[log.served_P[p]] not in newcomers
        elif seen[m][p]:
            before += 1
        else:
            rows.append(p)
            columns.append(m)
    _check_unit(bundle, vectors, log.reward_P, rows, columns, sums)
    odd = np.array([float(log.reward_P[p]) not in possible for p in rows], dtype=bool)
    held = np.array([is_held_out(log.request_ids[p]) for p in rows], dtype=bool) & ~odd
    counts = {
        "feedback": len(said),
        "without_prompt": len(said) - sum(p in vectors for p in said.tolist()),
        "without_sums": without,
        "learned_before": before,
        "impossible": int(odd.sum()),
        "held_out": int(held.sum()),
    }
    requests: dict[int, list[int]] = {}
    for i in np.flatnonzero(~held & ~odd).tolist():
        requests.setdefault(columns[i], []).append(rows[i])
    if not requests and not _tell_more(bundle, newcomers):
        raise DecisionLogError(
            f"nothing new to learn from: of {counts['feedback']:,} answers with feedback {counts['without_prompt']:,} "
            f"are without the prompt's text, {without:,} of models that keep no sums, {before:,} learned before, "
            f"{counts['impossible']:,} with rewards that cannot be and {counts['held_out']:,} held out to judge by. "
            "Log prompts, or come back with more feedback"
        )
    rewards = np.full((len(rows), len(bundle.models)), np.nan)
    rewards[np.arange(len(rows)), columns] = log.reward_P[rows]
    embeddings = np.stack([vectors[p] for p in rows]) if rows else np.empty((0, bundle.manifest.embedder.dimension))
    everything = NewRows(embeddings, rewards, log.time_P[rows])
    return Learned(everything.among(~held & ~odd), everything.among(held), requests, counts)


def _tell_more(bundle: Bundle, newcomers: Mapping[str, list[int]]) -> bool:
    """Whether a newcomer is not placed yet, or has more answers than it was placed from."""
    placed = {record.name: record.rows for record in bundle.manifest.models}
    return any(len(rows) > placed.get(name, 0) for name, rows in newcomers.items())


def is_held_out(request_id: str) -> bool:
    """Whether a request is for judging only, today and in every later update."""
    digest = hashlib.blake2b(b"held out " + request_id.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT == 0


def _check_unit(
    bundle: Bundle,
    vectors: Mapping[int, np.ndarray],
    reward_P: np.ndarray,
    rows: Sequence[int],
    columns: Sequence[int],
    sums: dict[int, ModelSums],
) -> None:
    """Raise where rewards are so far from what was expected that they must be of another unit."""
    if not rows:
        return
    expected = bundle.predictor.predict(np.stack([vectors[p] for p in rows]))
    away = float(np.abs(reward_P[rows] - expected[np.arange(len(rows)), columns]).mean())
    spreads = [
        each.moments.sum_yy_M[0] / each.moments.weight - (each.moments.sum_y_M[0] / each.moments.weight) ** 2
        for each in sums.values()
    ]
    spread = float(np.sqrt(max(np.median(spreads), 0.0)))
    if spread > 0 and away > _FAR * spread:
        raise DecisionLogError(
            f"feedback is {away:.3g} away from what {bundle.path} expects on average, and its rewards spread by "
            f"{spread:.3g}: it is in another unit. Give it in the bundle's reward unit, or choose it with --feedback"
        )


def judge_update(bundle: Bundle, found: Updated, rows: NewRows) -> dict[str, Any]:
    """Squared error of the bundle and of what it would become, on requests that neither learned from."""
    if not len(found.columns):
        return {"rows": 0, "no_worse": True, "why": "no model that was there has learned anything"}
    if len(rows.time_N) < _MIN_HELD_OUT:
        return {"rows": len(rows.time_N), "no_worse": False, "why": f"fewer than {_MIN_HELD_OUT} held-out answers"}
    known = ~np.isnan(rows.rewards_NM)
    before, after = (
        np.where(known, (rows.rewards_NM - said) ** 2, 0.0).sum(axis=1)
        for said in (bundle.predictor.predict(rows.embeddings_ND), predict(bundle, found, rows.embeddings_ND))
    )
    change = Resamples.draw(np.arange(len(before))).mean(after - before)
    return {
        "rows": len(before),
        "squared_error_before": float(before.mean()),
        "squared_error_after": float(after.mean()),
        "change": change.to_json(),
        "no_worse": bool(change.mean <= 0),
    }


def predict(bundle: Bundle, found: Updated, embeddings_ND: np.ndarray) -> np.ndarray:
    """What the updated bundle expects, shape (N, M)."""
    weights, intercept = bundle.probes.weights_DM.copy(), bundle.probes.intercept_M.copy()
    changed = found.columns
    weights[:, changed], intercept[changed] = found.probes.weights_DM[:, changed], found.probes.intercept_M[changed]
    probes = Probes(weights, intercept)
    if bundle.features is None or not isinstance(bundle.predictor, FeatureProbes):
        return probes.predict(embeddings_ND)
    cells = bundle.predictor.cells_FM.copy()
    cells[:, changed] = found.cells_FM[:, changed]
    return FeatureProbes(probes, bundle.features, cells).predict(embeddings_ND)


def _placed(
    bundle: Bundle,
    log: Log,
    vectors: dict[int, np.ndarray],
    sums: dict[int, ModelSums],
    found: Updated,
    newcomers: Mapping[str, list[int]],
) -> list[Placed]:
    """Newcomers of which the log says enough, placed among the models as they are to be."""
    if not newcomers:
        return []
    means = bundle.mean_reward_M.copy()
    for m, each in sums.items():
        means[m] = each.moments.sum_y_M[0] / each.moments.weight
    for columns, moments in found.groups:
        means[columns] = moments.sum_y_M / moments.weight
    weights, intercept = bundle.probes.weights_DM.copy(), bundle.probes.intercept_M.copy()
    changed = found.columns
    weights[:, changed], intercept[changed] = found.probes.weights_DM[:, changed], found.probes.intercept_M[changed]
    expected = predict(bundle, found, _matrix(vectors))
    return place(bundle, expected, Probes(weights, intercept), means, log, vectors, newcomers)


def _matrix(vectors: dict[int, np.ndarray]) -> np.ndarray:
    return np.stack(list(vectors.values()))


def write_updated(
    folder: Path,
    bundle: Bundle,
    found: Updated,
    means: tuple[np.ndarray, np.ndarray],
    placed: Sequence[Placed] = (),
    requests_PD: np.ndarray | None = None,
    logged: Mapping[int, Mapping[str, np.ndarray]] = MappingProxyType({}),
) -> None:
    """A whole bundle: the changed models' probes and sums anew, newcomers beside them, every other file as it was.

    Parameters
    ----------
    means : of rewards and their weights, see `mean_rewards`
    requests_PD : embeddings of what newcomers may be sent, where there are any
    logged : by column, what of the log is kept among a model's sums
    """
    manifest = bundle.manifest
    changed = set(found.columns.tolist())
    kept = {record.file for m, model in enumerate(manifest.models) if m not in changed for record in model.stats}
    gone = {record.file for m in changed for record in manifest.models[m].stats} - kept
    probes = {manifest.models[m].probe.file for m in changed}
    whole = {manifest.frontier.file, manifest.uncertainty.file} if placed else set()
    again = {record.probe.file for record in manifest.models if record.name in {each.name for each in placed}}
    copy_files(bundle.path, folder, leave={MANIFEST, *gone, *probes, *whole, *again})
    stats = write_stats(folder, found.groups, totals=found.totals_2FM, logged=logged)
    weight = {m: moments.weight for columns, moments in found.groups for m in columns.tolist()}
    models = [
        _written(folder, bundle, model, m, found, weight[m], stats[m]) if m in changed else model
        for m, model in enumerate(manifest.models)
    ]
    # What a model did not serve counts in its mean too.
    models = [
        replace(model, mean_reward=mean, mean_weight=count) if count > 0.0 else model
        for model, mean, count in zip(models, *(each.tolist() for each in means), strict=True)
    ]
    made = replace(manifest, models=tuple(models), created=created())
    if placed and requests_PD is not None:
        made = write_placed(folder, bundle, made, placed, requests_PD)
    write_json(folder, MANIFEST, made.to_json())


def _written(
    folder: Path,
    bundle: Bundle,
    model: ModelRecord,
    m: int,
    found: Updated,
    weight: float,
    stats: tuple[FileRecord, ...],
) -> ModelRecord:
    tensors = read_tensors(bundle.path, model.probe)
    tensors |= {"weights": found.probes.weights_DM[:, m], "intercept": found.probes.intercept_M[m : m + 1]}
    if "memberships" in tensors:
        tensors["memberships"] = found.cells_FM[:, m]
    return replace(
        model,
        probe=write_tensors(folder, model.probe.file, tensors),
        rows=max(1, round(weight)),
        stats=stats,
    )
