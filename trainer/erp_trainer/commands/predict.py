"""``erp-train predict BUNDLE --prompts FILE --out FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.options import PATH, FiniteRange, bundle_embedder_options
from erp_trainer.console import emit, json_option, progress
from erp_trainer.words import percent, short


@click.command("predict")
@click.argument("bundle", type=PATH)
@click.option("--prompts", required=True, type=PATH, help="Parquet, CSV or JSONL: prompt_id, prompt.")
@click.option("--out", required=True, type=PATH, help="Parquet, CSV or JSONL.")
@click.option("--lambda", "lambda_", type=FiniteRange(min=0), default=0.0, show_default=True)
@click.option("--no-safety", is_flag=True, help="Believe the probes wherever they are.")
@bundle_embedder_options
@json_option
def command(
    bundle: Path,
    prompts: Path,
    out: Path,
    lambda_: float,
    no_safety: bool,
    embedder_url: str | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Write one row per (prompt, model); rank 1 is what the proxy would choose at this λ.

    --prompts may be an outcomes table: its other columns are ignored.
    """
    from erp_trainer.bundles.predict import bundle_embedder, predict_rows, read_prompts, write_rows
    from litellm_erp.bundle.load import load_bundle

    loaded = load_bundle(bundle)
    ids, texts = read_prompts(prompts)
    with (
        closing(bundle_embedder(loaded, url=embedder_url, trust_remote_code=trust_remote_code)) as embedder,
        progress(len(ids), "embedding") as advance,
    ):
        rows = predict_rows(loaded, embedder, ids, texts, lambda_, safety=not no_safety, advance=advance)
    write_rows(rows, out)
    chosen = [model for model, rank in zip(rows["model"], rows["rank"], strict=True) if rank == 1]
    share = {model: chosen.count(model) / len(chosen) for model in sorted(set(chosen))}
    emit({"out": str(out), "prompts": len(ids), "lambda": lambda_, "share": share}, as_json, _render)


def _render(payload: Mapping[str, Any]) -> str:
    shares = ", ".join(f"{short(name)} {percent(share)}" for name, share in payload["share"].items())
    return f"{payload['out']}: {payload['prompts']} prompts at λ = {payload['lambda']:g}: {shares}"
