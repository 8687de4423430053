"""Lines of the decision log on disk: written by a thread of its own, so that no request waits for a disk.

Each process writes files of its own, named after its start and its pid, readable by their owner alone. A line is
written whole or taken back; what is torn by a crash is the last line of a file. A full queue, a full disk, a folder
that is gone: lines are dropped and counted, a warning is said once, and nothing else follows.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from litellm_erp.choice.prompt import cell_of_turns, turns_in
from litellm_erp.decision_log.record import MOST_LINE_CHARS, Feedback, Record, to_line
from litellm_erp.errors import SettingsError
from litellm_erp.goals.settings import DecisionLogSettings
from litellm_erp.metrics.recorder import metrics
from litellm_erp.telemetry import Once

Entry = Record | Feedback
Redact = Callable[[str], object]
# Of a prompt, and of an answer. As JSON, a character outside of Unicode's first plane takes twelve.
MOST_PROMPT_CHARS = MOST_ANSWER_CHARS = 80_000
SUFFIX = ".jsonl"
_MB = 1_000_000
_MOST_QUEUED, _BATCH = 20_000, 1000
_MOST_QUEUED_CHARS = 32_000_000
_CHARS_OF_ENTRY = 500
_EVERY_S = 0.1
_RETRY_S = 5.0
_CLOSE_S = 2.0
# Feedback anybody with a key can send: it never pushes out what was decided.
_FEEDBACK_SHARE = 8
_once = Once()


class DecisionLog:
    """Writes entries to a folder.

    Parameters
    ----------
    settings : with a path

    Raises
    ------
    SettingsError : the function that is to redact texts cannot be imported
    """

    def __init__(self, settings: DecisionLogSettings) -> None:
        if settings.path is None:
            raise SettingsError("erp_settings.decision_log: found no path; expected the path of a folder")
        self.keeps_prompts, self.keeps_answers = settings.prompts, settings.answers
        self._redact = None if settings.redact is None else _function(settings.redact)
        mine = f"{int(time.time() * 1000)}-{os.getpid()}-{secrets.token_hex(3)}"
        most = int(settings.max_mb * _MB)
        rotate = int(settings.rotate_mb * _MB)
        feedback = most // _FEEDBACK_SHARE
        self._files = {
            Record.kind: _Files(settings.path, f"decisions-{mine}", rotate, most - feedback),
            Feedback.kind: _Files(settings.path, f"feedback-{mine}", min(rotate, feedback // 2), feedback),
        }
        self._queue: deque[Entry] = deque()
        # Each is written by one thread alone; their difference is what is queued.
        self._chars_added = self._chars_taken = 0
        self._thread: threading.Thread | None = None
        self._wake, self._closing = threading.Event(), False

    def add(self, entry: Entry) -> bool:
        """Have an entry written soon; returns at once, and never raises.

        Returns
        -------
        False where there is no room for it, and it is dropped
        """
        if len(self._queue) >= _MOST_QUEUED or self._chars_added - self._chars_taken >= _MOST_QUEUED_CHARS:
            _dropped(1, "the disk is slower than decisions come")
            return False
        self._chars_added += _size(entry)
        self._queue.append(entry)
        if self._thread is None:
            self._start()
        return True

    def close(self) -> None:
        """Write what is queued, within two seconds."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _start(self) -> None:
        try:
            # A daemon, so that a disk that hangs keeps no proxy from ending.
            self._thread = threading.Thread(target=self._run, name="erp-decision-log", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        except RuntimeError:
            self._thread = None

    def _run(self) -> None:
        while not self._closing or self._queue:
            self._wake.wait(_EVERY_S)
            entries: list[Entry] = []
            while self._queue and len(entries) < _BATCH:
                entry = self._queue.popleft()
                self._chars_taken += _size(entry)
                entries.append(entry)
            try:
                for kind, files in self._files.items():
                    files.write([line for entry in entries if entry.kind == kind and (line := self._line(entry))])
            except (Exception, SystemExit) as e:
                # A thread that ends says nothing; this one goes on.
                _dropped(len(entries), f"writing failed: {type(e).__name__}")

    def _line(self, entry: Entry) -> bytes | None:
        if isinstance(entry, Record) and self._redact is not None:
            entry = replace(entry, prompt=self._redacted_prompt(entry.prompt), answer=self._redacted(entry.answer))
        try:
            line = to_line(entry)
        except Exception as e:
            _dropped(1, f"a line could not be made: {type(e).__name__}")
            return None
        if len(line) > MOST_LINE_CHARS:
            _dropped(1, "a line is too long")
            return None
        return line.encode("ascii")

    def _redacted_prompt(self, prompt: str | None) -> str | None:
        """A conversation is redacted text by text, and left out where one of them is."""
        turns = None if prompt is None else turns_in(prompt)
        if turns is None:
            return self._redacted(prompt)
        kept = [(role, self._redacted(text)) for role, text in turns]
        whole = [(role, text) for role, text in kept if text is not None]
        if len(whole) < len(kept) or sum(len(text) for _, text in whole) > MOST_PROMPT_CHARS:
            return None
        return cell_of_turns(whole)

    def _redacted(self, text: str | None) -> str | None:
        if text is None or self._redact is None:
            return text
        try:
            kept = self._redact(text)
        except (Exception, SystemExit) as e:
            # What it raised may quote the text.
            _once.warn(f"decision log: the redaction raised {type(e).__name__}; such texts are left out")
            return None
        return kept[:MOST_PROMPT_CHARS] if isinstance(kept, str) else None


class _Files:
    """The files of one kind that this process writes, and the room that all processes' files of it may take."""

    def __init__(self, folder: Path, stem: str, rotate: int, most: int) -> None:
        self._folder, self._stem = folder, stem
        self._rotate, self._most = max(rotate, 1), most
        self._number = 0
        self._fd: int | None = None
        self._size = 0
        self._unchecked = most
        self._retry_at = 0.0

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines; those that cannot be written are dropped and counted."""
        if not lines:
            return
        written = 0
        try:
            if time.monotonic() >= self._retry_at:
                while written < len(lines):
                    written += self._append(lines[written:])
        except OSError as e:
            self._retry_at = time.monotonic() + _RETRY_S
            self._close()
            reason = os.strerror(e.errno) if e.errno else type(e).__name__
            _once.warn(f"decision log: {self._folder} cannot be written: {reason}; lines are dropped until it can")
        if written < len(lines):
            _dropped(len(lines) - written, None)

    def _append(self, lines: Sequence[bytes]) -> int:
        """Write as many lines as one file takes, and say how many."""
        fd = self._open()
        room = self._rotate - self._size
        count, length = 1, len(lines[0])
        while count < len(lines) and length + len(lines[count]) <= room:
            length += len(lines[count])
            count += 1
        self._make_room(length)
        data = b"".join(lines[:count])
        try:
            done = os.write(fd, data)
            while done < len(data):
                done += os.write(fd, data[done:])
        except OSError:
            # Half a line would be taken for the beginning of the next.
            os.ftruncate(fd, self._size)
            raise
        self._size += length
        if self._size >= self._rotate:
            self._close()
        return count

    def _open(self) -> int:
        # Whoever cleans up may have removed the file that is being written.
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self._close()
        if self._fd is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{self._stem}-{self._number:04d}{SUFFIX}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._number += 1
            self._fd, self._size = os.open(path, flags, 0o600), 0
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd, self._size = None, 0

    def _make_room(self, length: int) -> None:
        """Remove the oldest files of this kind, of whichever process, until what comes next fits."""
        self._unchecked += length
        # Several processes write at once; each looks again after a small part of what all may keep.
        if self._unchecked < self._most // 64 and self._size:
            return
        self._unchecked = 0
        kind = self._stem.partition("-")[0]
        found = []
        for entry in os.scandir(self._folder):
            if (
                entry.name.startswith(f"{kind}-")
                and entry.name.endswith(SUFFIX)
                and entry.is_file(follow_symlinks=False)
            ):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, entry.path, status.st_size))
        total = sum(size for _, _, size in found) + length + self._most // 64
        current = None if self._fd is None else str(self._folder / f"{self._stem}-{self._number - 1:04d}{SUFFIX}")
        for _, path, size in sorted(found):
            if total <= self._most:
                return
            if path != current:
                with contextlib.suppress(OSError):
                    Path(path).unlink()
                    total -= size


def _size(entry: Entry) -> int:
    """About how many characters an entry takes in memory."""
    if isinstance(entry, Feedback):
        return _CHARS_OF_ENTRY
    return _CHARS_OF_ENTRY + 100 * len(entry.candidates) + len(entry.prompt or "") + len(entry.answer or "")


def _dropped(count: int, why: str | None) -> None:
    metrics.log_dropped(count)
    if why is not None:
        _once.warn(f"decision log: {why}; lines are dropped, and erp_decision_log_dropped counts them")


def _function(reference: str) -> Redact:
    """What ``package.module:function`` names.

    Raises
    ------
    SettingsError : it cannot be imported, or is no function
    """
    module, _, name = reference.partition(":")
    try:
        found = getattr(import_module(module), name)
    except Exception as e:
        raise SettingsError(
            f"erp_settings.decision_log.redact: {reference!r} cannot be imported: {type(e).__name__}: {e}; "
            "expected package.module:function, on this proxy's PYTHONPATH"
        ) from None
    if not callable(found):
        raise SettingsError(f"erp_settings.decision_log.redact: {reference!r} is no function")
    return found
