"""Kind ``exact-match``: 1 where the response, or what ``extract`` finds in it, is the reference answer; else 0.

Compared after trimming, folding case and turning runs of white space into one space. ``extract`` is a regular
expression whose last match in the response counts, its first group where it has one: ``"####\\s*(.+)"``.
"""

from __future__ import annotations

from typing import Any

from erp_trainer.rewards.base import Pair, RewardOptions, Verifier, compiled


class ExactMatch(Verifier):
    """Needs a reference."""

    needs_reference = True

    def read(self, options: RewardOptions) -> None:
        self._extract = compiled(options.optional_text("extract") or "", options, "extract")

    def identity(self) -> dict[str, Any]:
        return {"kind": "exact-match", "extract": self._extract.pattern, "rule": 1}

    def is_right(self, pair: Pair) -> bool:
        found: str | None = pair.response
        if self._extract.pattern:
            matches = list(self._extract.finditer(pair.response))
            found = matches[-1][min(1, self._extract.groups)] if matches else None
        return found is not None and _plain(found) == _plain(pair.reference or "")


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
