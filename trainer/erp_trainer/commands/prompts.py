"""``erp-train prompts POOL.yaml``, or ``erp-train prompts --source SOURCE --out FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.options import FiniteRange
from erp_trainer.console import emit, json_option, listed, warn


@click.command("prompts")
@click.argument("pool", required=False, type=click.Path(path_type=Path))
@click.option("--source", help="open-perfectblend, litellm-log, or a .jsonl, .csv or .parquet file.")
@click.option("--dataset", help="A hub data set instead, as org/name.")
@click.option("--path", help="The exported log, or a local copy of the data set.")
@click.option("--split", help="Of the data set.  [default: train]")
@click.option("--revision", help="Of the data set.")
@click.option("--column", help="That holds the prompts.  [default: prompt]")
@click.option("--category-column", help="[default: category]")
@click.option("--reference-column", help="[default: reference]")
@click.option("--per-category", type=click.IntRange(min=1), help="How many to draw of each category.")
@click.option("--limit", type=click.IntRange(min=1), help="How many to draw.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the draw and of the split.  [default: 0]")
@click.option(
    "--test-share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Of the prompts that are kept for testing, where the source has no split.  [default: 0.5]",
)
@click.option("--out", type=click.Path(path_type=Path), help="A .jsonl file; with POOL they go into its run folder.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
def command(pool: Path | None, out: Path | None, force: bool, as_json: bool, **options: Any) -> None:
    """Gather prompts, split them into train and test, half and half or by --test-share, and write prompts.jsonl.

    Near-duplicates stay on one side of the split. Of a request log only the text of the user turns is kept.
    """
    section = {key: value for key, value in options.items() if value is not None}
    if (pool is None) == (out is None):
        raise click.UsageError("give POOL.yaml, or a source and --out FILE")
    if pool is not None and section:
        raise click.UsageError(f"--{next(iter(section)).replace('_', '-')} stands in POOL.yaml, under prompts")
    payload = _of_pool(pool, force) if pool is not None else _to_file(section, Path(str(out)), force)
    if leaking := payload["counts"].get("leaking"):
        warn(f"{leaking} test prompts resemble a train prompt; the source's own split was kept")
    if cut := payload["counts"].get("cut_by_the_log"):
        warn(
            f"{cut} prompts were cut by the request log and left out; raise MAX_STRING_LENGTH_PROMPT_IN_DB in the proxy"
        )
    emit(payload, as_json, _render)


def _of_pool(pool: Path, force: bool) -> dict[str, Any]:
    from erp_trainer.files.records import only_process
    from erp_trainer.pool import pool as pools
    from erp_trainer.prompts.sources import prepare

    loaded = pools.load(pool)
    with only_process(loaded.run):
        gathered = prepare(loaded.run, loaded.prompts, loaded.source.parent, force=force)
    return _payload(loaded.run / "prompts.jsonl", gathered)


def _to_file(section: Mapping[str, Any], out: Path, force: bool) -> dict[str, Any]:
    from erp_trainer.prompts.prompt_set import write_prompt_set
    from erp_trainer.prompts.sources import gather, source_spec
    from litellm_erp.errors import PromptError

    if out.suffix != ".jsonl":
        raise click.BadParameter(f"{out}; expected a .jsonl file", param_hint="--out")
    if out.exists() and not force:
        raise PromptError(f"{out}: exists already; name another file, or replace it with --force")
    gathered = gather(source_spec(section, Path()))
    return _payload(write_prompt_set(gathered.prompts, out), gathered)


def _payload(path: Path, gathered: Any) -> dict[str, Any]:
    from collections import Counter

    from erp_trainer.prompts.prompt_set import fingerprint

    return {
        "out": str(path),
        "counts": gathered.counts,
        "categories": dict(sorted(Counter(prompt.category for prompt in gathered.prompts).items())),
        "splits": dict(sorted(Counter(prompt.split for prompt in gathered.prompts).items())),
        "sha256": fingerprint(gathered.prompts),
    }


def _render(payload: Mapping[str, Any]) -> str:
    counts = payload["counts"]
    rest = ", ".join(f"{count:,} {key.replace('_', ' ')}" for key, count in counts.items() if key != "prompts")
    return "\n".join(
        [
            f"{payload['out']}: {counts['prompts']:,} prompts",
            f"  splits      {listed(payload['splits'])}",
            f"  categories  {listed(payload['categories'])}",
            *([f"  of          {rest}"] if rest else []),
        ]
    )
