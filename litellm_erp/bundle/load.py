"""Load and validate bundles: folders of probes that a proxy serves from.

Invariants
----------
* A bundle that loads is whole and can decide: hashes, shapes, dtypes, ranges and every field that serving reads were
  checked. Whatever its files are, loading ends in a `BundleError`, in bounded memory.
* No pickle, no code, no network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.features import FeatureProbes, Features
from litellm_erp.bundle.files import checked, read_file, read_json, read_tensors
from litellm_erp.bundle.frontier import LARGEST, Frontier
from litellm_erp.bundle.manifest import (
    MANIFEST,
    MAX_FEATURES,
    MAX_POINTS,
    MAX_SETS,
    Manifest,
    entries,
    readable,
)
from litellm_erp.bundle.policy_files import load_predictor
from litellm_erp.bundle.probe import Probes, Uncertainty
from litellm_erp.choice.decision import name_order
from litellm_erp.config_section import Section
from litellm_erp.errors import BundleError, BundleNotFound, BundleTampered
from litellm_erp.strict_files import MAX_JSON_BYTES, parse_json, read_whole

_MAX_QUANTILES = 10_000
_RETRIES = 20
_REMEDY = ". Fit the bundle again"
_MAX_VERDICT = 10_000
# Of squared rewards, also per unit of a small leverage; sums of them stay within a double.
_MAX_VARIANCE = 1e40
# Shares are means of counts; their last digit may stand above one.
_MAX_SHARE = 1.0 + 1e-6


def load_bundle(path: Path | str) -> Bundle:
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
    features = _load_features(root, manifest)
    probes, output_tokens, cells_FM = _load_probes(root, manifest, 0 if features is None else len(features.bias_F))
    linear = probes if features is None else FeatureProbes(probes, features, cells_FM)
    names = [model.name for model in manifest.models]
    return Bundle(
        path=root,
        id=hashlib.sha256(content).hexdigest()[:12],
        manifest=manifest,
        probes=probes,
        predictor=load_predictor(root, manifest, linear),
        output_tokens=output_tokens,
        features=features,
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


def verify_bundle(path: Path | str) -> Bundle:
    """Load a bundle and check what loading leaves out: its embedder's files and its statistics, where it has them.

    Raises
    ------
    BundleError : see `load_bundle`
    """
    bundle = load_bundle(path)
    verify_embedder_files(bundle)
    for record in {record for model in bundle.manifest.models for record in model.stats}:
        if os.path.lexists(bundle.path / record.file):
            read_file(bundle.path, record)
    return bundle


def _load_features(root: Path, manifest: Manifest) -> Features | None:
    if manifest.features is None:
        if len(manifest.stack) != 1:
            raise BundleError(
                f"{root / MANIFEST}: its stack is of sets of memberships, and it has no features{_REMEDY}"
            )
        return None
    where, dimension = root / manifest.features.file, manifest.embedder.dimension
    tensors = read_tensors(root, manifest.features, (dimension + 1) * MAX_FEATURES + _MAX_QUANTILES + MAX_SETS + 1)
    weights = checked(tensors, "weights", (dimension, None), where)
    sizes = checked(tensors, "sizes", (None,), where)
    entropy, unusual = checked(tensors, "entropy", (None,), where), checked(tensors, "unusual", (1,), where)[0]
    n = weights.shape[1]
    if len(sizes) != len(manifest.stack) - 1 or (sizes < 1).any() or (sizes % 1).any() or sizes.sum() != n:
        raise BundleError(f"{where}: its sets of memberships are not those of the manifest's stack{_REMEDY}")
    if not 0 <= unusual <= 1 or (np.diff(entropy) < 0).any():
        raise BundleError(f"{where}: the share of unusual prompts or the quantiles of their entropy are none{_REMEDY}")
    return Features(
        np.ascontiguousarray(weights, dtype=np.float32),
        checked(tensors, "bias", (n,), where).astype(np.float32),
        tuple(map(int, sizes)),
        entropy.astype(np.float64),
        float(unusual),
    )


def _load_probes(root: Path, manifest: Manifest, n_features: int) -> tuple[Probes, Probes, np.ndarray]:
    dimension, n_models = manifest.embedder.dimension, len(manifest.models)
    weights: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    intercepts = np.zeros(n_models, dtype=np.float32)
    token_intercepts = np.full(n_models, manifest.expected_output_tokens, dtype=np.float32)
    none = np.zeros(dimension, dtype=np.float32)
    cells_FM = np.zeros((n_features, n_models), dtype=np.float32)
    for m, model in enumerate(manifest.models):
        where = root / model.probe.file
        tensors = read_tensors(root, model.probe, 2 * (dimension + 1) + n_features)
        weights.append(checked(tensors, "weights", (dimension,), where))
        intercepts[m] = checked(tensors, "intercept", (1,), where)[0]
        if n_features:
            cells_FM[:, m] = checked(tensors, "memberships", (n_features,), where)
        tokens.append(none)
        if "output_tokens_weights" in tensors:
            tokens[m] = checked(tensors, "output_tokens_weights", (dimension,), where)
            token_intercepts[m] = checked(tensors, "output_tokens_intercept", (1,), where)[0]
    return Probes(_columns(weights), intercepts), Probes(_columns(tokens), token_intercepts), cells_FM


def _columns(vectors: Sequence[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(vectors, axis=1), dtype=np.float32)


def _load_uncertainty(root: Path, manifest: Manifest) -> Uncertainty:
    where = root / manifest.uncertainty.file
    dimension, n_models = manifest.embedder.dimension, len(manifest.models)
    tensors = read_tensors(root, manifest.uncertainty, dimension * (dimension + 1) + 2 * n_models + 2)
    base = float(checked(tensors, "base", (1,), where)[0])
    noise, slope = (checked(tensors, key, (n_models,), where, most=_MAX_VARIANCE) for key in ("noise", "slope"))
    usual = float(checked(tensors, "usual", (1,), where)[0]) if "usual" in tensors else 0.0
    if min(noise.min(), slope.min(), base, usual) < 0:
        raise BundleError(f"{where}: a variance or a leverage is negative. Fit it again")
    return Uncertainty(
        mean_D=checked(tensors, "mean", (dimension,), where),
        whiten_DR=checked(tensors, "whiten", (dimension, None), where),
        base=base,
        noise_M=noise,
        slope_M=slope,
        usual=usual,
    )


def parse_frontier(document: Any, models: Sequence[str], where: str) -> Frontier:
    """Check and read a frontier.

    Parameters
    ----------
    document : the JSON value
    models : the pool, in the manifest's order; shares, single models and the verdict may name no others

    Raises
    ------
    BundleError : a field is missing, of another type or out of range; names it
    """
    top = Section(document, f"{where}:", BundleError, remedy=_REMEDY)
    points, pool = entries(top, "points", MAX_POINTS), frozenset(models)
    for point in points:
        _check_share(point, pool)
    _check_verdict(top.section("verdict"), pool)
    lambda_L = np.array([point.number("lambda", low=0.0, high=LARGEST) for point in points])
    if not len(lambda_L) or lambda_L[0] != 0 or (np.diff(lambda_L) <= 0).any():
        raise BundleError(f"{where}: the λ of its points must ascend from 0{_REMEDY}")
    single = top.section("single_models", pool)
    singles = [single.section(name) for name in models]
    return Frontier(
        lambda_L=lambda_L,
        reward_L=np.array([_mean_reward(point) for point in points]),
        cost_L=np.array([_mean_cost(point) for point in points]),
        shrinkage_L=np.array([point.number("shrinkage", low=0.0, high=1.0) for point in points]),
        single_reward_M=np.array([_mean_reward(entry) for entry in singles]),
        single_cost_M=np.array([_mean_cost(entry) for entry in singles]),
        document=document,
    )


def _mean_reward(entry: Section) -> float:
    return entry.number("reward", low=-LARGEST, high=LARGEST)


def _mean_cost(entry: Section) -> float:
    found = entry.optional_number("cost_usd", low=0.0, high=LARGEST)
    return np.nan if found is None else found


def _check_share(point: Section, pool: Collection[str]) -> None:
    share = point.section("share", pool)
    for name in share:
        share.number(name, low=0.0, high=_MAX_SHARE)
    for key in ("reward_se", "cost_se"):
        point.optional_number(key, low=0.0, high=LARGEST)


def _check_verdict(verdict: Section, pool: Collection[str]) -> None:
    verdict.boolean("helps")
    if verdict.get("best_single") is not None:  # bundles of before it was recorded
        verdict.choice("best_single", pool)
    readable(verdict, "text", _MAX_VERDICT)
