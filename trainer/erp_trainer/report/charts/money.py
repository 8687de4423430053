"""PURE. Charts over cost: the frontier, and the mix of models along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.charts.base import Rows, Spec, chart, columns, tooltip
from erp_trainer.report.palette import hue


def frontier(
    curves: Rows,
    points: Rows,
    styles: Sequence[Mapping[str, str]],
    units: Mapping[str, str],
    domains: tuple[tuple[float, float], tuple[float, float]],
    *,
    logarithmic: bool,
) -> Spec:
    """Reward against cost: policies across λ as lines, policies without λ as points, the slider's place as a ring.

    Parameters
    ----------
    curves : {policy, place, dot, lambda, cost, reward, low, high}; lines join them by ``place``, dots stand on some
    points : {policy, kind, cost, reward, at_cost, at_reward, low, high, label, side}: ``at_…`` is where the point
        stands, which for one outside the domains is their edge; ``kind`` is its shape, ``side`` that of its label
    styles : {policy, colour, weight} of every line, the bundle's own first; ``weight`` is own, rival or quiet
    domains : of cost and of reward
    """
    own = styles[0]["policy"]
    colour = {
        "field": "policy",
        "type": "nominal",
        "scale": {"domain": [style["policy"] for style in styles], "range": [style["colour"] for style in styles]},
        "legend": {"title": None, "symbolType": "stroke", "columns": columns([style["policy"] for style in styles])},
        "sort": None,
    }
    x = {
        "field": "cost",
        "type": "quantitative",
        "title": units["cost"] + (" (logarithmic)" if logarithmic else ""),
        "scale": {"type": "log" if logarithmic else "linear", "domain": list(domains[0]), "nice": False},
        "axis": {"format": "~g", "tickCount": 6, "grid": False},
    }
    y = {
        "field": "reward",
        "type": "quantitative",
        "title": units["reward"],
        "scale": {"domain": list(domains[1]), "nice": False},
        "axis": {"format": "~g", "tickCount": 6},
    }
    line = {"x": x, "y": y, "color": colour, "order": {"field": "place"}}
    data = {"data": {"name": "curves"}}

    def lines(weight: str, **mark: Any) -> Spec:
        names = [style["policy"] for style in styles if style["weight"] == weight]
        return {
            **data,
            "transform": [{"filter": {"field": "policy", "oneOf": names}}],
            "mark": {"type": "line", "clip": True, "strokeJoin": "round", **mark},
            "encoding": line,
        }

    band = {
        **data,
        "transform": [{"filter": {"field": "policy", "equal": own}}],
        "mark": {"type": "area", "opacity": 0.1, "clip": True},
        "encoding": {
            "x": x,
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": colour,
        },
    }
    dots = {
        **data,
        "transform": [{"filter": "datum.dot"}],
        "mark": {"type": "circle", "opacity": 1, "clip": True},
        "encoding": {
            "size": {"condition": {"test": {"field": "policy", "equal": own}, "value": 30}, "value": 9},
            "x": x,
            "y": y,
            "color": colour,
            "tooltip": tooltip(units, ("policy", "lambda", "reward", "low", "high", "cost")),
        },
    }
    layers = [
        band,
        lines("quiet", strokeWidth=1.5, strokeDash=[5, 3]),
        lines("rival", strokeWidth=1.6, opacity=0.9),
        lines("own", strokeWidth=3),
        dots,
        *_marks(x, y, tooltip(units, ("policy", "reward", "low", "high", "cost"))),
        *_ring(x, y),
    ]
    return chart({"layer": layers}, height=430, datasets={"curves": list(curves), "points": list(points), "here": []})


# Shapes of what is always the same: a single model, a baseline, and what lies outside the chart.
_SHAPES = {
    "single": "circle",
    "baseline": "diamond",
    "up": "triangle-up",
    "down": "triangle-down",
    "on": "triangle-right",
}


_SIDES = {"right": ("left", 9, 0), "left": ("right", -9, 0), "above": ("center", 0, -12), "below": ("center", 0, 13)}


def _marks(x: Spec, y: Spec, says: list[Spec]) -> list[Spec]:
    """Single models as hollow circles, other baselines as diamonds, each with its name beside it."""
    data: Spec = {"data": {"name": "points"}}
    at = {"x": {**x, "field": "at_cost"}, "y": {**y, "field": "at_reward"}}
    shape = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": list(_SHAPES), "range": list(_SHAPES.values())},
        "legend": None,
    }
    mark = {
        "type": "point",
        "filled": True,
        "fill": "$page",
        "stroke": "$muted",
        "strokeWidth": 1.6,
        "size": 60,
        "opacity": 1,
    }
    # Each label twice: first as a rim in the page's colour, so that it can be read across lines.
    rim = {"stroke": "$page", "strokeWidth": 4, "strokeJoin": "round", "opacity": 0.9}
    labels = [
        {
            **data,
            "name": f"label_{side}_{place}",
            "transform": [{"filter": {"field": "side", "equal": side}}],
            "mark": {"type": "text", "align": align, "dx": dx, "dy": dy, "fontSize": 11, "color": "$muted", **look},
            "encoding": {**at, "text": {"field": "label"}},
        }
        for side, (align, dx, dy) in _SIDES.items()
        for place, look in enumerate((rim, {}))
    ]
    return [{**data, "mark": mark, "encoding": {**at, "shape": shape, "tooltip": says}}, *labels]


def _ring(x: Spec, y: Spec) -> list[Spec]:
    """Where the slider stands: a ring with hair lines to both axes."""
    data = {"data": {"name": "here"}}
    hair = {"type": "rule", "color": "$muted", "strokeDash": [3, 3], "strokeWidth": 1}
    ring = {"type": "point", "filled": False, "stroke": "$ink", "strokeWidth": 2.5, "size": 190, "opacity": 1}
    return [
        {**data, "mark": hair, "encoding": {"x": x}},
        {**data, "mark": hair, "encoding": {"y": y}},
        {**data, "mark": ring, "encoding": {"x": x, "y": y}},
    ]


def mix(rows: Rows, models: Sequence[str], units: Mapping[str, str]) -> Spec:
    """Which models are chosen as the money grows: shares stacked, over mean cost.

    Parameters
    ----------
    rows : {cost, model, share, place}
    models : in the order of the stack and of their colours
    """
    costs = [row["cost"] for row in rows]
    x = {
        "field": "cost",
        "type": "quantitative",
        "title": units["cost"],
        "scale": {"domain": [min(costs), max(costs)], "nice": False},
        "axis": {"format": "~g", "tickCount": 6, "grid": False},
    }
    area = {
        "data": {"name": "rows"},
        "mark": {"type": "area", "opacity": 0.92, "line": False},
        "encoding": {
            "x": x,
            "y": {
                "field": "share",
                "type": "quantitative",
                "stack": "zero",
                "title": "Share of prompts",
                "scale": {"domain": [0, 1], "nice": False},
                "axis": {"format": ".0%", "tickCount": 5},
            },
            "color": {
                "field": "model",
                "type": "nominal",
                "scale": {"domain": list(models), "range": [hue(place) for place in range(len(models))]},
                "legend": {
                    "title": None,
                    "symbolType": "square",
                    "symbolStrokeWidth": 0,
                    "columns": columns(models),
                },
                "sort": None,
            },
            "order": {"field": "place"},
            "tooltip": [
                {"field": "model", "title": "model"},
                {"field": "share", "title": "share", "format": ".1%"},
                {"field": "cost", "title": units["cost"], "format": ".4~g"},
            ],
        },
    }
    hair = {
        "data": {"name": "here"},
        "mark": {"type": "rule", "color": "$ink", "strokeWidth": 1.5, "strokeDash": [3, 3]},
        "encoding": {"x": x},
    }
    return chart({"layer": [area, hair]}, height=240, datasets={"rows": list(rows), "here": []})
