"""``erp-train run POOL.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option, padded, paragraph, progress, warn
from erp_trainer.words import with_short_names


@click.command("run")
@click.argument("pool", type=PATH)
@json_option
def command(pool: Path, as_json: bool) -> None:
    """Make the bundle that POOL (a YAML file) describes: prompts, samples, rewards, outcomes, embeddings, probes.

    Stop it whenever you like: run again, it continues with what is not done yet.
    """
    from erp_trainer.pipeline import run_pool
    from erp_trainer.pool.pool import load

    emit(run_pool(load(pool), progress, warn), as_json, _render)


def _render(payload: Mapping[str, Any]) -> str:
    payload = with_short_names(payload, [*payload["models"], *payload["rewards"]], most=32)
    lines = [
        f"{payload['run']} → {payload['bundle']} ({payload['id']})",
        "",
        f"{'model':<32} {'prompts':>8} {'samples':>8} {'skipped':>8} {'failed':>7} {'truncated':>9} {'empty':>6} "
        f"{'tokens in':>11} {'tokens out':>11}",
    ]
    for name, model in payload["models"].items():
        skipped = {**model["skipped"], **({"no reward": model["unscored"]} if model["unscored"] else {})}
        lines.append(
            f"{padded(name, 32)} {model['prompts']:>8} {model['samples']:>8} {sum(skipped.values()):>8} "
            f"{model['failed']:>7} {model['truncated']:>9} {model['empty']:>6} {model['input_tokens']:>11} "
            f"{model['output_tokens']:>11}"
        )
        lines += [f"  skipped, {reason}: {count}" for reason, count in skipped.items()]
    for name, reward in payload["rewards"].items():
        cut = f", {reward['truncated']} responses cut to fit" if reward["truncated"] else ""
        lines.append(f"scored by {name}: {reward['scored']} (prompt, model) pairs{cut}")
    return "\n".join([*lines, "", paragraph(payload["verdict"]["text"])])
