"""``erp-train fit RUN --out BUNDLE``."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import click

from erp_trainer.commands.inspect import bundle_payload, render_bundle
from erp_trainer.console import emit, json_option, progress, ray_options
from erp_trainer.policies.registry import SERVED


@click.command("fit", short_help="Fit one probe per model and write a bundle.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--policy", type=click.Choice(SERVED), default="erp", show_default=True)
@click.option("--embedder", default="static", show_default=True, help="static, a sentence-transformers id, or a URL.")
@click.option("--embedder-model", help="Model name to send to an embedding server.")
@click.option("--revision", help="Pinned revision of a sentence-transformers id.")
@click.option("--trust-remote-code", is_flag=True, help="Run code from the embedder's repository; needs --revision.")
@click.option("--preset", type=click.Choice(["best", "paper"]), default="best", show_default=True)
@click.option("--beta", type=click.FloatRange(min=0, min_open=True), help="Fix the ridge penalty instead of tuning it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the cross-validation folds.")
@click.option("--ray-workers", type=click.IntRange(min=1), default=1, show_default=True, help="Actors that sum.")
@ray_options
@json_option
def command(
    run: Path,
    out: Path,
    policy: str,
    embedder: str,
    embedder_model: str | None,
    revision: str | None,
    trust_remote_code: bool,
    preset: str,
    beta: float | None,
    seed: int,
    ray_workers: int,
    engine: str | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Fit one ridge probe per model on the train split of RUN, or another policy.

    erp is expected reward prediction. zooter distils the softmax of rewards into a linear router, benchmark lets the
    nearest training prompts vote, and pairwise compares each pair of models: rivals from the literature, served like
    erp, but without its safety, and without adding models later.

    Everything that is chosen (the penalty, how far the probes are believed at each λ) is chosen by routed utility out
    of fold; the test split is not looked at.

    With --engine ray the run is embedded and summed up in parts on a cluster, so that it need not fit into one memory;
    probes are of all rows, and what is chosen is chosen on up to 50,000 training prompts. The run is not cached.
    """
    if policy != "erp" and (preset != "best" or beta is not None):
        raise click.UsageError(f"--preset and --beta are erp's; --policy {policy} chooses its options itself")
    if policy != "erp" and engine == "ray":
        raise click.UsageError(f"--engine ray fits erp; fit --policy {policy} without it")
    from erp_trainer.bundles.fit import FitSpec, fit_bundle
    from erp_trainer.outcomes.run import open_run
    from litellm_erp.embedding import load_embedder

    opened = open_run(run)
    load = partial(
        load_embedder, embedder, revision=revision, trust_remote_code=trust_remote_code, model=embedder_model
    )
    spec = FitSpec(policy, "paper" if preset == "paper" else "best", beta, seed)
    with progress(opened.manifest["counts"]["prompts"], "embedding") as advance:
        if engine == "ray":
            from erp_trainer.bundles.fit_shards import fit_from_shards, on_ray
            from erp_trainer.pool.pool import RaySettings

            spread = on_ray(RaySettings(address=ray_address or "auto", workers=ray_workers))
            bundle = fit_from_shards(opened, load, out, spec, spread=spread, advance=advance)
        else:
            with closing(load()) as loaded:
                bundle = fit_bundle(opened, loaded, out, spec, advance)
    emit(bundle_payload(bundle), as_json, render_bundle)
