"""PURE. What a report consists of, before it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from erp_trainer.report.charts.base import Spec
from erp_trainer.words import NOTHING, from_to, number, signed

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table holds at one place; ``tone`` is ``up``, ``down`` or nothing."""

    text: str = NOTHING
    small: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, and its cell of a row; ``text`` stands to the left, numbers to the right."""

    name: str
    cell: Callable[[Any], Cell | str]
    text: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a table; the bundle's own is set apart."""

    cells: Sequence[Cell]
    own: bool = False


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table of the page, with its texts; all of one that is ``folded``, or what is past ``shown`` rows, is folded."""

    heads: Sequence[Column]
    rows: Sequence[TableRow]
    title: str = ""
    note: str = ""
    shown: int = 40
    folded: bool = False


def lay_out(
    columns: Sequence[Column], rows: Iterable[Any], *, own: Callable[[Any], bool] = lambda row: False, **texts: Any
) -> DataTable:
    """Lay out rows by columns.

    Parameters
    ----------
    own : whether a row is the bundle's
    texts : further attributes of the table
    """
    laid = []
    for row in rows:
        cells = [column.cell(row) for column in columns]
        laid.append(TableRow([Cell(cell) if isinstance(cell, str) else cell for cell in cells], own(row)))
    return DataTable(columns, laid, **texts)


def level(value: float | None, low: float | None, high: float | None) -> Cell:
    """A figure, and its interval in small type."""
    return Cell(number(value), small=f"({from_to(low, high)})")


def difference(interval: Figures | None, digits: int = 3) -> Cell:
    """A difference with its interval, toned where that keeps to one side of nought."""
    if interval is None:
        return Cell()
    low, high = interval["low"], interval["high"]
    return Cell(signed(interval["mean"], digits), f"({from_to(low, high, digits, sign=True)})", tone(interval, digits))


def tone(interval: Figures, digits: int = 3) -> str:
    """``up`` or ``down`` where an interval of differences keeps to one side of nought."""
    # What is written as nought points nowhere.
    if interval["low"] is None or signed(interval["mean"], digits) == signed(0.0, digits):
        return ""
    return "up" if interval["low"] > 0 else "down" if interval["high"] < 0 else ""


@dataclass(frozen=True, slots=True)
class Choices:
    """A list to choose from, and which heat maps' cells it changes."""

    label: str
    cells: str
    options: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class PageSection:
    """One part of the page. What is empty is not shown.

    Attributes
    ----------
    id, name, heading : its anchor, its name in the list of sections, its title
    lines, notes : paragraphs before and after what it shows
    charts, small_charts : names of charts below each other, and in a grid; ``trailing_charts`` stand below the tables
    pair, second_pair : names of charts side by side; ``choices`` changes the first
    caption, mix_caption : below the two charts of the frontier
    key : what the numbers of the frontier's points mean where there is no room for names
    folded : the whole section is folded away below its title
    small_title : what the charts are folded away below, where some are small
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
    examples: Sequence[Figures] = ()
    caption: str = ""
    mix_caption: str = ""
    key: Sequence[str] = ()
    folded: bool = False
    small_title: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A section with the charts it shows, and the cells its lists choose from."""

    section: PageSection
    charts: Mapping[str, Spec] = field(default_factory=dict)
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dial:
    """The slider: the points of the bundle's own curve, and the two ends of its cost.

    Attributes
    ----------
    points : by ascending λ: {policy, lambda, cost, reward, says: {reading: text}, mix: [{model, share, colour}]}
    start : position of the point where it stands at first
    """

    points: Sequence[Figures]
    budget: Mapping[str, float] | None
    lambda_unit: str
    cost_label: str
    baseline: str
    start: int = 0

    @property
    def last(self) -> int:
        """The slider's last position."""
        return len(self.points) - 1
