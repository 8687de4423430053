"""PURE. How well rewards are foretold: calibration and R² per model, beside what noise allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report import charts
from erp_trainer.report.page import Cell, DataTable, Head, Part, Section, TableRow
from erp_trainer.report.sections.categories import MOST_DRAWN
from erp_trainer.report.words import NOTHING, Units, number, shortened, span

# More small charts than this are a wall, not a figure; the table has all models.
_MOST_CHARTS = 12


def prediction(payload: Mapping[str, Any], units: Units) -> Part:
    """Predicted against observed reward, and the table of R²."""
    models: Mapping[str, Mapping[str, Any]] = payload["models"]
    bins = {name: model["calibration"]["bins"] for name, model in models.items() if model.get("calibration")}
    shown = sorted(bins, key=lambda name: -models[name]["mean_reward"])[:_MOST_CHARTS]
    found = {}
    if shown:
        domain = _domain([point for name in shown for point in bins[name]])
        found = {f"calibration-{place}": _chart(name, bins[name], domain) for place, name in enumerate(shown)}
    names = tuple(found)
    categories = _categories(models)
    rows = _by_category(models, categories)
    lines = [
        "Left to right: what the bundle expected of a model on prompts it had not seen, in bins of equally many "
        "prompts; upwards: what was recorded there. On the dashed line, expectation and record agree."
    ]
    if len(shown) < len(bins):
        lines.append(f"The {len(shown)} models with the highest reward are drawn; the table has all {len(bins)}.")
    if rows and len(categories) > 1:
        found["r2"] = charts.heat_map(
            rows,
            (list(shortened(list(models)).values()), categories),
            "R² within a category",
            ("category", "model"),
            (-0.3, 0.0, 0.3),
        )
    section = Section(
        id="prediction",
        name="Prediction",
        heading="Predicted against recorded reward",
        lines=lines,
        small_charts=names,
        tables=(_table(payload, units),),
        notes=_notes(payload),
        charts=("r2",) if "r2" in found else (),
    )
    return Part(section, found)


def _chart(name: str, bins: list[Mapping[str, Any]], domain: tuple[float, float]) -> charts.Spec:
    rows = [
        {
            "predicted": point["predicted"],
            "observed": point["observed"],
            "low": point["observed_ci"][0],
            "high": point["observed_ci"][1],
            "n": point["prompts"],
        }
        for point in bins
    ]
    return charts.calibration(rows, domain, name)


def _domain(bins: list[Mapping[str, Any]]) -> tuple[float, float]:
    values = [value for point in bins for value in (point["predicted"], point["observed"])]
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or 0.1
    return low - pad, high + pad


def _table(payload: Mapping[str, Any], units: Units) -> DataTable:
    heads = [
        Head("model", text=True),
        Head("R²"),
        Head("95% interval"),
        Head("noise ceiling"),
        Head("R² within categories"),
        Head("slope"),
        Head("error / stated error"),
        Head("mean reward"),
        Head(units.cost_short),
        Head("trained on"),
    ]
    rows = []
    for name, model in payload["models"].items():
        cells = [
            Cell(name),
            Cell(number(model["r2"])),
            Cell(span(*(model.get("r2_ci") or (None, None)))),
            Cell("unknown" if model.get("ceiling") is None else number(model["ceiling"])),
            Cell(number(_within(model))),
            Cell(number((model.get("calibration") or {}).get("slope"), 2)),
            Cell(number(model["standardised_error"], 2)),
            Cell(number(model["mean_reward"])),
            Cell(units.money(model.get("cost_usd"))),
            Cell(NOTHING if model.get("train_rows") is None else f"{model['train_rows']:,}"),
        ]
        rows.append(TableRow(cells))
    return DataTable(heads, rows)


def _within(model: Mapping[str, Any]) -> float | None:
    """R² within categories, weighted by their prompts."""
    found = [part for part in (model.get("r2_by_category") or {}).values() if part["r2"] is not None]
    weight = sum(part["prompts"] for part in found)
    return sum(part["r2"] * part["prompts"] for part in found) / weight if weight else None


def _by_category(models: Mapping[str, Mapping[str, Any]], categories: Sequence[str]) -> list[dict[str, Any]]:
    short = shortened(list(models))
    return [
        {"row": short[name], "column": category, "value": part["r2"], "n": part["prompts"]}
        for name, model in models.items()
        for category, part in (model.get("r2_by_category") or {}).items()
        if part["r2"] is not None and category in categories
    ]


def _categories(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The largest categories, by name."""
    prompts = {
        category: part["prompts"]
        for model in models.values()
        for category, part in (model.get("r2_by_category") or {}).items()
    }
    return sorted(sorted(prompts, key=lambda category: -prompts[category])[:MOST_DRAWN])


def _notes(payload: Mapping[str, Any]) -> list[str]:
    samples = payload["counts"]["samples"]
    if all(model.get("ceiling") is None for model in payload["models"].values()):
        ceiling = (
            f"The noise ceiling, the R² of a perfect expectation, is unknown at {samples} sample"
            f"{'' if samples == 1 else 's'} per prompt: single rewards cannot be told from their noise."
        )
    else:
        ceiling = f"The noise ceiling is the R² of a perfect expectation, given the spread over {samples} samples."
    return [
        ceiling,
        "R² below nought: worse than the model's mean. Within categories it is taken against each category's own mean, "
        "so that knowing the category alone earns nothing, and averaged over their prompts. Error / stated error "
        "is 1 where standard errors are right.",
    ]
