"""IO. A file as the store of shared counters: budgets survive a restart, and workers of one machine share them.

The file holds every process's shares, so that whoever reads it knows all that was spent, and a restart goes on from
there. One process at a time reads, merges and replaces it, in a thread; a lock beside it says whose turn it is. It is
read like a file from a stranger: content that is not ours is one warning, and a new beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from litellm_erp.budgets.amounts import MAX_COUNT, amount
from litellm_erp.budgets.counters import sound
from litellm_erp.budgets.stores.store import Answer, MemoryStore, Shares
from litellm_erp.errors import BudgetFileError

try:
    import fcntl
except ImportError:  # no locks on this system: one worker only
    fcntl = None  # type: ignore[assignment]

FORMAT = "litellm-erp budgets 1"
_MAX_BYTES = 32 * 2**20
_MAX_KEYS = 50_000
_MAX_KEY_CHARS = 1_000
_WAIT_S, _LOOK_EVERY_S = 1.0, 0.01
# Money first, should there ever be more than fits.
_FIRST = ("window", "total", "accounts", "traffic")


class FileStore:
    """Counters in a file.

    Parameters
    ----------
    path : of the file; its folder must exist
    """

    name = "the budget file"
    every_s = 2.0

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        self._problem: str | None = None
        self._busy = threading.Lock()

    def reset(self) -> None:
        """Nothing is held open."""

    def load(self) -> tuple[dict[str, tuple[float, dict[str, int]]], str | None]:
        """What the file holds, by key, and what was wrong with it; blocks, for a few milliseconds.

        Never raises: a file that cannot be used holds nothing.
        """
        return {key: (expires_s, fields) for key, (expires_s, fields) in self._read().keys.items()}, self._problem

    async def exchange(self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float) -> Answer:
        """Send shares and gauges, and bring what all have.

        Raises
        ------
        OSError, BudgetFileError : it cannot be written, or another process does not give it back
        """
        return await asyncio.to_thread(self._exchange, worker, dict(shares), dict(gauges), wall_s)

    def _exchange(self, worker: str, shares: Shares, gauges: Mapping[str, int], wall_s: float) -> Answer:
        self._problem = None
        with self._locked():
            held = self._read()
            answer = held.meet(worker, shares, gauges, wall_s)
            self._write(held)
        if self._problem:
            answer.problems.append(self._problem)
            answer.anew = True
        return answer

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Where a disk does not answer, one thread waits for it, and not all there are.
        if not self._busy.acquire(timeout=_WAIT_S):
            raise BudgetFileError(f"{self._path}: the disk does not answer")
        try:
            with self._locked_for_others():
                yield
        finally:
            self._busy.release()

    @contextlib.contextmanager
    def _locked_for_others(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        lock = self._path.with_name(self._path.name + ".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            ends_s = time.monotonic() + _WAIT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends_s:
                        raise BudgetFileError(
                            f"{lock}: another process has held this lock for {_WAIT_S:g} s; expected milliseconds"
                        ) from None
                    time.sleep(_LOOK_EVERY_S)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> MemoryStore:
        try:
            content = _bytes_of(self._path)
            return MemoryStore() if content is None else _checked(json.loads(content, parse_constant=_no_number))
        except (ValueError, RecursionError, OSError) as e:
            self._problem = (
                f"{self._path}: not a budget file ({type(e).__name__}), so it is begun anew and what was spent before "
                "is not known"
            )
            return MemoryStore()

    def _write(self, held: MemoryStore) -> None:
        most = min(len(held.keys), _MAX_KEYS)
        content = _encoded(held, most)
        while len(content) > _MAX_BYTES and most:
            # What is too large to be read again would lose everything.
            most //= 2
            content = _encoded(held, most)
        # Whoever holds the lock is the only one that writes, so what lies there is of a process that was killed.
        beside = self._path.with_name(f".{self._path.name}.new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def _bytes_of(path: Path) -> bytes | None:
    """The content of an ordinary file of a bearable size; None where there is none yet."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise BudgetFileError(f"{path}: expected a file of at most {_MAX_BYTES} bytes")
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise BudgetFileError(f"{path}: expected a file of at most {_MAX_BYTES} bytes")
    return content or None


def _checked(found: Any) -> MemoryStore:
    """What a document as we write it holds; what is wrong in its parts is left out.

    Raises
    ------
    BudgetFileError : it is something else
    """
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BudgetFileError("not our format")
    keys, workers = found.get("keys"), found.get("workers")
    if not isinstance(keys, dict) or not isinstance(workers, dict):
        raise BudgetFileError("not our format")
    held = MemoryStore()
    for key, entry in keys.items():
        expires_s, fields = _pair(entry)
        if expires_s is not None and isinstance(fields, dict) and len(key) <= _MAX_KEY_CHARS:
            held.keys[key] = [expires_s, sound(fields)[0]]
    for worker, entry in workers.items():
        heard_s, gauges = _pair([entry[1], entry[0]] if isinstance(entry, list) and len(entry) == 2 else None)
        if heard_s is not None and isinstance(gauges, dict):
            values = {name: int(v) for name, v in gauges.items() if amount(v, MAX_COUNT) is not None}
            held.workers[worker] = [values, heard_s]
    return held


def _pair(entry: Any) -> tuple[float | None, Any]:
    """A moment, and what goes with it."""
    if not isinstance(entry, list) or len(entry) != 2:
        return None, None
    return amount(entry[0], 1e12), entry[1]


def _encoded(held: MemoryStore, most: int) -> bytes:
    """The file's content, with so many keys: money first where there is too much."""
    keys = held.keys
    if most < len(keys):
        rank = {kind: i for i, kind in enumerate(_FIRST)}
        order = sorted(keys, key=lambda key: rank.get(key.partition("|")[0], len(rank)))
        keys = {key: keys[key] for key in order[:most]}
    document = {"format": FORMAT, "keys": keys, "workers": held.workers}
    return json.dumps(document, separators=(",", ":")).encode()


def _no_number(text: str) -> Any:
    raise BudgetFileError(f"{text} is no number")
