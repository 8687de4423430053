"""PURE. Charts of rewards: policies side by side, categories, predicted against observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from erp_trainer.report.charts.base import Rows, Spec, chart, columns, tooltip


def policies(rows: Rows, best_single: float, units: Mapping[str, str]) -> Spec:
    """Mean reward of every policy with its interval, best first, and a line at the best single model.

    Parameters
    ----------
    rows : {policy, own, single, reward, low, high}; single models are hollow
    """
    y = {
        "field": "policy",
        "type": "nominal",
        "sort": {"field": "reward", "order": "descending"},
        "title": None,
        "axis": {"labelLimit": 250, "ticks": False, "domain": False, "labelColor": "$ink", "grid": True},
    }
    axis = {"grid": False, "format": "~g", "tickCount": 7}
    x = {"type": "quantitative", "title": units["reward"], "scale": {"zero": False}, "axis": axis}
    colour = {"condition": {"test": "datum.own", "value": "$accent"}, "value": "$muted"}
    fill = {"condition": [{"test": "datum.single", "value": "$page"}, colour["condition"]], "value": "$muted"}
    data = {"data": {"name": "rows"}}
    return chart(
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
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "strokeWidth": 1.8},
                    "encoding": {
                        "y": y,
                        "x": {**x, "field": "reward"},
                        "stroke": colour,
                        "fill": fill,
                        "tooltip": tooltip(units, ("policy", "reward", "low", "high")),
                    },
                },
            ]
        },
        height=24 * len(rows),
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
    return chart(
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
                            "legend": {"title": None, "columns": columns(series)},
                            "sort": None,
                        },
                        "shape": {
                            "field": "series",
                            "type": "nominal",
                            "scale": {"domain": list(series), "range": ["circle", "square", "diamond"]},
                        },
                        "tooltip": tooltip(units, ("category", "series", "model", "reward", "low", "high", "n")),
                    },
                },
            ],
            "data": {"name": "rows"},
        },
        height=26 * len({row["category"] for row in rows}),
        datasets={"rows": list(rows)},
    )


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
    return chart(
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
