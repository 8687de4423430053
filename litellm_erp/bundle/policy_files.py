"""The policies that a bundle can hold, and the file under policy/ that one keeps which is not linear."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from litellm_erp.bundle import stored
from litellm_erp.bundle.files import checked, read_tensors
from litellm_erp.bundle.manifest import Manifest
from litellm_erp.bundle.predictors import Predictor, StoredPredictor
from litellm_erp.errors import BundleError
from litellm_erp.shown import shown

# Policies whose scores are linear: they stand as probes, and have no file.
LINEAR = ("erp", "zooter")


def _predictors() -> dict[str, type[StoredPredictor] | None]:
    """By policy, what its file holds; None where scores are linear."""
    names = sorted(module.name for module in pkgutil.iter_modules(stored.__path__))
    found = {name: importlib.import_module(f"{stored.__name__}.{name}").PREDICTOR for name in names}
    return dict.fromkeys(LINEAR) | found


PREDICTORS: Mapping[str, type[StoredPredictor] | None] = _predictors()
_MAX_NUMBERS = (256 << 20) // 8


def policy_file(policy: str) -> str:
    """Where a bundle of a policy that is not linear keeps its parameters."""
    return f"policy/{policy}.safetensors"


def tensors_of(predictor: Predictor) -> dict[str, np.ndarray]:
    """What is stored of a predictor; nothing for linear ones."""
    return predictor.tensors() if isinstance(predictor, StoredPredictor) else {}


def load_predictor(root: Path, manifest: Manifest, linear: Predictor) -> Predictor:
    """The predictor of a bundle: what is linear, or what its policy's file holds.

    Raises
    ------
    BundleTampered, BundleError : no such policy, or the file is missing, altered, or not as it must be; names it
    """
    policy = manifest.policy
    if policy not in PREDICTORS:
        raise BundleError(
            f"{root}: policy: found {shown(policy)}; expected one of {', '.join(PREDICTORS)}. "
            "Upgrade litellm-erp, or fit the bundle again"
        )
    kind, name = PREDICTORS[policy], policy_file(policy)
    if kind is None:
        return linear
    record = next((found for found in manifest.policy_files if found.file == name), None)
    if record is None:
        raise BundleError(f"{root}: policy {policy} without {name} in the manifest. Fit the bundle again")
    tensors = _Checked(read_tensors(root, record, _MAX_NUMBERS), root / name)
    return kind.read(tensors, len(manifest.models), manifest.embedder.dimension)


@dataclass(frozen=True, slots=True)
class _Checked:
    """`StoredTensors` of a file."""

    found: Mapping[str, np.ndarray]
    where: Path

    def array(self, key: str, *shape: int | None, integers: bool = False) -> np.ndarray:
        return checked(self.found, key, shape, self.where, integers=integers)

    def number(self, key: str) -> float:
        return float(self.array(key, 1)[0])

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def wrong(self, why: str) -> BundleError:
        return BundleError(f"{self.where}: {why}. Fit the bundle again")
