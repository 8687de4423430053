"""PURE. Measures that are a table of their own, whichever the payload has."""

from __future__ import annotations

from functools import partial
from typing import Any

from erp_trainer.report.page import Cell, Column, DataTable, Figures, PageSection, Part, lay_out, level
from erp_trainer.words import NOTHING, number


def tables_section(payload: Figures) -> Part | None:
    """One table each, below one another."""
    tables = [_table(found) for found in (payload.get("tables") or {}).values() if found["rows"]]
    return Part(PageSection("tables", "More measures", "More measures", tables=tables)) if tables else None


def _table(found: Figures) -> DataTable:
    columns = [
        Column(head, partial(_cell, head=head), text=isinstance(value, str)) for head, value in found["rows"][0].items()
    ]
    return lay_out(columns, found["rows"], title=found["heading"], note=found["note"])


def _cell(row: Figures, head: str) -> Cell | str:
    value: Any = row[head]
    if value is None or isinstance(value, str):
        return value or NOTHING
    return level(value["mean"], value["low"], value["high"]) if isinstance(value, dict) else number(value)
