"""``erp-train report RUN --bundle BUNDLE --out report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.measuring import measuring_options
from erp_trainer.console import emit, json_option, paragraph, progress
from erp_trainer.report import FORMATS


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option(
    "--out",
    "outs",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    default=("report.html",),
    show_default=True,
    help="The file to write, its format by its suffix: .html, .json, .csv, .png. Repeatable: one evaluation for all.",
)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="The format, where the suffix does not say it.")
@click.option("--title", help="What the page is headed with; by default the run folder's name.")
@click.option(
    "--prompts/--no-prompts",
    " /--redact",
    default=True,
    help="Whether the page quotes prompts, cut to 420 characters; it says so where it does.",
)
@measuring_options
@json_option
def command(
    run: Path,
    bundle: Path,
    outs: tuple[Path, ...],
    format_: str | None,
    title: str | None,
    prompts: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate BUNDLE on the test split of RUN and draw the result.

    The HTML file is complete in itself, for a browser or a mail: the verdict, reward against cost with a slider for λ
    or a budget, predicted against recorded reward, models and categories, example prompts. The PNG is its first chart,
    the CSV has every policy at every λ, the JSON is what `erp-train evaluate --json` prints.
    """
    formats = [format_ or _format_of(path) for path in outs]

    from erp_trainer.evaluation.measure import measured
    from erp_trainer.evaluation.payload import payload_of
    from erp_trainer.report.examples import candidates_of, pick
    from erp_trainer.report.files import write
    from erp_trainer.report.units import Units

    found = measured(run, bundle, progress, **options)
    payload = payload_of(found, progress)
    examples = pick(candidates_of(found), Units.of(payload)) if prompts else []
    for path, kind in zip(outs, formats, strict=True):
        write(payload, path, title=title or run.resolve().name, format_=kind, examples=examples)
    emit({"files": [str(path) for path in outs], "verdict": payload["verdict"]}, as_json, _render)


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise click.BadParameter(
            f"{path}: cannot tell the format from {path.suffix or 'no suffix'!r}; expected "
            f"{', '.join('.' + name for name in FORMATS)}, or say --format",
            param_hint="--out",
        )
    return suffix


def _render(result: Mapping[str, Any]) -> str:
    return "\n".join([*result["files"], "", paragraph(result["verdict"]["text"])])
