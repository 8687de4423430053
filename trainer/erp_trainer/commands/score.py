"""``erp-train score POOL``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erp_trainer.commands.options import PATH, FiniteRange
from erp_trainer.console import columns, emit, json_option, padded, progress, ray_options

if TYPE_CHECKING:
    from erp_trainer.logged.score import Sample
    from erp_trainer.pool.pool import Pool, RewardSpec
    from erp_trainer.prompts.prompt_set import Prompt
    from erp_trainer.rewards.base import RewardModel
    from erp_trainer.rewards.stage import RewardSummary, ScoreSummary

_WIDEST = 32


@click.command("score")
@click.argument("pool", type=click.Path(path_type=Path))
@click.option(
    "--log",
    "logs",
    type=PATH,
    multiple=True,
    help="Score answers of a proxy's decision log instead: a folder, a file, or a quoted pattern. Repeatable.",
)
@click.option(
    "--share",
    type=FiniteRange(min=0, max=1, min_open=True),
    default=0.05,
    show_default=True,
    help="With --log: of the requests that can be scored, drawn at random.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="With --log: of the draw.")
@click.option(
    "--bundle",
    type=PATH,
    help="With --log: the bundle in whose reward unit scores are given; by default the pool file's.",
)
@click.option("--group", help="With --log: the routing group, where the log has several.")
@click.option("--team", help="With --log: of one team only.")
@click.option("--out", type=PATH, help="With --log: the folder to write scores into; by default the log's.")
@ray_options
@json_option
def command(
    pool: Path,
    logs: tuple[Path, ...],
    share: float,
    seed: int,
    bundle: Path | None,
    group: str | None,
    team: str | None,
    out: Path | None,
    engine: str | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Score whatever has been sampled for POOL (a YAML file), by every reward model it names.

    What is scored is never scored again: stop it whenever you like, and run it again to continue. Responses longer
    than a reward model's context are cut, and counted; a reward that is no number skips its prompt, and is counted.

    With --log LOG a random share of a proxy's logged answers is scored by the same reward models, in the bundle's unit,
    and written beside the log as feedback, for `erp-train report --log` and `erp-train update`. The log must keep
    texts: `decision_log: {prompts: true, answers: true}`. A larger share adds to what was scored.
    """
    from erp_trainer.files.records import only_process
    from erp_trainer.logged.score import Sample
    from erp_trainer.pool.pool import load
    from erp_trainer.prompts.prompt_set import read_prompt_set
    from erp_trainer.rewards.registry import load_reward_model
    from erp_trainer.rewards.stage import score_run
    from erp_trainer.sampling.stage import sample_parts
    from litellm_erp.errors import RunError

    loaded = load(pool)
    reward_model: Callable[[RewardSpec], RewardModel] = load_reward_model
    if engine == "ray":
        from erp_trainer.rewards.on_ray import loader

        reward_model = loader(loaded.on_ray(ray_address).ray)
    if logs:
        emit(_of_log(loaded, logs, Sample(share, seed, group, team), bundle, out, reward_model), as_json, _render_log)
        return
    if bundle or group or team or out:
        raise click.UsageError("--bundle, --group, --team and --out go with --log")
    with only_process(loaded.run):
        prompts = read_prompt_set(loaded.run)
        samples = {name: sample_parts(loaded.run, model) for name, model in loaded.models.items()}
        samples = {name: parts for name, parts in samples.items() if parts.folder.is_dir()}
        if not samples:
            raise RunError(f"{loaded.run}: nothing has been sampled; run `erp-train sample {pool}` first")
        summary = score_run(loaded.run, prompts, samples, loaded.rewards, progress, reward_model)
    weights = {spec.name: spec.weight for spec in loaded.rewards}
    emit({"run": str(loaded.run), **_payload(summary, weights, prompts)}, as_json, _render)


def _of_log(
    pool: Pool,
    logs: tuple[Path, ...],
    sample: Sample,
    bundle: Path | None,
    out: Path | None,
    load: Callable[[RewardSpec], RewardModel],
) -> dict[str, Any]:
    from erp_trainer.logged.score import scale_of, score_log
    from litellm_erp.bundle.load import load_bundle

    path = bundle or pool.bundle
    scale = scale_of(load_bundle(path).manifest.reward, path, pool.rewards, pool.source, load)
    return {"bundle": str(path), **score_log(logs, scale, sample, progress, out)}


