"""``erp-train doctor CONFIG``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.console import emit, json_option, paragraph
from erp_trainer.words import short

_COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


@click.command("doctor")
@click.argument("config", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Say in one go everything that would keep the proxy config CONFIG from routing as its owner thinks.

    Nothing is started and no model is called. Exits 0 if the groups would be routed, 1 if not, 2 if CONFIG cannot be
    read. Warnings are counted, and change neither.
    """
    from erp_trainer.pool.doctor import examine
    from litellm_erp.serving.checks import LEVELS

    findings, groups = examine(config)
    routes = not any(finding.level == "error" for finding in findings)
    payload = {
        "config": str(config),
        "routes": routes,
        "counts": {level: sum(finding.level == level for finding in findings) for level in LEVELS},
        "groups": groups,
        "findings": [{"level": finding.level, "text": finding.text} for finding in findings],
    }
    emit(payload, as_json, _render)
    if not routes:
        ctx.exit(1)


def _render(payload: Mapping[str, Any]) -> str:
    from litellm_erp.serving.team_view import mixture_text

    lines = [f"{payload['config']}"]
    for name, group in payload["groups"].items():
        own = f"{mixture_text(group['lambda'])}{_expected(group['expected'])}{_mode(group['modes'][''])}"
        lines.append(f"  group {name}: bundle {group['bundle']}, {own}")
        lines += [
            f"    team {team}: {mixture_text(lambda_)}{' to begin with' if team in group['paced'] else ''}"
            f"{_expected(group['expected_of_teams'][team])}{_mode(group['modes'][team])}"
            for team, lambda_ in group["teams"].items()
        ]
        lines.append(paragraph(group["verdict"], "    "))
    for finding in payload["findings"]:
        label = click.style(f"{finding['level']:>7}", fg=_COLOURS[finding["level"]])
        lines.append(f"{label}  {finding['text']}")
    return "\n".join([*lines, _verdict(payload)])


def _mode(text: str) -> str:
    """What is to be said of a mode: nothing where what is decided serves."""
    return "" if text == "what is decided serves" else f"; {text}"


def _expected(expected: Mapping[str, Any]) -> str:
    from litellm_erp.serving.team_view import cost_text

    cost = cost_text(expected)
    return f", expected reward {expected['reward']:.4g}" + ("" if cost is None else f" at {cost}")


def _verdict(payload: Mapping[str, Any]) -> str:
    errors, warnings = (
        f"{count} {level}{'' if count == 1 else 's'}" if (count := payload["counts"][level]) else ""
        for level in ("error", "warning")
    )
    if payload["routes"]:
        without = sorted({short(name) for group in payload["groups"].values() for name in group["without"]})
        said = "would route" + (f" without {', '.join(without)}" if without else "")
        return said + (f" ({warnings})" if warnings else "")
    return click.style(f"would not route: {errors}" + (f", {warnings}" if warnings else ""), fg="red")
