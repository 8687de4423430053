"""PURE. Charts over cost: the frontier, and the mix of models along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erp_trainer.report.charts.base import Rows, Spec, chart, coloured, layer, on, quantitative, said, tooltip

_HAIR = {"type": "rule", "color": "$muted", "strokeDash": [3, 3], "strokeWidth": 1}
# Shapes of what is always the same: a single model, a baseline, and what lies outside the chart.
_SHAPES = {
    "single": "circle",
    "baseline": "diamond",
    "up": "triangle-up",
    "down": "triangle-down",
    "on": "triangle-right",
}
_SIDES = {"right": ("left", 9, 0), "left": ("right", -9, 0), "above": ("center", 0, -12), "below": ("center", 0, 13)}


def frontier_chart(
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
    own = {"field": "policy", "equal": styles[0]["policy"]}
    policies, colours = ([style[key] for style in styles] for key in ("policy", "colour"))
    x_scale = {"type": "log" if logarithmic else "linear", "domain": list(domains[0]), "nice": False}
    title = units["cost"] + (" (logarithmic)" if logarithmic else "")
    x = quantitative("cost", title, x_scale, tickCount=6, grid=False)
    y = quantitative("reward", units["reward"], {"domain": list(domains[1]), "nice": False}, tickCount=6)
    xy = {"x": x, "y": y}
    drawn = {**xy, "color": coloured("policy", policies, colours, symbolType="stroke")}

    def lines(weight: str, **look: Any) -> Spec:
        of_weight = [style["policy"] for style in styles if style["weight"] == weight]
        mark = {"type": "line", "clip": True, "strokeJoin": "round", **look}
        kept = [{"filter": {"field": "policy", "oneOf": of_weight}}]
        return layer(mark, {**drawn, "order": {"field": "place"}}, "curves", transform=kept)

    dots = {
        **drawn,
        "size": {"condition": {"test": own, "value": 30}, "value": 9},
        "tooltip": tooltip(units, "policy", "lambda", "reward", "low", "high", "cost"),
    }
    layers = [
        layer(
            {"type": "area", "opacity": 0.1, "clip": True},
            {**drawn, "y": on(y, "low"), "y2": {"field": "high"}},
            "curves",
            transform=[{"filter": own}],
        ),
        lines("quiet", strokeWidth=1.5, strokeDash=[5, 3]),
        lines("rival", strokeWidth=1.6, opacity=0.9),
        lines("own", strokeWidth=3),
        layer({"type": "circle", "opacity": 1, "clip": True}, dots, "curves", transform=[{"filter": "datum.dot"}]),
        *_marks(x, y, tooltip(units, "policy", "reward", "low", "high", "cost")),
        # Where the slider stands: a ring with hair lines to both axes.
        layer(_HAIR, {"x": x}, "here"),
        layer(_HAIR, {"y": y}, "here"),
        layer(
            {"type": "point", "filled": False, "stroke": "$ink", "strokeWidth": 2.5, "size": 190, "opacity": 1},
            xy,
            "here",
        ),
    ]
    return chart(layers, 430, curves=curves, points=points, here=[])


def _marks(x: Spec, y: Spec, says: list[Spec]) -> list[Spec]:
    """Single models as hollow circles, other baselines as diamonds, each with its name beside it."""
    there = {"x": on(x, "at_cost"), "y": on(y, "at_reward")}
    scale = {"domain": list(_SHAPES), "range": list(_SHAPES.values())}
    shape = {"field": "kind", "type": "nominal", "scale": scale, "legend": None}
    look = {"fill": "$page", "stroke": "$muted", "strokeWidth": 1.6, "size": 60, "opacity": 1}
    # Each label twice: first as a rim in the page's colour, so that it can be read across lines.
    rim = {"stroke": "$page", "strokeWidth": 4, "strokeJoin": "round", "opacity": 0.9}
    labels = [
        layer(
            {"type": "text", "align": align, "dx": dx, "dy": dy, "fontSize": 11, "color": "$muted", **rimmed},
            {**there, "text": {"field": "label"}},
            "points",
            name=f"label_{side}_{place}",
            transform=[{"filter": {"field": "side", "equal": side}}],
        )
        for side, (align, dx, dy) in _SIDES.items()
        for place, rimmed in enumerate((rim, {}))
    ]
    mark = {"type": "point", "filled": True, **look}
    return [layer(mark, {**there, "shape": shape, "tooltip": says}, "points"), *labels]


def mix_chart(rows: Rows, models: Sequence[str], units: Mapping[str, str]) -> Spec:
    """Which models are chosen as the money grows: shares stacked, over mean cost.

    Parameters
    ----------
    rows : {cost, model, share, place}
    models : in the order of the stack and of their colours
    """
    costs = [row["cost"] for row in rows]
    scale = {"domain": [min(costs), max(costs)], "nice": False}
    x = quantitative("cost", units["cost"], scale, tickCount=6, grid=False)
    share = quantitative("share", "Share of prompts", {"domain": [0, 1], "nice": False}, format=".0%", tickCount=5)
    encoding = {
        "x": x,
        "y": share | {"stack": "zero"},
        "color": coloured("model", models, symbolType="square", symbolStrokeWidth=0),
        "order": {"field": "place"},
        "tooltip": said(("model", "model"), ("share", "share", ".1%"), ("cost", units["cost"], ".4~g")),
    }
    layers = [
        layer({"type": "area", "opacity": 0.92, "line": False}, encoding),
        layer({**_HAIR, "color": "$ink", "strokeWidth": 1.5}, {"x": x}, "here"),
    ]
    return chart(layers, 240, rows=rows, here=[])
