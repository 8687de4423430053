"""Files of a bundle, read and checked: nothing is used that is not what the manifest recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors

from litellm_erp.errors import BundleError, BundleTampered
from litellm_erp.manifest import FileRecord


def read_file(root: Path, record: FileRecord) -> bytes:
    """The content of a file of a bundle, if it is what the manifest recorded.

    Raises
    ------
    BundleTampered : missing, truncated, or altered
    """
    path = root / record.file
    try:
        content = path.read_bytes()
    except OSError as e:
        raise BundleTampered(f"{path}: cannot be read ({e.strerror}). Copy or fit the bundle again") from e
    if len(content) < record.bytes:
        raise BundleTampered(
            f"{path}: truncated: {len(content)} bytes found, {record.bytes} expected. Copy the bundle again"
        )
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise BundleTampered(
            f"{path}: not the file that the manifest recorded (sha256 differs). Copy or fit the bundle again"
        )
    return content


def read_tensors(root: Path, record: FileRecord) -> dict[str, np.ndarray]:
    """The tensors of a file of a bundle.

    Raises
    ------
    BundleTampered : see :func:`read_file`
    BundleError : not a safetensors file
    """
    try:
        return parse_safetensors(read_file(root, record))
    except SafetensorError as e:
        raise BundleError(f"{root / record.file}: not a safetensors file ({e}). Fit the bundle again") from e


def checked(
    tensors: Mapping[str, np.ndarray], key: str, shape: tuple[int | None, ...], where: Path, *, integers: bool = False
) -> np.ndarray:
    """One tensor, if it has the shape (None matches any length), the dtype, and only finite numbers.

    Parameters
    ----------
    integers : expect int8 instead of a float dtype

    Raises
    ------
    BundleError : it is missing, or is not so; names the file
    """
    array = tensors.get(key)
    if array is None:
        raise BundleError(f"{where}: no tensor {key!r}; found {', '.join(sorted(tensors)) or 'none'}")
    if array.dtype not in ((np.int8,) if integers else (np.float32, np.float64)):
        expected = "int8" if integers else "float32 or float64"
        raise BundleError(f"{where}: {key} has dtype {array.dtype}; expected {expected}")
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if want is None else want for want in shape)
        raise BundleError(
            f"{where}: {key} has shape {array.shape}; expected {wanted}, from the embedder's dimension and the "
            "number of models in the manifest"
        )
    if not np.isfinite(array).all():
        raise BundleError(f"{where}: {key} contains NaN or inf. Fit the bundle again")
    return array
