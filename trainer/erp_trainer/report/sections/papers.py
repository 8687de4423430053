"""PURE. The measures by which the papers compare routers: per task, entropy, APGR, Proposition 4.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erp_trainer.report.page import Cell, DataTable, Head, Part, Section, TableRow
from erp_trainer.report.words import Units, number, percent, span


def papers(payload: Mapping[str, Any], units: Units) -> Part | None:
    """Tables of what the payload has of these."""
    tables, notes = [], []
    if payload.get("tasks"):
        tables.append(_tasks(payload["tasks"], units))
        notes.append(
            "Per task: one model for each task, by the policy's mean score on its prompts; accuracy is that "
            "model's mean reward, and correlations are of scores with true mean rewards (arXiv 2309.15789). "
            "Routed: a model per prompt; ranked first is the share of tasks on which no policy earns more (arXiv "
            "2311.08692)."
        )
    if payload.get("routellm"):
        tables.append(_routellm(payload["routellm"]))
        notes.append(
            "RouteLLM's protocol: APGR is the area under the share of the gap between the weak and the strong "
            "model that is recovered as more prompts go to the strong one; 0.5 is random. CPT is the share of "
            "strong calls that recovers so much of it."
        )
    if payload.get("proposition"):
        overall = payload["proposition"]["overall"]
        notes.append(
            f"Proposition 4.1 bounds from below how often the model with the higher expected reward wins: "
            f"{percent(overall['bound'], 1)} on average, where it won {percent(overall['won'], 1)}; the bound held on "
            f"{percent(overall['held'], 1)} of {overall['instances']:,} pairs."
        )
    if payload.get("entropy") and payload["entropy"]["bins"]:
        tables.append(_entropy(payload["entropy"]))
        notes.append(
            f"Entropy: prompts by how evenly the rewards speak for the models. {payload['entropy']['quality']}"
        )
    if not tables and not notes:
        return None
    section = Section("papers", "Papers' measures", "The papers' own measures", tables=tables, notes=notes)
    return Part(section)


def _tasks(found: Mapping[str, Any], units: Units) -> DataTable:
    heads = [
        Head("policy", text=True),
        Head("accuracy"),
        Head("ratio to best"),
        Head("Pearson"),
        Head("Spearman"),
        Head("best-on-average chosen"),
        Head(units.cost_short),
        Head("rank"),
        Head("routed reward"),
        Head("ranked first"),
        Head("mean rank"),
    ]
    rows = [
        TableRow(
            [
                Cell(row["label"]),
                Cell(number(row["accuracy"])),
                Cell(number(row["ratio_to_best"])),
                Cell(number(row["pearson"], 2)),
                Cell(number(row["spearman"], 2)),
                Cell(percent(row["share_best_on_average"])),
                Cell(units.money(row["mean_cost_usd"])),
                Cell(number(row["rank"], 1)),
                Cell(number(row["routed_reward"])),
                Cell(percent(row["ranked_first"])),
                Cell(number(row["mean_task_rank"], 1)),
            ]
        )
        for row in found["rows"]
    ]
    return DataTable(heads, rows)


def _routellm(found: Mapping[str, Any]) -> DataTable:
    marks = sorted({mark for row in found["rows"] for mark in row["cpt"]})
    heads = [
        Head("policy", text=True),
        Head("prompts", text=True),
        Head("APGR"),
        Head("95% interval"),
        *(Head(f"CPT({percent(float(mark))})") for mark in marks),
    ]
    rows = []
    for row in found["rows"]:
        apgr = row["apgr"] or {"mean": None, "low": None, "high": None}
        cells = [Cell(row.get("label") or row["policy"]), Cell(row["category"] or "all")]
        cells += [Cell(number(apgr["mean"])), Cell(span(apgr["low"], apgr["high"]))]
        rows.append(TableRow([*cells, *(Cell(percent(row["cpt"].get(mark))) for mark in marks)]))
    return DataTable(heads, rows)


def _entropy(found: Mapping[str, Any]) -> DataTable:
    heads = [Head("entropy", text=True), Head("prompts"), Head("reward ranking"), Head("this bundle")]
    rows = [
        TableRow(
            [
                Cell(_ends(entry["entropy"])),
                Cell(f"{entry['prompts']:,}"),
                Cell(number(entry["ranking"])),
                Cell(number(entry["router"])),
            ]
        )
        for entry in found["bins"]
    ]
    return DataTable(heads, rows)


def _ends(value: Any) -> str:
    return span(value[0], value[1], 2) if isinstance(value, list | tuple) else number(value, 2)
