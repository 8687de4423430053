"""IO. Append-only records that survive a crash: what sampling and scoring write.

::

    RUN/samples/<slug>-<key>/
      spec.json             what was asked for; the key is its hash, so other parameters are another folder
      part-0001.jsonl       one record a line, in the order in which they were finished
      part-0002.jsonl       a later process starts a part of its own

Invariants: a line that ends in a newline is a whole record and is never changed; a line that does not was cut by a
crash and counts as never written; a part is only ever appended to, by the process that made it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from erp_trainer.files.atomic import atomic_file
from litellm_erp.errors import RunError

SPEC = "spec.json"
_SYNC_EVERY_S = 1.0


def content_key(spec: Mapping[str, Any]) -> str:
    """16 hex digits that change with anything in ``spec``; JSON values only."""
    canonical = json.dumps(spec, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class Parts:
    """The records of one stage for one specification.

    Parameters
    ----------
    stage : ``RUN/samples`` or ``RUN/scores``
    name : for people; the first half of the folder's name
    spec : everything that decides the records' content
    """

    def __init__(self, stage: Path, name: str, spec: Mapping[str, Any]) -> None:
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "unnamed"
        self.key = content_key(spec)
        self.folder = stage / f"{slug}-{self.key}"
        self._spec = spec

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every whole record, part by part.

        Raises
        ------
        RunError : a whole line is not a JSON object; names file and line
        """
        for path in sorted(self.folder.glob("part-*.jsonl")):
            with path.open("rb") as part:
                for number, line in enumerate(part, start=1):
                    if line.endswith(b"\n"):
                        yield _record(path, number, line)

    def writer(self) -> PartWriter:
        """A new part to append to, as a context manager."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / SPEC).exists():
            with atomic_file(self.folder / SPEC) as temporary:
                temporary.write_text(json.dumps(self._spec, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return PartWriter(self.folder)


class PartWriter:
    """Appends records to one part.

    A record survives the end of the process as soon as ``append`` returns. It survives the machine's within a second:
    syncing every record would make the disk the slowest model of the pool.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._synced_at = time.monotonic()
        self._descriptor: int | None = None
        self._path = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record.

        Raises
        ------
        RunError : the disk is full or cannot be written; what was appended before stays
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._create()
            while line:
                line = line[os.write(self._descriptor, line) :]
            if time.monotonic() - self._synced_at > _SYNC_EVERY_S:
                os.fdatasync(self._descriptor)
                self._synced_at = time.monotonic()
        except OSError as e:
            self.__exit__(None, None, None)
            raise RunError(
                f"{self._path}: cannot be written ({e.strerror}); what was recorded before is kept. Make room and run "
                "the same command again"
            ) from e

    def _create(self) -> int:
        number = 1 + max((int(p.stem[5:]) for p in self._folder.glob("part-*.jsonl")), default=0)
        self._path = self._folder / f"part-{number:04d}.jsonl"
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)


@contextmanager
def only_process(run: Path) -> Iterator[None]:
    """Hold a run folder for this process; the lock goes with the process, however it ends.

    Raises
    ------
    RunError : another process holds it
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise RunError(
                f"{run}: in use by process {holder}; two processes on one run folder would do the work twice. Wait for "
                "it, or end it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise RunError(
            f"{path}: line {number} is not a record; the file was changed by something else. Delete the line"
        )
    return record
