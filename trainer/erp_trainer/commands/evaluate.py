"""``erp-train evaluate RUN --bundle BUNDLE``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.measuring import measuring_options
from erp_trainer.console import emit, json_option, progress


@click.command("evaluate", short_help="Measure a bundle on a run's test prompts.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@measuring_options
@click.option("--embedder-url", help="Where an endpoint embedder is now.")
@click.option("--trust-remote-code", is_flag=True, help="Run code from the embedder's repository.")
@json_option
def command(
    run: Path,
    bundle: Path,
    embedder_url: str | None,
    trust_remote_code: bool,
    as_json: bool,
    **measured: Any,
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
    embedder = bundle_embedder(loaded, url=embedder_url, trust_remote_code=trust_remote_code)
    try:
        with progress(opened.manifest["counts"]["prompts"], "embedding") as advance:
            found = evaluation_of(opened, loaded, embedder, Options(**measured), advance)
    finally:
        embedder.close()
    emit(found.payload(), as_json, render)
