"""``erp-train inspect BUNDLE``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erp_trainer.commands.options import PATH
from erp_trainer.console import emit, json_option, padded, paragraph
from erp_trainer.words import percent, with_short_names
from litellm_erp.effort import told

if TYPE_CHECKING:
    from litellm_erp.bundle.bundle import Bundle

# Of a frontier, about as many as a screen has room for beside the models.
_MOST_POINTS = 8
_ORDINAL = {2: "nd", 3: "rd"}


@click.command("inspect")
@click.argument("bundle", type=PATH, required=False)
@click.option("--teams", type=PATH, help="A proxy config: the λ each of its teams would get, and why.")
@json_option
def command(bundle: Path | None, teams: Path | None, as_json: bool) -> None:
    """Validate BUNDLE and show its models, its frontier and its verdict; or show the teams of a proxy config."""
    if (bundle is None) == (teams is None):
        raise click.UsageError("state a BUNDLE, or --teams CONFIG")
    if teams is not None:
        emit(teams_payload(teams), as_json, render_teams)
        return
    from litellm_erp.bundle.load import load_bundle, verify_embedder_files

    loaded = load_bundle(Path(str(bundle)))
    verify_embedder_files(loaded)
    emit(bundle_payload(loaded), as_json, render_bundle)


def teams_payload(config: Path) -> dict[str, Any]:
    """For every group of a proxy config: its teams, and whoever has nothing set.

    Raises
    ------
    ErpError : bad settings or a bad bundle
    """
    from litellm_erp.budgets.book import SpendBook
    from litellm_erp.budgets.counters import Counters
    from litellm_erp.bundle.load import load_bundle
    from litellm_erp.errors import SettingsError
    from litellm_erp.goals.settings import load_settings
    from litellm_erp.goals.tenant import Tenant
    from litellm_erp.serving.team_view import team_view

    settings = load_settings(config)
    if settings is None:
        raise SettingsError(f"{config}: no erp_settings; expected a proxy config that has them")
    groups = {}
    pacer = SpendBook(Counters("inspect"))
    for name, group in settings.groups.items():
        loaded = load_bundle(group.bundle)
        tenants = [Tenant(team_id=team) for team in dict.fromkeys((*group.teams, *group.modes))]
        tenants.append(Tenant())
        views = [
            team_view(group, loaded.frontier, tenant, cost_scale=loaded.cost_scale, pacer=pacer) for tenant in tenants
        ]
        groups[name] = {"bundle": loaded.id, "teams": views}
    return {"config": str(config), "groups": groups}


def render_teams(payload: Mapping[str, Any]) -> str:
    """Two lines for each team."""
    from litellm_erp.serving.team_view import cost_text, mixture_text, mode_text

    lines = []
    for name, group in payload["groups"].items():
        lines.append(f"group {name}, bundle {group['bundle']}")
        for view in group["teams"]:
            expected = view["expected"]
            goal = ", ".join(f"{key}: {value}" for key, value in view["goal"].items())
            lines += [
                f"  {view['team'] or 'everybody else'}: {mixture_text(view['lambda'])}   ({goal})",
                f"    {view['why']}; expected reward {expected['reward']:.4f} at "
                f"{cost_text(expected) or 'unknown cost'}"
                + ("" if expected["reached"] else "; the goal cannot be reached"),
                f"    keys and requests: {_leave(view['allow_override'])}; {mode_text(view)}",
            ]
    return "\n".join(lines)


def _leave(allowed: bool | list[float | None]) -> str:
    if not isinstance(allowed, list):
        return "may not state their own"
    low, high = allowed
    return f"may state their own, within λ from {low:g}" + ("" if high is None else f" to {high:g}")


def bundle_payload(bundle: Bundle) -> dict[str, Any]:
    """What a person wants to know of a bundle, as JSON values."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "id": bundle.id,
        "policy": manifest.policy,
        "preset": manifest.preset,
        "embedder": manifest.embedder.to_json(),
        "cost_kind": manifest.cost_kind,
        "train_prompts": manifest.prompt_set.get("train"),
        "test_prompts": manifest.prompt_set.get("test"),
        "refitted_on": manifest.prompt_set.get("fitted") if manifest.prompt_set.get("refitted") else None,
        "models": {
            model.name: {
                "rows": model.rows,
                "beta": model.beta,
                "mean_reward": model.mean_reward,
                "r2": model.r2,
                "price": model.price.to_json(),
                "parameters": None if model.parameters is None else dict(model.parameters),
                "cost": dict(bundle.frontier.document["single_models"][model.name]),
            }
            for model in manifest.models
        },
        "frontier": bundle.frontier.document["points"],
        "verdict": bundle.frontier.document["verdict"],
    }


