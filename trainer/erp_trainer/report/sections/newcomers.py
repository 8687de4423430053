"""PURE. What adding a model costs, and what unseen tasks cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from erp_trainer.report.charts import grids
from erp_trainer.report.charts.base import Spec
from erp_trainer.report.page import Cell, Column, DataTable, Figures, PageSection, Part, difference, lay_out, tone
from erp_trainer.report.palette import N_HUES
from erp_trainer.report.sections.papers import by_task
from erp_trainer.report.units import Units
from erp_trainer.words import number, signed

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
_OWN_DATA = {
    "s1": "S1, mean predicted probability",
    "s3": "S3, distrusted far from training",
    "s3_true": "S3 with the true trust",
    "best_on_average": "best on average",
    "best": "best for the task",
}


def adding_section(payload: Figures, units: Units) -> Part | None:
    """Routed reward gained by adding each model with ever more prompts."""
    found = payload.get("price_of_adding")
    grown = [model for model in found["models"] if model["points"]] if found else []
    if not found or not grown:
        return None
    gains = {model["model"]: abs(model["points"][-1]["gain"]["mean"]) for model in grown}
    drawn = sorted(gains, key=lambda model: -gains[model])[:N_HUES]
    rows = [
        {"model": model["model"], "n": point["prompts"], "reward": point["gain"]["mean"],
         "low": point["gain"]["low"], "high": point["gain"]["high"]}
        for model in grown if model["model"] in drawn
        for point in model["points"]
    ]  # fmt: skip
    section = PageSection(
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
    return Part(section, {"adding": grids.new_model_chart(rows, drawn, units.titles())})


def _adding_table(found: Figures) -> DataTable:
    def gain(interval: Figures | None) -> Cell:
        return Cell(signed(interval["mean"]), tone=tone(interval)) if interval else Cell()

    def after(n: int) -> Column:
        return Column(f"{n:,}", lambda row: gain(next((p["gain"] for p in row["points"] if p["prompts"] == n), None)))

    counts = sorted({point["prompts"] for model in found["models"] for point in model["points"]})
    columns = (
        Column("model added", lambda row: row["model"], text=True),
        Column("pool without it", lambda row: number(row["without"]["mean"])),
        *map(after, counts),
        Column("all", lambda row: gain(row["all"]["gain"])),
    )
    return lay_out(columns, found["models"])


def unseen_section(payload: Figures, units: Units) -> Part | None:
    """Each task predicted by policies fitted without it, and arXiv 2309.15789's measures of that."""
    found = payload.get("leave_one_task_out")
    if not found:
        return None
    tables = [_left_out(payload, found)]
    drawn = {}
    if benchmark := found.get("benchmark"):
        title = "One model for each unseen task, by benchmark scores"
        tables.append(replace(by_task(_scored(benchmark["rows"]), units, title), folded=True))
        if small := benchmark.get("small_models"):
            # The pool of the small models only, as in section 5.3 of the paper.
            table = by_task(_scored(small["rows"]), units, f"{title}, the small models only")
            which = f"Small: those that cost at most half of what the dearest does ({', '.join(small['models'])})."
            tables.append(replace(table, note=which, folded=True))
        drawn = {"in-distribution": _own_data(benchmark["in_distribution"], units)}
    section = PageSection(
        id="unseen",
        name="Unseen tasks",
        heading="Tasks it was never trained on",
        lines=("Reward gained against the best single model of the other tasks, with the task left out of training.",),
        tables=tables,
        trailing_charts=tuple(drawn),
    )
    return Part(section, drawn)


def _scored(found: Sequence[Figures]) -> list[Figures]:
    return [{**row, "label": _SCORES.get(row["policy"], row["policy"])} for row in found]


def _left_out(payload: Figures, found: Figures) -> DataTable:
    def gained(key: str) -> Column:
        label = payload["curves"].get(key, {}).get("label") or _FITTED.get(key, key)
        return Column(label, lambda row: difference((row["policies"].get(key) or {}).get("gain")))

    measured = [task for task in found["tasks"] if "policies" in task]
    overall = {key: {"gain": gain} for key, gain in found["overall"].items()}
    whole = {"task": "all", "prompts": sum(task["prompts"] for task in measured), "policies": overall}
    columns = (
        Column("task left out", lambda row: row["task"], text=True),
        Column("prompts", lambda row: f"{row['prompts']:,}"),
        *map(gained, overall),
    )
    skipped = [f"{task['task']}: {task['skipped']}" for task in found["tasks"] if "skipped" in task]
    return lay_out(columns, [whole, *measured], own=lambda row: row is whole, note=" ".join(skipped))


def _own_data(points: Sequence[Figures], units: Units) -> Spec:
    """How much of a task's own data it takes until its own scores choose better than those that distrust them."""
    rows = [
        {"series": label, "x": point["prompts"], "y": point[key]}
        for key, label in _OWN_DATA.items()
        for point in points
        if point.get(key) is not None
    ]
    x = ("Prompts of the task itself in training, mean over tasks", "~s", None)
    title = "How much of its own data a new task needs (arXiv 2309.15789)"
    return grids.lines(rows, list(_OWN_DATA.values()), x, (units.reward, "~g"), title)
