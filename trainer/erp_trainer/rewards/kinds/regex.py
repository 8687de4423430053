"""Kind ``regex``: 1 where ``pattern`` is found in the response, else 0.

``{reference}`` in the pattern stands for the prompt's reference answer, taken literally:
``"answer:\\s*{reference}\\b"``.
A pattern without it checks a format and needs no reference.
"""

from __future__ import annotations

import re
from typing import Any

from erp_trainer.rewards.base import Pair, RewardOptions, Verifier, compiled

_REFERENCE = "{reference}"


class Regex(Verifier):
    """Needs a reference where its pattern names one."""

    def read(self, options: RewardOptions) -> None:
        self._pattern = options.text("pattern")
        compiled(self._pattern.replace(_REFERENCE, "x"), options, "pattern")
        self.needs_reference = _REFERENCE in self._pattern

    def identity(self) -> dict[str, Any]:
        return {"kind": "regex", "pattern": self._pattern, "rule": 1}

    def is_right(self, pair: Pair) -> bool:
        return re.search(self._pattern.replace(_REFERENCE, re.escape(pair.reference or "")), pair.response) is not None
