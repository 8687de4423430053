"""PURE. Reward against cost: every policy, the slider, and the mix of models along the bundle's own curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from erp_trainer.report import labels
from erp_trainer.report.charts import money, rewards
from erp_trainer.report.charts.base import Spec
from erp_trainer.report.page import Dial, Figures, PageSection, Part
from erp_trainer.report.palette import N_HUES, hue
from erp_trainer.report.units import Units
from erp_trainer.words import NOTHING, bare, from_to, number, signed, significant

# The cost axis is logarithmic where it spans so many times its smallest value, and most single models would else stand
# in its first so-and-so-manieth part.
_LOG_SPAN, _LOG_CROWD = 25.0, 12.0
# A line between two points of a curve is what mixing them earns, straight in cost; on a logarithmic axis it is drawn by
# so many pieces.
_PIECES = 12
OTHER = "other models"
# The height of a line of text, as a share of the chart's.
_LINE = 0.036

_CAPTION = (
    "The band is the 95% interval of the bundle's mean reward. Circles: always the same model. Diamonds: other "
    "baselines. Triangles: outside the chart, in that direction. Dashed: baselines that learn nothing from the prompt."
)


def frontier_section(payload: Figures, units: Units) -> tuple[Part, Dial | None]:
    """The section, and its slider where costs are known and the bundle's choice depends on λ."""
    own = payload["curves"][own_key(payload)]
    if not payload["cost"]["known"] or own["points"][0]["cost_usd"] is None:
        return _without_cost(payload, units), None
    dial = _dial(payload, own, units)
    found = {"frontier": picture(payload, units)}
    if len({point["cost"] for point in dial.points if point["mix"]}) > 1:
        found["mix"] = _mix(dial, units)
    section = PageSection(
        id="frontier",
        name="Cost and reward",
        heading="What reward costs",
        lines=(
            "Every policy was run on the same held-out prompts. Further up is better, further left is cheaper. "
            "Move the slider to see what the bundle does there: λ says how much reward a unit of cost must buy.",
        ),
        caption=" ".join([_CAPTION, *_outside(found["frontier"])]),
        key=_numbered(found["frontier"]),
        mix_caption="Which models the bundle chooses as λ falls and the mean cost rises.",
    )
    return Part(section, found), dial


def _outside(chart: Spec) -> Iterator[str]:
    """What is marked at an edge, in words."""
    beyond = [row["label"] for row in chart["datasets"]["points"] if row["kind"] in ("up", "down", "on")]
    if beyond:
        yield f"The chart shows the costs from the cheapest to the dearest model. Outside: {'; '.join(beyond)}."


def _numbered(chart: Spec) -> list[str]:
    """The names of the points in the order of their numbers."""
    return [row["label"] for row in sorted(chart["datasets"]["points"], key=lambda row: int(row["number"]))]


def own_key(payload: Figures) -> str:
    """The key, among the curves, of the bundle that is reported on."""
    return next(key for key, curve in payload["curves"].items() if curve["kind"] == "bundle")


def picture(payload: Figures, units: Units) -> Spec:
    """The frontier alone."""
    lines, points = _split(payload)
    costs, levels, logarithmic = _domains(lines, points, units)
    line_height = _LINE * (levels[1] - levels[0])
    curve_rows = [row for curve in lines for row in _curve_rows(curve, units, logarithmic=logarithmic)]
    point_rows = [_point_row(curve, units, costs, levels) for curve in points]
    point_rows += [row for curve in lines for row in _leaving(curve, units, costs, levels)]
    for kind, inwards in (("down", 1), ("up", -1)):
        edge = [row for row in point_rows if row["kind"] == kind]
        for row, place in zip(edge, labels.stacked(edge, costs, logarithmic=logarithmic), strict=True):
            row["at_reward"] += inwards * place * line_height
    # Points of the right edge move down until each has a line of its own.
    above = float("inf")
    for row in sorted((row for row in point_rows if row["kind"] == "on"), key=lambda row: -row["at_reward"]):
        row["at_reward"] = above = min(row["at_reward"], above - line_height)
    inside = [row for row in curve_rows if row["dot"] and levels[0] <= row["reward"] <= levels[1]]
    edges = [{**row, "cost": row["at_cost"], "reward": row["at_reward"]} for row in point_rows]
    sides = labels.place(edges, inside, costs, levels, logarithmic=logarithmic)
    order = sorted(range(len(edges)), key=lambda i: edges[i]["cost"])
    numbers = {place: str(number) for number, place in enumerate(order, start=1)}
    numbered = [{**row, "label": numbers[place]} for place, row in enumerate(edges)]
    small = labels.place(numbered, [], costs, levels, logarithmic=logarithmic, size=labels.PHONE)
    point_rows = [
        row | {"side": sides[place]["side"], "number": numbers[place], "small_side": small[place]["side"]}
        for place, row in enumerate(point_rows)
    ]
    return money.frontier_chart(
        curve_rows, point_rows, _styles(lines), units.titles(), (costs, levels), logarithmic=logarithmic
    )


