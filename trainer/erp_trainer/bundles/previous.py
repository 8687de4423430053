"""The bundle that an update replaced, kept beside the new one until the next update, and put back on demand.

It stands in `.NAME.previous` beside the bundle `NAME`, whole, its files linked where the file system has links.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from erp_trainer.bundles.write import lock_bundle, replace_bundle, save_bundle
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST
from litellm_erp.errors import BundleNotFound


def copy_files(source: Path, folder: Path, leave: Collection[str] = ()) -> None:
    """Every file of a bundle as it is, by link where the file system has them.

    Parameters
    ----------
    leave : files to leave out, by their names in the bundle
    """
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if not path.is_file() or name in leave:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # some network file systems have no hard links
            shutil.copyfile(path, target)


def previous_of(target: Path) -> Path:
    """Where a bundle's predecessor is kept."""
    return target.parent / f".{target.name}.previous"


def keep_previous(target: Path) -> None:
    """Keep a bundle as it is, in place of what was kept before; under its lock, before it is replaced."""
    with save_bundle(previous_of(target)) as folder:
        copy_files(target, folder)


def roll_back(path: Path) -> Bundle:
    """Exchange a bundle and its predecessor; a second time exchanges them back.

    Raises
    ------
    BundleNotFound : none is kept
    BundleError : what is kept is no bundle any more, which leaves both, or another writer holds the bundle
    """
    with lock_bundle(path) as target:
        kept = previous_of(target)
        if not (kept / MANIFEST).is_file():
            raise BundleNotFound(f"{path}: no earlier bundle is kept; only `erp-train update` keeps one")
        load_bundle(target)
        with replace_bundle(target) as folder:
            copy_files(kept, folder)
            # Both are whole before either is replaced; after the first exchange only links change.
            with save_bundle(kept) as older:
                copy_files(target, older)
        return load_bundle(path)
