"""PURE. Heat maps, and plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from erp_trainer.report.charts.base import (
    DASHES,
    LINES,
    Rows,
    Spec,
    chart,
    coloured,
    fixed,
    layer,
    nominal,
    on,
    quantitative,
    said,
    tooltip,
)
from erp_trainer.report.palette import hue

# Numbers in cells are legible up to this many columns.
_MOST_LABELLED = 16
# Names below columns lie level up to this many.
_MOST_LEVEL = 4
# Numbers in cells have room on a telephone up to this many columns.
_MOST_ON_A_PHONE = 8


def heat_map(
    rows: Rows, sides: tuple[Sequence[str], Sequence[str]], title: str, axes: tuple[str, str], domain: Sequence[float]
) -> Spec:
    """A table of numbers as colours.

    Parameters
    ----------
    rows : {row, column, value, n}; a pair that is not there stays empty
    sides : names of the rows and of the columns, in order
    axes : titles of the horizontal and the vertical axis
    domain : the values of the coldest, the middle and the warmest colour
    """
    down, across = (list(side) for side in sides)
    level, legible = len(across) <= _MOST_LEVEL, len(across) <= _MOST_LABELLED
    axis = {"labelLimit": 150, "ticks": False, "domain": False, "labelFontSize": 10.5, "titlePadding": 8, "grid": False}
    angle = {"labelAngle": 0 if level else -50}
    x = nominal("column", scale={"domain": across}, title=axes[0], axis=axis | angle)
    y = nominal("row", scale={"domain": down}, title=axes[1], axis=axis)
    scale = {"domain": list(domain), "range": ["$low", "$mid", "$high"], "interpolate": "rgb", "clamp": True}
    colour = {"field": "value", "type": "quantitative", "scale": scale, "legend": None}
    says = said(("row", axes[1]), ("column", axes[0]), ("value", title, ".3f"), ("n", "prompts"))
    text = {"field": "value", "type": "quantitative", "format": ".2f"}
    layers = [
        layer(
            {"type": "rect", "stroke": "$page", "strokeWidth": 2, "cornerRadius": 3},
            {"x": x, "y": y, "color": colour, "tooltip": says},
        ),
        layer(
            {"type": "text", "fontSize": 10.5, "color": "$ink"},
            {"x": x, "y": y, "text": text},
            name="value" if len(across) <= _MOST_ON_A_PHONE else "label_value",
        ),
    ]
    height = (30 if legible else 20) * len(down)
    return chart(layers if legible else layers[:1], height, title={"text": title, "fontSize": 12}, rows=rows)


def new_model_chart(rows: Rows, models: Sequence[str], units: Mapping[str, str]) -> Spec:
    """Routed reward after adding each model with ever more prompts.

    Parameters
    ----------
    rows : {model, n, reward, low, high}, ``reward`` as the gain over the pool without it
    """
    title = "Prompts the new model was tried on (logarithmic)"
    scale = {"type": "log", "nice": False, "padding": 8}
    ticks = sorted({row["n"] for row in rows})
    x = quantitative("n", title, scale, values=ticks, format="~s", grid=False, labelOverlap=True)
    y = quantitative("reward", units["gain"], {"zero": False})
    colour = coloured("model", models, symbolType="stroke")
    says = tooltip(units, "model", "n", "reward", "low", "high")
    layers = [
        fixed(DASHES, {"y": on(y, "zero")}, [{"zero": 0}]),
        layer(LINES, {"x": x, "y": y, "color": colour, "tooltip": says}),
    ]
    return chart(layers, 300, rows=rows)


def lines(
    rows: Rows, series: Sequence[str], x: tuple[str, str, tuple[float, float] | None], y: tuple[str, str], title: str
) -> Spec:
    """A few lines over one axis.

    Parameters
    ----------
    rows : {series, x, y}
    x : title, number format and ends; its own ends where None
    y : title and number format
    """
    scale: Spec = {"zero": False} if x[2] is None else {"domain": list(x[2])}
    colours = ["$accent", *(hue(place) for place in range(1, len(series)))]
    encoding = {
        "x": quantitative("x", x[0], scale, format=x[1], grid=False, tickCount=8),
        "y": quantitative("y", y[0], {"zero": False}, format=y[1]),
        "color": coloured("series", series, colours, symbolType="stroke"),
        "tooltip": said(("series", "policy"), ("x", x[0], ".3~g"), ("y", y[0], ".3~g")),
    }
    return chart([layer(LINES, encoding)], 280, title=title, rows=rows)
