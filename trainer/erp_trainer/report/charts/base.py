"""PURE. What all charts share: a frame of the container's width, and the parts that they are put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.palette import config, hue

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# A thin broken line: what is compared with, and where the slider stands.
DASHES = {"type": "rule", "color": "$faint", "strokeDash": [4, 3]}
LINES = {"type": "line", "strokeWidth": 2, "point": {"size": 36, "opacity": 1}}

_TITLES = {"low": "95% interval, from", "high": "95% interval, to", "lambda": "λ", "n": "prompts", "series": "policy"}
_TEXT = ("policy", "category", "series", "model")
_LEGEND_WIDTH = 900.0


def chart(layers: Sequence[Spec], height: Any, *, title: Any = None, **datasets: Rows) -> Spec:
    """A whole specification, as wide as what it stands in."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": config(),
        **({} if title is None else {"title": title}),
        "layer": list(layers),
        "datasets": {name: list(rows) for name, rows in datasets.items()},
    }


def layer(mark: Spec, encoding: Spec, data: str = "rows", **others: Any) -> Spec:
    """Marks of one dataset; ``others`` are its transforms and its name."""
    return {"data": {"name": data}, "mark": mark, "encoding": encoding, **others}


def fixed(mark: Spec, encoding: Spec, rows: Rows) -> Spec:
    """Marks that stay where they are."""
    return {"data": {"values": list(rows)}, "mark": mark, "encoding": encoding}


def quantitative(field: str, title: str, scale: Spec, **axis: Any) -> Spec:
    """Numbers along an axis."""
    return {
        "field": field, "type": "quantitative", "title": title, "scale": scale, "axis": {"format": "~g", **axis}
    }  # fmt: skip


def on(axis: Spec, field: str) -> Spec:
    """Another field on the same axis."""
    return {**axis, "field": field}


def nominal(field: str, **others: Any) -> Spec:
    """Names along an axis, or as shapes, in the order in which they come."""
    return {"field": field, "type": "nominal", "sort": None, **others}


def nominal_rows(field: str, label_limit: int, **others: Any) -> Spec:
    """Names down the left side, each with a line of its own."""
    axis = {"labelLimit": label_limit, "ticks": False, "domain": False, "labelColor": "$ink", "grid": True}
    return nominal(field, title=None, axis=axis, **others)


def coloured(field: str, values: Sequence[str], colours: Sequence[str] | None = None, **legend: Any) -> Spec:
    """A colour for each name, by default a hue by its place, with a legend."""
    colours = [hue(place) for place in range(len(values))] if colours is None else list(colours)
    columns = max(1, int(_LEGEND_WIDTH // (45 + 6.6 * min(36, max(map(len, values))))))
    scale = {"domain": list(values), "range": colours}
    return nominal(field, scale=scale, legend={"title": None, "columns": columns, **legend})


def tooltip(units: Mapping[str, str], *fields: str) -> list[Spec]:
    """What is said of a mark under the pointer."""
    found: list[Spec] = []
    for field in fields:
        entry = {"field": field, "title": _TITLES.get(field, units.get(field, field))}
        found.append(entry if field in _TEXT else entry | {"format": "," if field == "n" else ".4~g"})
    return found


def said(*entries: Sequence[str]) -> list[Spec]:
    """The same, by field, title and number format; both may be left out or empty."""
    return [
        {key: part for key, part in zip(("field", "title", "format"), entry, strict=False) if part} for entry in entries
    ]
