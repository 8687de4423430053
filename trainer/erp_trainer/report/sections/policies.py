"""PURE. The figures to take along, and the table of all policies."""

from __future__ import annotations

from erp_trainer.report.page import Cell, Column, DataTable, Figures, PageSection, Part, difference, lay_out, level
from erp_trainer.report.sections.frontier import bars, own_key
from erp_trainer.report.units import Units
from erp_trainer.words import NOTHING, bare, from_to, mostly, number, percent, shortened, signed, significant

_BOUND = "a bound: it sees the rewards it is judged by"
# Rows of the table of all policies that are shown at once.
_MOST_LISTED = 8
_OVER_NOTE = (
    "Mean reward with the budget spread evenly from the cheapest to the dearest single model. The mixture of "
    "single models tosses a coin between two of them, to hit the same cost without looking at the prompt. Utility is "
    "reward less λ times cost, averaged over λ from 0 to where the dearest model stops paying."
)


def tiles(payload: Figures) -> list[dict[str, str]]:
    """The few figures that a reader takes along."""
    found, counts = payload["verdict"], payload["counts"]
    best, gain = found["best_single"], found["gain"]
    against = payload["curves"][own_key(payload)]["against"]
    rows = [(signed(gain["mean"]), f"reward against always {best}, at λ = 0 (95%: {_signed_span(gain)})")]
    if saved := found["savings"].get("1"):
        rows.append((_cheaper(saved["mean"]), f"at the reward of {best} ({_ends(saved)})"))
    if area := (against.get("mixture") or {}).get("area"):
        label = f"reward over all budgets, against mixing single models at equal cost (95%: {_signed_span(area)})"
        rows.append((signed(area["mean"]), label))
    repeated = f"; {payload['left_out']:,} left out, their text is in train" if payload["left_out"] else ""
    rows.append((f"{counts['test_prompts']:,}", f"held-out prompts, {counts['models']} models{repeated}"))
    return [{"value": value, "label": label} for value, label in rows]


def _signed_span(interval: Figures) -> str:
    return from_to(interval["low"], interval["high"], sign=True)


def _cheaper(saved: float) -> str:
    if abs(saved) < 0.005:
        return "No cheaper"
    return f"{percent(saved)} cheaper" if saved > 0 else f"{percent(-saved)} dearer"


def _ends(saved: Figures) -> str:
    """The interval of a saving; an end is unknown where so many resamples never reach the reward."""
    reached = saved.get("reached")
    often = "" if reached is None or reached > 0.995 else f"; reached in {percent(reached)} of resamples"
    if saved["high"] is None:
        return often.removeprefix("; ")
    low = "none" if saved["low"] is None else percent(saved["low"])
    return f"95%: {low} to {percent(saved['high'])}{often}"


def policies_section(payload: Figures, units: Units) -> Part:
    """All policies at the λ asked for, and what each gains over all budgets."""
    asked = {row["curve"]: row for row in payload["policies"].values() if row["lambda"] in (None, payload["lambda"])}
    over, fair = _over_budgets(payload), [row for row in asked.values() if row["kind"] != "bound"]
    best = payload["verdict"]["best_single"]
    section = PageSection(
        id="policies",
        name="Policies",
        heading=f"All policies at λ = {significant(payload['lambda'])}",
        lines=(
            f"Mean reward on the held-out prompts, and the paired difference from always using {best}. Coloured "
            "differences are those whose 95% interval keeps to one side of nought. Differences are in units of the "
            "reward: where it lies between 0 and 1, 0.01 is one percentage point.",
        ),
        charts=("policies",),
        tables=[_at_lambda(payload, list(asked.values()), units), *([over] if over.rows else [])],
        notes=_not_compared(payload.get("missing_rivals") or {}),
    )
    return Part(section, {"policies": bars(payload, fair, units)})


def _not_compared(missing: Figures) -> list[str]:
    """What could not be fitted; policies that miss the same are named together."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return [f"Not compared: {', '.join(names)}: {why}." for why, names in by_reason.items()]


def _at_lambda(payload: Figures, asked: list[Figures], units: Units) -> DataTable:
    """Every policy once, at the λ asked for or without one, then the bundle at every other λ."""
    own, names = own_key(payload), shortened(list(payload["models"]))
    # What sees the rewards stands apart, below what does not.
    ordered = sorted(asked, key=lambda row: (row["kind"] == "bound", -row["reward"]))
    rows = [{**row, "name": bare(row["label"])} for row in ordered]
    rows += [
        {**row, "name": f"{row['label']} at λ = {significant(row['lambda'])}"}
        for row in payload["policies"].values()
        if row["curve"] == own and row["lambda"] not in (None, payload["lambda"])
    ]

    def ahead(row: Figures) -> Cell:
        return difference((row["bundle_ahead"] or {}).get("reward")) if row["curve"] != own else Cell()

    def reward(row: Figures) -> Cell:
        return Cell(from_to(*found["bracket"])) if row["curve"] == "oracle" else level(row["reward"], *row["reward_ci"])

    found = payload["oracle"]
    columns = (
        Column("policy", lambda row: Cell(row["name"], small=_BOUND if row["kind"] == "bound" else ""), text=True),
        Column("mean reward", reward),
        Column("against best single", lambda row: difference(row["against_best_single"])),
        Column("the bundle against it", ahead),
        Column(units.cost_short, lambda row: units.money(row["cost_usd"])),
        Column("regret", lambda row: NOTHING if row["kind"] == "bound" else from_to(*row["regret_bracket"])),
        Column("chosen most", lambda row: "" if row["kind"] == "single" else mostly(row["share"], names), text=True),
    )
    low, high = map(number, found["bracket"])
    note = (
        f"Regret is what is missing to the oracle, the best model of each prompt, which earns {low} to {high}: "
        f"{found['bracket_text']}."
    )
    return lay_out(columns, rows, own=lambda row: row["curve"] == own, note=note, shown=_MOST_LISTED)


def _over_budgets(payload: Figures) -> DataTable:
    own = own_key(payload)

    def against(row: Figures, which: str, what: str) -> Figures | None:
        found: Figures | None = (row["against"].get(which) or {}).get(what)
        return found

    def saved(row: Figures) -> Cell:
        found = against(row, "best_single", "saved_at_equal_reward")
        return Cell(percent(found["mean"]), small=_ends(found)) if found else Cell(NOTHING)

    columns = (
        Column("policy", lambda row: row["label"], text=True),
        Column("mean reward", lambda row: level(*(row["area"][end] for end in ("mean", "low", "high")))),
        Column("against the mixture", lambda row: difference(against(row, "mixture", "area"))),
        Column("gain at the best single model's cost",
               lambda row: difference(against(row, "best_single", "gained_at_equal_cost"))),
        Column("cheaper at that model's reward", saved),
        Column("the bundle against it, utility over λ",
               lambda row: difference(row["bundle_ahead"], 4) if row["key"] != own else Cell()),
    )  # fmt: skip
    rows = [
        {**curve, "key": key}
        for key, curve in payload["curves"].items()
        if curve["area"] is not None and curve["kind"] not in ("single", "bound")
    ]
    return lay_out(columns, rows, own=lambda row: row["kind"] == "bundle", title="Over all budgets", note=_OVER_NOTE,
                   folded=True)  # fmt: skip
