"""PURE. Tables of a terminal that keep to its width: names are cut in their middle, then columns are left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from erp_trainer.console import columns, padded
from erp_trainer.words import shortened

# A name column is no narrower and no wider than this.
_LEAST, _MOST = 18, 38


@dataclass(frozen=True, slots=True)
class Head:
    """A column of a table.

    Attributes
    ----------
    name : its title
    is_name : holds names, which stand to the left and may be cut; else figures, to the right and never cut
    spare : left out where there is no room, the highest first; 0 never
    """

    name: str
    is_name: bool = False
    spare: int = 0


Row = Sequence[str] | str


def table(heads: Sequence[Head], rows: Sequence[Row], width: int) -> Iterator[str]:
    """Rows below their heads, no line wider than ``width``; a row that is one text stands across the columns."""
    cells = [row for row in rows if not isinstance(row, str)]
    kept, widths = _fit(heads, cells, width)
    short = {c: shortened([row[c] for row in cells], widths[c]) for c in kept if heads[c].is_name}

    def line(row: Sequence[str]) -> str:
        written = (
            padded(_cut(short[c].get(row[c], row[c]), widths[c]), widths[c])
            if heads[c].is_name
            else " " * (widths[c] - columns(row[c])) + row[c]
            for c in kept
        )
        return " ".join(written).rstrip()

    yield line([head.name for head in heads])
    for row in rows:
        yield row if isinstance(row, str) else line(row)


def _fit(heads: Sequence[Head], rows: Sequence[Sequence[str]], width: int) -> tuple[list[int], dict[int, int]]:
    """Which columns there is room for, and how wide they are."""
    natural = [max(columns(text) for text in (head.name, *(row[c] for row in rows))) for c, head in enumerate(heads)]
    kept = list(range(len(heads)))

    def least(c: int) -> int:
        return min(natural[c], _LEAST) if heads[c].is_name else natural[c]

    while sum(map(least, kept)) + len(kept) - 1 > width and any(heads[c].spare for c in kept):
        kept.remove(max(kept, key=lambda c: heads[c].spare))
    widths = {c: least(c) for c in kept}
    room = width - sum(widths.values()) - len(kept) + 1
    for c in (c for c in kept if heads[c].is_name):
        more = max(0, min(room, min(natural[c], _MOST) - widths[c]))
        widths[c], room = widths[c] + more, room - more
    return kept, widths


def _cut(text: str, width: int) -> str:
    """A text of so many columns of a terminal at most; wide characters take two of them."""
    while columns(text) > width:
        text = text[:-2] + "…"
    return text
