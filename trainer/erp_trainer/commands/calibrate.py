"""``erp-train calibrate BUNDLE``."""

from __future__ import annotations

from pathlib import Path

import click

from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option


@click.command("calibrate")
@click.argument("bundle", type=PATH)
@click.option("--budget", type=float, help="USD per 1,000 requests: the best reward that it buys.")
@click.option(
    "--min-quality", type=float, help="Share of the way from the cheapest model to the best: its lowest cost."
)
@click.option("--lambda", "lambda_", type=float, help="What one λ gives.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    bundle: Path,
    budget: float | None,
    min_quality: float | None,
    lambda_: float | None,
    as_json: bool,
) -> None:
    """Solve one goal on the frontier of BUNDLE, as the proxy does when it loads it.

    Prints the λ (or the two, and the share of requests that gets each), the expected reward and cost, the model mix and
    the curve. Everything is out of fold on the training prompts. Exits 1 if the goal cannot be reached, after printing
    what can.
    """
    from erp_trainer.bundles.calibrate import calibrate, render
    from litellm_erp.bundle.load import load_bundle
    from litellm_erp.goals.goal import Goal

    options = {"budget_usd_per_1k_requests": budget, "min_quality": min_quality, "lambda": lambda_}
    stated = {goal: value for goal, value in options.items() if value is not None}
    if len(stated) != 1:
        raise click.UsageError("state exactly one of --budget, --min-quality and --lambda")
    payload = calibrate(load_bundle(bundle), Goal.from_mapping(stated, where="calibrate"))
    emit(payload, as_json, render)
    if payload["remedy"] is not None:
        ctx.exit(1)
