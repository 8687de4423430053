"""PURE. Charts of rewards: policies side by side, categories, predicted against observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from erp_trainer.report.charts.base import (
    DASHES,
    Rows,
    Spec,
    chart,
    coloured,
    fixed,
    layer,
    nominal,
    nominal_rows,
    on,
    quantitative,
    said,
    tooltip,
)


def policies_chart(rows: Rows, best_single: float, units: Mapping[str, str]) -> Spec:
    """Mean reward of every policy with its interval, best first, and a line at the best single model.

    Parameters
    ----------
    rows : {policy, own, single, reward, low, high}; single models are hollow
    """
    y = nominal_rows("policy", 250) | {"sort": {"field": "reward", "order": "descending"}}
    x = quantitative("reward", units["reward"], {"zero": False}, grid=False, tickCount=7)
    own = {"test": "datum.own", "value": "$accent"}
    colour = {"condition": own, "value": "$muted"}
    fill = {"condition": [{"test": "datum.single", "value": "$page"}, own], "value": "$muted"}
    says = tooltip(units, "policy", "reward", "low", "high")
    dot = {"type": "point", "filled": True, "size": 70, "opacity": 1, "strokeWidth": 1.8}
    layers = [
        fixed(DASHES, {"x": on(x, "x")}, [{"x": best_single}]),
        layer(
            {"type": "rule", "strokeWidth": 2}, {"y": y, "x": on(x, "low"), "x2": {"field": "high"}, "color": colour}
        ),
        layer(dot, {"y": y, "x": x, "stroke": colour, "fill": fill, "tooltip": says}),
    ]
    return chart(layers, 24 * len(rows), rows=rows)


def categories_chart(rows: Rows, series: Sequence[str], units: Mapping[str, str]) -> Spec:
    """Mean reward per category of a few policies, on one line each.

    Parameters
    ----------
    rows : {category, series, reward, low, high, n, model}
    series : in the order of the legend, the bundle's own first
    """
    y = nominal_rows("category", 150)
    x = quantitative("reward", units["reward"], {"zero": False, "nice": True}, grid=False, tickCount=7)
    shapes = {"domain": list(series), "range": ["circle", "square", "diamond"]}
    dots = {
        "x": x,
        "y": y,
        "color": coloured("series", series, ("$accent", "$faint", "$hue1")),
        "shape": nominal("series", scale=shapes),
        "tooltip": tooltip(units, "category", "series", "model", "reward", "low", "high", "n"),
    }
    layers = [
        layer({"type": "line", "color": "$line", "strokeWidth": 3}, {"x": x, "y": y, "detail": {"field": "category"}}),
        layer({"type": "point", "filled": True, "size": 85, "opacity": 1}, dots),
    ]
    return chart(layers, 26 * len({row["category"] for row in rows}), rows=rows)


def calibration_chart(rows: Rows, domain: Sequence[float], title: str) -> Spec:
    """Predicted against observed reward of one model, in bins of equally many prompts, beside the diagonal.

    Parameters
    ----------
    rows : {predicted, observed, low, high, n}
    domain : the two ends of both axes, shared by all models
    """
    scale = {"domain": list(domain), "nice": False, "zero": False, "clamp": True}
    x = quantitative("predicted", "predicted reward", scale, tickCount=4)
    y = quantitative("observed", "observed reward", scale, tickCount=4)
    ends = [{"predicted": end, "observed": end} for end in domain]
    says = said(("predicted", "", ".3f"), ("observed", "", ".3f"), ("n", "prompts"))
    layers = [
        fixed({**DASHES, "type": "line", "strokeWidth": 1.2}, {"x": x, "y": y}, ends),
        layer(
            {"type": "rule", "color": "$accent", "opacity": 0.45, "strokeWidth": 2},
            {"x": x, "y": on(y, "low"), "y2": {"field": "high"}},
        ),
        layer({"type": "circle", "color": "$accent", "size": 44, "opacity": 1}, {"x": x, "y": y, "tooltip": says}),
    ]
    return chart(layers, 190, title={"text": title, "limit": 240, "fontSize": 12}, rows=rows)
