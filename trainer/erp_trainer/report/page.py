"""PURE. What a report consists of, before it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from erp_trainer.report.charts import Spec
from erp_trainer.report.words import NOTHING


@dataclass(frozen=True, slots=True)
class Head:
    """A column's head; ``text`` columns stand to the left, numbers to the right."""

    name: str
    text: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table holds at one place; ``tone`` is ``up``, ``down`` or nothing."""

    text: str = NOTHING
    small: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a table; the bundle's own is set apart."""

    cells: Sequence[Cell]
    own: bool = False


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table of the page, with what stands above and below it; rows past the first ``shown`` are folded away."""

    heads: Sequence[Head]
    rows: Sequence[TableRow]
    title: str = ""
    note: str = ""
    shown: int = 40


@dataclass(frozen=True, slots=True)
class Choices:
    """A list to choose from, and which heat maps' cells it changes."""

    label: str
    cells: str
    options: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page. What is empty is not shown.

    Attributes
    ----------
    id, name, heading : its anchor, its name in the list of sections, its title
    lines, notes : paragraphs before and after what it shows
    charts, small_charts : names of charts below each other, and in a grid; ``trailing_charts`` stand below the tables
    pair, second_pair : names of charts side by side; ``choices`` changes the first
    caption, mix_caption : below the two charts of the frontier
    """

    id: str
    name: str
    heading: str
    lines: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Sequence[DataTable] = ()
    charts: Sequence[str] = ()
    trailing_charts: Sequence[str] = ()
    small_charts: Sequence[str] = ()
    pair: Sequence[str] = ()
    second_pair: Sequence[str] = ()
    choices: Choices | None = None
    examples: Sequence[Mapping[str, Any]] = ()
    caption: str = ""
    mix_caption: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A section with the charts it shows, and the cells its lists choose from."""

    section: Section
    charts: Mapping[str, Spec] = field(default_factory=dict)
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dial:
    """The slider: the points of the bundle's own curve, and the two ends of its cost.

    Attributes
    ----------
    points : by ascending λ: {policy, lambda, cost, reward, says: {reading: text}, mix: [{model, share, colour}]}
    """

    points: Sequence[Mapping[str, Any]]
    budget: Mapping[str, float] | None
    lambda_unit: str
    cost_label: str
    baseline: str

    @property
    def last(self) -> int:
        """The slider's last position."""
        return len(self.points) - 1
