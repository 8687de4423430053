"""``erp-train embed RUN``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erp_trainer.commands.options import PATH, embedder_options, ray_worker_options
from erp_trainer.console import emit, json_option, progress

if TYPE_CHECKING:
    from erp_trainer.pool.pool import RaySettings
    from litellm_erp.embedding.base import Embedder


@click.command("embed")
@click.argument("run", type=PATH)
@embedder_options
@ray_worker_options("Actors that embed.")
@json_option
def command(run: Path, load: Callable[[], Embedder], ray: RaySettings | None, as_json: bool) -> None:
    """Embed the prompts of RUN into its cache, where fit and evaluate with the same embedder find them."""
    from erp_trainer.learning.embed import Embed, embed_prompts, embed_run
    from erp_trainer.outcomes.run import open_run

    by: Embed = embed_prompts
    if ray is not None:
        from erp_trainer.bundles.embed_on_ray import embed_on_ray

        by = embed_on_ray(ray, load)
    opened, embedded = open_run(run), 0
    prompts = opened.manifest["counts"]["prompts"]
    with closing(load()) as embedder, progress(prompts, "embedding") as advance:

        def count(steps: int) -> None:
            nonlocal embedded
            embedded += steps
            advance(steps)

        embed_run(opened, opened.outcomes(), embedder, count, by)
        spec = embedder.spec.to_json()
    emit({"run": str(run), "embedder": spec, "prompts": prompts, "embedded": embedded}, as_json, _render)


def _render(payload: Mapping[str, Any]) -> str:
    known = "already in the cache" if not payload["embedded"] else "embedded"
    return f"{payload['run']}: {payload['prompts']} prompts {known} with {payload['embedder']['id']}"
