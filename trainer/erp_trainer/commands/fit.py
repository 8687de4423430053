"""``erp-train fit RUN --out BUNDLE``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erp_trainer.commands.inspect import bundle_payload, render_bundle
from erp_trainer.commands.options import PATH, FiniteRange, embedder_options, ray_worker_options
from erp_trainer.console import emit, json_option, progress
from erp_trainer.policies.registry import SERVED

# Up to so many, fitting on the test half too was seen to be worth a tenth to half a point.
FEW_PROMPTS = 4000

if TYPE_CHECKING:
    from erp_trainer.policies.erp import Preset
    from erp_trainer.pool.pool import RaySettings
    from litellm_erp.embedding.base import Embedder


@click.command("fit")
@click.argument("run", type=PATH)
@click.option("--out", required=True, type=PATH, help="The bundle's folder.")
@click.option("--policy", type=click.Choice(SERVED), default="erp", show_default=True)
@embedder_options
@click.option("--preset", type=click.Choice(["best", "paper"]), default="best", show_default=True)
@click.option("--beta", type=FiniteRange(min=1e-6, max=10**9), help="Fix the ridge penalty instead of tuning it.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the cross-validation folds.")
@click.option("--refit-all", is_flag=True, help="Choose on train, then fit what is served on all rows.")
@ray_worker_options("Actors that sum.")
@json_option
def command(
    run: Path,
    out: Path,
    policy: str,
    load: Callable[[], Embedder],
    preset: Preset,
    beta: float | None,
    seed: int,
    refit_all: bool,
    ray: RaySettings | None,
    as_json: bool,
) -> None:
    """Fit one ridge probe per model on the train split of RUN, or another policy.

    erp is expected reward prediction. zooter distils the softmax of rewards into a linear router, benchmark lets the
    nearest training prompts vote, and pairwise compares each pair of models: rivals from the literature, served like
    erp, but without its safety, and without adding models later.

    Everything that is chosen is chosen out of fold; the test split is not looked at, but for --refit-all: then what is
    served is fitted on all rows once everything is chosen. Figures stay those of train, and the bundle cannot be
    evaluated on the run any more; fit one without it for that.

    With --engine ray the run is embedded and summed up in parts on a cluster, so that it need not fit into one memory;
    probes are of all rows, and what is chosen is chosen on up to 50,000 training prompts. The run is not cached.
    """
    if policy != "erp" and (preset != "best" or beta is not None):
        raise click.UsageError(f"--preset and --beta are erp's; --policy {policy} chooses its options itself")
    if policy != "erp" and ray is not None:
        raise click.UsageError(f"--engine ray fits erp; fit --policy {policy} without it")
    if refit_all and (policy != "erp" or ray is not None):
        raise click.UsageError("--refit-all is erp's, and without --engine ray")
    from erp_trainer.bundles.fit import FitSpec, fit_bundle
    from erp_trainer.outcomes.run import open_run

    opened, spec = open_run(run), FitSpec(policy, preset, beta, seed, refit_all)
    with progress(opened.manifest["counts"]["prompts"], "embedding") as advance:
        if ray is not None:
            from erp_trainer.bundles.fit_shards import fit_from_shards, on_ray

            bundle = fit_from_shards(opened, load, out, spec, spread=on_ray(ray), advance=advance)
        else:
            with closing(load()) as embedder:
                bundle = fit_bundle(opened, embedder, out, spec, advance)
    payload = bundle_payload(bundle)
    emit(payload, as_json, lambda shown: "\n\n".join([render_bundle(shown), *_hint(shown, policy, ray is not None)]))


def _hint(payload: Mapping[str, Any], policy: str, sharded: bool) -> list[str]:
    """One line where prompts are few and a part of them is not served from."""
    train, test = payload["train_prompts"], payload["test_prompts"]
    if policy != "erp" or sharded or payload["refitted_on"] or not test or train + test > FEW_PROMPTS:
        return []
    return [f"{test} prompts were kept for testing. Once that is done, fit with --refit-all to serve from them too."]
