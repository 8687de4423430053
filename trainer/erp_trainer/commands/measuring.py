"""The options that `evaluate` and `report` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--lambda", "lambdas", type=click.FloatRange(min=0), multiple=True, help="Where to list; repeatable."),
    click.option("--rivals/--no-rivals", default=True, show_default=True, help="Fit the other policies and compare."),
    click.option("--leave-one-task-out", is_flag=True, help="Fit without each category and measure on it; slow."),
    click.option("--price-of-adding", is_flag=True, help="Add models anew with 25, 50, 100, … of their prompts; slow."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of resamples and folds."),
    click.option("--embedder-url", help="Where an endpoint embedder is now."),
    click.option("--trust-remote-code", is_flag=True, help="Run code from the embedder's repository."),
)  # fmt: skip


def measuring_options(command: _Command) -> _Command:
    """Add the options, by the names that `evaluation.measure.measured` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
