"""What commands share on a terminal: ``--json``, progress bars, warnings. Nothing here knows the domain."""

from __future__ import annotations

import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
# `progress`, or like it: total and label to a function that is called with the steps just done.
Progress = Callable[[int | None, str], AbstractContextManager[Callable[[int], None]]]


# In columns: no table is wider, and narrower ones cannot be read.
WIDTH, _NARROWEST = 110, 72


def terminal_width() -> int:
    """The terminal's width in columns, within what can be read; a pipe has none of its own."""
    return min(WIDTH, max(_NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns))


def json_option(command: _Command) -> _Command:
    """Add ``--json``; the command receives it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(command)


def ray_options(command: _Command) -> _Command:
    """Add ``--engine`` and ``--ray-address``; the command receives them as ``engine`` and ``ray_address``."""
    engine = click.option("--engine", type=click.Choice(["ray"]), help="Run this stage on an existing Ray cluster.")
    address = click.option("--ray-address", metavar="ADDRESS", help="Of the cluster; by default the one running here.")
    return engine(address(command))


def emit(payload: Mapping[str, Any], as_json: bool, render: Callable[[Mapping[str, Any]], str]) -> None:
    """Print a command's result on stdout, with every name in it as a terminal may have it.

    Parameters
    ----------
    payload : the result; numpy numbers and arrays are allowed, and NaN becomes null
    as_json : as one JSON object, else as text
    render : payload to text
    """
    if as_json:
        text = json.dumps(plain(payload), ensure_ascii=False, allow_nan=False)
        click.echo("".join(char if _is_harmless(char) else json.dumps(char)[1:-1] for char in text))
    else:
        click.echo(render(_printable_in(payload)))


def printable(text: str) -> str:
    """Text on one line that moves no cursor: what a terminal would obey or hide is written as its escape.

    Names come from configs and tables that others wrote: line ends, ANSI sequences, marks that turn text around.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else char.encode("unicode_escape").decode() for char in text)


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name on one line."""
    return ", ".join(f"{name or '(none)'} {count:,}" for name, count in counts.items())


def padded(text: str, width: int) -> str:
    """Text filled up with spaces to a width in terminal columns, of which wide characters take two."""
    return text + " " * max(0, width - columns(text))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many columns, of which wide characters take two; no word is broken."""
    lines: list[str] = []
    for word in text.split():
        if lines and columns(lines[-1]) + 1 + columns(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def paragraph(text: str, indent: str = "") -> str:
    """A text in lines of the terminal's width, each behind an indent."""
    return "\n".join(indent + line for line in wrapped(text, terminal_width() - columns(indent)))


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _is_harmless(char: str) -> bool:
    # A zero-width joiner holds an emoji together.
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or char == "\u200d"


def _printable_in(value: Any) -> Any:
    """A result with its keys and texts printable; all else is left alone."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable_in(key): _printable_in(entry) for key, entry in value.items()}
    return [_printable_in(entry) for entry in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def progress(total: int | None, label: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, if that is a terminal.

    Parameters
    ----------
    total : steps; None where it is not known
    label : what is being done

    Yields
    ------
    a function to call with the number of steps just done
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def silent(total: int | None, label: str) -> Iterator[Callable[[int], None]]:
    """:func:`progress` of which nothing is shown."""
    yield lambda steps: None


def warn(message: str) -> None:
    """Print one yellow line on stderr."""
    click.secho(f"warning: {printable(message)}", fg="yellow", err=True)


def plain(value: Any) -> Any:
    """A value as JSON has it: numpy numbers and arrays as Python's, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
