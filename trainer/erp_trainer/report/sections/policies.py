"""PURE. The verdict, its figures, and the table of all policies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from erp_trainer.report.page import Cell, DataTable, Head, Part, Section, TableRow
from erp_trainer.report.sections.frontier import bars, own_curve, own_key
from erp_trainer.report.words import (
    MINUS,
    NOTHING,
    Units,
    bare,
    mostly,
    number,
    percent,
    shortened,
    signed,
    signed_span,
    significant,
    span,
    tone,
)


def verdict(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The headline, what stands below it, and which way it points."""
    found = payload["verdict"]
    best = found["best_single"]
    headline = {
        "helps": f"Routing beats always using {best}",
        "unclear": f"Routing is not clearly better than always using {best}",
        "hurts": f"Use {best}: routing does worse",
    }[found["kind"]]
    return {"kind": found["kind"], "headline": headline, "lines": [_minus(found["text"])]}


def _minus(text: str) -> str:
    """Hyphens before digits as minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, text)


def tiles(payload: Mapping[str, Any], units: Units) -> list[dict[str, str]]:
    """The few figures that a reader takes along."""
    found = payload["verdict"]
    gain = found["gain"]
    at = f"λ = {significant(payload['lambda'])}"
    ends = signed_span(gain["low"], gain["high"])
    says = f"reward against always {found['best_single']}, at {at} (95%: {ends})"
    rows = [{"value": signed(gain["mean"]), "label": says}]
    against = own_curve(payload)["against"]
    saved = (against.get("best_single") or {}).get("saved_at_equal_reward")
    if saved and saved["mean"] is not None:
        rows.append(
            {"value": _cheaper(saved["mean"]), "label": f"at the reward of {found['best_single']} ({_ends(saved)})"}
        )
    mixture = (against.get("mixture") or {}).get("area")
    if mixture:
        ends = signed_span(mixture["low"], mixture["high"])
        rows.append(
            {
                "value": signed(mixture["mean"]),
                "label": f"reward over all budgets, against mixing single models at equal cost (95%: {ends})",
            }
        )
    counts = payload["counts"]
    repeated = f"; {payload['left_out']:,} left out, their text is in train" if payload["left_out"] else ""
    rows.append(
        {"value": f"{counts['test_prompts']:,}", "label": f"held-out prompts, {counts['models']} models{repeated}"}
    )
    return rows


def _cheaper(saved: float) -> str:
    if abs(saved) < 0.005:
        return "No cheaper"
    return f"{percent(saved)} cheaper" if saved > 0 else f"{percent(-saved)} dearer"


def _ends(saved: Mapping[str, Any]) -> str:
    """The interval of a saving; an end is unknown where so many resamples never reach the reward."""
    reached = saved.get("reached")
    often = "" if reached is None or reached > 0.995 else f"; reached in {percent(reached)} of resamples"
    if saved["high"] is None:
        return often.removeprefix("; ")
    low = "none" if saved["low"] is None else percent(saved["low"])
    return f"95%: {low} to {percent(saved['high'])}{often}"


def policies(payload: Mapping[str, Any], units: Units) -> Part:
    """All policies at the λ asked for, and what each gains over all budgets."""
    tables = [_rows(payload, units)]
    over = _over_budgets(payload)
    if over.rows:
        tables.append(over)
    best = payload["verdict"]["best_single"]
    section = Section(
        id="policies",
        name="Policies",
        heading=f"All policies at λ = {significant(payload['lambda'])}",
        lines=(
            f"Mean reward on the held-out prompts, and the paired difference from always using {best}. Coloured "
            "differences are those whose 95% interval keeps to one side of nought.",
        ),
        charts=("policies",),
        tables=tables,
        notes=[f"Not compared: {name}, {why}." for name, why in (payload.get("missing_rivals") or {}).items()],
    )
    return Part(section, {"policies": bars(payload, _asked(payload).values(), units)})


def _asked(payload: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every policy once, at the λ asked for or without one."""
    found = [policy for policy in payload["policies"].values() if policy["lambda"] in (None, payload["lambda"])]
    return {policy["curve"]: policy for policy in found}