def _render_log(found: Mapping[str, Any]) -> str:
    lines = [
        found["file"] or ", ".join(found["log"]),
        f"{found['scored']:,} answers scored in {found['unit']} ({found['scored_before']:,} before), a share of "
        f"{found['share']:g} of {found['scorable']:,} that can be, of {found['requests']:,} requests",
        f"  left out: {found['failed']:,} failed, {found['served_elsewhere']:,} not answered by the group, "
        f"{found['without_prompt']:,} without the prompt's text, {found['without_answer']:,} without the answer's",
        f"  cut: {found['truncated']:,} by a reward model's context, {found['cut']:,} by the log",
        *(f"  skipped, {reason}: {count:,}" for reason, count in found["skipped"].items()),
    ]
    if not found["checked"]:
        lines.append("  the bundle does not say what its reward model is; that it is this one is taken on trust")
    for name, of in found["models"].items():
        lines.append(f"  {padded(_clipped(name, _WIDEST), _WIDEST)}  {of['mean_reward']:.4f}  of {of['scored']:,}")
    return "\n".join(lines)


def _payload(summary: ScoreSummary, weights: Mapping[str, float], prompts: list[Prompt]) -> dict[str, Any]:
    from erp_trainer.rewards.combining import combine
    from litellm_erp.errors import SettingsError

    payload: dict[str, Any] = {
        "reward_models": {
            name: _counts(counts) | {"identity": summary.identities[name], "models": _means(summary, name)}
            for name, counts in summary.by_reward.items()
        },
    }
    train = {prompt.prompt_id for prompt in prompts if prompt.split == "train"}
    try:
        combined = combine(summary.scores, weights, train)
    except SettingsError as e:  # what was scored is kept, and the counts say why
        return payload | {"combined": {"error": str(e)}}
    return payload | {
        "combined": {
            "unit": combined.unit,
            "prompts": len(combined.rewards),
            "incomplete": combined.incomplete,
            "normalisation": {name: n.to_json() for name, n in combined.normalisation.items()},
        }
    }


def _counts(summary: RewardSummary) -> dict[str, Any]:
    return {
        "prompts": summary.prompts,
        "responses": summary.responses,
        "reused": summary.reused,
        "truncated": summary.truncated,
        "empty": summary.empty,
        "skipped": dict(summary.skipped),
    }


def _means(summary: ScoreSummary, name: str) -> dict[str, float]:
    import numpy as np

    by_model: dict[str, list[float]] = {}
    for (_, model), rewards in summary.scores[name].items():
        by_model.setdefault(model, []).append(float(rewards.mean()))
    return {model: float(np.mean(means)) for model, means in by_model.items()}


def _render(payload: Mapping[str, Any]) -> str:
    lines = [payload["run"]]
    for name, counts in payload["reward_models"].items():
        lines += [
            f"{name}: {counts['responses']:,} responses to {counts['prompts']:,} (prompt, model) pairs, "
            f"{counts['reused']:,} of them scored before",
            f"  truncated {counts['truncated']:,}, empty {counts['empty']:,}",
        ]
        lines += [f"  skipped, {reason}: {count:,}" for reason, count in counts["skipped"].items()]
    lines += ["", *_means_table(payload["reward_models"]), ""]
    combined = payload["combined"]
    if "error" in combined:
        lines.append(click.style(f"not combined: {combined['error']}", fg="red"))
    elif len(combined["normalisation"]) > 1:
        lines.append(f"combined: {combined['prompts']:,} (prompt, model) pairs, in {combined['unit']}")
        lines += [
            f"  {name}: mean {n['mean']:.4f}, std {n['std']:.4f}, weight {n['weight']:.3f}"
            for name, n in combined["normalisation"].items()
        ]
    return "\n".join(lines)


def _means_table(reward_models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Mean reward of every pool model by every reward model, side by side; their scales differ."""
    short = {name: _clipped(name, _WIDEST) for name in reward_models}
    widths = {name: max(10, columns(shown)) for name, shown in short.items()}
    lines = [padded("mean reward", _WIDEST) + "".join("  " + _aligned(short[name], widths[name]) for name in short)]
    for model in dict.fromkeys(model for counts in reward_models.values() for model in counts["models"]):
        means = {name: counts["models"].get(model) for name, counts in reward_models.items()}
        cells = (_aligned("-" if mean is None else f"{mean:.4f}", widths[name]) for name, mean in means.items())
        lines.append(padded(_clipped(model, _WIDEST), _WIDEST) + "".join(f"  {cell}" for cell in cells))
    return lines


def _aligned(text: str, width: int) -> str:
    """Text moved to the right of a width in terminal columns."""
    return " " * max(0, width - columns(text)) + text


def _clipped(text: str, width: int) -> str:
    """Text of at most a width in terminal columns; what is left out is its middle, since names differ at both ends."""
    if columns(text) <= width:
        return text
    half = (width - 1) // 2
    head, tail = text[:half], text[-half:]
    while columns(head) > half:
        head = head[:-1]
    while columns(tail) > half:
        tail = tail[1:]
    return f"{head}…{tail}"
