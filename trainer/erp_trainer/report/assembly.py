"""PURE. The whole page from an evaluation payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erp_trainer.learning.verdict import headline
from erp_trainer.report.charts.base import Spec
from erp_trainer.report.page import Dial, Figures, PageSection, Part
from erp_trainer.report.sections.categories import categories_section
from erp_trainer.report.sections.frontier import frontier_section, own_key
from erp_trainer.report.sections.newcomers import adding_section, unseen_section
from erp_trainer.report.sections.pairs import pairs_section, win_rates_section
from erp_trainer.report.sections.papers import papers_section
from erp_trainer.report.sections.policies import policies_section, tiles
from erp_trainer.report.sections.prediction import prediction_section
from erp_trainer.report.sections.tables import tables_section
from erp_trainer.report.units import Units
from erp_trainer.words import shortened, with_short_names

_LONGEST_TITLE = 80
_TONES = {"neither": "unclear", "hurts": "hurts"}


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template shows.

    Attributes
    ----------
    charts : specifications by name, colours as ``$tokens``
    cells : rows of the heat maps that a list chooses: {list: {option: {chart: rows}}}
    """

    title: str
    verdict: Mapping[str, Any]
    tiles: Sequence[Mapping[str, str]]
    sections: Sequence[PageSection]
    charts: Mapping[str, Spec]
    cells: Mapping[str, Any]
    dial: Dial | None
    footer: Sequence[str]
    notice: str = ""


def page_of(payload: Figures, title: str, examples: Sequence[Figures] = ()) -> Page:
    """Lay out a payload; sections it has no figures for are left out.

    Parameters
    ----------
    examples : of ``examples.pick``; none where prompts are to stay out of the report
    """
    names = [*payload["models"], *(payload.get("categories") or {}), *payload["models_left_out"]]
    payload, examples = with_short_names((payload, list(examples)), names)
    (title,) = shortened([title], _LONGEST_TITLE).values()
    units, said = Units.of(payload), payload["verdict"]
    money, dial = frontier_section(payload, units)
    found = [
        money,
        policies_section(payload, units),
        prediction_section(payload, units),
        pairs_section(payload),
        win_rates_section(payload),
        categories_section(payload, own_key(payload), units),
        _examples(examples, payload),
        adding_section(payload, units),
        unseen_section(payload, units),
        papers_section(payload, units),
        tables_section(payload),
    ]
    parts = [part for part in found if part is not None]
    return Page(
        title=title,
        verdict={
            "kind": _TONES.get(said["kind"], "helps"),
            "headline": headline(said),
            "lists": [
                _found("On the test split", said, headline(said)),
                _found("On train, out of fold", payload["bundle_verdict"], headline(said)),
            ],
        },
        tiles=tiles(payload),
        sections=[part.section for part in parts],
        charts={name: spec for part in parts for name, spec in part.charts.items()},
        cells={name: cells for part in parts for name, cells in part.cells.items()},
        dial=dial,
        footer=_footer(payload),
        notice=_notice(examples),
    )


def _found(of: str, said: Figures, above: str) -> dict[str, Any]:
    """A verdict as a list of sentences; a bundle of an earlier release has them as one text.

    Parameters
    ----------
    of : what prompts
    above : the page's headline, which is said once
    """
    if "sentences" not in said:
        return {"heading": of, "points": [said["text"]]}
    counted, own = f"{of}, {said['prompts']:,} prompts", headline(said)
    return {"heading": counted if own == above else f"{counted}: {own}", "points": said["sentences"][1:]}


def _notice(examples: Sequence[Figures]) -> str:
    """What whoever passes the page on must know."""
    if not examples:
        return "No prompt is quoted in this file."
    quoted = "1 prompt" if len(examples) == 1 else f"{len(examples)} prompts"
    return f"This file quotes {quoted} of the run verbatim; erp-train report --redact leaves them out."


def _examples(examples: Sequence[Figures], payload: Figures) -> Part | None:
    if not examples:
        return None
    best = payload["verdict"]["best_single"]
    section = PageSection(
        id="examples",
        name="Examples",
        heading="Prompts where the choice matters",
        lines=(
            f"First prompts on which leaving {best} paid, in reward or in money at the λ asked for, then prompts "
            "on which it did not: of each kind those the bundle was surest of. The marked model is the one it chose.",
        ),
        examples=examples,
    )
    return Part(section)


def _footer(payload: Figures) -> list[str]:
    counts, intervals = payload["counts"], payload["intervals"]
    samples = f"{counts['samples']} sample{'' if counts['samples'] == 1 else 's'} per prompt and model"
    lines = [
        f"Measured on {counts['test_prompts']:,} held-out prompts, {samples}; trained on {counts['train_prompts']:,}. "
        f"Nothing was chosen on the held-out prompts. Intervals: {intervals['level']:.0%}, bootstrap over "
        f"{intervals['resamples']:,} resamples of whole groups of duplicate prompts; differences are paired.",
    ]
    if payload["models_left_out"]:
        lines.append(f"Without test outcomes, and so not measured: {', '.join(payload['models_left_out'])}.")
    return [*lines, "This file is complete in itself: it loads nothing and sends nothing."]
