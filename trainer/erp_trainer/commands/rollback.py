"""``erp-train rollback BUNDLE``."""

from __future__ import annotations

from pathlib import Path

import click

from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option


@click.command("rollback")
@click.argument("bundle", type=PATH)
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Put back what the latest change of BUNDLE replaced: of fit, add-model, remove-model or update.

    A second time takes the rollback back. Refused where BUNDLE was put there in another way since, such as copied.
    """
    from erp_trainer.bundles.previous import roll_back

    found = roll_back(bundle)
    emit({"bundle": str(bundle), "id": found.id}, as_json, lambda it: f"bundle {it['id']}  {it['bundle']}: put back")