def _rows(payload: Mapping[str, Any], units: Units) -> DataTable:
    heads = [
        Head("policy", text=True),
        Head("mean reward"),
        Head("against best single"),
        Head("the bundle against it"),
        Head(units.cost_short),
        Head("regret"),
        Head("chosen most", text=True),
    ]
    own = own_key(payload)
    ordered = sorted(_asked(payload).values(), key=lambda policy: -policy["reward"])
    names = shortened(list(payload["models"]))
    rows = [_row(bare(policy["label"]), policy, own, units, names) for policy in ordered]
    others = [policy for policy in payload["policies"].values() if policy["curve"] == own]
    rows += [
        _row(f"{policy['label']} at λ = {significant(policy['lambda'])}", policy, own, units, names)
        for policy in others
        if policy["lambda"] not in (None, payload["lambda"])
    ]
    return DataTable(heads, rows, note=_oracle(payload))


def _row(name: str, policy: Mapping[str, Any], own: str, units: Units, names: Mapping[str, str]) -> TableRow:
    gain = policy["against_best_single"]
    cells = [
        Cell(name, small=_BOUND if policy["kind"] == "bound" else ""),
        Cell(number(policy["reward"]), small=f"({span(*policy['reward_ci'])})"),
        _difference(gain),
        _difference((policy["bundle_ahead"] or {}).get("reward")) if policy["curve"] != own else Cell(),
        Cell(units.money(policy["cost_usd"])),
        Cell(number(policy["regret"])),
        Cell("" if policy["kind"] == "single" else mostly(policy["share"], names)),
    ]
    return TableRow(cells, own=policy["curve"] == own)


_BOUND = "a bound: it looks at the rewards"


def _difference(interval: Mapping[str, Any] | None, digits: int = 3) -> Cell:
    if interval is None:
        return Cell()
    ends, mean = signed_span(interval["low"], interval["high"], digits), signed(interval["mean"], digits)
    # What is written as nought points nowhere.
    return Cell(mean, small=f"({ends})", tone=tone(interval) if mean != signed(0.0, digits) else "")


def _over_budgets(payload: Mapping[str, Any]) -> DataTable:
    heads = [
        Head("policy", text=True),
        Head("mean reward"),
        Head("against the mixture"),
        Head("gain at the best single model's cost"),
        Head("cheaper at that model's reward"),
        Head("the bundle against it, utility over λ"),
    ]
    rows, own = [], own_key(payload)
    for key, curve in payload["curves"].items():
        if curve["area"] is None or curve["kind"] in ("single", "bound"):
            continue
        single, mixture = curve["against"].get("best_single") or {}, curve["against"].get("mixture") or {}
        saved = single.get("saved_at_equal_reward")
        cells = [
            Cell(curve["label"]),
            Cell(number(curve["area"]["mean"]), small=f"({span(curve['area']['low'], curve['area']['high'])})"),
            _difference(mixture.get("area")),
            _difference(single.get("gained_at_equal_cost")),
            Cell(percent(saved["mean"]), small=_ends(saved)) if saved else Cell(NOTHING),
            _difference(curve["bundle_ahead"], 4) if key != own else Cell(),
        ]
        rows.append(TableRow(cells, own=curve["kind"] == "bundle"))
    return DataTable(heads, rows, title="Over all budgets", note=_OVER_NOTE)


_OVER_NOTE = (
    "Mean reward with the budget spread evenly from the cheapest to the dearest single model. The mixture of "
    "single models tosses a coin between two of them, to hit the same cost without looking at the prompt. Utility is "
    "reward less λ times cost, averaged over λ from 0 to where the dearest model stops paying."
)


def _oracle(payload: Mapping[str, Any]) -> str:
    found = payload["oracle"]
    return f"Regret is measured against the oracle, which earns {number(found['reward']['mean'])}: {found['text']}."
