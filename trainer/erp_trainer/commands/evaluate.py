"""``erp-train evaluate RUN --bundle BUNDLE``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.measuring import measuring_options
from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option, progress, terminal_width


@click.command("evaluate")
@click.argument("run", type=PATH)
@click.option("--bundle", required=True, type=PATH, help="The bundle's folder.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep every figure in this JSON file, for `erp-train report --evaluation`.",
)
@measuring_options
@json_option
def command(run: Path, bundle: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Measure BUNDLE on the test split of RUN: reward, cost and regret over λ beside every baseline, with intervals.

    The verdict comes last. Tables are cut to what fits; --json has every figure (docs/evaluation.md), and
    `erp-train report` draws them. It reports and never changes the bundle.
    """
    from erp_trainer.evaluation.kept import save_payload
    from erp_trainer.evaluation.measure import measured
    from erp_trainer.evaluation.payload import payload_of
    from erp_trainer.report.text import report_text

    def render(payload: Mapping[str, Any]) -> str:
        return report_text(payload, terminal_width())

    found = payload_of(measured(run, bundle, progress, **options), progress)
    if out is not None:
        save_payload(found, out)
    emit(found, as_json, render)
