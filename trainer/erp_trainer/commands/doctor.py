"""``erp-train doctor CONFIG``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.console import emit, json_option

_COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


@click.command("doctor", short_help="Check whether a proxy config would route.")
@click.argument("config", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Say in one go everything that would keep the proxy config CONFIG from routing as its owner thinks.

    Nothing is started and no model is called. Exits 0 if the groups would be routed, 1 if not.
    """
    from erp_trainer.doctor import examine

    findings, groups = examine(config)
    routes = not any(finding.level == "error" for finding in findings)
    payload = {
        "config": str(config),
        "routes": routes,
        "groups": groups,
        "findings": [{"level": finding.level, "text": finding.text} for finding in findings],
    }
    emit(payload, as_json, _render)
    if not routes:
        ctx.exit(1)


def _render(payload: Mapping[str, Any]) -> str:
    from litellm_erp.teams import mixture_text

    lines = [f"{payload['config']}"]
    for name, group in payload["groups"].items():
        lines.append(f"  group {name}: bundle {group['bundle']}, {mixture_text(group['lambda'])}")
        lines += [f"    team {team}: {mixture_text(lambda_)}" for team, lambda_ in group["teams"].items()]
        lines.append(f"    {group['verdict']}")
    for finding in payload["findings"]:
        label = click.style(f"{finding['level']:>7}", fg=_COLOURS[finding["level"]])
        lines.append(f"{label}  {finding['text']}")
    lines.append("would route" if payload["routes"] else click.style("would not route", fg="red"))
    return "\n".join(lines)
