"""``python -m bench.estimator``: what the estimator earns on random splits, on tasks left out, and on shuffled rewards.

Gains are points (hundredths of a reward) over the best single model on train; savings are of its cost. Per data set:
the split it comes with, six random halves (the mean, the worst), every task of at least 40 train prompts left out once,
and twelve tables whose rewards were dealt to other prompts, which must stay at one model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.machine import heading
from demo.prepare import erp_train
from demo.proxy_process import REPOSITORY
from erp_trainer.bundles.training_data import table_of
from erp_trainer.learning.embed import embed_run
from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.outcomes.run import open_run
from erp_trainer.policies.erp import FittedERP, fit_erp, recorded_cost, served_predictions, with_constant_cost
from litellm_erp.bundle.frontier import upper_hull
from litellm_erp.embedding.static import StaticEmbedder

EXAMPLES = ("llmrouter_example", "routellm_mmlu_gsm8k", "paretobandit_k4")
HALVES, SHUFFLES, MIN_TASK = 6, 12, 40


@dataclass(frozen=True, slots=True)
class Earned:
    """On test: points at λ = 0, points over all budgets against mixing single models, and cost saved."""

    gain: float
    area: float
    saved: tuple[float, float, float]


def tables(name: str, folder: Path) -> tuple[TrainingTable, TrainingTable]:
    """Train and test rows of an example."""
    source = REPOSITORY / "examples" / name
    prices = source / "prices.yaml"
    wide = ("--wide", "--prices", prices) if prices.exists() else ()
    erp_train("import", source / "outcomes.parquet", *wide, "--out", folder / name)
    run = open_run(folder / name)
    outcomes = run.outcomes()
    embedded = embed_run(run, outcomes, StaticEmbedder())
    table = table_of(outcomes, embedded, run.prices(), float(run.manifest["expected_output_tokens"]))
    splits = np.array(outcomes.splits)
    return table.rows(splits == "train"), table.rows(splits == "test")


def measure(train: TrainingTable, test: TrainingTable) -> Earned:
    """Fit on some rows and route others over λ."""
    fitted = fit_erp(train, preset="best")
    served = with_constant_cost(test, recorded_cost(train))
    best = best_single(train)
    points = []
    for lambda_ in [point["lambda"] for point in fitted.frontier["points"]]:
        choice = _choose(fitted, served, lambda_)
        points.append((test.cost_of(choice).mean(), test.reward_of(choice).mean()))
    cost, reward = np.array(points).T
    base = test.mean_reward_M[best]
    saved = tuple(_saved(cost, reward, share * base, test.mean_cost_M[best]) for share in (1.0, 0.99, 0.95))
    return Earned(100 * (reward[0] - base), 100 * _area(cost, reward, test), saved)


def _choose(fitted: FittedERP, table: TrainingTable, lambda_: float) -> np.ndarray:
    predicted, trust = served_predictions(fitted, table.embeddings_PD)
    believed = trust[:, None] * fitted.frontier["points"][0]["shrinkage"]
    return table.choose(predicted, lambda_, mean_reward_M=fitted.mean_reward_M, trust=believed)


def _area(cost: np.ndarray, reward: np.ndarray, test: TrainingTable) -> float:
    singles = upper_hull(test.mean_cost_M, test.mean_reward_M)
    ends = test.mean_cost_M[singles]
    budgets = np.linspace(ends[0], ends[-1], 400)
    hull = upper_hull(cost, reward)
    routed = np.interp(budgets, cost[hull], reward[hull])
    return float((routed - np.interp(budgets, ends, test.mean_reward_M[singles])).mean())


def _saved(cost: np.ndarray, reward: np.ndarray, target: float, single: float) -> float:
    enough = cost[reward >= target]
    return float(1 - enough.min() / single) if len(enough) else 0.0


def halves(everything: TrainingTable) -> Iterator[Earned]:
    """Random halves, duplicates kept together."""
    groups = np.unique(everything.groups_P)
    for seed in range(HALVES):
        train = np.isin(everything.groups_P, np.random.default_rng(seed).permutation(groups)[: len(groups) // 2])
        yield measure(everything.rows(train), everything.rows(~train))


def left_out(train: TrainingTable) -> list[float]:
    """Points at λ = 0 on each task when it is fitted without."""
    found = []
    for name in train.categories:
        inside = train.categories_P == name
        if inside.sum() >= MIN_TASK and (~inside).sum() >= MIN_TASK:
            rest, task = train.rows(~inside), train.rows(inside)
            choice = _choose(fit_erp(rest, preset="best"), with_constant_cost(task, recorded_cost(rest)), 0.0)
            best = best_single(rest)
            found.append(100 * (task.reward_of(choice).mean() - task.mean_reward_M[best]))
    return found


def shuffled(train: TrainingTable) -> int:
    """How many tables with rewards dealt to other prompts are routed nevertheless."""
    routed = 0
    for seed in range(SHUFFLES):
        order = np.random.default_rng(seed).permutation(len(train))
        dealt = replace(train, rewards_PM=train.rewards_PM[order], realised_cost_PM=train.realised_cost_PM[order])
        routed += fit_erp(dealt, preset="best").frontier["points"][0]["shrinkage"] > 0
    return routed


def joined(one: TrainingTable, other: TrainingTable) -> TrainingTable:
    """All rows of both."""
    arrays = ("embeddings_PD", "rewards_PM", "expected_cost_PM", "realised_cost_PM", "groups_P", "categories_P")
    both = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in arrays}
    return replace(one, tags_P=None, samples_PMK=None, noise_PM=None, **both)


def row(label: str, found: list[Earned]) -> str:
    """Means, and the worst gain."""
    gains = [earned.gain for earned in found]
    saved = " ".join(f"{100 * float(np.mean([earned.saved[i] for earned in found])):3.0f}%" for i in range(3))
    worst = f" (worst {min(gains):+.2f})" if len(found) > 1 else ""
    area = np.mean([earned.area for earned in found])
    return f"  {label:18} {np.mean(gains):+6.2f}{worst:16} {area:+6.2f}   {saved}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", choices=EXAMPLES, action="append")
    names = parser.parse_args().example or EXAMPLES
    print(heading("estimator"))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            started = time.process_time()
            train, test = tables(name, Path(folder))
            print(f"\n{name}: {len(train)} train, {len(test)} test prompts")
            print(f"  {'':18} λ = 0{'':17} budgets  saved at 100, 99, 95%")
            print(row("its own split", [measure(train, test)]))
            print(row(f"{HALVES} random halves", list(halves(joined(train, test)))))
            tasks = left_out(train)
            if tasks:
                print(f"  {len(tasks)} tasks left out   {np.mean(tasks):+6.2f} (worst {min(tasks):+.2f})")
            print(f"  shuffled: {shuffled(train)} of {SHUFFLES} routed   ({time.process_time() - started:.0f} CPU s)")


if __name__ == "__main__":
    main()
