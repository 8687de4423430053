"""PURE. Heat maps, and plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from erp_trainer.report.charts.base import Rows, Spec, chart, columns, tooltip
from erp_trainer.report.palette import hue

# Numbers in cells are legible up to this many columns.
_MOST_LABELLED = 16


# Names below columns lie level up to this many.
_MOST_LEVEL = 4


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
    axis = {"labelLimit": 150, "ticks": False, "domain": False, "labelFontSize": 10.5, "titlePadding": 8, "grid": False}
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
    return chart(
        {"title": {"text": title, "fontSize": 12}, "data": {"name": "rows"}, "layer": layers},
        height=(30 if legible else 20) * len(names[0]),
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
        "legend": {"title": None, "symbolType": "stroke", "columns": columns(models)},
        "sort": None,
    }
    encoding = {"x": x, "y": y, "color": colour}
    return chart(
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
                    "encoding": {**encoding, "tooltip": tooltip(units, ("model", "n", "reward", "low", "high"))},
                },
            ]
        },
        height=300,
        datasets={"rows": list(rows)},
    )


def lines(
    rows: Rows,
    series: Sequence[str],
    x: tuple[str, str, tuple[float, float] | None],
    y: tuple[str, str],
    title: str,
) -> Spec:
    """A few lines over one axis.

    Parameters
    ----------
    rows : {series, x, y}
    x : title, number format and ends; its own ends where None
    y : title and number format
    """
    scale: Spec = {"zero": False} if x[2] is None else {"domain": list(x[2])}
    encoding = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "title": x[0],
            "scale": scale,
            "axis": {"format": x[1], "grid": False, "tickCount": 8},
        },
        "y": {"field": "y", "type": "quantitative", "title": y[0], "scale": {"zero": False}, "axis": {"format": y[1]}},
        "color": {
            "field": "series",
            "type": "nominal",
            "scale": {
                "domain": list(series),
                "range": ["$accent", *(hue(place) for place in range(1, len(series)))],
            },
            "legend": {"title": None, "symbolType": "stroke", "columns": columns(series)},
            "sort": None,
        },
        "tooltip": [
            {"field": "series", "title": "policy"},
            {"field": "x", "title": x[0], "format": ".3~g"},
            {"field": "y", "title": y[0], "format": ".3~g"},
        ],
    }
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 36, "opacity": 1}}
    return chart(
        {"title": title, "data": {"name": "rows"}, "mark": mark, "encoding": encoding},
        height=280,
        datasets={"rows": list(rows)},
    )
