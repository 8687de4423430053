"""PURE. The measures by which the papers compare routers: per task, APGR, entropy, Proposition 4.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.charts import grids
from erp_trainer.report.charts.base import Spec
from erp_trainer.report.page import Column, DataTable, Figures, PageSection, Part, lay_out
from erp_trainer.report.units import Units
from erp_trainer.words import from_to, number, percent

_BY_TASK = (
    "The model with the policy's highest mean score on a task's prompts answers the whole task. Accuracy is its mean "
    "reward; correlations are of the scores with the models' true mean rewards (arXiv 2309.15789)."
)
_APGR = (
    "APGR: the area under the share of the gap between the weak and the strong model that is recovered as more prompts "
    "go to the strong one; 0.5 is random. CPT: the share of strong calls that recovers so much of it."
)


def papers_section(payload: Figures, units: Units) -> Part | None:
    """Tables and charts of what the payload has of these."""
    tables: list[DataTable] = []
    drawn: dict[str, Spec] = {}
    notes = []
    if payload.get("routellm"):
        named = _labelled(payload["routellm"], payload["curves"])
        tables.append(_routellm(named))
        drawn["apgr"] = _recovered(named["rows"])
    if payload.get("tasks"):
        tables += [by_task(payload["tasks"]["rows"], units, "One model for each task"), _ranked(payload["tasks"])]
    if payload.get("proposition"):
        notes.append(_proposition(payload["proposition"]["overall"]))
    if payload.get("entropy") and payload["entropy"]["bins"]:
        drawn["entropy"] = _entropy(payload["entropy"]["bins"])
        notes.append(
            "Entropy: prompts by how evenly their rewards speak for the models, from 0 (one model stands out) to 1 "
            f"(all earn the same). Quality of a ranking: {payload['entropy']['quality']} (arXiv 2311.08692, figure 3)."
        )
    if not tables and not drawn and not notes:
        return None
    heading = "The papers' own measures"
    section = PageSection("papers", "Papers' measures", heading, tables=tables, charts=tuple(drawn), notes=notes,
                          folded=True)  # fmt: skip
    return Part(section, drawn)


def by_task(found: Sequence[Figures], units: Units, title: str) -> DataTable:
    """The measures of arXiv 2309.15789, one row per score."""
    columns = (
        Column("policy", lambda row: row.get("label") or row["policy"], text=True),
        Column("accuracy", lambda row: number(row["accuracy"])),
        Column("ratio to best", lambda row: number(row["ratio_to_best"])),
        Column("Pearson", lambda row: number(row["pearson"], 2)),
        Column("Spearman", lambda row: number(row["spearman"], 2)),
        Column("best-on-average chosen", lambda row: percent(row["share_best_on_average"])),
        Column(units.cost_short, lambda row: units.money(row["mean_cost_usd"])),
        Column("rank", lambda row: number(row["rank"], 1)),
    )
    rows = [row for row in found if row.get("accuracy") is not None]
    return lay_out(columns, rows, title=title, note=_BY_TASK)


def _ranked(found: Figures) -> DataTable:
    columns = (
        Column("policy", lambda row: row["label"], text=True),
        Column("mean reward of a task", lambda row: number(row["routed_reward"])),
        Column("tasks ranked first", lambda row: percent(row.get("ranked_first"))),
        Column("mean rank", lambda row: number(row.get("mean_task_rank"), 2)),
    )
    rows = [row for row in found["rows"] if row.get("routed_reward") is not None]
    note = "A model for each prompt; tasks count alike (arXiv 2311.08692)."
    return lay_out(columns, rows, title="Policies by task", note=note)


def _labelled(found: Figures, curves: Figures) -> dict[str, Any]:
    """Policies by the names they have elsewhere on the page."""
    rows = [{**row, "label": curves.get(row["policy"], {}).get("label", row["policy"])} for row in found["rows"]]
    return {**found, "rows": rows}


def _routellm(found: Figures) -> DataTable:
    def recovering(mark: str) -> Column:
        return Column(f"CPT({percent(float(mark))})", lambda row: percent(row["cpt"].get(mark)))

    columns = (
        Column("policy", lambda row: row["label"], text=True),
        Column("prompts", lambda row: row["category"] or "all", text=True),
        Column("APGR", lambda row: number(row["apgr"]["mean"])),
        Column("95% interval", lambda row: from_to(row["apgr"]["low"], row["apgr"]["high"])),
        *map(recovering, sorted({mark for row in found["rows"] for mark in row["cpt"]})),
    )
    title = f"RouteLLM's protocol: {found['weak']} and {found['strong']}"
    return lay_out(columns, found["rows"], title=title, note=_APGR)


def _recovered(found: Sequence[Figures]) -> Spec:
    whole = [row for row in found if row["category"] == ""]
    rows = [
        {"series": row["label"], "x": point["share_strong"], "y": point["pgr"]}
        for row in whole
        for point in row["points"]
        if point["pgr"] is not None
    ]
    x = ("Share of prompts sent to the strong model", ".0%", (0.0, 1.0))
    y = ("Share of the gap recovered", ".0%")
    return grids.lines(rows, [row["label"] for row in whole], x, y, "Performance gap recovered")


def _entropy(bins: Sequence[Figures]) -> Spec:
    rows = [
        {"series": label, "x": part["entropy"], "y": part[key]}
        for key, label in (("router", "this bundle"), ("ranking", "reward ranking"))
        for part in bins
        if part[key] is not None
    ]
    series = list(dict.fromkeys(row["series"] for row in rows))
    x = ("Entropy of the rewards of a prompt", "~g", None)
    return grids.lines(rows, series, x, ("Quality of the ranking", "~g"), "Ranking quality by reward entropy")


def _proposition(overall: Mapping[str, Any]) -> str:
    return (
        "Proposition 4.1 bounds from below how often the model with the higher expected reward wins: "
        f"{percent(overall['bound'], 1)} on average, where it won {percent(overall['won'], 1)}; the bound held on "
        f"{percent(overall['held'], 1)} of {overall['instances']:,} pairs."
    )
