"""``erp-train init CONFIG --out pool.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.console import emit, json_option

_PROMPTS = "prompts.jsonl"


@click.command("init")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("pool.yaml"), show_default=True)
@click.option("--group", help="Only the members of this routing group.")
@click.option("--force", is_flag=True, help="Replace the file, if there is one.")
@json_option
def command(config: Path, out: Path, group: str | None, force: bool, as_json: bool) -> None:
    """Draft a commented pool file from the LiteLLM proxy config CONFIG: its models, endpoints and prices.

    Keys are never copied: references to the environment stay, and a key written into CONFIG becomes one. Beside the
    pool file goes prompts.jsonl with example questions, unless there is one. The two lines that need the Hugging Face
    hub are marked HUB and switched off.
    """
    from erp_trainer.files.atomic import atomic_file
    from erp_trainer.pool import pool as pools
    from erp_trainer.pool.draft import draft, example_prompts
    from litellm_erp.config_file import REFERENCE
    from litellm_erp.errors import SettingsError

    if out.exists() and not force:
        raise SettingsError(f"{out}: exists already; name another file with --out, or replace it with --force")
    drafted = draft(config, group, _PROMPTS)
    prompts = out.parent / _PROMPTS
    with atomic_file(out) as temporary:
        temporary.write_text(drafted.text, encoding="utf-8")
        loaded = pools.load(temporary)
    if made := not prompts.exists():
        with atomic_file(prompts) as temporary:
            temporary.write_text(example_prompts(), encoding="utf-8")
    payload = {
        "out": str(out),
        "prompts": str(prompts),
        "made_prompts": made,
        "models": list(drafted.models),
        "left_out": dict(drafted.left_out),
        "unknown_prices": [name for name, model in loaded.models.items() if not model.price.known],
        "environment": sorted({m.api_key.removeprefix(REFERENCE) for m in loaded.models.values() if m.api_key}),
    }
    emit(payload, as_json, _render)


def _render(payload: Mapping[str, Any]) -> str:
    lines = [f"{payload['out']}: {len(payload['models'])} pool models: {', '.join(payload['models'])}"]
    what = "example questions; put your own there" if payload["made_prompts"] else "was there already"
    lines.append(f"  prompts         {payload['prompts']}: {what}")
    lines.append("  from the hub    two lines marked HUB, switched off; all else runs offline")
    lines += [f"  left out        {name}: {reason}" for name, reason in payload["left_out"].items()]
    if payload["unknown_prices"]:
        lines.append(f"  without price   {', '.join(payload['unknown_prices'])}")
    if payload["environment"]:
        lines.append(f"  keys come from  {', '.join(payload['environment'])}")
    return "\n".join([*lines, f"Read it, then: erp-train run {payload['out']}"])
