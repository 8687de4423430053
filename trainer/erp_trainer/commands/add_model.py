"""``erp-train add-model BUNDLE --model NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option, paragraph, progress, warn
from erp_trainer.words import percent


@click.command("add-model")
@click.argument("bundle", type=PATH)
@click.option("--model", "name", required=True, help="The pool model's name.")
@click.option("--pool", type=PATH, help="Pool file that names it: it is sampled and scored.")
@click.option("--run", type=PATH, help="Run that has its outcomes already.")
@click.option("--prompts", "n_prompts", type=click.IntRange(min=20), help="With --pool: how many of the train prompts.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random prompts.")
@json_option
def command(
    bundle: Path, name: str, pool: Path | None, run: Path | None, n_prompts: int | None, seed: int, as_json: bool
) -> None:
    """Fit a probe of one more model on the prompts of the run that BUNDLE was fitted on.

    With --prompts N only N train prompts are asked: beyond the first 30 most are chosen to be informative, and a fifth,
    at least 20, at random. The random ones judge it. A model that was asked only some prompts is taken to be like the
    others as far as its rewards do not say otherwise, and counted on for a little less than is expected of it.

    BUNDLE has one writer at a time: another command that changes it is waited for, for up to a minute.
    """
    if (pool is None) == (run is None):
        raise click.UsageError("give --pool POOL.yaml to sample the model, or --run RUN that has its outcomes")
    if run is not None and n_prompts is not None:
        raise click.UsageError("--prompts goes with --pool; a run has the outcomes that it has")
    if pool is not None:
        from erp_trainer.pipeline import add_sampled_model
        from erp_trainer.pool import pool as pools

        added = add_sampled_model(bundle, pools.load(pool), name, n_prompts, progress, warn, seed=seed)
    else:
        from erp_trainer.bundles.members import add_model
        from erp_trainer.bundles.predict import bundle_embedder
        from erp_trainer.outcomes.run import open_run
        from litellm_erp.bundle.load import load_bundle

        opened = open_run(Path(str(run)))
        count = opened.manifest["counts"]["prompts"]
        with closing(bundle_embedder(load_bundle(bundle))) as embedder, progress(count, "embedding") as advance:
            added = add_model(bundle, opened, name, embedder, advance)
    emit({"bundle": str(bundle), "id": added.bundle.id, **added.report}, as_json, _render)


def _render(payload: Mapping[str, Any]) -> str:
    audit = "" if payload["audit"] is None else f", judged on {payload['audit']} random ones"
    r2 = "-" if payload["r2"] is None else f"{payload['r2']:.3f}"
    by_category = ", ".join(f"{name} {r2:.3f}" for name, r2 in payload["r2_by_category"].items() if r2 is not None)
    wins = ", ".join(f"{name or '(none)'} {percent(share)}" for name, share in payload["wins"].items())
    lines = [
        f"bundle {payload['id']}  {payload['bundle']}: {payload['model']} added",
        f"  {payload['rows']} train prompts{audit}",
        f"  held-out R²  {r2}" + (f" ({by_category})" if by_category else ""),
        f"  mean reward  {payload['mean_reward']:.4f}, place {payload['place']} of {payload['of']}",
        f"  first choice at λ = 0 for {percent(payload['share'])} of prompts: {wins}",
        "",
        f"{'λ':>10} {'reward':>22} {'cost':>26}",
    ]
    for gain in payload["gains"]:
        before, after = gain["cost_usd_before"], gain["cost_usd_after"]
        cost = "-" if before is None or after is None else f"{before:.4g} → {after:.4g}"
        reward = f"{gain['reward_before']:.4f} → {gain['reward_after']:.4f}"
        lines.append(f"{gain['lambda']:>10.4g} {reward:>22} {cost:>26}")
    return "\n".join([*lines, "", paragraph(payload["verdict"]["text"])])
