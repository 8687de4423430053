"""What commands share on a terminal: ``--json``, progress bars, warnings. Nothing here knows the domain."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """Add ``--json``; the command receives it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(command)


def ray_options(command: _Command) -> _Command:
    """Add ``--engine`` and ``--ray-address``; the command receives them as ``engine`` and ``ray_address``."""
    engine = click.option("--engine", type=click.Choice(["ray"]), help="Run this stage on an existing Ray cluster.")
    address = click.option("--ray-address", metavar="ADDRESS", help="Of the cluster; by default the one running here.")
    return engine(address(command))


def emit(payload: Mapping[str, Any], as_json: bool, render: Callable[[Mapping[str, Any]], str]) -> None:
    """Print a command's result on stdout.

    Parameters
    ----------
    payload : the result; numpy numbers and arrays are allowed, and NaN becomes null
    as_json : as one JSON object, else as text
    render : payload to text
    """
    click.echo(json.dumps(plain(payload), ensure_ascii=False, allow_nan=False) if as_json else render(payload))


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


def warn(message: str) -> None:
    """Print one yellow line on stderr."""
    click.secho(f"warning: {message}", fg="yellow", err=True)


def plain(value: Any) -> Any:
    """A result as JSON has it: numpy numbers and arrays as plain ones, and what is not finite as None."""
    """A value as JSON has it: numpy numbers and arrays as Python's, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
