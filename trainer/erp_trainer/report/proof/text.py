"""PURE. A log's figures on a terminal, and the sentences that page and terminal share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from erp_trainer.console import columns, padded
from erp_trainer.words import NOTHING, from_to, number, percent, shortened, signed, significant

Figures = Mapping[str, Any]
# Of those that are refused for the same reason.
_NAMED = 3


def proof_text(found: Figures) -> str:
    """The terminal summary."""
    said = found["verdict"]
    lines = [said["headline"], said["text"], "", *(f"  {line}" for line in read_lines(found)), ""]
    heads = ("policy", "USD/1,000", "saved", "predicted", "against served", "measured", "against served")
    rows = [list(heads), *(_row(each) for each in found["targets"])]
    names = shortened([row[0] for row in rows], 40)
    rows = [[names[row[0]], *row[1:]] for row in rows]
    widths = [max(columns(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        cells = [padded(row[0], widths[0])]
        cells += [" " * (width - columns(cell)) + cell for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    refused = [each for each in found["targets"] if each["measured"]["refused"]]
    if found["feedback"] and refused:
        lines += ["", "not measured:"]
        by_why: dict[str, list[str]] = {}
        for each in refused:
            by_why.setdefault(each["measured"]["refused"], []).append(each["label"])
        lines += [f"  {_several(labels)}: {why}" for why, labels in by_why.items()]
        lines += [f"  {hint}" for hint in hints(found)]
    starred = any(each["cost_is"].startswith("expected") for each in found["targets"])
    marks = ["* expected, not real"] if starred else []
    return "\n".join([*lines, "", *marks, *notes(found), *found["files"]])


def hints(found: Figures) -> list[str]:
    """What may let more be measured."""
    modes = found["counts"]["modes"]
    if len(modes) < 2 or not modes.get("percent"):
        return []
    held = " and ".join(f"{count:,} of mode {name}" for name, count in sorted(modes.items()))
    return [f"The log has {held}: --mode percent asks of those alone, which were served both ways."]


def _several(labels: list[str]) -> str:
    shown, more = labels[:_NAMED], len(labels) - _NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _row(each: Figures) -> list[str]:
    measured, saved = each["measured"], each["saved"]
    value = NOTHING if measured["refused"] else number(measured["dr"]["mean"])
    gain = measured.get("gain")
    return [
        each["label"],
        usd(each["cost_usd"]["mean"]) + ("" if each["cost_is"].startswith("real") else "*"),
        NOTHING if saved is None else percent(saved["mean"]),
        number(each["predicted"]["mean"]),
        NOTHING if each["predicted_gain"] is None else signed(each["predicted_gain"]["mean"]),
        value,
        NOTHING if gain is None else f"{signed(gain['mean'])} ({from_to(gain['low'], gain['high'], sign=True)})",
    ]


def usd(value: float | None) -> str:
    """USD per 1,000 requests, of USD per request."""
    return NOTHING if value is None or value != value else significant(1000 * value)


def read_lines(found: Figures) -> list[str]:
    """What the log holds, and what of it could not be used."""
    counts = found["counts"]
    begin, end = (_day(counts[side]) for side in ("from", "to"))
    lines = [
        f"{counts['requests']:,} requests, {begin} to {end}, USD {significant(counts['cost_usd'], 4)} charged; "
        f"{counts['feedback_joined']:,} with feedback ({_listed(counts['sources']) or 'none'})",
    ]
    if again := counts["id_used_before"]:
        lines.append(f"{again:,} requests have an id that their client had used before; feedback counts for the first")
    if cut := counts["cut_files"]:
        lines.append(f"{cut:,} compressed files end too early and are read up to there; compress them again")
    if rare := counts["models_left_out"]:
        lines.append(f"{rare:,} models that few requests name are left out; more than a log of one pool has")
    if counts["kept"] < counts["requests"]:
        lines.append(f"worked out on a random {counts['kept']:,} of them")
    odd = {
        "failed": counts["failed"],
        "answered by a model that its propensities rule out": counts["served_by_another_than_propensities_allow"],
        "without propensities": counts["propensity_unknown"] if found["propensities"] else 0,
        "logged twice": counts["duplicates"],
        "lines that are no record": counts["bad"],
        "torn line ends": counts["torn"],
        "lines of another version": counts["of_another_version"],
        "without the prompt's text": counts.get("without_prompt", 0),
    }
    left = ", ".join(f"{count:,} {what}" for what, count in odd.items() if count)
    return [*lines, f"left out: {left}"] if left else lines


def notes(found: Figures) -> list[str]:
    """What a reader must know to believe no more than is there."""
    lines = [
        "Predicted rewards are what the probes expect; their intervals say which requests happened to come, not how "
        "wrong the probes are, and a policy that picks the best prediction is a little flattered by them."
    ]
    shared = [each for each in found["targets"] if each["cost_is"].endswith("by others")]
    if any(each["cost_is"].startswith("expected") for each in found["targets"]):
        line = "Costs marked as expected are set right by what models that served really cost over what was expected"
        lines.append(line + ("; of models that served too little, by the others' ratio." if shared else "."))
    if not found["propensities"]:
        lines.append("The log has no propensities: nothing but what was served can be measured.")
    kinds = set(found["counts"]["sources"])
    if len(kinds) > 1 and "score" in kinds:
        lines.append("Feedback of people and of reward models is in one mean; --feedback takes one kind.")
    if found["feedback"]:
        lines.append(
            "Measured: feedback weighed by propensities, doubly robust, 95% intervals; requests with feedback count "
            "as a random part of all."
        )
    return lines


def _day(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
