"""PURE. How well rewards are foretold: calibration and R² per model, beside what noise allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.charts import grids, rewards
from erp_trainer.report.charts.base import Spec
from erp_trainer.report.page import Column, DataTable, Figures, PageSection, Part, lay_out
from erp_trainer.report.sections.categories import MOST_DRAWN
from erp_trainer.report.units import Units
from erp_trainer.words import NOTHING, from_to, number, shortened

# More small charts than this are a wall, not a figure; the table has all models.
_MOST_CHARTS = 12

_LINE = (
    "Left to right: what the bundle expected of a model on prompts it had not seen, in bins of equally many prompts; "
    "upwards: what was recorded there. On the dashed line, expectation and record agree."
)
_NOTE = (
    "R² below nought: worse than the model's mean. Within categories it is taken against each category's own mean, so "
    "that knowing the category alone earns nothing, and averaged over their prompts. Error / stated error is 1 where "
    "standard errors are right."
)


def prediction_section(payload: Figures, units: Units) -> Part:
    """Predicted against observed reward, and the table of R²."""
    models: Mapping[str, Figures] = payload["models"]
    bins = {name: model["calibration"]["bins"] for name, model in models.items() if model.get("calibration")}
    shown = sorted(bins, key=lambda name: -models[name]["mean_reward"])[:_MOST_CHARTS]
    found = {}
    if shown:
        domain = _domain([point for name in shown for point in bins[name]])
        found = {f"calibration-{place}": _chart(name, bins[name], domain) for place, name in enumerate(shown)}
    names = tuple(found)
    lines = [_LINE]
    if len(shown) < len(bins):
        lines.append(f"The {len(shown)} models with the highest reward are drawn; the table has all {len(bins)}.")
    if within := _within_categories(models):
        found["r2"] = within
    section = PageSection(
        id="prediction",
        name="Prediction",
        heading="Predicted against recorded reward",
        lines=lines,
        small_charts=names,
        small_title=f"Calibration, {len(names)} models one by one",
        tables=(_table(models, units),),
        notes=(_ceiling(payload), _NOTE),
        charts=("r2",) if within else (),
    )
    return Part(section, found)


def _chart(name: str, bins: Sequence[Figures], domain: tuple[float, float]) -> Spec:
    rows = [
        {"predicted": point["predicted"], "observed": point["observed"], "low": point["observed_ci"][0],
         "high": point["observed_ci"][1], "n": point["prompts"]}
        for point in bins
    ]  # fmt: skip
    return rewards.calibration_chart(rows, domain, name)


def _domain(bins: Sequence[Figures]) -> tuple[float, float]:
    values = [value for point in bins for value in (point["predicted"], point["observed"])]
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or 0.1
    return low - pad, high + pad


def _table(models: Mapping[str, Figures], units: Units) -> DataTable:
    def known(row: Figures, key: str, write: Any, missing: str) -> str:
        return missing if row.get(key) is None else str(write(row[key]))

    columns = (
        Column("model", lambda row: row["name"], text=True),
        Column("R²", lambda row: number(row["r2"])),
        Column("95% interval", lambda row: from_to(*(row.get("r2_ci") or (None, None)))),
        Column("noise ceiling", lambda row: known(row, "ceiling", number, "unknown")),
        Column("R² within categories", lambda row: number(_within(row))),
        Column("slope", lambda row: number((row.get("calibration") or {}).get("slope"), 2)),
        Column("error / stated error", lambda row: number(row["standardised_error"], 2)),
        Column("mean reward", lambda row: number(row["mean_reward"])),
        Column(units.cost_short, lambda row: units.money(row.get("cost_usd"))),
        Column("trained on", lambda row: known(row, "train_rows", "{:,}".format, NOTHING)),
    )
    return lay_out(columns, [{"name": name, **model} for name, model in models.items()])


def _within(model: Figures) -> float | None:
    """R² within categories, weighted by their prompts."""
    found = [part for part in (model.get("r2_by_category") or {}).values() if part["r2"] is not None]
    weight = sum(part["prompts"] for part in found)
    return sum(part["r2"] * part["prompts"] for part in found) / weight if weight else None


def _within_categories(models: Mapping[str, Figures]) -> Spec | None:
    """R² of every model within the largest categories; None where there are fewer than two."""
    parts = [
        (name, category, part)
        for name, model in models.items()
        for category, part in (model.get("r2_by_category") or {}).items()
    ]
    prompts = {category: part["prompts"] for _, category, part in parts}
    largest = sorted(sorted(prompts, key=lambda category: -prompts[category])[:MOST_DRAWN])
    short = shortened(list(models))
    rows = [
        {"row": short[name], "column": category, "value": part["r2"], "n": part["prompts"]}
        for name, category, part in parts
        if part["r2"] is not None and category in largest
    ]
    if not rows or len(largest) < 2:
        return None
    sides = (list(short.values()), largest)
    return grids.heat_map(rows, sides, "R² within a category", ("category", "model"), (-0.3, 0.0, 0.3))


def _ceiling(payload: Figures) -> str:
    samples = payload["counts"]["samples"]
    if all(model.get("ceiling") is None for model in payload["models"].values()):
        return (
            f"The noise ceiling, the R² of a perfect expectation, is unknown at {samples} sample"
            f"{'' if samples == 1 else 's'} per prompt: single rewards cannot be told from their noise."
        )
    return f"The noise ceiling is the R² of a perfect expectation, given the spread over {samples} samples."
