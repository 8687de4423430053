"""Which LiteLLM is installed, and what is known of it without importing it.

``TRIED`` is the one list of releases that the tests ran on.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Standing = Literal["tried", "untried", "too-old", "compromised"]

TRIED = ("1.99.4", "1.100.5", "1.102.4", "1.106.12", "1.108.7", "1.108.14", "1.109.3", "1.110.2")
ASKING_STRATEGIES = frozenset(
    {
        "simple-shuffle",
        "usage-based-routing-v2",
        "cost-based-routing",
        "latency-based-routing",
        "least-busy",
        "lar1",
    }
)
# Published with foreign code in them.
_COMPROMISED = re.compile(r"1\.107\b|1\.82\.[78]\b")


def installed() -> str | None:
    """The release of LiteLLM in this environment, None where there is none."""
    try:
        return version("litellm")
    except PackageNotFoundError:
        return None


def standing(release: str) -> Standing:
    """What is known of a release; one older than a tried patch of the same minor release counts as tried."""
    if _COMPROMISED.match(release):
        return "compromised"
    number, known = _number(release), [_number(entry) for entry in TRIED]
    if number < min(known):
        return "too-old"
    return "tried" if any(number[:2] == entry[:2] and number <= entry for entry in known) else "untried"


def warning(release: str) -> str | None:
    """One line about a release that is not known to work, None where it is."""
    newest = max(TRIED, key=_number)
    return {
        "tried": None,
        "untried": f"LiteLLM {release} is untried with this plugin (tried: {', '.join(TRIED)}); see whether "
        "x-erp-model names the model that answered",
        "too-old": f"LiteLLM {release} is too old: routing groups can be called from 1.99.4 on; install {newest}",
        "compromised": f"LiteLLM {release} was published with foreign code in it: take it off this machine, change "
        f"every key it could see, and install {newest}",
    }[standing(release)]


def asks_callbacks(strategy: str, release: str | None) -> bool:
    """Whether a release's router asks callbacks under a routing strategy of its own; its groups' do not count.

    Others took a path of their own that does not, until 1.110, which asks under every strategy it accepts.
    """
    return strategy in ASKING_STRATEGIES or (release is not None and _number(release) >= (1, 110, 0))


@cache
def includes_once() -> bool:
    """Whether the installed LiteLLM reads a file that is included twice once, and nested ones beside who names them.

    Older ones read it twice, and start every path from the folder of the first config.
    """
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return True
    return (Path(spec.origin).parent / "proxy" / "common_utils" / "config_includes.py").exists()


def _number(release: str) -> tuple[int, int, int]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)
