"""Kind ``exact-match``: 1 where the response, or what ``extract`` finds in it, is the reference answer; else 0.

Compared after trimming, folding case and turning runs of white space into one space. ``extract`` is a regular
expression whose last match in the response counts, its first group where it has one: ``"####\\s*(.+)"``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Advance, Options, Pair, Scored
from litellm_erp.errors import SettingsError


class ExactMatch:
    """A verifier; needs a reference."""

    needs_reference = True

    def __init__(self, spec: RewardSpec) -> None:
        self.name = spec.name
        options = Options(spec)
        self._extract = compiled(options.optional_text("extract") or "", options.where, "extract")
        options.done()

    def identity(self) -> dict[str, Any]:
        """Kind, expression, and the version of the comparison."""
        return {"kind": "exact-match", "extract": self._extract.pattern, "rule": 1}

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        """1 or 0."""
        scored = [Scored(float(self._answer(pair.response) == _plain(pair.reference or ""))) for pair in pairs]
        advance(len(pairs))
        return scored

    def close(self) -> None:
        """Nothing to free."""

    def _answer(self, response: str) -> str | None:
        if not self._extract.pattern:
            return _plain(response)
        found = None
        for match in self._extract.finditer(response):
            found = match[1] if self._extract.groups else match[0]
        return None if found is None else _plain(found)


def compiled(pattern: str, where: str, key: str) -> re.Pattern[str]:
    """A regular expression of the pool file.

    Raises
    ------
    SettingsError : not one
    """
    try:
        return re.compile(pattern)
    except re.error as e:
        raise SettingsError(f"{where}: {key}: found {pattern!r}, which is no regular expression ({e})") from e


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
