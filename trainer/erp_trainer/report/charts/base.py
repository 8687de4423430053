"""PURE. What all charts share: a frame of the container's width, tooltips, legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.palette import config

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


_TITLES = {
    "low": "95% interval, from",
    "high": "95% interval, to",
    "lambda": "λ",
    "n": "prompts",
    "series": "policy",
}


_TEXT = ("policy", "category", "series", "model")


def tooltip(units: Mapping[str, str], fields: Sequence[str]) -> list[Spec]:
    """What is said of a mark under the pointer."""
    found: list[Spec] = []
    for field in fields:
        entry = {"field": field, "title": _TITLES.get(field, units.get(field, field))}
        found.append(entry if field in _TEXT else entry | {"format": "," if field == "n" else ".4~g"})
    return found


def columns(names: Sequence[str]) -> int:
    """How many columns a legend of these names may have across a full page."""
    return max(1, int(_LEGEND_WIDTH // (45 + 6.6 * min(36, max(map(len, names))))))


_LEGEND_WIDTH = 900.0


def chart(spec: Spec, *, height: Any, datasets: Mapping[str, Any]) -> Spec:
    """A whole specification, as wide as what it stands in."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": config(),
        **spec,
        "datasets": dict(datasets),
    }
