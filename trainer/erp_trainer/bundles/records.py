"""The files of a bundle and what its manifest says of them, for a fit and for whoever changes a pool later."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors.numpy import save as render_safetensors

from erp_trainer.learning.moments import Moments
from erp_trainer.learning.stack import Stack
from erp_trainer.outcomes.table import OutcomesTable
from erp_trainer.policies.frontier import number_or_none
from litellm_erp import __version__
from litellm_erp.bundle.features import Features
from litellm_erp.bundle.manifest import FileRecord, Manifest, ModelRecord
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.choice.cost import Price
from litellm_erp.embedding.base import Embedder


def write_file(root: Path, name: str, content: bytes) -> FileRecord:
    """Write one file of a bundle, synced to disk, and describe it for the manifest."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(name, hashlib.sha256(content).hexdigest(), len(content))


def write_tensors(root: Path, name: str, tensors: Mapping[str, np.ndarray]) -> FileRecord:
    """Write arrays as safetensors; the same arrays always give the same bytes."""
    return write_file(root, name, render_safetensors({k: np.ascontiguousarray(v) for k, v in tensors.items()}))


def write_json(root: Path, name: str, document: Mapping[str, Any]) -> FileRecord:
    """Write a JSON document; NaN and infinity are refused."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    return write_file(root, name, (text + "\n").encode())


def probe_file(model: str) -> str:
    """File name of a model's probe: readable, safe on any file system, and unique by hash."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[:60] or "model"
    return f"probes/{slug}-{hashlib.sha256(model.encode()).hexdigest()[:8]}.safetensors"


def write_model(
    folder: Path,
    name: str,
    column: int,
    probes: Probes,
    cells_FM: np.ndarray,
    head: Probes | None,
    *,
    rows: int,
    beta: float,
    mean_reward: float,
    r2: float,
    r2_by_category: Mapping[str, float],
    price: Price,
    constant_cost_usd: float | None,
    stats: tuple[FileRecord, ...],
    parameters: Mapping[str, Any] | None = None,
) -> ModelRecord:
    """Write one model's probe, with its token head where there is one, and describe the model for the manifest.

    Parameters
    ----------
    column : of the model in ``probes``, ``cells_FM`` and ``head``
    """
    tensors = {"weights": probes.weights_DM[:, column], "intercept": probes.intercept_M[column : column + 1]}
    if len(cells_FM):
        tensors["memberships"] = cells_FM[:, column]
    if head is not None:
        tensors["output_tokens_weights"] = head.weights_DM[:, column]
        tensors["output_tokens_intercept"] = head.intercept_M[column : column + 1]
    return ModelRecord(
        name=name,
        probe=write_tensors(folder, probe_file(name), tensors),
        rows=rows,
        beta=beta,
        mean_reward=mean_reward,
        r2=number_or_none(r2),
        r2_by_category={category: number_or_none(found) for category, found in r2_by_category.items()},
        price=price,
        constant_cost_usd=None if constant_cost_usd is None else number_or_none(constant_cost_usd),
        stats=stats,
        parameters=parameters,
    )


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
        },
    )


def write_features(folder: Path, found: Features | None) -> FileRecord | None:
    """Write what all models of a pool share; None where that is nothing."""
    if found is None:
        return None
    return write_tensors(
        folder,
        "features.safetensors",
        {
            "weights": found.weights_DF,
            "bias": found.bias_F,
            "sizes": np.array(found.sizes, dtype=np.float64),
            "entropy": found.entropy_Q,
            "unusual": np.array([found.unusual]),
        },
    )


def write_stats(
    folder: Path,
    blocks: Sequence[tuple[np.ndarray, Moments]],
    only: Collection[int] | None = None,
    *,
    totals: np.ndarray | None = None,
    logged: Mapping[int, Mapping[str, np.ndarray]] = MappingProxyType({}),
) -> dict[int, tuple[FileRecord, ...]]:
    """Write sufficient statistics by content: the scatter once per prompt set, the targets once per model.

    Parameters
    ----------
    only : the models to write, by column; by default all
    totals : of all models, see ``stack.label_totals``; without them a model cannot be updated later
    logged : by column, what else is kept of a model that rows of a log were added to, float64
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
            if totals is not None:
                own |= {"label_sum": totals[0][:, m], "label_count": totals[1][:, m]}
            records[m] = (shared, _write_addressed(folder, own | dict(logged.get(m, {}))))
    return records


def _write_addressed(folder: Path, tensors: dict[str, np.ndarray]) -> FileRecord:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return write_tensors(folder, f"stats/{digest.hexdigest()}.safetensors", tensors)


def copy_embedder(folder: Path, embedder: Embedder) -> tuple[FileRecord, ...]:
    """Write the files of its embedder that a bundle carries."""
    return tuple(write_file(folder, f"embedder/{path.name}", path.read_bytes()) for path in embedder.files())


def fitted_rows(outcomes: OutcomesTable, *, refitted: bool) -> np.ndarray:
    """The rows that are served from, shape (P,), bool: those of train, and of test where it was fitted again."""
    wanted = ("train", "test") if refitted else ("train",)
    return np.array([split in wanted for split in outcomes.splits])


def prompt_set(outcomes: OutcomesTable, rows: np.ndarray, *, refitted: bool = False) -> dict[str, Any]:
    """What the manifest says of the prompts; the fingerprint is of those that what is served was fitted on.

    Parameters
    ----------
    rows : shape (P,), bool, that it was fitted on
    refitted : chosen, and all figures, on the train split; then fitted on test too
    """
    digest = hashlib.sha256()
    for index in np.flatnonzero(rows):
        digest.update(prompt_digest(outcomes.prompt_ids[index], outcomes.prompts[index]))
    return {
        "fingerprint": digest.hexdigest(),
        "train": int(rows.sum() if not refitted else sum(split == "train" for split in outcomes.splits)),
        "test": sum(split == "test" for split in outcomes.splits),
        "refitted": refitted,
        "fitted": int(rows.sum()),
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


def stack_of(manifest: Manifest) -> Stack:
    """What the probes of an ERP bundle were fitted with."""
    return Stack(manifest.models[0].beta, manifest.stack)
