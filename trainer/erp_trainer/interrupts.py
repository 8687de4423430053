"""Ctrl-C where nobody can catch it: while Python imports this program, and while it ends.

Elsewhere an interrupt is Python's ordinary KeyboardInterrupt, so that servers are closed and records are synced.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

LINE = "interrupted; finished work is kept, run the same command again to continue"
EXIT_CODE = 130


_seen = threading.Event()


def seen() -> bool:
    """Whether there was an interrupt, which a library that was being imported may have made another error of."""
    return _seen.is_set()


def note() -> None:
    """From now on an interrupt is a KeyboardInterrupt that `seen` knows of, and a second one leaves at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note)
        # At its very end Python gives SIGINT back to the system, which would kill a program that is done.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def leave_at_once() -> None:
    """From now on an interrupt is one line and the end; for when there is nothing left to clean up."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def one_line() -> Iterator[None]:
    """Leave at once on an interrupt in here; then whatever was done before."""
    before = signal.getsignal(signal.SIGINT)
    leave_at_once()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, before)


def end(code: str | int | None) -> None:
    """End an interrupted program that has cleaned up: Python's own end would wait for threads of libraries."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else EXIT_CODE)


def _note(number: int, frame: FrameType | None) -> None:
    _seen.set()
    # Who presses again wants out now; what is on disk stays whole, as when it is killed.
    signal.signal(signal.SIGINT, _leave)
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    # Not by way of Python's own end, which an interrupt would break with a traceback again.
    os.write(2, f"{LINE}\n".encode())
    os._exit(EXIT_CODE)
