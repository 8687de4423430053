"""Options that stand in several commands, each set with what it means."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from erp_trainer.console import ray_options

PATH = click.Path(path_type=Path)
_Command = TypeVar("_Command", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number within bounds; unlike click's own range it takes neither ``nan`` nor ``inf``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """What was written as a number; a usage error where it is none, or not a finite one."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


def add_options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """One decorator of several; the first is listed first."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def embedder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name an embedder; the command receives ``load``, which makes it."""

    @functools.wraps(command)
    def with_load(
        *, embedder: str, embedder_model: str | None, revision: str | None, trust_remote_code: bool, **others: Any
    ) -> Any:
        from litellm_erp.embedding import load_embedder

        load = functools.partial(
            load_embedder, embedder, revision=revision, trust_remote_code=trust_remote_code, model=embedder_model
        )
        return command(load=load, **others)

    return add_options(
        click.option(
            "--embedder", default="static", show_default=True, help="static, a sentence-transformers id, or a URL."
        ),
        click.option("--embedder-model", help="Model name to send to an embedding server."),
        click.option("--revision", help="Pinned revision of a sentence-transformers id."),
        click.option(
            "--trust-remote-code", is_flag=True, help="Run code from the embedder's repository; needs --revision."
        ),
    )(with_load)


def bundle_embedder_options(command: _Command) -> _Command:
    """``--embedder-url`` and ``--trust-remote-code``, for `bundle_embedder`."""
    return add_options(
        click.option("--embedder-url", help="Where an endpoint embedder is now."),
        click.option("--trust-remote-code", is_flag=True, help="Run code from the embedder's repository."),
    )(command)


def log_options(*, required: bool) -> Callable[[_Command], _Command]:
    """Which decision log is read, and what of it; the command receives ``logs``, ``group``, ``team`` and ``sources``.

    Parameters
    ----------
    required : whether the command reads nothing else
    """

    def said(text: str) -> str:
        return f"{text[0].upper()}{text[1:]}" if required else f"With --log: {text}"

    return add_options(
        click.option(
            "--log",
            "logs",
            type=PATH,
            multiple=True,
            required=required,
            help=f"{'A' if required else 'Instead of RUN a'} decision log: a folder, a file, or a quoted pattern. "
            "Repeatable.",
        ),
        click.option("--group", help=said("the routing group, where the log has several.")),
        click.option("--team", help=said("of one team only.")),
        click.option(
            "--feedback",
            "sources",
            type=click.Choice(["api", "litellm", "score"]),
            multiple=True,
            help=said("which feedback counts; by default all, people's before reward models'. Repeatable."),
        ),
    )


def ray_worker_options(actors: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of a stage whose workers are actors; the command receives ``ray``, None without ``--engine ray``.

    Parameters
    ----------
    actors : what they are, for the help
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_ray(*, ray_workers: int, engine: str | None, ray_address: str | None, **others: Any) -> Any:
            if engine is None:
                return command(ray=None, **others)
            from erp_trainer.pool.pool import RaySettings

            return command(ray=RaySettings(address=ray_address or "auto", workers=ray_workers), **others)

        workers = click.option("--ray-workers", type=click.IntRange(min=1), default=1, show_default=True, help=actors)
        return add_options(workers, ray_options)(with_ray)

    return decorate
