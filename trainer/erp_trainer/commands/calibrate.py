"""``erp-train calibrate BUNDLE``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option
from litellm_erp.goals.goal import FORMS

_OFFERED = [form for form in FORMS.values() if form.option]


def _goal_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each form of goal that has one."""
    for form in reversed(_OFFERED):
        command = click.option(form.option, form.name, type=float, help=form.help)(command)
    return command


@click.command("calibrate")
@click.argument("bundle", type=PATH)
@_goal_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, bundle: Path, as_json: bool, **goals: float | None) -> None:
    """Solve one goal on the frontier of BUNDLE, as the proxy does when it loads it.

    Prints the λ (or the two, and the share of requests that gets each), the expected reward and cost, the model mix and
    the curve. Everything is out of fold on the training prompts. Exits 1 if the goal cannot be reached, after printing
    what can.
    """
    from erp_trainer.bundles.calibrate import calibrate, calibration_text
    from litellm_erp.bundle.load import load_bundle
    from litellm_erp.goals.goal import Goal

    stated = {goal: value for goal, value in goals.items() if value is not None}
    if len(stated) != 1:
        options = [form.option for form in _OFFERED]
        raise click.UsageError(f"state exactly one of {', '.join(options[:-1])} and {options[-1]}")
    payload = calibrate(load_bundle(bundle), Goal.from_mapping(stated, where="calibrate"))
    emit(payload, as_json, calibration_text)
    if payload["remedy"] is not None:
        ctx.exit(1)
