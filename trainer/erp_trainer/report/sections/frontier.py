"""PURE. Reward against cost: every policy, the slider, and the mix of models along the bundle's own curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from erp_trainer.report import charts, labels
from erp_trainer.report.page import Dial, Part, Section
from erp_trainer.report.palette import N_HUES, hue
from erp_trainer.report.words import Units, bare, number, signed, signed_span, significant, span

# The cost axis is logarithmic where it spans so many times its smallest value, and most single models would else stand
# in its first so-and-so-manieth part.
_LOG_SPAN, _LOG_CROWD = 25.0, 12.0
# A line between two points of a curve is what mixing them earns, straight in cost; on a logarithmic axis it is drawn by
# so many pieces.
_PIECES = 12
OTHER = "other models"
# The height of a line of text, as a share of the chart's.
_LINE = 0.036


def frontier(payload: Mapping[str, Any], units: Units) -> tuple[Part, Dial | None]:
    """The section, and its slider where costs are known and the bundle's choice depends on λ."""
    own = own_curve(payload)
    if not payload["cost"]["known"] or own["points"][0]["cost_usd"] is None:
        return _without_cost(payload, units), None
    dial = _dial(payload, own, units)
    found = {"frontier": picture(payload, units)}
    mixed = [point for point in dial.points if point["mix"]]
    if len({point["cost"] for point in mixed}) > 1:
        found["mix"] = charts.mix(_mix_rows(dial), _mix_models(dial), units.titles())
    section = Section(
        id="frontier",
        name="Cost and reward",
        heading="What reward costs",
        lines=(
            "Every policy was run on the same held-out prompts. Further up is better, further left is cheaper. "
            "Move the slider to see what the bundle does there: λ says how much reward a unit of cost must buy.",
        ),
        caption=(
            "The band is the 95% interval of the bundle's mean reward. Circles: always the same model. Diamonds: other "
            "baselines. Triangles: outside the chart, in that direction. Dashed: baselines "
            "that learn nothing from the prompt."
        ),
        mix_caption="Which models the bundle chooses as λ falls and the mean cost rises.",
    )
    return Part(section, found), dial


def own_key(payload: Mapping[str, Any]) -> str:
    """The key, among the curves, of the bundle that is reported on."""
    return next(key for key, curve in payload["curves"].items() if curve["kind"] == "bundle")


