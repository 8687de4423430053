"""PURE. The categories: who wins where, and what the bundle makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report import charts
from erp_trainer.report.page import Cell, DataTable, Head, Part, Section, TableRow
from erp_trainer.report.words import Units, mostly, number, shortened, signed, signed_span, tone

# Categories past these are in tables only.
MOST_DRAWN = 20


def categories(payload: Mapping[str, Any], own: str, units: Units) -> Part | None:
    """Winners per category as a chart and a table.

    Parameters
    ----------
    own : the bundle's key among the curves
    """
    found: Mapping[str, Mapping[str, Any]] = payload.get("categories") or {}
    if len(found) < 2:
        return None
    best = payload["verdict"]["best_single"]
    series = (payload["curves"][own]["label"], f"always {best}", "the category's best model on train")
    found = dict(sorted(found.items(), key=lambda item: -item[1]["test_prompts"]))
    drawn = list(found.items())[:MOST_DRAWN]
    rows = [row for name, part in drawn for row in _rows(name, part, own, best, series)]
    section = Section(
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
    return Part(section, {"categories": charts.categories(rows, series, units.titles())})


def _rows(name: str, part: Mapping[str, Any], own: str, best: str, series: Sequence[str]) -> list[dict[str, Any]]:
    bundle = part["policies"][own]
    measured = (
        (series[1], best, part["models"].get(best)),
        (series[2], part["best_on_train"], part["models"].get(part["best_on_train"] or "")),
        (series[0], mostly(part["share"], {name: name for name in part["share"]}, 1), bundle),
    )
    return [
        {
            "category": name,
            "series": label,
            "model": model,
            "reward": figure["reward"],
            "low": figure["reward_ci"][0],
            "high": figure["reward_ci"][1],
            "n": part["test_prompts"],
        }
        for label, model, figure in measured
        if figure and figure["reward"] is not None
    ]


def _table(found: Mapping[str, Mapping[str, Any]], own: str) -> DataTable:
    heads = [
        Head("category", text=True),
        Head("prompts"),
        Head("bundle"),
        Head("against best single"),
        Head("bundle chooses", text=True),
        Head("best on train", text=True),
        Head("best on test", text=True),
    ]
    names = shortened(sorted({model for part in found.values() for model in part["models"]}))
    return DataTable(heads, [_row(name, part, own, names) for name, part in found.items()], shown=MOST_DRAWN)


def _row(name: str, part: Mapping[str, Any], own: str, names: Mapping[str, str]) -> TableRow:
    bundle, gain = part["policies"][own], part["gain"]
    difference = Cell()
    if gain is not None:
        ends = f"({signed_span(gain['low'], gain['high'])})"
        difference = Cell(signed(gain["mean"]), small=ends, tone=tone(gain))
    return TableRow(
        [
            Cell(name),
            Cell(f"{part['test_prompts']:,}"),
            Cell(number(bundle["reward"])),
            difference,
            Cell(mostly(part["share"], names)),
            _model(part, "best_on_train", names),
            _model(part, "best_on_test", names),
        ]
    )


def _model(part: Mapping[str, Any], key: str, names: Mapping[str, str]) -> Cell:
    name = part[key]
    if name is None:
        return Cell("not in train" if key == "best_on_train" else "–")
    return Cell(names[name], small=number((part["models"].get(name) or {}).get("reward")))
