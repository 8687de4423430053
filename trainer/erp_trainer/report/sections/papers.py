"""PURE. The measures by which the papers compare routers: per task, APGR, entropy, Proposition 4.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report import charts
from erp_trainer.report.page import Cell, DataTable, Head, Part, Section, TableRow
from erp_trainer.report.words import Units, number, percent, span


def papers(payload: Mapping[str, Any], units: Units) -> Part | None:
    """Tables and charts of what the payload has of these."""
    tables: list[DataTable] = []
    drawn: dict[str, charts.Spec] = {}
    if payload.get("routellm"):
        named = _labelled(payload["routellm"], payload["curves"])
        tables.append(_routellm(named))
        drawn["apgr"] = _recovered(named)
    if payload.get("tasks"):
        tables += [by_task(payload["tasks"]["rows"], units, title="One model for each task"), _ranked(payload["tasks"])]
    if payload.get("entropy") and payload["entropy"]["bins"]:
        drawn["entropy"] = _entropy(payload["entropy"])
    notes = [_proposition(payload["proposition"]["overall"])] if payload.get("proposition") else []
    if "entropy" in drawn:
        notes.append(
            "Entropy: prompts by how evenly their rewards speak for the models, from 0 (one model stands out) to "
            f"1 (all earn the same). Quality of a ranking: {payload['entropy']['quality']} (arXiv 2311.08692, "
            "figure 3)."
        )
    if not tables and not drawn and not notes:
        return None
    section = Section(
        "papers", "Papers' measures", "The papers' own measures", tables=tables, charts=tuple(drawn), notes=notes
    )
    return Part(section, drawn)


def by_task(found: Sequence[Mapping[str, Any]], units: Units, title: str) -> DataTable:
    """The measures of arXiv 2309.15789, one row per score."""
    heads = [
        Head("policy", text=True),
        Head("accuracy"),
        Head("ratio to best"),
        Head("Pearson"),
        Head("Spearman"),
        Head("best-on-average chosen"),
        Head(units.cost_short),
        Head("rank"),
    ]
    rows = [
        TableRow(
            [
                Cell(row.get("label") or row["policy"]),
                Cell(number(row["accuracy"])),
                Cell(number(row["ratio_to_best"])),
                Cell(number(row["pearson"], 2)),
                Cell(number(row["spearman"], 2)),
                Cell(percent(row["share_best_on_average"])),
                Cell(units.money(row["mean_cost_usd"])),
                Cell(number(row["rank"], 1)),
            ]
        )
        for row in found
        if row.get("accuracy") is not None
    ]
    note = (
        "The model with the policy's highest mean score on a task's prompts answers the whole task. Accuracy is "
        "its mean reward; correlations are of the scores with the models' true mean rewards (arXiv 2309.15789)."
    )
    return DataTable(heads, rows, title=title, note=note)


def _ranked(found: Mapping[str, Any]) -> DataTable:
    heads = [Head("policy", text=True), Head("mean reward of a task"), Head("tasks ranked first"), Head("mean rank")]
    rows = [
        TableRow(
            [
                Cell(row["label"]),
                Cell(number(row["routed_reward"])),
                Cell(percent(row.get("ranked_first"))),
                Cell(number(row.get("mean_task_rank"), 2)),
            ]
        )
        for row in found["rows"]
        if row.get("routed_reward") is not None
    ]
    note = "A model for each prompt; tasks count alike (arXiv 2311.08692)."
    return DataTable(heads, rows, title="Policies by task", note=note)


def _labelled(found: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Policies by the names they have elsewhere on the page."""
    rows = [{**row, "label": curves.get(row["policy"], {}).get("label", row["policy"])} for row in found["rows"]]
    return {**found, "rows": rows}


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
        cells = [Cell(row["label"]), Cell(row["category"] or "all")]
        cells += [Cell(number(apgr["mean"])), Cell(span(apgr["low"], apgr["high"]))]
        rows.append(TableRow([*cells, *(Cell(percent(row["cpt"].get(mark))) for mark in marks)]))
    note = (
        "APGR: the area under the share of the gap between the weak and the strong model that is recovered as "
        "more prompts go to the strong one; 0.5 is random. CPT: the share of strong calls that recovers so much of it."
    )
    title = f"RouteLLM's protocol: {found['weak']} and {found['strong']}"
    return DataTable(heads, rows, title=title, note=note)


def _recovered(found: Mapping[str, Any]) -> charts.Spec:
    whole = [row for row in found["rows"] if row["category"] == ""]
    rows = [
        {"series": row["label"], "x": point["share_strong"], "y": point["pgr"]}
        for row in whole
        for point in row["points"]
        if point["pgr"] is not None
    ]
    series = [row["label"] for row in whole]
    x = ("Share of prompts sent to the strong model", ".0%", (0.0, 1.0))
    y = ("Share of the gap recovered", ".0%")
    return charts.lines(rows, series, x, y, title="Performance gap recovered")


def _entropy(found: Mapping[str, Any]) -> charts.Spec:
    names = {"router": "this bundle", "ranking": "reward ranking"}
    rows = [
        {"series": label, "x": _middle(part["entropy"]), "y": part[key]}
        for key, label in names.items()
        for part in found["bins"]
        if part[key] is not None
    ]
    series = [label for label in names.values() if any(row["series"] == label for row in rows)]
    x = ("Entropy of the rewards of a prompt", "~g", None)
    return charts.lines(rows, series, x, ("Quality of the ranking", "~g"), title="Ranking quality by reward entropy")


def _middle(value: Any) -> float:
    return sum(value) / len(value) if isinstance(value, list | tuple) else float(value)


def _proposition(overall: Mapping[str, Any]) -> str:
    return (
        "Proposition 4.1 bounds from below how often the model with the higher expected reward wins: "
        f"{percent(overall['bound'], 1)} on average, where it won {percent(overall['won'], 1)}; the bound held on "
        f"{percent(overall['held'], 1)} of {overall['instances']:,} pairs."
    )
