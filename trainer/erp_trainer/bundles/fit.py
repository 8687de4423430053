"""From a run to a bundle on disk: the one place where outcomes, embedder, fit and files meet."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.bundles.policy_records import FittedRival, fit_rival
from erp_trainer.bundles.write import lock_bundle, probe_file, replace_bundle, write_file, write_json, write_tensors
from erp_trainer.learning.embed import EmbeddedPrompts, embed_run
from erp_trainer.learning.moments import Moments
from erp_trainer.learning.ridge import CrossFit, Penalties, assign_folds, cross_fit, mean_squared_error
from erp_trainer.learning.training_table import Table
from erp_trainer.outcomes.run import Run
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.policies.erp import BETAS, FittedERP, Preset, fit_erp
from erp_trainer.policies.frontier import number_or_none
from litellm_erp import __version__
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST, FileRecord, Manifest, ModelRecord
from litellm_erp.bundle.policy_files import policy_file, tensors_of
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price, PriceTable
from litellm_erp.embedding import Embedder
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.errors import FitError


@dataclass(frozen=True, slots=True)
class TokenHead:
    """Probes of expected output tokens, for pools whose outcomes recorded them."""

    weights_DM: np.ndarray
    intercept_M: np.ndarray
    out_of_fold_PM: np.ndarray


def fit_bundle(
    run: Run,
    embedder: Embedder,
    out: Path,
    *,
    policy: str = "erp",
    preset: Preset = "best",
    beta: float | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> Bundle:
    """Fit a bundle on a run's train split and write it.

    Parameters
    ----------
    out : the bundle's folder; an existing bundle there is replaced as a whole, and only by a whole one
    policy : erp, or one of policies.registry.SERVED
    preset, beta : of erp; ``beta`` fixes the ridge penalty
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
    return fit_embedded(run, outcomes, embedded, embedder, out, policy=policy, preset=preset, beta=beta, seed=seed)


