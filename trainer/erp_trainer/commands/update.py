"""``erp-train update BUNDLE --log LOG``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.options import PATH, FiniteRange, bundle_embedder_options, log_options
from erp_trainer.console import emit, json_option, progress
from erp_trainer.words import number, signed


@click.command("update")
@click.argument("bundle", type=PATH)
@log_options(required=True)
@click.option(
    "--half-life",
    "half_life_days",
    type=FiniteRange(min=0.001),
    metavar="DAYS",
    help="After so many days what was learned counts half; by default nothing is forgotten.",
)
@click.option(
    "--require-better",
    is_flag=True,
    help="Change BUNDLE only if it predicts held-out feedback no worse than before.",
)
@bundle_embedder_options
@json_option
def command(
    bundle: Path,
    logs: tuple[Path, ...],
    group: str | None,
    team: str | None,
    sources: tuple[str, ...],
    half_life_days: float | None,
    require_better: bool,
    embedder_url: str | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Add the feedback of LOG to what BUNDLE was fitted on, without the old data.

    The log must keep the prompts' text. Penalty, tasks, clusters and weights stay as they were chosen; what models
    earn is worked out anew. A fifth of the requests is never learned from and judges. Each request is
    learned from once, whenever its feedback comes.

    A model that BUNDLE does not know is placed among the others once 25 of its answers that are not held out have
    feedback, and anew at each update, from all of its answers in LOG: keep the whole log.

    The bundle that was there is kept for `erp-train rollback`. A proxy that watches the folder takes the new one up.
    """
    from erp_trainer.bundles.predict import bundle_embedder
    from erp_trainer.logged.log import read_log
    from erp_trainer.logged.update import update_bundle
    from litellm_erp.bundle.load import load_bundle

    log = read_log(logs, group=group, team=team, sources=sources or None)
    embedder = bundle_embedder(load_bundle(bundle), url=embedder_url, trust_remote_code=trust_remote_code)
    with closing(embedder), progress(None, "embedding") as advance:
        found = update_bundle(
            bundle, log, embedder, half_life_days=half_life_days, require_better=require_better, advance=advance
        )
    emit(found, as_json, _render)


def _render(found: Mapping[str, Any]) -> str:
    judged = found["judged"]
    if "why" in judged:
        verdict = f"not judged: {judged['why']}"
    else:
        change = judged["change"]
        verdict = (
            f"squared error on {judged['rows']:,} held-out answers {number(judged['squared_error_before'], 4)} → "
            f"{number(judged['squared_error_after'], 4)} ({signed(change['mean'], 4)}, 95%: "
            f"{signed(change['low'], 4)} to {signed(change['high'], 4)})"
        )
    kept = f"bundle {found['id']}  {found['bundle']}: " + (
        f"updated, was {found['was']}; erp-train rollback puts that back"
        if found["promoted"]
        else "left as it was, as --require-better asks: see the last line"
    )
    places, learned = ("placed", "learned") if found["promoted"] else ("would place", "would be learned")
    return "\n".join(
        [
            kept,
            f"  {found['rows']:,} answers of {len(found['models'])} models {learned}, {found['held_out']:,} held out",
            *(
                f"  {places} {each['model']} from {each['rows']:,} answers: mean reward "
                f"{number(each['mean_reward'], 4)}, place {each['place']} of {each['of']}"
                for each in found["newcomers"]
            ),
            *(
                f"  not placed: {each['model']}, {each['rows']:,} answers to learn from; it takes {each['needed']:,}"
                for each in found["waiting"]
            ),
            f"  passed over: {found['without_prompt']:,} without text, {found['without_sums']:,} of models without "
            f"sums, {found['learned_before']:,} learned before, {found['impossible']:,} with rewards that cannot be",
            f"  {verdict}",
        ]
    )
