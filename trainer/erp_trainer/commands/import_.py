"""`erp-train import`: an outcomes file becomes a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erp_trainer.commands.options import FiniteRange
from erp_trainer.console import columns, emit, json_option, listed, padded, progress, warn
from erp_trainer.outcomes.formats.registry import FORMATS
from erp_trainer.words import with_short_names

_MOST_LISTED = 8

if TYPE_CHECKING:
    from erp_trainer.outcomes.table import OutcomesTable
    from litellm_erp.choice.cost import Price


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write or replace.")
@click.option("--wide", is_flag=True, help="The file has one column per model; an empty cell is no outcome.")
@click.option(
    "--column", "column_roles", metavar="ROLE=NAME", multiple=True, help="What the file calls a column; repeatable."
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["table", *(f.name for f in FORMATS)]),
    help="Of the files; guessed where it is not stated.",
)
@click.option("--metric", metavar="NAME", help="Which measure is the reward, where a foreign file holds several.")
@click.option("--model", metavar="NAME", help="Which model answered, where a foreign file does not say.")
@click.option("--models", metavar="A,B", help="With --wide the model columns, else the models to keep.")
@click.option("--prices", "price_file", type=click.Path(path_type=Path), help="YAML map of prices per model.")
@click.option("--reward-model", metavar="NAME", help="Which one to read, where the file holds several.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be used, and count them.")
@click.option("--keep-first", is_flag=True, help="Of rows for the same prompt and model keep the first.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split, where the file has none."
)
@click.option(
    "--test-share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Of the prompts that are kept for testing, where the file has no split.  [default: 0.5]",
)
@click.option(
    "--expected-output-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Stands in where output tokens were not recorded.",
)
@json_option
def command(
    files: tuple[str, ...],
    out: Path,
    wide: bool,
    column_roles: tuple[str, ...],
    format_name: str | None,
    metric: str | None,
    model: str | None,
    models: str | None,
    price_file: Path | None,
    reward_model: str | None,
    skip_bad_rows: bool,
    keep_first: bool,
    seed: int,
    test_share: float | None,
    expected_output_tokens: int,
    as_json: bool,
) -> None:
    """Read outcomes from FILEs, folders, globs or - (stdin) into a run folder.

    A table is Parquet, CSV (any delimiter) or JSON (lines or a list), also compressed. Long form has one row
    per prompt and model, with columns prompt, model and reward, and mostly prompt_id; other names are said with
    --column reward=score. Prompts without a split get a seeded one, half and half or by --test-share. An existing
    run is replaced only if the import succeeds.
    """
    from erp_trainer.outcomes.importing import ImportOptions, found_files, import_outcomes
    from erp_trainer.outcomes.run import check_run_target, create_run
    from erp_trainer.outcomes.table import assign_split
    from erp_trainer.pool.prices import load_prices, resolve_prices
    from erp_trainer.prompts.duplicates import TEST_SHARE

    warnings: list[str] = []
    options = ImportOptions(
        wide=wide,
        models=_names(models),
        reward_model=reward_model,
        columns=_roles(column_roles),
        format=format_name,
        metric=metric,
        model=model,
        skip_bad_rows=skip_bad_rows,
        keep_first=keep_first,
    )
    check_run_target(out)
    with found_files(files) as found, progress(4, "importing") as advance:
        imported = import_outcomes(found, options)
        advance(1)
        has_split = any(imported.outcomes.splits)
        outcomes = assign_split(imported.outcomes, seed, TEST_SHARE if test_share is None else test_share)
        advance(1)
        if has_split and test_share is not None:
            warnings.append("--test-share is not used: the file says which prompts are train and which are test")
        stated = load_prices(price_file) if price_file else {}
        prices = resolve_prices(outcomes.models, stated, warn=warnings.append)
        advance(1)
        run = create_run(
            out,
            outcomes,
            prices,
            source=imported.files,
            options={
                "wide": wide,
                "models": options.models,
                "reward_model": reward_model,
                "prices": price_file.name if price_file else None,
                "columns": dict(options.columns),
                "format": imported.format,
                "metric": metric,
                "model": model,
                "left_out": dict(imported.left_out),
                "test_share": None if has_split else test_share or TEST_SHARE,
            },
            split_seed=None if has_split else seed,
            expected_output_tokens=expected_output_tokens,
        )
        advance(1)
    payload = _summary(outcomes, prices, run.manifest) | {"run": str(out)}
    payload |= {"format": imported.format, "left_out": dict(imported.left_out)}
    payload |= {"measures": dict(imported.measures), "other_measures": list(imported.other_measures)}
    payload["price_template"] = _template(out, payload["unknown_prices"], prices)
    payload["warnings"] = [*warnings, *imported.notes, *_warnings(payload)]
    for message in payload["warnings"]:
        warn(message)
    emit(payload, as_json, _render)


def _template(out: Path, unknown: list[str], prices: Mapping[str, Price]) -> str | None:
    """Where the file of missing prices is; None where none is missing, or a template has no use.

    It lies beside the run, because the run is replaced by the next import, and a file that is there is somebody's.
    """
    from erp_trainer.pool.prices import price_template

    if not unknown or any(price.relative_cost is not None for price in prices.values()):
        return None
    target = out.with_name(f"{out.resolve().name}.prices.yaml")
    try:
        if not target.exists():
            target.write_text(price_template(unknown), encoding="utf-8")
    except OSError:
        # The run is there; a convenience is no reason to fail.
        return None
    return str(target)


def _roles(stated: tuple[str, ...]) -> dict[str, str]:
    from difflib import get_close_matches

    from erp_trainer.outcomes.table import CONTRACT_COLUMNS

    roles: dict[str, str] = {}
    for each in stated:
        role, equals, name = each.partition("=")
        role = role.strip()
        if not equals or not name.strip():
            raise click.BadParameter(f"{each!r}; expected ROLE=NAME, as in reward=score", param_hint="--column")
        if role not in CONTRACT_COLUMNS:
            near = get_close_matches(role, CONTRACT_COLUMNS, 1)
            raise click.BadParameter(
                f"{each!r}: {role!r} is no role; expected one of {', '.join(CONTRACT_COLUMNS)}"
                + (f". Did you mean {near[0]}?" if near else ""),
                param_hint="--column",
            )
        if role in roles or name.strip() in roles.values():
            raise click.BadParameter(f"{each!r}; expected each role and each column once", param_hint="--column")
        roles[role] = name.strip()
    return roles


def _names(models: str | None) -> list[str] | None:
    if models is None:
        return None
    names = [name.strip() for name in models.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise click.BadParameter(f"{models!r}; expected different names, as in a,b", param_hint="--models")
    return names


def _summary(outcomes: OutcomesTable, prices: Mapping[str, Price], manifest: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    has_outcome_PM = outcomes.n_samples_PM > 0
    return {
        "source": manifest["source"],
        "outcomes": int(has_outcome_PM.sum()),
        "prompts": len(outcomes.prompt_ids),
        "prompts_without_outcome": outcomes.prompts_without_outcome,
        "reward_model": outcomes.reward_model or None,
        "models": {
            name: {
                "mean_reward": float(np.nanmean(outcomes.rewards_PM[:, m])),
                "prompts": int(has_outcome_PM[:, m].sum()),
                "samples": int(outcomes.n_samples_PM[:, m].sum()),
                "price": prices[name].to_json() if prices[name].known else None,
            }
            for m, name in enumerate(outcomes.models)
        },
        "categories": _counts(outcomes.categories),
        "splits": _counts(outcomes.splits),
        "split_seed": manifest["split_seed"],
        "duplicates": _duplicates(outcomes),
        "unknown_prices": [name for name in outcomes.models if not prices[name].known],
        "output_tokens_recorded": float(np.mean(~np.isnan(outcomes.output_tokens_PM[has_outcome_PM]))),
        "expected_output_tokens": manifest["expected_output_tokens"],
    }


def _counts(values: tuple[str, ...]) -> dict[str, int]:
    from collections import Counter

    return dict(sorted(Counter(values).items()))


def _duplicates(outcomes: OutcomesTable) -> dict[str, int]:
    """Prompts whose text an earlier prompt has, and test prompts whose text the train split has."""
    groups = outcomes.duplicate_groups().tolist()
    trained = {group for group, split in zip(groups, outcomes.splits, strict=True) if split == "train"}
    tested = [group for group, split in zip(groups, outcomes.splits, strict=True) if split == "test"]
    return {"prompts": len(groups) - len(set(groups)), "test_in_train": sum(g in trained for g in tested)}


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    found = [
        f"{count:,} {'row' if count == 1 else 'rows'} left out: {reason}"
        for reason, count in summary["left_out"].items()
    ]
    if template := summary["price_template"]:
        found.append(f"fill in the missing prices in {template}, and import again with --prices {template}")
    if leaked := summary["duplicates"]["test_in_train"]:
        found.append(
            f"{leaked} of {summary['splits']['test']} test prompts also occur in train; they are kept, "
            "and flatter whatever is measured on them"
        )
    if empty := summary["prompts_without_outcome"]:
        found.append(f"{empty} prompts without any outcome were left out")
    if unsplit := summary["splits"].get(""):
        found.append(f"{unsplit} prompts have no split while others do; they are neither trained on nor tested")
    found += [f"no prompt is in the split {name!r}" for name in ("train", "test") if name not in summary["splits"]]
    if summary["output_tokens_recorded"] < 1:
        missing = "" if summary["output_tokens_recorded"] == 0 else " everywhere"
        found.append(f"output tokens not recorded{missing}: {summary['expected_output_tokens']} stands in")
    return found


def _measures(rows: Mapping[str, int]) -> str:
    """The measure that all rewards are, or how many rows took each."""
    return next(iter(rows)) if len(rows) == 1 else f"{listed(rows)} (rows)"


def _others(measures: Sequence[str]) -> str:
    if not measures:
        return ""
    more = f" and {len(measures) - _MOST_LISTED} more" if len(measures) > _MOST_LISTED else ""
    return f"; also found, for --metric: {', '.join(measures[:_MOST_LISTED])}{more}"


def _render(summary: Mapping[str, Any]) -> str:
    summary = with_short_names(summary, [*summary["models"], *summary["categories"]])
    lines = [
        f"{summary['source']['file']} → {summary['run']}",
        f"  {summary['outcomes']:,} outcomes: {summary['prompts']:,} prompts × {len(summary['models'])} models",
        f"  splits      {listed(summary['splits'])}"
        + ("" if summary["split_seed"] is None else f" (assigned, seed {summary['split_seed']})"),
        f"  categories  {listed(summary['categories'])}",
        f"  duplicates  {summary['duplicates']['prompts']:,} prompts repeat another's text; "
        f"{summary['duplicates']['test_in_train']:,} test prompts also occur in train",
    ]
    if summary["reward_model"]:
        lines.append(f"  rewards by  {summary['reward_model']}")
    if summary["measures"]:
        lines.append(f"  rewards are {_measures(summary['measures'])}{_others(summary['other_measures'])}")
    width = max(5, *map(columns, summary["models"]))
    lines += ["", f"  {'model':<{width}}  {'mean reward':>11}  {'prompts':>9}  price"]
    for name, model in summary["models"].items():
        lines.append(
            f"  {padded(name, width)}  {model['mean_reward']:>11.4f}  {model['prompts']:>9,}  {_price(model['price'])}"
        )
    return "\n".join(lines)


def _price(price: Mapping[str, float] | None) -> str:
    if price is None:
        return "unknown"
    if "relative_cost" in price:
        return f"relative cost {price['relative_cost']:g}"
    return f"${price['input_usd_per_mtok']:g} in, ${price['output_usd_per_mtok']:g} out per million tokens"
