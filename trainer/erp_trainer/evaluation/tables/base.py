"""A measure that is a table of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from erp_trainer.evaluation.evaluation import Evaluation

# By column: text, a number, an interval as JSON, or None for what is not known.
TableEntry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """All that payload, page and terminal know of such a measure.

    Attributes
    ----------
    key : its key under ``tables`` in the payload
    heading, note : above the table, and what its figures are
    rows : one entry per row, all with the same columns, the first of them text; none where there is nothing to say
    """

    key: str
    heading: str
    note: str
    rows: Callable[[Evaluation], Sequence[TableEntry]]

    def to_json(self, ev: Evaluation) -> dict[str, Any]:
        """What the payload holds."""
        return {"heading": self.heading, "note": self.note, "rows": list(self.rows(ev))}
