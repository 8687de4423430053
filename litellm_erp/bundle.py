"""Load, validate and save bundles: folders of probes that a proxy serves from.

Invariants
----------
* A bundle that loads is whole and can decide: hashes, shapes, dtypes, ranges and every field that serving reads were
  checked. Whatever its files are, loading ends in a `BundleError`, in bounded memory.
* A bundle on disk is never half written: it is made in a temporary sibling folder, synced, and renamed.
* No pickle, no code, no network.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as render_safetensors

from litellm_erp.budget import Frontier
from litellm_erp.bundle_files import checked, read_file, read_json, read_tensors
from litellm_erp.cost import Price, PriceTable
from litellm_erp.decision import name_order
from litellm_erp.errors import BundleError, BundleNotFound
from litellm_erp.frontier_file import parse_frontier
from litellm_erp.manifest import FileRecord, Manifest
from litellm_erp.policy_files import load_predictor
from litellm_erp.predictors import Predictor
from litellm_erp.probe import Probes, Uncertainty
from litellm_erp.strict_files import MAX_JSON_BYTES, parse_json, read_whole

# 1/n is the least there is, n the number of training prompts.
_LEAST_LEVERAGE = 1e-12

MANIFEST = "manifest.json"
# Of Linux: renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle, read only.

    Attributes
    ----------
    path : the folder it was loaded from
    id : the first 12 hex digits of the manifest's sha256
    probes : one linear score per model; constants where the policy predicts with something else
    predictor : what predicts: the probes, or what the policy's own files hold
    output_tokens : a second head per model; its intercept is the stand-in where none was fitted
    mean_reward_M, tie_order_M : shape (M,), what ``decision.rank`` needs beside predictions
    """

    path: Path
    id: str
    manifest: Manifest
    probes: Probes
    predictor: Predictor
    output_tokens: Probes
    uncertainty: Uncertainty
    frontier: Frontier
    mean_reward_M: np.ndarray
    tie_order_M: np.ndarray

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the M pool models."""
        return tuple(model.name for model in self.manifest.models)

    @property
    def cost_scale(self) -> float:
        """Costs per unit of λ: 1000 for USD per request, 1 for relative cost."""
        return 1000.0 if self.manifest.cost_kind == "usd" else 1.0

    def prices(self, overrides: Mapping[str, Price] | None = None) -> PriceTable:
        """Prices of the M pool models; an override replaces the recorded price of its model."""
        overrides = overrides or {}
        table = PriceTable.from_prices([overrides.get(m.name, m.price) for m in self.manifest.models])
        constant = [
            np.nan if model.constant_cost_usd is None else model.constant_cost_usd for model in self.manifest.models
        ]
        return PriceTable(
            table.input_M, table.output_M, np.where(np.isnan(constant), table.fixed_M, np.array(constant))
        )

    def embedder_directory(self) -> Path | None:
        """The folder of the bundle's own embedder, where it carries one."""
        return self.path / "embedder" if self.manifest.embedder_files else None


