"""``erp-train sample POOL``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erp_trainer.console import emit, json_option, padded, progress, ray_options, warn
from erp_trainer.words import with_short_names


@click.command("sample")
@click.argument("pool", type=click.Path(path_type=Path))
@click.option("--model", "names", multiple=True, metavar="NAME", help="Only this pool model; repeatable.")
@ray_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    pool: Path,
    names: tuple[str, ...],
    engine: str | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Record K responses per prompt and pool model of POOL (a YAML file) in its run folder.

    What is recorded is never asked for again: stop it whenever you like, and run it again to continue. A model that
    cannot be sampled does not keep the others from it. Exits 1 if anything failed.
    """
    from erp_trainer.files.records import only_process
    from erp_trainer.pool.pool import load
    from erp_trainer.prompts.prompt_set import read_prompt_set
    from erp_trainer.sampling.stage import sample_pool_model
    from litellm_erp.errors import SamplingError, SettingsError

    loaded = load(pool).on_ray(ray_address) if engine == "ray" else load(pool)
    unknown = [name for name in names if name not in loaded.models]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}; {pool} has {', '.join(loaded.models)}", param_hint="--model")
    models = [loaded.models[name] for name in names or loaded.models]
    payload: dict[str, Any] = {"run": str(loaded.run), "models": {}, "errors": {}}
    with only_process(loaded.run):
        prompts = read_prompt_set(loaded.run)
        for model in models:
            try:
                with progress(len(prompts), f"sampling {model.name}") as advance:
                    summary = sample_pool_model(loaded.run, prompts, model, advance)
            except (SamplingError, SettingsError) as e:
                warn(str(e))
                payload["errors"][model.name] = str(e)
            else:
                payload["models"][model.name] = summary.to_json()
                for remark in summary.remarks():
                    warn(remark)
    emit(payload, as_json, _render)
    if payload["errors"] or any(summary["failed"] for summary in payload["models"].values()):
        ctx.exit(1)


def _render(payload: Mapping[str, Any]) -> str:
    payload = with_short_names(payload, [*payload["models"], *payload["errors"]], most=24)
    lines = [
        f"{payload['run']}",
        f"{'model':<24} {'prompts':>8} {'sampled':>8} {'before':>7} {'skipped':>8} {'failed':>7} {'empty':>6} "
        f"{'tokens out':>11} {'tokens/s':>9}",
    ]
    for name, summary in payload["models"].items():
        rate = summary["output_tokens"] / summary["seconds"] if summary["output_tokens"] else 0.0
        lines.append(
            f"{padded(name, 24)} {summary['prompts']:>8} {summary['sampled']:>8} {summary['resumed']:>7} "
            f"{sum(summary['skipped'].values()):>8} {summary['failed']:>7} {summary['empty']:>6} "
            f"{summary['output_tokens']:>11} {rate:>9.0f}"
        )
        lines += [f"  skipped, {reason}: {count}" for reason, count in summary["skipped"].items()]
        lines += [click.style(f"  failed: {failure}", fg="red") for failure in summary["failures"]]
    lines += [click.style(f"{name}: not finished: {error}", fg="red") for name, error in payload["errors"].items()]
    return "\n".join(lines)
