"""``erp-train remove-model BUNDLE --run RUN --model NAME``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from erp_trainer.commands.inspect import bundle_payload, render_bundle
from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option, progress


@click.command("remove-model")
@click.argument("bundle", type=PATH)
@click.option("--model", "name", required=True, help="The pool model's name.")
@click.option("--run", required=True, type=PATH, help="The run that BUNDLE was fitted on.")
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
    count = opened.manifest["counts"]["prompts"]
    with closing(bundle_embedder(load_bundle(bundle))) as embedder, progress(count, "embedding") as advance:
        changed = remove_model(bundle, opened, name, embedder, advance)
    emit(bundle_payload(changed), as_json, render_bundle)
