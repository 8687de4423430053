"""Load, validate and save bundles: folders of probes that a proxy serves from.

Invariants
----------
* A bundle that loads is whole and can decide: hashes, shapes, dtypes, ranges and every field that serving reads were
  checked. Whatever its files are, loading ends in a `BundleError`, in bounded memory.
* Writers: see `bundle_writing`.
* No pickle, no code, no network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from litellm_erp.bundle import write as bundle_writing
from litellm_erp.bundle.files import checked, read_file, read_json, read_tensors
from litellm_erp.bundle.frontier import Frontier, parse_frontier
from litellm_erp.bundle.manifest import Manifest
from litellm_erp.bundle.policy_files import load_predictor
from litellm_erp.bundle.predictors import Predictor
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.bundle.write import MANIFEST, locked, write_file, write_json, write_tensors
from litellm_erp.choice.cost import Price, PriceTable
from litellm_erp.choice.decision import name_order
from litellm_erp.errors import BundleError, BundleNotFound, BundleTampered
from litellm_erp.strict_files import MAX_JSON_BYTES, parse_json, read_whole

# 1/n is the least there is, n the number of training prompts.
_LEAST_LEVERAGE = 1e-12
_RETRIES = 20

__all__ = [
    "MANIFEST",
    "Bundle",
    "load",
    "locked",
    "probe_file",
    "replacing",
    "verify",
    "verify_embedder_files",
    "write_file",
    "write_json",
    "write_tensors",
    "writing",
]


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
    content = _read_manifest(root)
    for _ in range(_RETRIES):
        try:
            return _load(root, content)
        except BundleTampered:
            # Replaced while it was read: its first files were the old bundle's, the others are the new one's.
            before, content = content, _read_manifest(root)
            if content == before:
                raise
    return _load(root, content)


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


def verify(path: Path | str) -> Bundle:
    """Load a bundle and check what loading leaves out: its embedder's files and its statistics, where it has them.

    Raises
    ------
    BundleError : see `load`
    """
    bundle = load(path)
    verify_embedder_files(bundle)
    for record in {record for model in bundle.manifest.models for record in model.stats}:
        if os.path.lexists(bundle.path / record.file):
            read_file(bundle.path, record)
    return bundle


def replacing(target: Path) -> AbstractContextManager[Path]:
    """A temporary folder that becomes ``target`` if it is a whole bundle when the block ends; under the lock.

    Raises
    ------
    BundleError : see `bundle_writing.replacing`
    """
    return bundle_writing.replacing(target, verify)


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """`locked` and `replacing` in one, for who does not need the bundle that is there.

    Raises
    ------
    BundleError : ``path`` exists and is no bundle, another writer is at work, or what was written is no bundle
    """
    with locked(path) as target, replacing(target) as folder:
        yield folder


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
