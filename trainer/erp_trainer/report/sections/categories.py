"""PURE. The categories: who wins where, and what the bundle makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.charts import rewards
from erp_trainer.report.page import Cell, Column, DataTable, Figures, PageSection, Part, difference, lay_out
from erp_trainer.report.units import Units
from erp_trainer.words import NOTHING, mostly, number, shortened

# Categories past these are in tables only.
MOST_DRAWN = 20
# Of the table as many are shown at once.
_MOST_LISTED = 8


def categories_section(payload: Figures, own: str, units: Units) -> Part | None:
    """Winners per category as a chart and a table.

    Parameters
    ----------
    own : the bundle's key among the curves
    """
    found: Mapping[str, Figures] = payload.get("categories") or {}
    if len(found) < 2:
        return None
    best = payload["verdict"]["best_single"]
    series = (payload["curves"][own]["label"], f"always {best}", "the category's best model on train")
    found = dict(sorted(found.items(), key=lambda item: -item[1]["test_prompts"]))
    drawn = list(found.items())[:MOST_DRAWN]
    rows = [row for name, part in drawn for row in _rows(name, part, own, best, series)]
    section = PageSection(
        id="categories",
        name="Categories",
        heading="Who wins in which category",
        lines=(
            "The category's best model was picked on train and knows the category, which the bundle does not. "
            "Few prompts make wide intervals: see the table.",
        ),
        charts=("categories",),
        tables=(_table(found, own),),
    )
    return Part(section, {"categories": rewards.categories_chart(rows, series, units.titles())})


def _rows(name: str, part: Figures, own: str, best: str, series: Sequence[str]) -> list[dict[str, Any]]:
    measured = (
        (series[1], best, part["models"].get(best)),
        (series[2], part["best_on_train"], part["models"].get(part["best_on_train"] or "")),
        (series[0], mostly(part["share"], {name: name for name in part["share"]}, 1), part["policies"][own]),
    )
    return [
        {"category": name, "series": label, "model": model, "reward": figure["reward"], "low": figure["reward_ci"][0],
         "high": figure["reward_ci"][1], "n": part["test_prompts"]}
        for label, model, figure in measured
        if figure and figure["reward"] is not None
    ]  # fmt: skip


def _table(found: Mapping[str, Figures], own: str) -> DataTable:
    names = shortened(sorted({model for part in found.values() for model in part["models"]}))

    def model(part: Figures, key: str, missing: str) -> Cell:
        name = part[key]
        return (
            Cell(missing) if name is None else Cell(names[name], number((part["models"].get(name) or {}).get("reward")))
        )

    columns = (
        Column("category", lambda row: row[0], text=True),
        Column("prompts", lambda row: f"{row[1]['test_prompts']:,}"),
        Column("bundle", lambda row: number(row[1]["policies"][own]["reward"])),
        Column("against best single", lambda row: difference(row[1]["gain"])),
        Column("bundle chooses", lambda row: mostly(row[1]["share"], names), text=True),
        Column("best on train", lambda row: model(row[1], "best_on_train", "not in train"), text=True),
        Column("best on test", lambda row: model(row[1], "best_on_test", NOTHING), text=True),
    )
    return lay_out(columns, found.items(), shown=_MOST_LISTED)
