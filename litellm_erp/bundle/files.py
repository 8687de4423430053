"""Files of a bundle, read and checked: nothing is used that is not what the manifest recorded."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litellm_erp.bundle.manifest import MAX_FILE_BYTES, FileRecord
from litellm_erp.errors import BundleError, BundleTampered
from litellm_erp.shown import shown_names
from litellm_erp.strict_files import MAX_HEADER_BYTES, MAX_JSON_BYTES, parse_json, parse_tensors, read_whole

_BYTES_PER_NUMBER = 8
# Rewards may be 1e15 in size and penalties 1e-6, with which weights come to 1e21; sums of such products are finite.
MOST = 1e22


def read_file(root: Path, record: FileRecord, most: int = MAX_FILE_BYTES) -> bytes:
    """The content of a file of a bundle, if it is what the manifest recorded.

    Parameters
    ----------
    most : bytes that a file of its kind can have

    Raises
    ------
    BundleTampered : missing, truncated, or altered
    BundleError : the manifest records more bytes than ``most``
    """
    path = root / record.file
    if record.bytes > most:
        raise BundleError(
            f"{path}: the manifest records {record.bytes} bytes; a file of its kind has at most {most}, by the "
            "embedder's dimension and the number of models. Fit the bundle again"
        )
    try:
        content = read_whole(path, record.bytes, inside=root)
    except OSError as e:
        if e.errno == errno.EFBIG:
            why = f"not the file that the manifest recorded ({e.strerror}, as recorded)"
            raise BundleTampered(f"{path}: {why}. Copy or fit the bundle again") from e
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


def read_json(root: Path, record: FileRecord) -> Any:
    """The JSON document in a file of a bundle.

    Raises
    ------
    BundleTampered, BundleError : see :func:`read_file`; or not JSON of plain values
    """
    try:
        return parse_json(read_file(root, record, MAX_JSON_BYTES))
    except BundleError:
        raise
    except ValueError as e:
        raise BundleError(f"{root / record.file}: not JSON ({e}). Fit the bundle again") from e


def read_tensors(root: Path, record: FileRecord, numbers: int | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file of a bundle.

    Parameters
    ----------
    numbers : the most that they can hold together; None where the manifest does not bound them

    Raises
    ------
    BundleTampered, BundleError : see :func:`read_file`; or not a safetensors file
    """
    most = MAX_FILE_BYTES
    if numbers is not None:
        most = min(most, MAX_HEADER_BYTES + numbers * _BYTES_PER_NUMBER)
    content = read_file(root, record, most)
    try:
        return parse_tensors(content)
    except ValueError as e:
        raise BundleError(f"{root / record.file}: not a safetensors file ({e}). Fit the bundle again") from e


def checked(
    tensors: Mapping[str, np.ndarray],
    key: str,
    shape: tuple[int | None, ...],
    where: Path,
    *,
    integers: bool = False,
    most: float = MOST,
) -> np.ndarray:
    """One tensor, if it has the shape (None matches any length), the dtype, and only finite numbers.

    Parameters
    ----------
    integers : expect int8 instead of a float dtype
    most : the largest number, either way

    Raises
    ------
    BundleError : it is missing, or is not so; names the file
    """
    array = tensors.get(key)
    if array is None:
        raise BundleError(f"{where}: no tensor {key!r}; found {shown_names(tensors)}")
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
    if not integers and array.size and max(array.max(), -array.min()) > most:
        raise BundleError(f"{where}: {key} has numbers beyond {most:g}, with which sums overflow. Fit it again")
    return array
