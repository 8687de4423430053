"""``erp-train report RUN --bundle BUNDLE --out report.html``, and ``erp-train report --log LOG``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.measuring import MEASURED, measuring_options
from erp_trainer.commands.options import log_options
from erp_trainer.console import emit, json_option, paragraph, progress
from erp_trainer.report import FORMATS

Figures = dict[str, Any]


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--bundle", type=click.Path(path_type=Path), help="The bundle's folder; needed without --log.")
@log_options(required=False)
@click.option(
    "--mode",
    type=click.Choice(["shadow", "percent", "route"]),
    help="With --log: only the requests of this mode.",
)
@click.option(
    "--out",
    "outs",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="The file to write, its format by its suffix: .html, .json, .csv, .png. Repeatable: one evaluation for all. "
    "By default report.html; of a log none, and .html or .json.",
)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="The format, where the suffix does not say it.")
@click.option("--title", help="What the page is headed with; by default the run folder's name.")
@click.option(
    "--prompts/--no-prompts",
    " /--redact",
    default=True,
    help="Whether the page quotes prompts, cut to 420 characters; it says so where it does.",
)
@click.option(
    "--evaluation",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What `erp-train evaluate --out` kept of the same RUN and BUNDLE: it is drawn, and nothing measured again.",
)
@measuring_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: Path | None,
    bundle: Path | None,
    logs: tuple[Path, ...],
    group: str | None,
    team: str | None,
    sources: tuple[str, ...],
    mode: str | None,
    outs: tuple[Path, ...],
    format_: str | None,
    title: str | None,
    prompts: bool,
    evaluation: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate BUNDLE on the test split of RUN and draw the result.

    The HTML file is complete in itself, for a browser or a mail: the verdict, reward against cost with a slider for λ
    or a budget, predicted against recorded reward, models and categories, example prompts. The PNG is its first chart,
    the CSV has every policy at every λ, the JSON is what `erp-train evaluate --json` prints.

    With --log LOG nothing is fitted: the page says what a proxy's decision log shows that other choices would have cost
    and earned, at any λ and of any bundle, with what was measured and what is only predicted told apart.
    """
    if logs:
        if run is not None:
            raise click.UsageError("give RUN or --log, not both")
        found = _of_log(logs, bundle, options, group=group, team=team, mode=mode, sources=sources or None)
        emit({"files": _write_proof(found, outs, format_, title), **found}, as_json, _render_proof)
        return
    if run is None or bundle is None:
        raise click.UsageError("give RUN and --bundle BUNDLE, or --log LOG")
    if group or team or sources or mode:
        raise click.UsageError("--group, --team, --mode and --feedback go with --log")
    if evaluation is not None and (stated := _stated(ctx)):
        raise click.UsageError(
            f"{', '.join(stated)} {'is' if len(stated) == 1 else 'are'} what --evaluation has settled"
        )
    outs = outs or (Path("report.html"),)
    formats = [format_ or _format_of(path) for path in outs]

    from erp_trainer.report.files import write

    payload, examples = (
        _measured(run, bundle, options, prompts)
        if evaluation is None
        else _kept(run, bundle, evaluation, options, prompts)
    )
    for path, kind in zip(outs, formats, strict=True):
        write(payload, path, title=title or run.resolve().name, format_=kind, examples=examples)
    emit({"files": [str(path) for path in outs], "verdict": payload["verdict"]}, as_json, _render)


def _stated(ctx: click.Context) -> list[str]:
    """Options of what is measured that the command line states."""
    default = click.core.ParameterSource.DEFAULT
    given = {p for p in MEASURED if ctx.get_parameter_source(p) != default}
    return [parameter.opts[0] for parameter in ctx.command.params if parameter.name in given]


def _measured(run: Path, bundle: Path, options: Mapping[str, Any], prompts: bool) -> tuple[Figures, list[Figures]]:
    """A payload, and examples where prompts may be quoted."""
    from erp_trainer.evaluation.measure import measured
    from erp_trainer.evaluation.payload import payload_of
    from erp_trainer.report.examples import examples_of

    found = measured(run, bundle, progress, **options)
    payload = payload_of(found, progress)
    return payload, examples_of(found, payload) if prompts else []


def _kept(
    run: Path, bundle: Path, evaluation: Path, options: Mapping[str, Any], prompts: bool
) -> tuple[Figures, list[Figures]]:
    """As `_measured`, of an evaluation that was kept; its examples need the bundle's choices again, and no rivals."""
    from erp_trainer.evaluation.kept import load_payload
    from erp_trainer.evaluation.measure import measured
    from erp_trainer.outcomes.run import open_run
    from erp_trainer.report.examples import examples_of
    from litellm_erp.bundle.load import load_bundle

    payload, asked = load_payload(evaluation, open_run(run), load_bundle(bundle))
    if not prompts:
        return payload, []
    once = {"lambdas": tuple(asked["lambdas"]), "seed": asked["seed"], "rivals": False}
    return payload, examples_of(measured(run, bundle, progress, **{**options, **once}), payload)


def _of_log(logs: Sequence[Path], path: Path | None, options: Mapping[str, Any], **asked_of: Any) -> dict[str, Any]:
    """The figures of a log, and of a bundle where one is asked about.

    Parameters
    ----------
    asked_of : what of the log is asked about, see ``read_log``
    """
    from erp_trainer.logged.log import read_log
    from erp_trainer.logged.proof import Asked, proof

    lambdas, seed = tuple(options["lambdas"]), options["seed"]
    log = read_log(logs, **asked_of)
    if path is None:
        return proof(log, Asked(lambdas, seed=seed))

    from erp_trainer.bundles.predict import bundle_embedder
    from erp_trainer.logged.asked_bundle import ask_bundle, default_of, is_its_own
    from litellm_erp.bundle.load import load_bundle

    bundle = load_bundle(path)
    if is_its_own(log, bundle):
        return proof(log, Asked(lambdas or default_of(bundle), seed=seed))
    embedder = bundle_embedder(bundle, url=options["embedder_url"], trust_remote_code=options["trust_remote_code"])
    with closing(embedder), progress(len(log.request_ids), "embedding") as advance:
        log, asked = ask_bundle(log, bundle, embedder, lambdas, seed=seed, advance=advance)
    return proof(log, asked)


def _write_proof(found: Mapping[str, Any], outs: Sequence[Path], format_: str | None, title: str | None) -> list[str]:
    """Write the page of a log, or its figures."""
    formats = [format_ or _format_of(path) for path in outs]
    if other := sorted(set(formats) - {"html", "json"}):
        raise click.UsageError(f"a log's report is .html or .json, not .{other[0]}")
    from erp_trainer.report.proof.page import write_proof

    for path, kind in zip(outs, formats, strict=True):
        write_proof(found, path, kind, title or "decision log")
    return [str(path) for path in outs]


def _render_proof(found: Mapping[str, Any]) -> str:
    from erp_trainer.report.proof.text import proof_text

    return proof_text(found)


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
