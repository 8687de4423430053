"""What `evaluate` and `report` share: options of what is measured, and measuring it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from erp_trainer.console import progress

if TYPE_CHECKING:
    from erp_trainer.evaluation.evaluation import Evaluation

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
    """Add the options, for :func:`measured`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def measured(
    run: Path, bundle: Path, *, embedder_url: str | None, trust_remote_code: bool, **options: Any
) -> Evaluation:
    """Embed a run's prompts with a progress bar, and measure a bundle on them.

    Parameters
    ----------
    options : by the names of ``evaluation.report.Options``
    """
    from erp_trainer.bundles.predict import bundle_embedder
    from erp_trainer.evaluation.evaluation import Options, evaluation_of
    from erp_trainer.outcomes.run import open_run
    from litellm_erp.bundle.load import load_bundle

    opened, loaded = open_run(run), load_bundle(bundle)
    embedder = bundle_embedder(loaded, url=embedder_url, trust_remote_code=trust_remote_code)
    try:
        with progress(opened.manifest["counts"]["prompts"], "embedding") as advance:
            return evaluation_of(opened, loaded, embedder, Options(**options), advance)
    finally:
        embedder.close()
