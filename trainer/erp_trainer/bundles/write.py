"""Saving a bundle: one writer at a time, and the swap that puts a whole folder in another's place.

Invariants
----------
* Who changes a bundle holds its lock (`.NAME.lock` beside it) from reading it to the swap. The lock is the system's
  (flock), so it goes with its process, however that ends; another writer waits for it, for a minute.
* A bundle on disk is never half written: it is made in a temporary sibling folder, checked, synced, and renamed.
* Temporary folders have names of their own, and only under the lock are those that killed runs left removed.
* What the latest change replaced stands whole in `.NAME.previous`, with the id of what replaced it in `replaced_by`.
  Where that is not the bundle's own id, something else changed it since, and the kept one is not what came before.

On a file system without locks writers go on with one warning: two at once may then lose the change of one, never leave
half a bundle.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erp_trainer.files.atomic import sync_folder
from litellm_erp.bundle.load import verify_bundle
from litellm_erp.bundle.manifest import MANIFEST
from litellm_erp.errors import BundleError

WAIT_S = 60.0
_LOOK_S = 0.1
REPLACED_BY = "replaced_by"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EINTR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAX_NAME_BYTES = 180
# Of Linux: renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_log = logging.getLogger("litellm_erp")


class _NoLocksError(Exception):
    """The file system or the system has none."""


@contextmanager
def lock_bundle(path: Path | str, wait_s: float = WAIT_S) -> Iterator[Path]:
    """Hold a bundle, or the place of one, for this writer.

    Parameters
    ----------
    wait_s : how long to wait for another writer

    Yields
    ------
    the bundle's folder, links followed: one bundle has one lock, whatever it is called

    Raises
    ------
    BundleError : another process held it all the time, or nothing can be written there
    """
    with _writable(path):
        target = Path(path).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _beside(target, "lock")
        descriptor = _acquire(lock, target, wait_s)
    try:
        if descriptor is not None:
            _tidy(target)
        yield target
    finally:
        if descriptor is not None:
            # Removed first: who waits for it finds that the name is gone, and takes a new one.
            lock.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def replace_bundle(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends, and vanishes when it raises; under the lock.

    The bundle that was there is kept as `previous_of` it.

    Parameters
    ----------
    target : from `lock_bundle`; an existing bundle there is replaced as a whole, and anything else is refused

    Raises
    ------
    BundleError : there is something that is no bundle, or the new folder is none, which leaves the old one
    """
    with _writable(target):
        if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
            raise BundleError(f"{target} exists and is not a bundle; name another folder, or remove it first")
        temporary = _beside(target, f"{secrets.token_hex(8)}.new")
        temporary.mkdir(mode=0o700)
    try:
        yield temporary
        try:
            new = verify_bundle(temporary)
        except BundleError as e:
            raise BundleError(f"{target}: left as it was, because what was to replace it is no bundle: {e}") from e
        _sync_folders(temporary)
        temporary.chmod(0o755)
        _replace(temporary, target)
        if (temporary / MANIFEST).is_file():
            _keep(temporary, target, new.id)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def save_bundle(path: Path | str) -> Iterator[Path]:
    """`lock_bundle` and `replace_bundle` in one, for who does not need the bundle that is there.

    Raises
    ------
    BundleError : ``path`` exists and is no bundle, another writer is at work, or what was written is no bundle
    """
    with lock_bundle(path) as target, replace_bundle(target) as folder:
        yield folder


@contextmanager
def _writable(path: Path | str) -> Iterator[None]:
    """Turn what the system says of a path into a `BundleError`; a full disk has its own message at the command line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as e:
        if isinstance(e, BundleError) or getattr(e, "errno", None) in _FULL:
            raise
        raise BundleError(f"{path}: cannot be written ({e}); name another folder, or see who may write there") from e


def _beside(target: Path, suffix: str) -> Path:
    """A hidden sibling; long names are cut, and told apart by hash."""
    name = os.fsencode(target.name)
    if len(name) > _MAX_NAME_BYTES:
        name = name[: _MAX_NAME_BYTES - 16] + hashlib.sha256(name).hexdigest()[:16].encode()
    return target.parent / f".{os.fsdecode(name)}.{suffix}"


def _acquire(lock: Path, target: Path, wait_s: float) -> int | None:
    """A descriptor that holds the lock; None where there are no locks."""
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if _try(descriptor, lock):
                kept, descriptor = descriptor, -1
                return kept
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        except _NoLocksError:
            lock.unlink(missing_ok=True)
            _log.warning("%s: no locks on this file system; change a bundle with one command at a time", target)
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if time.monotonic() >= deadline:
            raise BundleError(
                f"{target}: process {holder} has been changing it for {wait_s:g} s. Wait until it has ended, or end "
                "it, and run the same command again"
            )
        if not told:
            _log.warning("%s: waiting for process %s, which is changing it", target, holder)
            told = True
        time.sleep(_LOOK_S)


def _try(descriptor: int, lock: Path) -> bool:
    """Whether it is held now."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        raise _NoLocksError from None
    except OSError as e:
        if e.errno in _NO_LOCKS:
            raise _NoLocksError from e
        if e.errno in _HELD:
            return False
        raise
    # Whoever held it may have removed the file between our opening and locking it; then it is nobody's lock.
    try:
        if not os.path.samestat(os.fstat(descriptor), lock.stat()):
            return False
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # only who waits would like to know
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    return True


def _tidy(target: Path) -> None:
    """Remove what killed writers left, and undo a swap that one left in the middle; under the lock."""
    prefix = _beside(target, "").name
    pattern = re.compile(re.escape(prefix) + "[0-9a-f]{16}[.](new|old)")
    left = [path for path in target.parent.iterdir() if pattern.fullmatch(path.name) and not path.is_symlink()]
    retired = [path for path in left if path.suffix == ".old"]
    if retired and not target.exists():
        retired[0].rename(target)
        left.remove(retired[0])
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders at once, where the system can: no reader and no crash finds neither in its place."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def previous_of(target: Path) -> Path:
    """Where the bundle is kept that the latest change of ``target`` replaced."""
    return _beside(target, "previous")


def _keep(replaced: Path, target: Path, by: str) -> None:
    """Move what was replaced to where it is kept; without it the change stands, and only cannot be rolled back.

    The same bundle written again is no change, and leaves what came before it.
    """
    kept = previous_of(target)
    with contextlib.suppress(OSError):
        if (replaced / MANIFEST).read_bytes() == (target / MANIFEST).read_bytes():
            return
        (replaced / REPLACED_BY).write_text(by)
        shutil.rmtree(kept, ignore_errors=True)
        replaced.rename(kept)


def _replace(temporary: Path, target: Path) -> None:
    """Exchange two folders, or move one where nothing is; the old one stays whole until the new one stands."""
    if target.exists() and _exchange(temporary, target):
        pass
    elif target.exists():
        retired = _beside(target, f"{secrets.token_hex(8)}.old")
        target.rename(retired)
        temporary.rename(target)
        retired.rename(temporary)
    else:
        temporary.rename(target)
    sync_folder(target.parent)


def _sync_folders(root: Path) -> None:
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        sync_folder(folder)
