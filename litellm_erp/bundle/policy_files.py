"""The files under a bundle's policy/, and the predictor they hold. Written and read here, so that both agree.

zooter      no file: its scores are linear, and stand as probes
pairwise    pairwise.safetensors: weights (D, Q), intercept (Q,) of the pairs of models; level, scale
benchmark   benchmark.safetensors: rows (N, D) as int8 with a scale per row; correct (N, M), 1, 0, or −1 without an
            outcome; prior (M,), neighbours, low, high; for S3 also task_distance (T,), task_right (T, M), bandwidth
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from litellm_erp.bundle.files import checked, read_tensors
from litellm_erp.bundle.manifest import Manifest
from litellm_erp.bundle.predictors import NeighbourPredictor, PairPredictor, Predictor, Trust
from litellm_erp.bundle.probe import Probes
from litellm_erp.errors import BundleError

LINEAR = ("erp", "zooter")
_LEVELS = 127
# Every pair has its regression, and every request asks them all.
MAX_PAIRED = 128
_MAX_NUMBERS = (256 << 20) // 8
# Distances are 1 − cosine; a narrower kernel than this would divide by zero.
_MAX_DISTANCE, _MIN_BANDWIDTH = 4.0, 1e-9


def policy_file(policy: str) -> str:
    """Where a bundle of a policy that is not linear keeps its parameters."""
    return f"policy/{policy}.safetensors"


def tensors_of(predictor: Predictor) -> dict[str, np.ndarray]:
    """What is stored of a predictor; nothing for linear ones."""
    if isinstance(predictor, PairPredictor):
        return {
            "weights": predictor.weights_DQ,
            "intercept": predictor.intercept_Q,
            "level": np.array([predictor.level]),
            "scale": np.array([predictor.scale]),
        }
    if isinstance(predictor, NeighbourPredictor):
        return _neighbour_tensors(predictor)
    return {}


def load_predictor(root: Path, manifest: Manifest, probes: Probes) -> Predictor:
    """The predictor of a bundle: its probes, or what its policy's file holds.

    Raises
    ------
    BundleTampered, BundleError : the file is missing, altered, or not as it must be; names it
    """
    if manifest.policy in LINEAR:
        return probes
    name = policy_file(manifest.policy)
    record = next((found for found in manifest.policy_files if found.file == name), None)
    if record is None:
        raise BundleError(f"{root}: policy {manifest.policy} without {name} in the manifest. Fit the bundle again")
    if manifest.policy == "pairwise" and len(manifest.models) > MAX_PAIRED:
        raise BundleError(f"{root}: policy pairwise of {len(manifest.models)} models; expected at most {MAX_PAIRED}")
    tensors, where = read_tensors(root, record, _MAX_NUMBERS), root / name
    if manifest.policy == "pairwise":
        return _pair_predictor(tensors, manifest, where)
    return _neighbour_predictor(tensors, manifest, where)


def _pair_predictor(tensors: Mapping[str, np.ndarray], manifest: Manifest, where: Path) -> PairPredictor:
    n_models = len(manifest.models)
    pairs = n_models * (n_models - 1) // 2
    scale = _number(tensors, "scale", where)
    if scale < 0:
        raise BundleError(f"{where}: scale is {scale}; expected at least 0. Fit the bundle again")
    return PairPredictor(
        weights_DQ=checked(tensors, "weights", (manifest.embedder.dimension, pairs), where),
        intercept_Q=checked(tensors, "intercept", (pairs,), where),
        n_models=n_models,
        level=_number(tensors, "level", where),
        scale=scale,
    )


def _neighbour_tensors(predictor: NeighbourPredictor) -> dict[str, np.ndarray]:
    scale = np.abs(predictor.rows_ND).max(axis=1, keepdims=True) / _LEVELS
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    tensors = {
        "rows": np.rint(predictor.rows_ND / scale).astype(np.int8),
        "row_scale": scale[:, 0],
        "correct": np.where(np.isnan(predictor.correct_NM), -1, predictor.correct_NM).astype(np.int8),
        "prior": predictor.prior_M.astype(np.float32),
        "neighbours": np.array([float(predictor.neighbours)]),
        "low": np.array([predictor.low]),
        "high": np.array([predictor.high]),
    }
    if predictor.trust is not None:
        tensors["task_distance"] = predictor.trust.distance_T
        tensors["task_right"] = predictor.trust.right_TM
        tensors["bandwidth"] = np.array([predictor.trust.bandwidth])
    return tensors


def _neighbour_predictor(tensors: Mapping[str, np.ndarray], manifest: Manifest, where: Path) -> NeighbourPredictor:
    n_models = len(manifest.models)
    rows = checked(tensors, "rows", (None, manifest.embedder.dimension), where, integers=True)
    scale = checked(tensors, "row_scale", (len(rows),), where)
    correct = checked(tensors, "correct", (len(rows), n_models), where, integers=True).astype(np.float32)
    neighbours = _number(tensors, "neighbours", where)
    if not len(rows) or neighbours < 1 or neighbours != int(neighbours) or not np.isin(correct, (-1, 0, 1)).all():
        raise BundleError(
            f"{where}: found {len(rows)} rows and {neighbours:g} neighbours; expected rows, a whole number of at "
            "least 1, and correct to hold 1, 0 and -1 only. Fit the bundle again"
        )
    return NeighbourPredictor(
        rows_ND=rows.astype(np.float32) * scale[:, None].astype(np.float32),
        correct_NM=np.where(correct < 0, np.float32(np.nan), correct),
        neighbours=int(neighbours),
        prior_M=checked(tensors, "prior", (n_models,), where),
        trust=_trust(tensors, n_models, where) if "task_distance" in tensors else None,
        low=_number(tensors, "low", where),
        high=_number(tensors, "high", where),
    )


def _trust(tensors: Mapping[str, np.ndarray], n_models: int, where: Path) -> Trust:
    distance = checked(tensors, "task_distance", (None,), where)
    bandwidth = _number(tensors, "bandwidth", where)
    if not len(distance) or bandwidth < _MIN_BANDWIDTH or np.abs(distance).max() > _MAX_DISTANCE:
        raise BundleError(
            f"{where}: {len(distance)} tasks and bandwidth {bandwidth:g}; expected some, at distances of up to "
            f"{_MAX_DISTANCE:g}, and at least {_MIN_BANDWIDTH:g}"
        )
    return Trust(distance, checked(tensors, "task_right", (len(distance), n_models), where), bandwidth)


def _number(tensors: Mapping[str, np.ndarray], key: str, where: Path) -> float:
    return float(checked(tensors, key, (1,), where)[0])
