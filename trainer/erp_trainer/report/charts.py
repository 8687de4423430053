"""PURE. Vega-Lite specifications: rows in, one chart out. Colours are ``$tokens`` of palette.py.

Every chart takes the width of what it stands in. Layers named ``label…`` are left out where there is no room for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.palette import config, hue

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# Numbers in cells are legible up to this many columns.
_MOST_LABELLED = 16
# Names below columns lie level up to this many.
_MOST_LEVEL = 4


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
    curves : {policy, lambda, cost, reward, low, high}, in order of λ
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
        "legend": {"title": None, "symbolType": "stroke"},
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
    tooltip = _tooltip(units, ("policy", "lambda", "reward", "low", "high", "cost"))
    line = {"x": x, "y": y, "color": colour, "order": {"field": "lambda"}}
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
        "mark": {"type": "circle", "size": 26, "opacity": 1, "clip": True},
        "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
    }
    layers = [
        band,
        lines("quiet", strokeWidth=1.5, strokeDash=[5, 3]),
        lines("rival", strokeWidth=1.6, opacity=0.9),
        lines("own", strokeWidth=3),
        dots,
        *_marks(x, y, _tooltip(units, ("policy", "reward", "low", "high", "cost"))),
        *_ring(x, y),
    ]
    return _chart({"layer": layers}, height=430, datasets={"curves": list(curves), "points": list(points), "here": []})


# Shapes of what is always the same: a single model, a baseline, and what lies outside the chart.
_SHAPES = {
    "single": "circle",
    "baseline": "diamond",
    "up": "triangle-up",
    "down": "triangle-down",
    "on": "triangle-right",
}
_SIDES = {"right": ("left", 9, 0), "left": ("right", -9, 0), "above": ("center", 0, -12), "below": ("center", 0, 13)}


def _marks(x: Spec, y: Spec, tooltip: list[Spec]) -> list[Spec]:
    """Single models as hollow circles, other baselines as diamonds, each with its name beside it."""
    data: Spec = {"data": {"name": "points"}}
    at = {"x": {**x, "field": "at_cost"}, "y": {**y, "field": "at_reward"}}
    shape = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": list(_SHAPES), "range": list(_SHAPES.values())},
        "legend": None,
    }
    mark = {"type": "point", "filled": True, "fill": "$page", "stroke": "$muted", "strokeWidth": 1.6, "size": 60}
    labels = [
        {
            **data,
            "name": f"label_{side}",
            "transform": [{"filter": {"field": "side", "equal": side}}],
            "mark": {"type": "text", "align": align, "dx": dx, "dy": dy, "fontSize": 11, "color": "$muted"},
            "encoding": {**at, "text": {"field": "label"}},
        }
        for side, (align, dx, dy) in _SIDES.items()
    ]
    return [{**data, "mark": mark, "encoding": {**at, "shape": shape, "tooltip": tooltip}}, *labels]


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


def policies(rows: Rows, best_single: float, units: Mapping[str, str]) -> Spec:
    """Mean reward of every policy with its interval, best first, and a line at the best single model.

    Parameters
    ----------
    rows : {policy, own, reward, low, high}
    """
    y = {
        "field": "policy",
        "type": "nominal",
        "sort": {"field": "reward", "order": "descending"},
        "title": None,
        "axis": {"labelLimit": 190, "ticks": False, "domain": False, "labelColor": "$ink", "grid": True},
    }
    axis = {"grid": False, "format": "~g", "tickCount": 7}
    x = {"type": "quantitative", "title": units["reward"], "scale": {"zero": False}, "axis": axis}
    colour = {"condition": {"test": "datum.own", "value": "$accent"}, "value": "$muted"}
    data = {"data": {"name": "rows"}}
    return _chart(
        {
            "layer": [
                {
                    "data": {"values": [{"x": best_single}]},
                    "mark": {"type": "rule", "color": "$faint", "strokeDash": [4, 3]},
                    "encoding": {"x": {**x, "field": "x"}},
                },
                {
                    **data,
                    "mark": {"type": "rule", "strokeWidth": 2},
                    "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour},
                },
                {
                    **data,
                    "mark": {"type": "circle", "size": 70, "opacity": 1},
                    "encoding": {
                        "y": y,
                        "x": {**x, "field": "reward"},
                        "color": colour,
                        "tooltip": _tooltip(units, ("policy", "reward", "low", "high")),
                    },
                },
            ]
        },
        height=24 * len(rows),
        datasets={"rows": list(rows)},
    )


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
                "legend": {"title": None, "symbolType": "square", "symbolStrokeWidth": 0},
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
    return _chart({"layer": [area, hair]}, height=240, datasets={"rows": list(rows), "here": []})


def calibration(rows: Rows, domain: Sequence[float], title: str) -> Spec:
    """Predicted against observed reward of one model, in bins of equally many prompts, beside the diagonal.

    Parameters
    ----------
    rows : {predicted, observed, low, high, n}
    domain : the two ends of both axes, shared by all models
    """
    scale = {"domain": list(domain), "nice": False, "zero": False, "clamp": True}
    x = {"type": "quantitative", "scale": scale, "title": "predicted reward", "axis": {"tickCount": 4, "format": "~g"}}
    y = {"type": "quantitative", "scale": scale, "title": "observed reward", "axis": {"tickCount": 4, "format": "~g"}}
    data = {"data": {"name": "rows"}}
    ends = [{"p": domain[0], "o": domain[0]}, {"p": domain[1], "o": domain[1]}]
    return _chart(
        {
            "title": {"text": title, "limit": 240, "fontSize": 12},
            "layer": [
                {
                    "data": {"values": ends},
                    "mark": {"type": "line", "color": "$faint", "strokeDash": [4, 3], "strokeWidth": 1.2},
                    "encoding": {"x": {**x, "field": "p"}, "y": {**y, "field": "o"}},
                },
                {
                    **data,
                    "mark": {"type": "rule", "color": "$accent", "opacity": 0.45, "strokeWidth": 2},
                    "encoding": {
                        "x": {**x, "field": "predicted"},
                        "y": {**y, "field": "low"},
                        "y2": {"field": "high"},
                    },
                },
                {
                    **data,
                    "mark": {"type": "circle", "color": "$accent", "size": 44, "opacity": 1},
                    "encoding": {
                        "x": {**x, "field": "predicted"},
                        "y": {**y, "field": "observed"},
                        "tooltip": [
                            {"field": "predicted", "format": ".3f"},
                            {"field": "observed", "format": ".3f"},
                            {"field": "n", "title": "prompts"},
                        ],
                    },
                },
            ],
        },
        height=190,
        datasets={"rows": list(rows)},
    )


def heat_map(
    rows: Rows,
    names: tuple[Sequence[str], Sequence[str]],
    title: str,
    axes: tuple[str, str],
    domain: Sequence[float],
) -> Spec:
    """A table of numbers as colours.

    Parameters
    ----------
    rows : {row, column, value, n}; a pair that is not there stays empty
    names : of the rows and of the columns, in order
    axes : titles of the horizontal and the vertical axis
    domain : the values of the coldest, the middle and the warmest colour
    """
    axis = {"labelLimit": 110, "ticks": False, "domain": False, "labelFontSize": 10.5, "titlePadding": 8, "grid": False}
    x = {
        "field": "column",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(names[1])},
        "title": axes[0],
        "axis": {**axis, "labelAngle": -50 if len(names[1]) > _MOST_LEVEL else 0},
    }
    y = {
        "field": "row",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(names[0])},
        "title": axes[1],
        "axis": axis,
    }
    cell = {
        "mark": {"type": "rect", "stroke": "$page", "strokeWidth": 2, "cornerRadius": 3},
        "encoding": {
            "x": x,
            "y": y,
            "color": {
                "field": "value",
                "type": "quantitative",
                "scale": {
                    "domain": list(domain),
                    "range": ["$low", "$mid", "$high"],
                    "interpolate": "rgb",
                    "clamp": True,
                },
                "legend": None,
            },
            "tooltip": [
                {"field": "row", "title": axes[1]},
                {"field": "column", "title": axes[0]},
                {"field": "value", "title": title, "format": ".3f"},
                {"field": "n", "title": "prompts"},
            ],
        },
    }
    text = {
        "name": "label_value" if len(names[1]) > _MOST_LEVEL else "value",
        "mark": {"type": "text", "fontSize": 10.5, "color": "$ink"},
        "encoding": {"x": x, "y": y, "text": {"field": "value", "type": "quantitative", "format": ".2f"}},
    }
    legible = len(names[1]) <= _MOST_LABELLED
    layers = [cell, text] if legible else [cell]
    return _chart(
        {"title": {"text": title, "fontSize": 12}, "data": {"name": "rows"}, "layer": layers},
        height=(30 if legible else 20) * len(names[0]),
        datasets={"rows": list(rows)},
    )


def categories(rows: Rows, series: Sequence[str], units: Mapping[str, str]) -> Spec:
    """Mean reward per category of a few policies, on one line each.

    Parameters
    ----------
    rows : {category, series, reward, low, high, n, model}
    series : in the order of the legend, the bundle's own first
    """
    y = {
        "field": "category",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelLimit": 150, "ticks": False, "domain": False, "labelColor": "$ink", "grid": True},
    }
    x = {
        "field": "reward",
        "type": "quantitative",
        "title": units["reward"],
        "scale": {"zero": False, "nice": True},
        "axis": {"grid": False, "format": "~g", "tickCount": 7},
    }
    return _chart(
        {
            "layer": [
                {
                    "mark": {"type": "line", "color": "$line", "strokeWidth": 3},
                    "encoding": {"x": x, "y": y, "detail": {"field": "category"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 85, "opacity": 1},
                    "encoding": {
                        "x": x,
                        "y": y,
                        "color": {
                            "field": "series",
                            "type": "nominal",
                            "scale": {"domain": list(series), "range": ["$accent", "$faint", "$hue1"]},
                            "legend": {"title": None},
                            "sort": None,
                        },
                        "shape": {
                            "field": "series",
                            "type": "nominal",
                            "scale": {"domain": list(series), "range": ["circle", "square", "diamond"]},
                        },
                        "tooltip": _tooltip(units, ("category", "series", "model", "reward", "low", "high", "n")),
                    },
                },
            ],
            "data": {"name": "rows"},
        },
        height=26 * len({row["category"] for row in rows}),
        datasets={"rows": list(rows)},
    )


def new_model(rows: Rows, models: Sequence[str], units: Mapping[str, str]) -> Spec:
    """Routed reward after adding each model with ever more prompts.

    Parameters
    ----------
    rows : {model, n, reward, low, high}, ``reward`` as the gain over the pool without it
    """
    x = {
        "field": "n",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 8},
        "title": "Prompts the new model was tried on (logarithmic)",
        "axis": {"values": sorted({row["n"] for row in rows}), "format": "~s", "grid": False, "labelOverlap": True},
    }
    y = {
        "field": "reward",
        "type": "quantitative",
        "title": units["gain"],
        "scale": {"zero": False},
        "axis": {"format": "~g"},
    }
    colour = {
        "field": "model",
        "type": "nominal",
        "scale": {"domain": list(models), "range": [hue(place) for place in range(len(models))]},
        "legend": {"title": None, "symbolType": "stroke"},
        "sort": None,
    }
    encoding = {"x": x, "y": y, "color": colour}
    return _chart(
        {
            "layer": [
                {
                    "data": {"values": [{"zero": 0}]},
                    "mark": {"type": "rule", "color": "$faint", "strokeDash": [4, 3]},
                    "encoding": {"y": {**y, "field": "zero"}},
                },
                {
                    "data": {"name": "rows"},
                    "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 36, "opacity": 1}},
                    "encoding": {**encoding, "tooltip": _tooltip(units, ("model", "n", "reward", "low", "high"))},
                },
            ]
        },
        height=300,
        datasets={"rows": list(rows)},
    )


_TITLES = {
    "low": "95% interval, from",
    "high": "95% interval, to",
    "lambda": "λ",
    "n": "prompts",
    "series": "policy",
}
_TEXT = ("policy", "category", "series", "model")


def _tooltip(units: Mapping[str, str], fields: Sequence[str]) -> list[Spec]:
    """What is said of a mark under the pointer."""
    found: list[Spec] = []
    for field in fields:
        entry = {"field": field, "title": _TITLES.get(field, units.get(field, field))}
        found.append(entry if field in _TEXT else entry | {"format": "," if field == "n" else ".4~g"})
    return found


def _chart(spec: Spec, *, height: Any, datasets: Mapping[str, Any]) -> Spec:
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
