"""``erp-train embed RUN``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from erp_trainer.console import emit, json_option, progress, ray_options


@click.command("embed", short_help="Embed a run's prompts ahead of fitting.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--embedder", default="static", show_default=True, help="static, a sentence-transformers id, or a URL.")
@click.option("--embedder-model", help="Model name to send to an embedding server.")
@click.option("--revision", help="Pinned revision of a sentence-transformers id.")
@click.option("--trust-remote-code", is_flag=True, help="Run code from the embedder's repository; needs --revision.")
@click.option("--ray-workers", type=click.IntRange(min=1), default=1, show_default=True, help="Actors that embed.")
@ray_options
@json_option
def command(
    run: Path,
    embedder: str,
    embedder_model: str | None,
    revision: str | None,
    trust_remote_code: bool,
    ray_workers: int,
    engine: str | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Embed the prompts of RUN into its cache, where fit and evaluate with the same embedder find them."""
    from erp_trainer.learning.embed import Embed, embed_prompts
    from erp_trainer.outcomes.run import open_run
    from erp_trainer.pipeline import embed
    from litellm_erp.embedding import load_embedder

    opened = open_run(run)
    by: Embed = embed_prompts
    load = partial(
        load_embedder, embedder, revision=revision, trust_remote_code=trust_remote_code, model=embedder_model
    )
    loaded = load()
    if engine == "ray":
        from erp_trainer.learning.embed_on_ray import embed_on_ray
        from erp_trainer.pool.pool import RaySettings

        settings = RaySettings(address=ray_address or "auto", workers=ray_workers)
        by = embed_on_ray(settings, load)
    try:
        embedded = embed(opened, loaded, progress, by)
    finally:
        loaded.close()
    payload = {
        "run": str(run),
        "embedder": loaded.spec.to_json(),
        "prompts": opened.manifest["counts"]["prompts"],
        "embedded": embedded,
    }
    emit(payload, as_json, _render)


def _render(payload: Mapping[str, Any]) -> str:
    known = "already in the cache" if not payload["embedded"] else "embedded"
    return f"{payload['run']}: {payload['prompts']} prompts {known} with {payload['embedder']['id']}"
