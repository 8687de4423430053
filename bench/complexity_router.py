"""``python -m bench.complexity_router [RUN ...]``: what a LiteLLM user would pick instead, on recorded outcomes.

LiteLLM's `complexity_router` (its own code, rules only, as it is configured by default) sorts prompts into four tiers,
and an operator names a model for each. Two ways to name them are tried, from train alone: *as set*, from the cheapest
to the best along the efficient line of single models, as its documentation does it; and *tuned*, the model with the
highest mean reward on each tier's training prompts. Without RUN, on every vendored table, by its own split.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import litellm
import numpy as np
import pyarrow.parquet as pq
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

from demo.prepare import erp_train
from demo.proxy_process import REPOSITORY
from erp_trainer.bundles.training_data import table_of
from erp_trainer.learning.bootstrap import Interval, Resamples
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.outcomes.run import Run, open_run
from erp_trainer.prompts.prompt_set import messages_of
from erp_trainer.words import points
from litellm_erp.bundle.frontier import upper_hull
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.errors import ErpError, RunError

TIERS = ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")  # all that its rules give, from the cheapest to the dearest
BEST = "best single model"
EXAMPLES = REPOSITORY / "examples"


@dataclass(frozen=True)
class Setting:
    """One way of naming models for tiers, on the test prompts.

    Attributes
    ----------
    models : one for each of ``TIERS``
    reward, cost : means; cost in USD per 1,000 requests
    gain : of reward over the best single model, paired
    cost_change : of the mean cost against the best single model's, -0.87 for 87% less
    """

    name: str
    models: tuple[str, ...]
    reward: float
    cost: float
    gain: Interval
    cost_change: float


@dataclass(frozen=True)
class Compared:
    """LiteLLM's router on one run.

    Attributes
    ----------
    shares : of the test prompts in each of ``TIERS``
    best : the best single model on train, with its reward and cost on test
    """

    best: Setting
    settings: tuple[Setting, ...]
    shares: tuple[float, ...]
    prompts: int


def tiers_of(prompts: Sequence[str]) -> np.ndarray:
    """The tier that LiteLLM's router itself sends each prompt to, as an index into ``TIERS``, shape (P,).

    Its hook is asked with the prompt's messages, as a proxy does, in a router whose four models are named after the
    tiers; nothing is sent anywhere.
    """
    deployments = [
        {"model_name": tier, "litellm_params": {"model": f"openai/{tier}", "api_key": "-"}} for tier in TIERS
    ]
    router = litellm.Router(model_list=deployments)
    rules = ComplexityRouter("auto", router, {"tiers": {tier: tier for tier in TIERS}})

    async def ask() -> list[int]:
        found = []
        for prompt in prompts:
            messages = messages_of(prompt) or [{"role": "user", "content": prompt}]
            answer = await rules.async_pre_routing_hook("auto", {}, messages)
            assert answer is not None
            found.append(TIERS.index(answer.model))
        return found

    return np.array(asyncio.run(ask()), dtype=int)


def as_set(train: TrainingTable) -> tuple[int, ...]:
    """The efficient line of single models on train, spread over the tiers from its cheapest to its best.

    Raises
    ------
    RunError : no costs
    """
    hull = upper_hull(train.mean_cost_M, train.mean_reward_M)
    if not len(hull):
        raise RunError("no model's cost is known, so that no tier is the cheap one; import with --prices FILE")
    return tuple(hull[np.round(np.linspace(0, len(hull) - 1, len(TIERS))).astype(int)].tolist())


def tuned(train: TrainingTable, tier_P: np.ndarray) -> tuple[int, ...]:
    """The model with the highest mean reward on each tier's prompts; the best single model where a tier has none."""
    best = best_single(train)
    found = []
    for tier in range(len(TIERS)):
        rows = train.rewards_PM[tier_P == tier]
        known = ~np.isnan(rows).all(axis=0)
        means = np.full(len(train.models), -np.inf)
        means[known] = np.nanmean(rows[:, known], axis=0)
        found.append(int(np.argmax(means)) if known.any() else best)
    return tuple(found)