def own_curve(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The curve of the bundle that is reported on."""
    curve: Mapping[str, Any] = payload["curves"][own_key(payload)]
    return curve


def picture(payload: Mapping[str, Any], units: Units) -> charts.Spec:
    """The frontier alone."""
    lines, points = _split(payload)
    cost_domain, reward_domain, logarithmic = _domains(payload, units)
    curve_rows = [row for curve in lines for row in _curve_rows(curve, units, logarithmic=logarithmic)]
    point_rows = [_point_row(curve, units, cost_domain, reward_domain) for curve in points]
    for kind, inwards in (("down", 1), ("up", -1)):
        edge = [row for row in point_rows if row["kind"] == kind]
        for row, level in zip(edge, labels.stacked(edge, cost_domain, logarithmic=logarithmic), strict=True):
            row["at_reward"] += inwards * level * _LINE * (reward_domain[1] - reward_domain[0])
    _spread([row for row in point_rows if row["kind"] == "on"], _LINE * (reward_domain[1] - reward_domain[0]))
    inside = [row for row in curve_rows if row["dot"] and reward_domain[0] <= row["reward"] <= reward_domain[1]]
    edges = [{**row, "cost": row["at_cost"], "reward": row["at_reward"]} for row in point_rows]
    sides = labels.place(edges, inside, cost_domain, reward_domain, logarithmic=logarithmic)
    for row, placed in zip(point_rows, sides, strict=True):
        row["side"] = placed["side"]
    return charts.frontier(
        curve_rows, point_rows, _styles(lines), units.titles(), (cost_domain, reward_domain), logarithmic=logarithmic
    )


def _curve_rows(curve: Mapping[str, Any], units: Units, *, logarithmic: bool) -> Iterable[dict[str, Any]]:
    """The points of a line, with what lies between them where the axis would bend it."""
    rows = [
        {
            "policy": curve["label"],
            "place": float(place),
            "dot": True,
            "lambda": point["lambda"],
            "cost": units.shown(point["cost_usd"]),
            "reward": point["reward"],
            "low": point["reward_ci"][0],
            "high": point["reward_ci"][1],
        }
        for place, point in enumerate(curve["points"])
    ]
    yield from rows
    for one, other in pairwise(rows) if logarithmic else ():
        for piece in range(1, _PIECES):
            along = piece / _PIECES
            between = {
                key: one[key] + along * (other[key] - one[key]) for key in ("place", "cost", "reward", "low", "high")
            }
            yield {**one, **between, "dot": False}


def _split(payload: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Curves with a known cost: those drawn as lines, the bundle's own first, and those drawn as points."""
    known = [curve for curve in payload["curves"].values() if curve["points"] and _costs(curve)]
    lines = [curve for curve in known if len(curve["points"]) > 1 and curve["kind"] != "bound"]
    lines.sort(
        key=lambda curve: ("bundle", "rival").index(curve["kind"]) if curve["kind"] in ("bundle", "rival") else 2
    )
    return lines, [curve for curve in known if curve not in lines]


def _costs(curve: Mapping[str, Any]) -> list[float]:
    costs = [point["cost_usd"] for point in curve["points"]]
    return [] if any(cost is None for cost in costs) else costs


def _domains(payload: Mapping[str, Any], units: Units) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Ends of both axes: what is learned, the mixture of single models and every single model's cost are inside."""
    lines, points = _split(payload)
    within = [curve for curve in (*lines, *points) if curve["kind"] != "bound"]
    costs = [units.shown(cost) or 0.0 for curve in within for cost in _costs(curve)]
    low, high = min(costs), max(costs)
    single_costs = [units.shown(_costs(curve)[0]) or 0.0 for curve in points if curve["kind"] == "single"] or [high]
    logarithmic = low > 0 and high / low > _LOG_SPAN and median(single_costs) < high / _LOG_CROWD
    cost = (
        (low / 1.15, high * 1.25) if logarithmic else (max(0.0, low - 0.04 * (high - low)), high + 0.1 * (high - low))
    )
    rewards = [
        value
        for curve in lines
        for point in curve["points"]
        for value in ((*point["reward_ci"], point["reward"]) if curve["kind"] == "bundle" else (point["reward"],))
    ]
    singles = [curve["points"][0]["reward"] for curve in points if curve["kind"] == "single"]
    bottom, top = min(rewards), max(*rewards, *singles) if singles else max(rewards)
    pad = 0.05 * (top - bottom) or 0.1
    if low == high:
        cost = (0.5 * low, 1.5 * low or 1.0)
    return cost, (bottom - pad, top + pad), logarithmic


def _spread(rows: Sequence[dict[str, Any]], apart: float) -> None:
    """Move points of the right edge down until each has a line of its own."""
    above = float("inf")
    for row in sorted(rows, key=lambda row: -row["at_reward"]):
        row["at_reward"] = above = min(row["at_reward"], above - apart)


def _point_row(
    curve: Mapping[str, Any], units: Units, cost_domain: tuple[float, float], reward_domain: tuple[float, float]
) -> dict[str, Any]:
    """One policy as a point; a bound with many points shows its dearest, which is its λ = 0."""
    point = curve["points"][0]
    edge = 0.025 * (reward_domain[1] - reward_domain[0])
    cost, reward = units.shown(point["cost_usd"]) or 0.0, point["reward"]
    kind = curve["kind"] if curve["kind"] == "single" else "baseline"
    label = bare(curve["label"])
    if reward > reward_domain[1] or reward < reward_domain[0]:
        kind, label = ("up" if reward > reward_domain[1] else "down"), f"{label} {number(reward)}"
    if cost > cost_domain[1]:
        kind, label = "on", f"{label} at {units.money(point['cost_usd'])}"
    return {
        "policy": curve["label"],
        "label": label,
        "kind": kind,
        "cost": cost,
        "reward": reward,
        "at_cost": min(cost, cost_domain[1]),
        "at_reward": min(max(reward, reward_domain[0] + edge), reward_domain[1] - edge),
        "low": point["reward_ci"][0],
        "high": point["reward_ci"][1],
        "side": "none",
    }


def _styles(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Colour and weight of every line: the bundle's own stands out, what is not learned stays quiet."""
    quiet = iter(("$muted", "$faint", "$hue9", "$hue8"))
    styles = []
    for place, curve in enumerate(lines):
        weight = "own" if place == 0 else "rival" if curve["kind"] in ("bundle", "rival") else "quiet"
        colour = "$accent" if place == 0 else hue(place) if weight == "rival" else next(quiet, "$faint")
        styles.append({"policy": curve["label"], "colour": colour, "weight": weight})
    return styles


def _dial(payload: Mapping[str, Any], own: Mapping[str, Any], units: Units) -> Dial:
    best = payload["verdict"]["best_single"]
    ordered = _by_use(own)
    places = {model: place for place, model in enumerate(ordered)}
    points = [_dial_point(own, point, places, units) for point in own["points"]]
    costs = [point["cost"] for point in points]
    budget = {"low": min(costs), "high": max(costs)} if max(costs) > min(costs) else None
    return Dial(points, budget, units.lambda_, units.cost, best)


def _by_use(own: Mapping[str, Any]) -> list[str]:
    """Models by how often the curve uses them, most first."""
    total: dict[str, float] = {}
    for point in own["points"]:
        for model, share in point["share"].items():
            total[model] = total.get(model, 0.0) + share
    return sorted(total, key=lambda model: -total[model])


def _dial_point(
    own: Mapping[str, Any], point: Mapping[str, Any], places: Mapping[str, int], units: Units
) -> dict[str, Any]:
    low, high = point["reward_ci"]
    gain = point.get("against_best_single")
    says = {
        "lambda": significant(point["lambda"] or 0.0),
        "cost": units.money(point["cost_usd"]),
        "reward": number(point["reward"]),
        "interval": span(low, high),
        "gain": signed(gain["mean"]) if gain else "–",
        "gain-interval": signed_span(gain["low"], gain["high"]) if gain else "",
    }
    used = sorted(((places[model], model, share) for model, share in point["share"].items() if share >= 5e-4))
    mix = [{"model": model, "share": share, "colour": hue(place)} for place, model, share in used if place < N_HUES]
    rest = sum(share for place, _, share in used if place >= N_HUES)
    if rest > 0:
        mix.append({"model": OTHER, "share": rest, "colour": "$faint"})
    return {
        "policy": own["label"],
        "lambda": point["lambda"],
        "cost": units.shown(point["cost_usd"]),
        "reward": point["reward"],
        "says": says,
        "mix": mix,
    }


def _mix_models(dial: Dial) -> list[str]:
    hues = {part["model"]: part["colour"] for point in dial.points for part in point["mix"]}
    order = [hue(place) for place in range(N_HUES + 1)]
    return sorted(hues, key=lambda model: order.index(hues[model]))


def _mix_rows(dial: Dial) -> list[dict[str, Any]]:
    """Every model at every cost once: an area needs its noughts, and one cost can belong to several λ."""
    models = _mix_models(dial)
    at_cost = {point["cost"]: point for point in reversed(dial.points)}
    return [
        {"cost": cost, "model": model, "place": place, "share": _share(at_cost[cost], model)}
        for cost in sorted(at_cost)
        for place, model in enumerate(models)
    ]


def _share(point: Mapping[str, Any], model: str) -> float:
    return sum(part["share"] for part in point["mix"] if part["model"] == model)


def _without_cost(payload: Mapping[str, Any], units: Units) -> Part:
    section = Section(
        id="frontier",
        name="Reward",
        heading="What each policy earns",
        lines=("Prices are not known for every model, so there is no cost to set reward against.",),
        caption="Mean reward with its 95% interval. The dashed line is the best single model.",
    )
    return Part(section, {"frontier": bars(payload, payload["policies"].values(), units)})


def bars(payload: Mapping[str, Any], policies: Iterable[Mapping[str, Any]], units: Units) -> charts.Spec:
    """Mean reward of some policies, beside the best single model's."""
    rows = [
        {
            "policy": bare(policy["label"]),
            "own": policy["kind"] == "bundle",
            "single": policy["kind"] == "single",
            "reward": policy["reward"],
            "low": policy["reward_ci"][0],
            "high": policy["reward_ci"][1],
        }
        for policy in policies
    ]
    best = payload["models"][payload["verdict"]["best_single"]]["mean_reward"]
    return charts.policies(rows, best, units.titles())
