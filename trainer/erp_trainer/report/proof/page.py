"""IO. The page of a decision log: the same style and parts as an evaluation's, complete in itself, and no prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erp_trainer.console import plain
from erp_trainer.files.atomic import atomic_file
from erp_trainer.report.assembly import Page
from erp_trainer.report.charts.base import Spec, chart, layer, on, quantitative
from erp_trainer.report.page import Cell, Column, DataTable, PageSection, difference, lay_out, level
from erp_trainer.report.proof.text import hints, notes, read_lines, usd
from erp_trainer.words import NOTHING, from_to, number, percent, shortened, signed, significant, with_short_names

Figures = Mapping[str, Any]


def write_proof(found: Figures, path: Path, kind: str, title: str) -> None:
    """Write a log's report as ``html``, or its figures as ``json``; whole or not at all."""
    figures = plain(found)
    if kind == "html":
        from erp_trainer.report.html import report_html

        content = report_html(page_of_log(figures, title)).encode()
    else:
        content = (json.dumps(figures, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def page_of_log(found: Figures, title: str) -> Page:
    """Lay out the figures of a log."""
    found = with_short_names(found, list(found["models"]))
    (title,) = shortened([title], 80).values()
    said = found["verdict"]
    sections = [_money(found), _reward(found), _served(found), _trust(found)]
    return Page(
        title=title,
        verdict={"kind": said["kind"], "headline": said["headline"], "lists": [{"points": said["sentences"]}]},
        tiles=_tiles(found),
        sections=sections,
        charts={"proof": _chart(found)},
        cells={},
        dial=None,
        footer=[
            f"95% intervals, bootstrap over {found['intervals']['resamples']:,} resamples of whole groups of repeated "
            "prompts; differences are paired.",
            "This file is complete in itself: it loads nothing and sends nothing.",
        ],
        notice="No prompt is quoted in this file.",
    )


def _tiles(found: Figures) -> list[dict[str, str]]:
    counts, said = found["counts"], found["verdict"]
    served = found["targets"][0]
    tiles = [
        {
            "value": f"USD {significant(counts['cost_usd'])}",
            "label": f"really charged for {counts['requests']:,} requests",
        }
    ]
    if said["saved"] is not None:
        label = "saved by routing" if said["saved"] >= 0 else "more, by routing"
        tiles.append({"value": percent(abs(said["saved"])), "label": label})
    tiles.append({"value": signed(said["predicted_gain"]), "label": "reward by routing, predicted"})
    over = said["over_mixture"]
    if over is not None and (over["low"] > 0 or over["high"] < 0):
        label = f"reward over single models drawn at random at its cost, {over['how']}"
        tiles.append({"value": signed(over["mean"]), "label": label})
    if said["measured_gain"] is not None:
        tiles.append({"value": signed(said["measured_gain"]), "label": "reward by routing, measured from feedback"})
    elif not served["measured"]["refused"]:
        mean = served["measured"]["dr"]
        tiles.append(
            {
                "value": number(mean["mean"]),
                "label": f"reward of what was served, measured ({from_to(mean['low'], mean['high'])})",
            }
        )
    return tiles


def _name(each: Figures) -> str:
    return str(each["label"])


def _cost(each: Figures) -> Cell:
    cost = each["cost_usd"]
    small = f"({usd(cost['low'])} to {usd(cost['high'])}) {each['cost_is']}"
    return Cell(usd(cost["mean"]), small)


def _saved(each: Figures) -> Cell:
    saved = each["saved"]
    if saved is None or saved["mean"] is None:
        return Cell()
    tone = "" if saved["low"] is None else "up" if saved["low"] > 0 else "down" if saved["high"] < 0 else ""
    return Cell(percent(saved["mean"]), f"({percent(saved['low'])} to {percent(saved['high'])})", tone)


def _mix(each: Figures) -> str:
    most = sorted(each["share"].items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {percent(part)}" for name, part in most)


def _table(found: Figures, columns: list[Column], **texts: Any) -> DataTable:
    return lay_out(columns, found["targets"], own=lambda each: each["kind"] in ("served", "routed"), **texts)


def _money(found: Figures) -> PageSection:
    columns = [
        Column("Policy", _name, text=True),
        Column("USD per 1,000 requests", _cost),
        Column("Saved against served", _saved),
        Column("Predicted reward", lambda each: number(each["predicted"]["mean"])),
        Column("Against served", lambda each: difference(each["predicted_gain"])),
        Column("Models", _mix, text=True),
    ]
    return PageSection(
        id="money",
        name="Cost and reward",
        heading="What other choices would have cost",
        lines=(
            "Each row is a way to choose a model for the same requests. Cost is real where the log tells it, and else "
            "what was expected, set right by what the models that served really cost. Reward here is predicted.",
        ),
        charts=("proof",),
        tables=[_table(found, columns)],
        notes=notes(found),
    )


def _reward(found: Figures) -> PageSection:
    if not found["feedback"]:
        return PageSection(
            id="measured",
            name="Measured",
            heading="Measured reward",
            lines=(
                f"There is none: {found['targets'][0]['measured']['refused']}. Send it to POST /erp/feedback, and "
                "whatever the choice of models allows is measured here.",
            ),
        )
    columns = [
        Column("Policy", _name, text=True),
        Column("Doubly robust", lambda each: _measured(each, "dr")),
        Column("Against served", lambda each: difference(each["measured"].get("gain"))),
        Column("Self-normalised", lambda each: _measured(each, "snips")),
        Column("Inverse propensity", lambda each: _measured(each, "ips")),
        Column("Counts as answers", lambda each: f"{each['measured']['effective']:,.0f}"),
        Column("Refused because", lambda each: each["measured"]["refused"] or "", text=True),
    ]
    return PageSection(
        id="measured",
        name="Measured",
        heading="What other choices would have earned, from feedback",
        lines=(
            f"{found['feedback']:,} answers have feedback. An answer that another policy would have chosen more often "
            "than it was served counts for more, one that it would not have chosen counts for nothing. Where too few "
            "are left, or a model was never tried, nothing is said.",
        ),
        tables=[_table(found, columns)],
        notes=hints(found),
    )


def _measured(each: Figures, name: str) -> Cell:
    value = each["measured"].get(name)
    return Cell("refused") if value is None else level(value["mean"], value["low"], value["high"])


def _served(found: Figures) -> PageSection:
    def ratio(item: tuple[str, Figures]) -> str:
        found_ratio = item[1]["cost_ratio"]
        return NOTHING if found_ratio is None else f"{found_ratio:.2f}"

    columns = [
        Column("Model", lambda item: str(item[0]), text=True),
        Column("Served", lambda item: f"{item[1]['served']:,}"),
        Column("Share", lambda item: percent(item[1]["share"])),
        Column("USD per 1,000", lambda item: usd(item[1]["cost_usd"])),
        Column("Real over expected cost", ratio),
        Column("Expected reward", lambda item: number(item[1]["expected_reward"])),
        Column("Mean feedback", lambda item: number(item[1]["mean_feedback"])),
        Column("Feedback", lambda item: f"{item[1]['feedback']:,}"),
        Column("Could have served", lambda item: percent(item[1]["could_serve"])),
    ]
    rows = sorted(found["models"].items(), key=lambda item: -item[1]["served"])
    return PageSection(
        id="served",
        name="What was served",
        heading="What was served",
        tables=[lay_out(columns, rows)],
        notes=("Expected reward is the mean over all requests, mean feedback that over the answers that have any.",),
    )


def _trust(found: Figures) -> PageSection:
    counts = found["counts"]
    bundles = ", ".join(counts["bundles"]) or "none"
    asked = found["asked"]["bundle"]
    lines = [*read_lines(found), f"Bundles at work: {bundles}."]
    if asked:
        lines.append(
            f"Predictions here are those of bundle {asked}, worked out anew from the prompts that the log kept."
        )
    return PageSection(id="log", name="The log", heading="The log", lines=lines)


def _points(found: Figures) -> list[dict[str, Any]]:
    """A point per policy that has a cost."""
    rows = []
    for each in found["targets"]:
        if each["cost_usd"]["mean"] is None:
            continue
        row = {
            "policy": each["label"],
            "kind": {"served": "served", "routed": "routing", "lambda": "routing"}.get(each["kind"], "without routing"),
            "cost": 1000 * each["cost_usd"]["mean"],
            "reward": each["predicted"]["mean"],
        }
        rows.append(row | {"words": "", "left": False})
    _name_points(rows)
    return rows


# A chart on a wide page, and a letter of its names, in pixels.
_WIDE, _HIGH, _LETTER, _LINE, _AWAY, _BELOW = 640.0, 280.0, 6.4, 15.0, 8.0, 12.0


def _name_points(rows: list[dict[str, Any]]) -> None:
    """Write names beside the points that have room for one, the first before later ones; a pointer tells all."""
    costs, rewards = [row["cost"] for row in rows], [row["reward"] for row in rows]
    across = _WIDE / ((max(costs) - min(costs)) or 1.0) if rows else 0.0
    up = _HIGH / ((max(rewards) - min(rewards)) or 1.0) if rows else 0.0
    at = [((row["cost"] - min(costs)) * across, (max(rewards) - row["reward"]) * up) for row in rows]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in at]
    for row, (x, y) in zip(rows, at, strict=True):
        long = min(_LETTER * len(row["policy"]), 200.0)
        middle = y + _BELOW
        for left in (x > 0.75 * _WIDE, x <= 0.75 * _WIDE):
            start = x - _AWAY - long if left else x + _AWAY
            box = (start, middle - _LINE / 2, start + long, middle + _LINE / 2)
            if start >= 0 and start + long <= _WIDE + 60 and not any(_meet(box, other) for other in taken):
                taken.append(box)
                row |= {"words": row["policy"], "left": left}
                break


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _chart(found: Figures) -> Spec:
    """Cost against predicted reward, a point per policy."""
    rows = _points(found)
    kinds, colours = ["served", "routing", "without routing"], ["$ink", "$accent", "$faint"]
    x = quantitative("cost", "USD per 1,000 requests", {"zero": False, "nice": True}, tickCount=6, grid=False)
    y = quantitative("reward", "Predicted reward", {"zero": False, "nice": True}, tickCount=6)
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": kinds, "range": colours},
        "legend": {"title": None, "orient": "top"},
    }
    tips = [
        {"field": "policy", "type": "nominal", "title": "policy"},
        {"field": "cost", "type": "quantitative", "title": "USD per 1,000", "format": ".4~g"},
        {"field": "reward", "type": "quantitative", "title": "predicted reward", "format": ".3f"},
    ]
    dots = layer(
        {"type": "point", "filled": True, "size": 90, "opacity": 1},
        {"x": x, "y": y, "color": colour, "tooltip": tips},
    )
    return chart([dots, _words(x, y, "left", False), _words(x, y, "right", True)], 340, rows=rows)


def _words(x: Spec, y: Spec, align: str, left: bool) -> Spec:
    """Names beside the points; where there is no room the page leaves out layers of this name."""
    away = -8 if left else 8
    look = {"type": "text", "align": align, "dx": away, "dy": 12, "fontSize": 11, "color": "$muted", "limit": 200}
    where = {"x": on(x, "cost"), "y": on(y, "reward"), "text": {"field": "words", "type": "nominal"}}
    return layer(look, where, name=f"label-{align}", transform=[{"filter": {"field": "left", "equal": left}}])