def fit_embedded(
    run: Run,
    outcomes: OutcomesTable,
    embedded: EmbeddedPrompts,
    embedder: Embedder,
    out: Path,
    *,
    policy: str = "erp",
    preset: Preset = "best",
    beta: float | None = None,
    seed: int = 0,
    refit: Callable[[FittedERP], FittedERP] = lambda fitted: fitted,
    restate: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Bundle:
    """The rest of `fit_bundle`, on outcomes and vectors that need not be all of the run's.

    Parameters
    ----------
    refit, restate : put what is known of all rows in place of what these rows say, in the fit and in the manifest
    """
    train = np.array([split == "train" for split in outcomes.splits])
    if not train.any():
        raise FitError(f"{run.path}: no row has split 'train'; import the outcomes again, or without a split column")
    expected_tokens = float(run.manifest["expected_output_tokens"])
    tables = table_of(outcomes, embedded, run.prices(), expected_tokens).rows(train)
    output_tokens = outcomes.output_tokens_PM[train]
    head = fit_token_head(tables, output_tokens, seed)
    if head is not None and preset == "best":
        tables = with_expected_tokens(tables, embedded.input_tokens_P[train], head.out_of_fold_PM, run.prices())
    rival = None if policy == "erp" else fit_rival(tables, policy, seed)
    fitted = fit_erp(tables, preset=preset, beta=beta, seed=seed) if rival is None else rival.pool
    fitted = refit(fitted)
    with lock_bundle(out) as target:
        with replace_bundle(target) as folder:
            manifest = _write(folder, run, outcomes, train, embedder, tables, fitted, head, preset)
            if rival is not None:
                manifest = _with_policy(folder, manifest, rival)
            write_json(folder, MANIFEST, restate(manifest).to_json())
        return load_bundle(out)


def _with_policy(folder: Path, manifest: Manifest, rival: FittedRival) -> Manifest:
    """The manifest of a bundle of another policy, whose parameters are written into the folder."""
    tensors = tensors_of(rival.predictor)
    files = (write_tensors(folder, policy_file(rival.policy), tensors),) if tensors else ()
    return replace(manifest, policy=rival.policy, safety=False, policy_files=files, policy_options=rival.options)


def table_of(
    outcomes: OutcomesTable, embedded: EmbeddedPrompts, prices: Mapping[str, Price], expected_tokens: float
) -> Table:
    """Outcomes with their vectors and costs.

    Realised cost is the recorded cost; else price times recorded tokens; else price times the estimated input and
    ``expected_tokens`` of output. Expected cost leaves out what is known only after the call.
    """
    table = PriceTable.from_prices([prices.get(model, UNKNOWN_PRICE) for model in outcomes.models])
    estimated = embedded.input_tokens_P[:, None]
    tokens_in = np.where(np.isnan(outcomes.input_tokens_PM), estimated, outcomes.input_tokens_PM)
    tokens_out = np.where(np.isnan(outcomes.output_tokens_PM), expected_tokens, outcomes.output_tokens_PM)
    by_tokens = table.expected_cost(tokens_in, tokens_out)
    return Table(
        models=outcomes.models,
        embeddings_PD=embedded.embeddings_PD,
        rewards_PM=outcomes.rewards_PM,
        expected_cost_PM=table.expected_cost(estimated, np.full_like(tokens_out, expected_tokens)),
        realised_cost_PM=np.where(np.isnan(outcomes.cost_usd_PM), by_tokens, outcomes.cost_usd_PM),
        groups_P=outcomes.duplicate_groups(),
        categories_P=np.array(outcomes.categories),
        cost_scale=1.0 if _relative(prices) else 1000.0,
        tags_P=_tags(outcomes),
        log_likelihood_PM=outcomes.log_likelihood_PM,
        self_check_PM=outcomes.self_check_PM,
        samples_PMK=outcomes.samples_PMK,
        noise_PM=outcomes.reward_std_PM**2 / np.maximum(outcomes.n_samples_PM, 1),
    )


def _tags(outcomes: OutcomesTable) -> np.ndarray | None:
    if not any(outcomes.tags):
        return None
    tags_P = np.empty(len(outcomes.tags), dtype=object)
    tags_P[:] = outcomes.tags
    return tags_P


def fit_token_head(
    table: Table, output_tokens_PM: np.ndarray, seed: int, *, least: int | None = None
) -> TokenHead | None:
    """Fit expected output tokens where every model recorded them; β by out-of-fold squared error.

    Parameters
    ----------
    least : prompts for which each model must have recorded them; by default half of the table's
    """
    recorded = np.where(np.isnan(table.rewards_PM), np.nan, output_tokens_PM)
    counts = (~np.isnan(recorded)).sum(axis=0)
    if counts.min() < max(1, len(table) // 2 if least is None else least):
        return None
    fitted: CrossFit = cross_fit(table.embeddings_PD, recorded, assign_folds(table.groups_P, seed), table.models)
    beta = min(BETAS, key=lambda b: mean_squared_error(fitted.out_of_fold(b), recorded))
    weights, intercept = fitted.probes(beta)
    return TokenHead(weights, intercept, np.maximum(fitted.out_of_fold(beta), 1.0))


def with_expected_tokens(
    table: Table, input_tokens_P: np.ndarray, output_tokens_PM: np.ndarray, prices: Mapping[str, Price]
) -> Table:
    """The table with its expected costs from predicted output tokens."""
    costs = PriceTable.from_prices([prices.get(model, UNKNOWN_PRICE) for model in table.models])
    return replace(table, expected_cost_PM=costs.expected_cost(input_tokens_P[:, None], output_tokens_PM))


def _write(
    folder: Path,
    run: Run,
    outcomes: OutcomesTable,
    train: np.ndarray,
    embedder: Embedder,
    table: Table,
    fitted: FittedERP,
    head: TokenHead | None,
    preset: Preset,
) -> Manifest:
    prices = run.prices()
    stats = write_stats(folder, fitted.blocks)
    records = []
    for m, name in enumerate(table.models):
        constant = None if fitted.constant_cost_M is None else number_or_none(fitted.constant_cost_M[m])
        records.append(
            ModelRecord(
                name=name,
                probe=write_probe(folder, name, fitted.probes, head if preset == "best" else None, m),
                rows=int((~np.isnan(table.rewards_PM[:, m])).sum()),
                beta=fitted.penalties.rest,
                task_beta=fitted.task_beta,
                mean_reward=float(fitted.mean_reward_M[m]),
                r2=number_or_none(fitted.r2_M[m]),
                r2_by_category={category: number_or_none(r2[m]) for category, r2 in fitted.r2_by_category.items()},
                price=prices.get(name, UNKNOWN_PRICE),
                constant_cost_usd=constant,
                stats=stats.get(m, ()),
            )
        )
    return Manifest(
        policy="erp",
        preset=preset,
        safety=preset == "best",
        embedder=embedder.spec,
        embedder_files=_copy_embedder(folder, embedder),
        reward={**_reward(run, outcomes),
                "samples_per_prompt": int(np.median(outcomes.n_samples_PM[outcomes.n_samples_PM > 0]))},
        cost_kind="relative" if _relative(prices) else "usd",
        expected_output_tokens=float(run.manifest["expected_output_tokens"]),
        prompt_set=prompt_set(outcomes, train),
        created=created(),
        uncertainty=write_uncertainty(folder, fitted.uncertainty),
        frontier=write_json(folder, "frontier.json", fitted.frontier),
        models=tuple(records),
    )  # fmt: skip


def _reward(run: Run, outcomes: OutcomesTable) -> dict[str, Any]:
    """What a reward is, as far as the run knows: a run that was scored here recorded it, an import has a name."""
    recorded = run.manifest["options"].get("reward")
    if recorded:
        return {"zero": None, **recorded}
    return {"models": [outcomes.reward_model or "rewards"], "unit": "reward", "normalisation": "none", "zero": None}


def penalties_of(manifest: Manifest) -> Penalties:
    """What the probes of an ERP bundle were fitted with."""
    first = manifest.models[0]
    return Penalties(first.beta if first.task_beta is None else first.task_beta, first.beta)


def write_probe(folder: Path, name: str, probes: Probes, head: TokenHead | None, column: int) -> FileRecord:
    """Write one model's probe, with its token head where there is one."""
    tensors = {"weights": probes.weights_DM[:, column], "intercept": probes.intercept_M[column : column + 1]}
    if head is not None:
        tensors["output_tokens_weights"] = head.weights_DM[:, column]
        tensors["output_tokens_intercept"] = head.intercept_M[column : column + 1]
    return write_tensors(folder, probe_file(name), tensors)


def write_uncertainty(folder: Path, found: Uncertainty) -> FileRecord:
    """Write what standard errors need."""
    return write_tensors(
        folder,
        "uncertainty.safetensors",
        {
            "mean": found.mean_D,
            "whiten": found.whiten_DR,
            "noise": found.noise_M,
            "slope": found.slope_M,
            "base": np.array([found.base]),
            "usual": np.array([found.usual]),
            "distrust": np.array([found.distrust]),
        },
    )


def write_stats(
    folder: Path, blocks: Sequence[tuple[np.ndarray, Moments]], only: Collection[int] | None = None
) -> dict[int, tuple[FileRecord, ...]]:
    """Write sufficient statistics by content: the scatter once per prompt set, the targets once per model.

    Parameters
    ----------
    only : the models to write, by column; by default all
    """
    records: dict[int, tuple[FileRecord, ...]] = {}
    for columns, moments in blocks:
        wanted = [(position, m) for position, m in enumerate(columns.tolist()) if only is None or m in only]
        if not wanted:
            continue
        shared = _write_addressed(
            folder, {"gram": moments.gram_DD, "sum": moments.sum_D, "weight": np.array([moments.weight])}
        )
        for position, m in wanted:
            own = {
                "xty": moments.xty_DM[:, position],
                "sum_y": moments.sum_y_M[position : position + 1],
                "sum_yy": moments.sum_yy_M[position : position + 1],
            }
            records[m] = (shared, _write_addressed(folder, own))
    return records


def _write_addressed(folder: Path, tensors: dict[str, np.ndarray]) -> FileRecord:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return write_tensors(folder, f"stats/{digest.hexdigest()}.safetensors", tensors)


def _copy_embedder(folder: Path, embedder: Embedder) -> tuple[FileRecord, ...]:
    """A bundle carries its static embedder, so that it outlives the version of the wheel it was fitted with."""
    if not isinstance(embedder, StaticEmbedder):
        return ()
    files = sorted(path for path in embedder.directory.iterdir() if path.is_file())
    return tuple(write_file(folder, f"embedder/{path.name}", path.read_bytes()) for path in files)


def prompt_set(outcomes: OutcomesTable, train: np.ndarray) -> dict[str, Any]:
    """What the manifest says of the prompts; the fingerprint is of those of the train split."""
    digest = hashlib.sha256()
    for index in np.flatnonzero(train):
        digest.update(prompt_digest(outcomes.prompt_ids[index], outcomes.prompts[index]))
    return {
        "fingerprint": digest.hexdigest(),
        "train": int(train.sum()),
        "test": sum(split == "test" for split in outcomes.splits),
    }


def prompt_digest(prompt_id: str, prompt: str) -> bytes:
    """32 bytes that change with either."""
    return hashlib.sha256(f"{prompt_id}\0{prompt}".encode()).digest()


def created() -> dict[str, str]:
    """When and by what a bundle is written."""
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "litellm_erp": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _relative(prices: Mapping[str, Price]) -> bool:
    return any(price.relative_cost is not None for price in prices.values())