def _curve_rows(curve: Figures, units: Units, *, logarithmic: bool) -> Iterable[dict[str, Any]]:
    """The points of a line, with what lies between them where the axis would bend it."""
    rows = [
        {"policy": curve["label"], "place": float(place), "dot": True, "lambda": point["lambda"],
         "cost": units.shown(point["cost_usd"]), "reward": point["reward"],
         "low": point["reward_ci"][0], "high": point["reward_ci"][1]}
        for place, point in enumerate(curve["points"])
    ]  # fmt: skip
    yield from rows
    for one, other in pairwise(rows) if logarithmic else ():
        for along in (piece / _PIECES for piece in range(1, _PIECES)):
            moved = ("place", "cost", "reward", "low", "high")
            yield {**one, **{key: one[key] + along * (other[key] - one[key]) for key in moved}, "dot": False}


def _split(payload: Figures) -> tuple[list[Figures], list[Figures]]:
    """Curves with a known cost: those drawn as lines, the bundle's own first, and those drawn as points."""
    curves = dict(payload["curves"])
    if "oracle" in curves:
        curves["oracle"] = _bracketed(curves["oracle"], payload["oracle"]["bracket"])
    known = [curve for curve in curves.values() if curve["points"] and _costs(curve)]
    lines = [curve for curve in known if len(curve["points"]) > 1 and curve["kind"] != "bound"]
    # A pool of one model has one point, which stands for the bundle's line.
    lines = lines or [curve for curve in known if curve["kind"] == "bundle"]
    lines.sort(key=lambda curve: {"bundle": 0, "rival": 1}.get(curve["kind"], 2))
    return lines, [curve for curve in known if curve not in lines]


def _bracketed(curve: Figures, bracket: Sequence[float]) -> Figures:
    """The oracle as one point at the upper end of what it may earn, with both ends in its name."""
    point = {**curve["points"][0], "reward": bracket[1], "reward_ci": bracket}
    return {**curve, "label": f"{curve['label']} {number(bracket[0])} to {number(bracket[1])}", "points": [point],
            "named": True}  # fmt: skip


def _leaving(
    curve: Figures, units: Units, costs: tuple[float, float], levels: tuple[float, float]
) -> Iterator[dict[str, Any]]:
    """A mark where a line leaves the chart at its right edge, with how far it goes."""
    points = sorted(curve["points"], key=lambda point: point["cost_usd"])
    dearest = points[-1]
    if dearest["cost_usd"] * units.scale <= costs[1]:
        return
    inside = [point for point in points if point["cost_usd"] * units.scale <= costs[1]]
    last = inside[-1] if inside else dearest
    row = _point_row({**curve, "points": [dearest], "kind": "baseline"}, units, costs, levels)
    yield {**row, "at_reward": min(max(last["reward"], levels[0]), levels[1])}


def _costs(curve: Figures) -> list[float]:
    costs = [point["cost_usd"] for point in curve["points"]]
    return [] if any(cost is None for cost in costs) else costs


def _domains(
    lines: Sequence[Figures], points: Sequence[Figures], units: Units
) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Ends of both axes: where routing lives, from the cheapest to the dearest single model, and what it earns."""
    singles = [curve for curve in points if curve["kind"] == "single"]
    single_costs = [_costs(curve)[0] * units.scale for curve in singles]
    # A pool without a single model's cost is as wide as the bundle's own curve.
    costs = single_costs or [cost * units.scale for cost in _costs(lines[0] if lines else points[0])]
    low, high = min(costs), max(costs)
    logarithmic = low > 0 and high / low > _LOG_SPAN and median(costs) < high / _LOG_CROWD
    if low == high:
        cost = (0.5 * low, 1.5 * low or 1.0)
    elif logarithmic:
        cost = (low / 1.15, high * 1.25)
    else:
        cost = (max(0.0, low - 0.04 * (high - low)), high + 0.1 * (high - low))
    drawn = [(point, curve["kind"] == "bundle") for curve in lines for point in curve["points"]
             if cost[0] <= point["cost_usd"] * units.scale <= cost[1]]  # fmt: skip
    levels = [point["reward"] for point, _ in drawn]
    levels += [end for point, banded in drawn if banded for end in point["reward_ci"]]
    levels = levels or [curve["points"][0]["reward"] for curve in (*lines, *points)]
    bottom, top = min(levels), max([*levels, *(curve["points"][0]["reward"] for curve in singles)])
    pad = 0.05 * (top - bottom) or 0.1
    return cost, (bottom - pad, top + pad), logarithmic


def _point_row(curve: Figures, units: Units, costs: tuple[float, float], levels: tuple[float, float]) -> dict[str, Any]:
    """One policy as a point; a bound with many points shows its dearest, which is its λ = 0."""
    point = curve["points"][0]
    edge = 0.025 * (levels[1] - levels[0])
    cost, reward = units.shown(point["cost_usd"]) or 0.0, point["reward"]
    kind = curve["kind"] if curve["kind"] == "single" else "baseline"
    label = bare(curve["label"])
    if reward > levels[1] or reward < levels[0]:
        kind = "up" if reward > levels[1] else "down"
        label = label if curve.get("named") else f"{label} {number(reward)}"
    if cost > costs[1]:
        label = label if kind in ("up", "down") or curve.get("named") else f"{label} {number(reward)}"
        kind, label = "on", f"{label} at {units.money(point['cost_usd'])}"
    return {
        "policy": curve["label"],
        "label": label,
        "kind": kind,
        "cost": cost,
        "reward": reward,
        "at_cost": min(cost, costs[1]),
        "at_reward": min(max(reward, levels[0] + edge), levels[1] - edge),
        "low": point["reward_ci"][0],
        "high": point["reward_ci"][1],
    }


def _styles(lines: Sequence[Figures]) -> list[dict[str, str]]:
    """Colour and weight of every line: the bundle's own stands out, what is not learned stays quiet."""
    quiet = iter(("$muted", "$faint", "$hue9", "$hue8"))
    styles = []
    for place, curve in enumerate(lines):
        weight = "own" if place == 0 else "rival" if curve["kind"] in ("bundle", "rival") else "quiet"
        colour = "$accent" if place == 0 else hue(place) if weight == "rival" else next(quiet, "$faint")
        styles.append({"policy": curve["label"], "colour": colour, "weight": weight})
    return styles


