"""PURE. Where the names of points stand in a chart, so that they cover neither each other nor the points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# The plot that names are placed for, in pixels.
WIDTH, HEIGHT = 900.0, 400.0
# On a telephone points have numbers instead of names.
PHONE = (270.0, 330.0)
_CHARACTER, _LINE = 6.1, 13.0
_SIDES = {"right": ("left", 10, 0), "left": ("right", -10, 0), "above": ("center", 0, -13), "below": ("center", 0, 14)}

_Box = tuple[float, float, float, float]


def place(
    points: Sequence[Mapping[str, Any]],
    obstacles: Sequence[Mapping[str, Any]],
    x_domain: tuple[float, float],
    y_domain: tuple[float, float],
    *,
    logarithmic: bool,
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> list[dict[str, Any]]:
    """Add ``side`` to every point: one of ``right``, ``left``, ``above``, ``below``, or ``none`` where none is free.

    Parameters
    ----------
    points : {cost, reward, label}
    obstacles : {cost, reward}: the dots of lines, which labels should not cover
    size : of the plot, in pixels
    """

    def pixel(row: Mapping[str, Any]) -> tuple[float, float]:
        scale = math.log if logarithmic else float
        low, high = scale(x_domain[0]), scale(x_domain[1])
        x = size[0] * (scale(row["cost"]) - low) / ((high - low) or 1)
        return x, size[1] * (y_domain[1] - row["reward"]) / ((y_domain[1] - y_domain[0]) or 1)

    dots = [(x - 5, y - 5, x + 5, y + 5) for x, y in map(pixel, (*points, *obstacles))]
    names: list[_Box] = []
    placed = []
    for row in points:
        x, y = pixel(row)
        boxes = {side: _box(x + dx, y + dy, align, row["label"]) for side, (align, dx, dy) in _SIDES.items()}
        inside = {side: box for side, box in boxes.items() if _within(box, size)}
        # Rather over a dot than over another name.
        side = _free(inside, names + dots) or _free(inside, names) or "none"
        names += [inside[side]] if side in inside else []
        placed.append({**row, "side": side})
    return placed


def _within(box: _Box, size: tuple[float, float]) -> bool:
    return box[0] >= 0 and box[2] <= size[0] and box[1] >= -_LINE / 2 and box[3] <= size[1] + 2


def _free(boxes: Mapping[str, _Box], taken: Sequence[_Box]) -> str | None:
    return next((side for side, box in boxes.items() if not any(_overlap(box, other) for other in taken)), None)


def _box(x: float, y: float, align: str, label: str) -> _Box:
    width = _CHARACTER * len(label)
    left = {"left": x, "right": x - width, "center": x - width / 2}[align]
    return left, y - _LINE / 2, left + width, y + _LINE / 2


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def stacked(rows: Sequence[dict[str, Any]], x_domain: tuple[float, float], *, logarithmic: bool) -> list[int]:
    """How many lines each point of one edge moves inwards, so that names of neighbours stand below each other."""
    scale = math.log if logarithmic else float
    width = (scale(x_domain[1]) - scale(x_domain[0])) or 1.0
    ends: list[float] = []
    levels = [0] * len(rows)
    for place in sorted(range(len(rows)), key=lambda i: rows[i]["at_cost"]):
        x = WIDTH * (scale(rows[place]["at_cost"]) - scale(x_domain[0])) / width
        level = next((level for level, end in enumerate(ends) if end < x), len(ends))
        ends += [0.0] * (level + 1 - len(ends))
        ends[level] = x + _CHARACTER * len(rows[place]["label"]) + 24
        levels[place] = level
    return levels