def probe_file(model: str) -> str:
    """File name of a model's probe: readable, safe on any file system, and unique by hash."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[:60] or "model"
    return f"probes/{slug}-{hashlib.sha256(model.encode()).hexdigest()[:8]}.safetensors"


def load(path: Path | str) -> Bundle:
    """Load and validate a bundle.

    Raises
    ------
    BundleNotFound : no folder, or no manifest in it
    BundleTampered : a file is missing, truncated, or not the one the manifest recorded
    BundleError : anything else that is not as it must be; names the file
    """
    root = Path(path)
    return _load(root, _read_manifest(root))


def _read_manifest(root: Path) -> bytes:
    try:
        return read_whole(root / MANIFEST, MAX_JSON_BYTES, inside=root)
    except FileNotFoundError:
        what = f"has no {MANIFEST}" if root.is_dir() else "does not exist"
        raise BundleNotFound(f"bundle {root} {what}; expected a folder made by `erp-train fit`") from None
    except OSError as e:
        raise BundleError(f"{root / MANIFEST}: cannot be read ({e.strerror})") from e


def _load(root: Path, content: bytes) -> Bundle:
    where = str(root / MANIFEST)
    try:
        document = parse_json(content)
    except ValueError as e:
        raise BundleError(f"{where}: not JSON ({e}). Copy or fit the bundle again") from e
    manifest = Manifest.from_json(document, where=where)
    probes, output_tokens = _load_probes(root, manifest)
    names = [model.name for model in manifest.models]
    return Bundle(
        path=root,
        id=hashlib.sha256(content).hexdigest()[:12],
        manifest=manifest,
        probes=probes,
        predictor=load_predictor(root, manifest, probes),
        output_tokens=output_tokens,
        uncertainty=_load_uncertainty(root, manifest),
        frontier=parse_frontier(read_json(root, manifest.frontier), names, str(root / manifest.frontier.file)),
        mean_reward_M=np.array([model.mean_reward for model in manifest.models]),
        tie_order_M=name_order(names),
    )


def verify_embedder_files(bundle: Bundle) -> None:
    """Check the bundle's own embedder files against the manifest.

    Raises
    ------
    BundleTampered : a file is missing, truncated or altered
    """
    for record in bundle.manifest.embedder_files:
        read_file(bundle.path, record)


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends, and vanishes when it raises.

    An existing bundle at ``path`` is replaced as a whole; anything else there is refused.

    Raises
    ------
    BundleError : ``path`` exists and is no bundle
    """
    target = Path(path)
    if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target} exists and is not a bundle; name another folder, or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        _replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders at once, where the system can: no reader and no crash finds neither in its place."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _replace(temporary: Path, target: Path) -> None:
    """Put one folder in another's place; the old one stays whole until the new one stands."""
    if target.exists() and _exchange(temporary, target):
        pass  # what was the bundle is now the temporary folder, and goes with it
    elif target.exists():
        retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        target.rename(retired / "bundle")
        temporary.rename(target)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        temporary.rename(target)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _load_probes(root: Path, manifest: Manifest) -> tuple[Probes, Probes]:
    dimension, n_models = manifest.embedder.dimension, len(manifest.models)
    weights: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    intercepts = np.zeros(n_models, dtype=np.float32)
    token_intercepts = np.full(n_models, manifest.expected_output_tokens, dtype=np.float32)
    none = np.zeros(dimension, dtype=np.float32)
    for m, model in enumerate(manifest.models):
        where = root / model.probe.file
        tensors = read_tensors(root, model.probe, 2 * (dimension + 1))
        weights.append(checked(tensors, "weights", (dimension,), where))
        intercepts[m] = checked(tensors, "intercept", (1,), where)[0]
        tokens.append(none)
        if "output_tokens_weights" in tensors:
            tokens[m] = checked(tensors, "output_tokens_weights", (dimension,), where)
            token_intercepts[m] = checked(tensors, "output_tokens_intercept", (1,), where)[0]
    return Probes(_columns(weights), intercepts), Probes(_columns(tokens), token_intercepts)


def _columns(vectors: Sequence[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(vectors, axis=1), dtype=np.float32)


def _load_uncertainty(root: Path, manifest: Manifest) -> Uncertainty:
    where = root / manifest.uncertainty.file
    dimension, n_models = manifest.embedder.dimension, len(manifest.models)
    tensors = read_tensors(root, manifest.uncertainty, dimension * (dimension + 1) + 2 * n_models + 3)
    scalars = {key: float(checked(tensors, key, (1,), where)[0]) for key in ("base", "usual", "distrust")}
    noise, slope = (checked(tensors, key, (n_models,), where) for key in ("noise", "slope"))
    if min(noise.min(), slope.min(), scalars["base"], scalars["distrust"]) < 0 or scalars["usual"] < _LEAST_LEVERAGE:
        raise BundleError(f"{where}: a variance, leverage or distrust is negative, or a leverage zero. Fit it again")
    return Uncertainty(
        mean_D=checked(tensors, "mean", (dimension,), where),
        whiten_DR=checked(tensors, "whiten", (dimension, None), where),
        noise_M=noise,
        slope_M=slope,
        **scalars,
    )
