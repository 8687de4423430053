"""What both demos print with, and how their commands begin and end."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from demo.proxy_process import REPOSITORY, interrupt_on_sigterm
from erp_trainer import words
from erp_trainer.learning.bootstrap import Interval
from litellm_erp.errors import ErpError

WIDTH = 120
INDENT = " " * 10


class Terminal:
    """Says how far a demo is, and since when; colours on a terminal, plain text elsewhere, as wide everywhere."""

    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self.show = Console(width=WIDTH, highlight=False, markup=False, emoji=False).print
        self._started = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.perf_counter() - self._started

    def say(self, what: str) -> None:
        """A line with the time."""
        self.show(f"[{self.elapsed_s:5.1f} s] {what}")


def ruled(columns: Mapping[str, int | None]) -> Table:
    """A table under a line: titles with the least width of what is aligned to the right, None where to the left."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, header_style="bold")
    for title, width in columns.items():
        table.add_column(title, justify="left" if width is None else "right", no_wrap=True, min_width=width)
    return table


def plain(*titles: str, gap: int = 2) -> Table:
    """A table without lines."""
    table = Table(box=None, padding=(0, gap, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def letters(count: int) -> list[str]:
    """What models are called in a narrow column."""
    return [chr(ord("A") + place) for place in range(count)]


def whole_percent(share: float) -> str:
    """A share in whole percent, without the sign."""
    return "·" if share == 0 else "<1" if share < 0.005 else words.percent(share).removesuffix("%")


def above_nought(found: Interval, above: str, below: str, neither: str) -> str:
    """One of three words for a difference."""
    return above if found.low > 0 else below if found.high < 0 else neither


def short(path: Path) -> str:
    """A path as seen from the repository, where it is in there."""
    path = path.resolve()
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def write_json(path: Path, value: object) -> None:
    """A JSON file for people too."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def run_command(parser: argparse.ArgumentParser, out: Path, run: Callable[[Any], None]) -> int:
    """Run a demo; 0 done, 1 failed, 130 interrupted.

    Parameters
    ----------
    out : the folder that ``--out`` names by default
    run : takes the parsed arguments; an ErpError where something did not do what the demo is there to show
    """
    parser.add_argument("--out", type=Path, default=out, help="folder for everything it writes")
    arguments = parser.parse_args()
    interrupt_on_sigterm()
    try:
        run(arguments)
    except (ErpError, subprocess.CalledProcessError) as error:
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything it started is stopped", file=sys.stderr)
        return 130
    return 0


def _one_line(message: str) -> str:
    """A message that quotes a log is cut to its own line and the log's first line about an error."""
    first, *quoted = message.splitlines()
    return " ".join([first, *next(([line.strip()] for line in quoted if "rror:" in line), quoted[-1:])])
