"""The bundle that the latest change replaced, put back on demand; and a bundle's files, linked where they can be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from erp_trainer.bundles.write import REPLACED_BY, lock_bundle, previous_of, replace_bundle
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MANIFEST, MAX_NAME
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


def roll_back(path: Path) -> Bundle:
    """Put back what the latest change of a bundle replaced, whichever command made it; that is a change too.

    So a second time brings back what was rolled back.

    Raises
    ------
    BundleNotFound : none is kept, or the one that is kept is not what came before the bundle as it is
    BundleError : what is kept is no bundle any more, which leaves both, or another writer holds the bundle
    """
    with lock_bundle(path) as target:
        now = load_bundle(target)
        kept = previous_of(target)
        if not (kept / MANIFEST).is_file():
            raise BundleNotFound(f"{path}: no earlier bundle is kept; this one has replaced none")
        by = _replaced_by(kept)
        if by != now.id:
            raise BundleNotFound(
                f"{path}: the bundle that is kept was replaced by {by}, and this one is {now.id}: it was put there in "
                f"another way since. The kept one stands in {kept}; copy it, where it is what you want"
            )
        with replace_bundle(target) as folder:
            copy_files(kept, folder, leave={REPLACED_BY})
        return load_bundle(path)


def _replaced_by(kept: Path) -> str:
    try:
        return (kept / REPLACED_BY).read_text(encoding="utf-8", errors="replace")[:MAX_NAME] or "nothing known"
    except OSError:
        return "nothing known"
