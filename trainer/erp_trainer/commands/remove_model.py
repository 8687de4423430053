"""``erp-train remove-model BUNDLE --run RUN --model NAME``."""

from __future__ import annotations

from pathlib import Path

import click

from erp_trainer.commands.inspect import bundle_payload, render_bundle
from erp_trainer.console import emit, json_option, progress


@click.command("remove-model", short_help="Take one model out of a bundle; no other probe changes.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--model", "name", required=True, help="The pool model's name.")
@click.option("--run", required=True, type=click.Path(path_type=Path), help="The run that BUNDLE was fitted on.")
@json_option
def command(bundle: Path, name: str, run: Path, as_json: bool) -> None:
    """Take a model's probe out of BUNDLE and compute the frontier of the others, out of fold, from RUN.

    The run keeps the model's samples and outcomes: add-model --run puts it back.

    BUNDLE has one writer at a time: another command that changes it is waited for, for up to a minute.
    """
    from erp_trainer.bundles.members import remove_model
    from erp_trainer.bundles.predict import bundle_embedder
    from erp_trainer.outcomes.run import open_run
    from litellm_erp.bundle.load import load_bundle

    opened = open_run(run)
    embedder = bundle_embedder(load_bundle(bundle))
    try:
        with progress(opened.manifest["counts"]["prompts"], "embedding") as advance:
            changed = remove_model(bundle, opened, name, embedder, advance)
    finally:
        embedder.close()
    emit(bundle_payload(changed), as_json, render_bundle)
