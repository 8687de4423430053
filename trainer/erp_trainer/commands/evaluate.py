"""``erp-train evaluate RUN --bundle BUNDLE``."""

from __future__ import annotations

from pathlib import Path

import click

from erp_trainer.console import emit, json_option, progress


@click.command("evaluate", short_help="Measure a bundle on a run's test prompts.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--lambda", "lambdas", type=click.FloatRange(min=0), multiple=True, help="Where to measure; repeatable.")
@click.option("--rivals/--no-rivals", default=True, show_default=True, help="Fit the other policies too and compare.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of resamples and folds.")
@click.option("--embedder-url", help="Where an endpoint embedder is now.")
@click.option("--trust-remote-code", is_flag=True, help="Run code from the embedder's repository.")
@json_option
def command(
    run: Path,
    bundle: Path,
    lambdas: tuple[float, ...],
    rivals: bool,
    seed: int,
    embedder_url: str | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Measure BUNDLE on the test split of RUN: reward, cost and regret over λ beside every baseline, with intervals.

    The verdict comes last. Tables are cut to what fits; --json has every figure (docs/evaluation.md), and
    `erp-train report` draws them. It reports and never changes the bundle.
    """
    from erp_trainer.evaluation.report import Options, evaluation_of
    from erp_trainer.evaluation.text import render
    from erp_trainer.prediction import bundle_embedder
    from erp_trainer.store import open_run
    from litellm_erp.bundle import load

    opened, loaded = open_run(run), load(bundle)
    options = Options(lambdas=lambdas, rivals=rivals, seed=seed)
    embedder = bundle_embedder(loaded, url=embedder_url, trust_remote_code=trust_remote_code)
    try:
        with progress(opened.manifest["counts"]["prompts"], "embedding") as advance:
            found = evaluation_of(opened, loaded, embedder, options, advance)
    finally:
        embedder.close()
    emit(found.payload(), as_json, render)