def compare(run: Run) -> Compared:
    """Both settings on a run's test prompts that do not occur in train.

    Raises
    ------
    RunError : no test prompts, or no costs
    """
    outcomes = run.outcomes()
    embedded = embed_run(run, outcomes, StaticEmbedder())
    table = table_of(outcomes, embedded, run.prices(), float(run.manifest["expected_output_tokens"]))
    splits = np.array(outcomes.splits)
    train_P = splits == "train"
    test_P = (splits == "test") & ~np.isin(table.groups_P, table.groups_P[train_P])
    if not (train_P.any() and test_P.any()):
        raise RunError(f"{run.path}: it needs train and test prompts; import outcomes with a split")
    tier_P = tiers_of(outcomes.prompts)
    train, test, tier_T = table.rows(train_P), table.rows(test_P), tier_P[test_P]
    best = best_single(train)
    resamples = Resamples.draw(test.groups_P)
    ways = {"as set": as_set(train), "tuned on train": tuned(train, tier_P[train_P])}
    shares = np.bincount(tier_T, minlength=len(TIERS)) / len(tier_T)
    return Compared(
        _measured(BEST, test, (best,) * len(TIERS), best, tier_T, resamples),
        tuple(_measured(name, test, models, best, tier_T, resamples) for name, models in ways.items()),
        tuple(shares.tolist()),
        len(tier_T),
    )


def _measured(
    name: str, test: TrainingTable, models: tuple[int, ...], best: int, tier_T: np.ndarray, resamples: Resamples
) -> Setting:
    rows, chosen = np.arange(len(test)), np.array(models)[tier_T]
    reward_P, cost_P = test.rewards_PM[rows, chosen], test.realised_cost_PM[rows, chosen]
    base_cost = float(np.nanmean(test.realised_cost_PM[:, best]))
    return Setting(
        name,
        tuple(test.models[model] for model in models),
        float(np.nanmean(reward_P)),
        float(np.nanmean(cost_P)) * test.cost_scale,
        resamples.mean(reward_P - test.rewards_PM[:, best]),
        float(np.nanmean(cost_P)) / base_cost - 1 if base_cost else 0.0,
    )


def lines(name: str, found: Compared) -> list[str]:
    """A table as Markdown, and what lies in which tier."""
    shares = ", ".join(f"{tier} {share:.1%}" for tier, share in zip(TIERS, found.shares, strict=True))
    return [
        f"{name}, {found.prompts:,} test prompts: {shares}",
        "",
        "| tiers | mean reward | against the best single model | USD per 1,000 requests | against its cost |",
        "|---|---|---|---|---|",
        *(_row(setting) for setting in (found.best, *found.settings)),
        "",
        *(f"* {setting.name}: {', '.join(setting.models)}" for setting in found.settings),
    ]


def _row(setting: Setting) -> str:
    own = setting.name == BEST
    cells = [setting.name, f"{setting.reward:.3f}", "" if own else _gain(setting), f"{setting.cost:.3g}"]
    cells.append("" if own else f"{points(setting.cost_change, 0)}%")
    return f"| {' | '.join(cells)} |"


def _gain(setting: Setting) -> str:
    digits = 2 if setting.gain.high - setting.gain.low < 0.02 else 1
    ends = (points(value, digits) for value in (setting.gain.mean, setting.gain.low, setting.gain.high))
    mean, low, high = (end if float(end.replace("−", "-")) else end.removeprefix("+") for end in ends)
    return f"{mean} ({low} to {high})"


def _imported(example: Path, folder: Path, *, new_split: bool) -> Path:
    options: list[Any] = ["--prices", example / "prices.yaml", "--wide"] if (example / "prices.yaml").is_file() else []
    file = example / "outcomes.parquet"
    table = pq.read_table(file)
    if new_split and "split" in table.column_names:
        file = folder.with_suffix(".parquet")
        pq.write_table(table.drop_columns(["split"]), file)
    erp_train("import", file, *options, "--out", folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table a run; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.complexity_router", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders; the vendored tables by default")
    parser.add_argument("--new-split", action="store_true", help="of a vendored table: import's own, not the file's")
    asked = parser.parse_args(arguments)
    print(f"LiteLLM {version('litellm')}")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            runs = {str(path): path for path in asked.runs} or {
                path.parent.name: _imported(path.parent, Path(scratch) / path.parent.name, new_split=asked.new_split)
                for path in sorted(EXAMPLES.glob("*/outcomes.parquet"))
            }
            for name, path in runs.items():
                print("\n" + "\n".join(lines(name, compare(open_run(path)))), flush=True)
    except ErpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