def render_bundle(payload: Mapping[str, Any]) -> str:
    """The payload as a few readable lines."""
    payload = with_short_names(payload, payload["models"], most=40)
    embedder = payload["embedder"]
    lines = [
        f"bundle {payload['id']}  {payload['bundle']}",
        f"policy {payload['policy']} ({payload['preset']}), embedder {embedder['id']} ({embedder['dimension']} "
        f"dimensions), {payload['train_prompts']} training prompts",
        *(
            [f"everything is chosen and measured on those; what is served is fitted on all {payload['refitted_on']}"]
            if payload["refitted_on"]
            else []
        ),
        "",
        f"{'model':<40} {'mean reward':>11} {'R²':>7} {'β':>7} {'rows':>7} {'cost expected':>13} {'recorded':>8} "
        f"{'slope':>5}",
    ]
    scale = 1000 if payload["cost_kind"] == "usd" else 1
    for name, model in payload["models"].items():
        r2 = "-" if model["r2"] is None else f"{model['r2']:.3f}"
        lines.append(
            f"{padded(name, 40)} {model['mean_reward']:>11.4f} {r2:>7} {model['beta']:>7.4g} {model['rows']:>7}"
            f"{_costs(model['cost'], scale)}"
        )
    for name, model in payload["models"].items():
        if model["parameters"] is not None:
            lines.append(f"{name}: sent with {told(model['parameters'])}")
    unit = "USD / 1k requests" if payload["cost_kind"] == "usd" else "relative cost"
    lines.append(_cost_remark(payload, unit))
    lines += [
        "",
        "On training prompts, out of fold (erp-train evaluate measures on test prompts); believed: how far predictions",
        "count, the rest being each model's mean reward",
    ]
    lines += [f"{'λ':>10} {'reward':>8} {unit:>18} {'believed':>9}  mix"]
    points = payload["frontier"]
    step = max(1, len(points) // _MOST_POINTS)
    for point in points[::step]:
        cost = point["cost_usd"]
        scaled = "-" if cost is None else f"{cost * scale:.4g}"
        mix = sorted(point["share"].items(), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{name} {percent(share)}" for name, share in mix if share > 0)
        lines.append(
            f"{point['lambda']:>10.4g} {point['reward']:>8.4f} {scaled:>18} {point['shrinkage']:>9.0%}  {shares}"
        )
    if step > 1:
        lines.append(f"every {step}{_ORDINAL.get(step, 'th')} λ of {len(points)}; --json has all")
    return "\n".join([*lines, "", paragraph(payload["verdict"]["text"])])


def _costs(cost: Mapping[str, float | None], scale: float) -> str:
    """What was expected of a model's requests out of fold, what they cost, and how one grows with the other."""
    expected, recorded = (_number(cost.get(key), scale) for key in ("expected_cost_usd", "cost_usd"))
    return f" {expected:>13} {recorded:>8} {_number(cost.get('cost_slope'), 1.0, '.2f'):>5}"


def _number(value: float | None, scale: float, form: str = ".4g") -> str:
    return "-" if value is None else format(value * scale, form)


def _cost_remark(payload: Mapping[str, Any], unit: str) -> str:
    known = [model["cost"].get("cost_usd") is not None for model in payload["models"].values()]
    if not any(known):
        return (
            "no model's cost is known, so λ, budgets and quality floors can do nothing: state prices (import --prices)"
        )
    remark = f"cost: {unit}, expected out of fold and recorded; a slope of 1 is calibrated, - where costs hardly differ"
    return remark if all(known) else f"{remark}. At λ > 0 a model of unknown cost comes last"
