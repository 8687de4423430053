"""Kind ``regex``: 1 where ``pattern`` is found in the response, else 0.

``{reference}`` in the pattern stands for the prompt's reference answer, taken literally:
``"answer:\\s*{reference}\\b"``.
A pattern without it checks a format and needs no reference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Advance, Options, Pair, Scored
from erp_trainer.rewards.kinds.exact_match import compiled

_REFERENCE = "{reference}"


class Regex:
    """A verifier; needs a reference where its pattern names one."""

    def __init__(self, spec: RewardSpec) -> None:
        self.name = spec.name
        options = Options(spec)
        self._pattern = options.text("pattern")
        options.done()
        compiled(self._pattern.replace(_REFERENCE, "x"), options.where, "pattern")
        self.needs_reference = _REFERENCE in self._pattern

    def identity(self) -> dict[str, Any]:
        """Kind and pattern."""
        return {"kind": "regex", "pattern": self._pattern, "rule": 1}

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        """1 or 0."""
        scored = [Scored(float(self._found(pair))) for pair in pairs]
        advance(len(pairs))
        return scored

    def close(self) -> None:
        """Nothing to free."""

    def _found(self, pair: Pair) -> bool:
        return re.search(self._pattern.replace(_REFERENCE, re.escape(pair.reference or "")), pair.response) is not None
