"""What every benchmark says about where it ran, how it reads times, and what empties the caches between two of them."""

import json
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np


def heading(title: str, *notes: str) -> str:
    """Title, machine and notes, as plain text above a table."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = (
        f"{os.cpu_count()} cores ({platform.machine()}), load {load}; python {platform.python_version()}, "
        f"numpy {np.__version__}, litellm {version('litellm')}"
    )
    return "\n".join(["", title, machine, *notes])


def milliseconds(seconds: Sequence[float], percentile: float = 50) -> float:
    """A percentile of some durations, in ms."""
    return float(np.percentile(seconds, percentile)) * 1e3


def spread(values: Sequence[float] | np.ndarray, digits: int = 1, ends: tuple[float, float] = (0, 100)) -> str:
    """Median, and the percentiles that stand for its spread: the least and the most, or the quartiles."""
    low, middle, high = np.percentile(values, [ends[0], 50, ends[1]])
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


class Stranger:
    """Work of somebody else, between two things that are timed, that leaves nothing of either in the caches.

    A proxy spends some 20 ms on a request, of which a decision is a part of a millisecond: it finds its data and its
    code as far away as they can be. A decision right after another is several times faster, and serves nobody.

    Parameters
    ----------
    megabytes : that are written to; more than the last level of cache holds
    """

    def __init__(self, megabytes: int = 48) -> None:
        self._memory = np.zeros(megabytes << 17)
        self._document = {
            f"key-{i}": [{"id": j, "text": str(j) * 3, "at": 1.5 * j} for j in range(20)] for i in range(60)
        }
        self._patterns = [re.compile(p) for p in (r"\w+\d", r"[a-z]{3,}-", r"(\d+)\.(\d+)", r'"key-\d+":')]

    def work(self) -> None:
        """Some milliseconds of it."""
        self._memory += 1.0
        text = json.dumps(self._document)
        for pattern in self._patterns:
            pattern.findall(text[:20_000])
        read = json.loads(text)
        sorted(read, key=lambda key: (read[key][0]["text"], key))
