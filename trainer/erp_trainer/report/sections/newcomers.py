"""PURE. What adding a model costs, and what unseen tasks cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from erp_trainer.report import charts
from erp_trainer.report.page import Cell, DataTable, Head, Part, Section, TableRow
from erp_trainer.report.palette import N_HUES
from erp_trainer.report.sections.papers import by_task
from erp_trainer.report.words import NOTHING, Units, number, signed, signed_span, tone


def adding(payload: Mapping[str, Any], units: Units) -> Part | None:
    """Routed reward gained by adding each model with ever more prompts."""
    found = payload.get("price_of_adding")
    if not found:
        return None
    rows = [
        {
            "model": model["model"],
            "n": point["prompts"],
            "reward": point["gain"]["mean"],
            "low": point["gain"]["low"],
            "high": point["gain"]["high"],
        }
        for model in found["models"]
        for point in model["points"]
    ]
    if not rows:
        return None
    gains = {model["model"]: abs(model["points"][-1]["gain"]["mean"]) for model in found["models"] if model["points"]}
    drawn = sorted(gains, key=lambda model: -gains[model])[:N_HUES]
    kept = [row for row in rows if row["model"] in drawn]
    section = Section(
        id="adding",
        name="Adding models",
        heading="What adding a model costs",
        lines=(
            "Each model was taken out of the pool and added again, tried on ever more prompts: how much mean "
            "reward the routed pool then earns beyond the pool without it.",
        ),
        charts=("adding",),
        tables=(_adding_table(found),),
        notes=(f"{found['text'][:1].upper()}{found['text'][1:]}.".replace("..", "."),),
    )
    return Part(section, {"adding": charts.new_model(kept, drawn, units.titles())})


def _adding_table(found: Mapping[str, Any]) -> DataTable:
    counts = sorted({point["prompts"] for model in found["models"] for point in model["points"]})
    heads = [
        Head("model added", text=True),
        Head("pool without it"),
        *(Head(f"{count:,}") for count in counts),
        Head("all"),
    ]
    rows = []
    for model in found["models"]:
        gains = {point["prompts"]: point["gain"] for point in model["points"]}
        cells = [Cell(model["model"]), Cell(number(model["without"]["mean"]))]
        found_gains = [*(gains.get(n) for n in counts), model["all"]["gain"]]
        cells += [Cell(signed(gain["mean"]), tone=tone(gain)) if gain else Cell(NOTHING) for gain in found_gains]
        rows.append(TableRow(cells))
    return DataTable(heads, rows)


def unseen(payload: Mapping[str, Any], units: Units) -> Part | None:
    """Each task predicted by policies fitted without it, and arXiv 2309.15789's measures of that."""
    found = payload.get("leave_one_task_out")
    if not found:
        return None
    tables = [_left_out(payload, found)]
    drawn = {}
    if benchmark := found.get("benchmark"):
        tables.append(
            by_task(_scored(benchmark["rows"]), units, title="One model for each unseen task, by benchmark scores")
        )
        if small := benchmark.get("small_models"):
            tables.append(_small(small, units))
        drawn = {"in-distribution": _own_data(benchmark["in_distribution"], units)}
    section = Section(
        id="unseen",
        name="Unseen tasks",
        heading="Tasks it was never trained on",
        lines=("Reward gained against the best single model of the other tasks, with the task left out of training.",),
        tables=tables,
        trailing_charts=tuple(drawn),
    )
    return Part(section, drawn)


def _small(found: Mapping[str, Any], units: Units) -> DataTable:
    """The pool of the small models only, as in section 5.3 of arXiv 2309.15789."""
    table = by_task(_scored(found["rows"]), units, title="The same, with the small models only")
    small = ", ".join(found["models"])
    return replace(table, note=f"Small: those that cost at most half of what the dearest does ({small}).")


# ERP is fitted anew without a task, so its keys are presets.
_FITTED = {"erp-best": "erp", "erp-paper": "erp (paper preset)"}
_SCORES = {
    "s1": "S1, mean predicted probability",
    "s2": "S2, share predicted to be right",
    "s3": "S3, S2 distrusted far from training",
    "s3-true-p": "S3 with the true trust",
    "log-likelihood": "log-likelihood",
    "best-on-average": "best model on average",
    "task-oracle": "best model of each task (hindsight)",
}


def _scored(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [{**row, "label": _SCORES.get(row["policy"], row["policy"])} for row in found]


def _left_out(payload: Mapping[str, Any], found: Mapping[str, Any]) -> DataTable:
    keys = list(found["overall"])
    labels = [payload["curves"].get(key, {}).get("label") or _FITTED.get(key, key) for key in keys]
    heads = [Head("task left out", text=True), Head("prompts"), *(Head(label) for label in labels)]
    measured = [task for task in found["tasks"] if "policies" in task]
    rows = [
        TableRow(
            [
                Cell(task["task"]),
                Cell(f"{task['prompts']:,}"),
                *(_gain((task["policies"].get(key) or {}).get("gain")) for key in keys),
            ]
        )
        for task in measured
    ]
    total = sum(task["prompts"] for task in measured)
    whole = TableRow([Cell("all"), Cell(f"{total:,}"), *(_gain(found["overall"][key]) for key in keys)], own=True)
    skipped = [f"{task['task']}: {task['skipped']}" for task in found["tasks"] if "skipped" in task]
    return DataTable(heads, [whole, *rows], note=" ".join(skipped))


def _own_data(points: Sequence[Mapping[str, float]], units: Units) -> charts.Spec:
    """How much of a task's own data it takes until its own scores choose better than those that distrust them."""
    names = {
        "s1": "S1, mean predicted probability",
        "s3": "S3, distrusted far from training",
        "s3_true": "S3 with the true trust",
        "best_on_average": "best on average",
        "best": "best for the task",
    }
    rows = [
        {"series": label, "x": point["prompts"], "y": point[key]}
        for key, label in names.items()
        for point in points
        if point.get(key) is not None
    ]
    x = ("Prompts of the task itself in training, mean over tasks", "~s", None)
    title = "How much of its own data a new task needs (arXiv 2309.15789)"
    return charts.lines(rows, list(names.values()), x, (units.reward, "~g"), title=title)


def _gain(interval: Mapping[str, Any] | None) -> Cell:
    if interval is None:
        return Cell()
    return Cell(
        signed(interval["mean"]), small=f"({signed_span(interval['low'], interval['high'])})", tone=tone(interval)
    )