def _dial(payload: Figures, own: Figures, units: Units) -> Dial:
    used: Counter[str] = Counter()
    for point in own["points"]:
        used.update(point["share"])
    places = {model: place for place, (model, _) in enumerate(used.most_common())}
    points = [_dial_point(own, point, places, units) for point in own["points"]]
    costs = [point["cost"] for point in points]
    budget = {"low": min(costs), "high": max(costs)} if max(costs) > min(costs) else None
    advised = (payload["verdict"]["recommended"] or {}).get("lambda", 0.0)
    start = min(range(len(points)), key=lambda i: abs((points[i]["lambda"] or 0.0) - advised))
    return Dial(points, budget, units.lambda_, units.cost, payload["verdict"]["best_single"], start)


def _dial_point(own: Figures, point: Figures, places: Mapping[str, int], units: Units) -> dict[str, Any]:
    gain = point.get("against_best_single")
    says = {
        "lambda": significant(point["lambda"] or 0.0),
        "cost": units.money(point["cost_usd"]),
        "reward": number(point["reward"]),
        "interval": from_to(*point["reward_ci"]),
        "gain": signed(gain["mean"]) if gain else NOTHING,
        "gain-interval": from_to(gain["low"], gain["high"], sign=True) if gain else "",
    }
    used = sorted((places[model], model, share) for model, share in point["share"].items() if share >= 5e-4)
    mix = [{"model": model, "share": share, "colour": hue(place)} for place, model, share in used if place < N_HUES]
    if rest := sum(share for place, _, share in used if place >= N_HUES):
        mix.append({"model": OTHER, "share": rest, "colour": hue(N_HUES)})
    cost = units.shown(point["cost_usd"])
    return {"policy": own["label"], "lambda": point["lambda"], "cost": cost, "reward": point["reward"],
            "says": says, "mix": mix}  # fmt: skip


def _mix(dial: Dial, units: Units) -> Spec:
    """Every model at every cost once: an area needs its noughts, and one cost can belong to several λ."""
    hues = {part["model"]: part["colour"] for point in dial.points for part in point["mix"]}
    order = [hue(place) for place in range(N_HUES + 1)]
    models = sorted(hues, key=lambda model: order.index(hues[model]))
    at_cost = {point["cost"]: point for point in reversed(dial.points)}
    rows = []
    for cost in sorted(at_cost):
        shares = {part["model"]: part["share"] for part in at_cost[cost]["mix"]}
        rows += [
            {"cost": cost, "model": model, "place": place, "share": shares.get(model, 0)}
            for place, model in enumerate(models)
        ]
    return money.mix_chart(rows, models, units.titles())


def _without_cost(payload: Figures, units: Units) -> Part:
    section = PageSection(
        id="frontier",
        name="Reward",
        heading="What each policy earns",
        lines=("Prices are not known for every model, so there is no cost to set reward against.",),
        caption="Mean reward with its 95% interval. The dashed line is the best single model.",
    )
    return Part(section, {"frontier": bars(payload, payload["policies"].values(), units)})


def bars(payload: Figures, policies: Iterable[Figures], units: Units) -> Spec:
    """Mean reward of some policies, beside the best single model's."""
    rows = [
        {"policy": bare(policy["label"]), "own": policy["kind"] == "bundle", "single": policy["kind"] == "single",
         "reward": policy["reward"], "low": policy["reward_ci"][0], "high": policy["reward_ci"][1]}
        for policy in policies
    ]  # fmt: skip
    best = payload["models"][payload["verdict"]["best_single"]]["mean_reward"]
    return rewards.policies_chart(rows, best, units.titles())
