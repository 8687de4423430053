"""``python -m bench.null_pools``: how often a verdict claims what is not there, on pools that know nothing of a prompt.

A router that knows the models' means alone, out of fold, and one that adds noise to them, choose on 200 random pools
each: 300 to 3,000 prompts, two to six models whose means are far apart or within six points, prices over three orders
of magnitude, long and short prompts. What routing really earns at each λ is known there, because rewards are drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from erp_trainer.learning.outcome import best_single
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.learning.verdict import judge
from erp_trainer.policies.frontier import swept

KINDS = ("the means alone", "the means and noise")
SIZES = (300, 1000, 3000)
# A saving of less than this share of the cost is none.
NOTHING = 0.005


def pool(
    rng: np.random.Generator, kind: str, sizes: Sequence[int] = SIZES
) -> tuple[TrainingTable, np.ndarray, np.ndarray]:
    """A table of drawn rewards, what the router predicts, and the chances that were drawn from, shape (P, M) each."""
    prompts, models = int(rng.choice(sizes)), int(rng.integers(2, 7))
    near = rng.random() < 0.5
    means = np.sort(0.6 + rng.uniform(-0.03, 0.03, models) if near else rng.uniform(0.3, 0.9, models))
    price = np.sort(np.exp(rng.uniform(np.log(1e-5), np.log(1e-2), models)))
    expected = price * np.exp(rng.normal(0, 0.7, (prompts, 1)))
    realised = expected * np.exp(rng.normal(-0.08, 0.4, expected.shape))
    chance = np.clip(means + rng.normal(0, rng.choice([0.0, 0.15]), (prompts, 1)), 0.01, 0.99)
    rewards = (rng.random(chance.shape) < chance).astype(np.float64)
    fold = rng.integers(5, size=prompts)
    predicted = np.stack([rewards[fold != k].mean(axis=0) for k in range(5)])[fold]
    if kind == KINDS[1]:
        predicted += rng.normal(0, 0.02, predicted.shape)
    table = TrainingTable(
        models=tuple("abcdef"[:models]),
        embeddings_PD=np.zeros((prompts, 1), dtype=np.float32),
        rewards_PM=rewards,
        expected_cost_PM=expected,
        realised_cost_PM=realised,
        groups_P=np.arange(prompts),
        categories_P=np.full(prompts, ""),
    )
    return table, predicted, chance


def really_saved(table: TrainingTable, chance_PM: np.ndarray, choices: Sequence[np.ndarray], share: float) -> float:
    """The share of the best single model's cost that a share of its reward does not need, by the true chances."""
    best = best_single(table)
    rows, single = np.arange(len(table)), chance_PM[:, best].mean()
    gain = np.array([chance_PM[rows, choice].mean() for choice in choices]) - share * single
    cost = np.array([table.expected_of(choice).mean() for choice in choices])
    whole = float(table.expected_cost_PM[:, best].mean())
    enough = np.flatnonzero(gain >= -1e-12)
    found = [whole, *cost[enough]]
    for i in np.flatnonzero(gain < -1e-12):
        for j in enough[gain[enough] > 0]:
            found.append(cost[i] - gain[i] / (gain[j] - gain[i]) * (cost[j] - cost[i]))
    return 1.0 - min(found) / whole


def claims(kind: str, pools: int, *, seed: int = 0, sizes: Sequence[int] = SIZES) -> Iterator[dict[str, bool]]:
    """What is true of each pool, and what its verdict claims."""
    rng = np.random.default_rng(seed)
    for _ in range(pools):
        table, predicted, chance = pool(rng, kind, sizes)
        lambdas, choices = zip(*swept(table, lambda lambda_, t=table, p=predicted: t.choose(p, lambda_)), strict=True)
        best, rows = best_single(table), np.arange(len(table))
        singles = [np.full(len(table), m) for m in range(len(table.models))]
        true = {share: really_saved(table, chance, choices, share) for share in (1.0, 0.99)}
        gain = max(chance[rows, choice].mean() for choice in choices) - chance[:, best].mean()
        found = judge(table, lambdas, choices)
        saves, gains = found["kind"] in ("saves", "both"), found["kind"] in ("gains", "both")
        # More is saved at 99% of the reward than mixing saves: routing long prompts elsewhere does, and that is real.
        nothing = true[1.0] < NOTHING and true[0.99] <= really_saved(table, chance, singles, 0.99) + NOTHING
        low = {share: found["savings"][f"{share:g}"]["low"] for share in true}
        yield {
            "nothing is saved": nothing,
            "nothing is saved, a saving claimed": nothing and saves,
            "nothing is saved at equal reward": true[1.0] < NOTHING,
            "nothing is saved at equal reward, a saving claimed": true[1.0] < NOTHING and saves,
            "interval at equal reward above the truth": low[1.0] > true[1.0] + NOTHING,
            "interval at 99% of it above the truth": low[0.99] > true[0.99] + NOTHING,
            "nothing is gained": gain <= 0,
            "nothing is gained, a gain claimed": bool(gain <= 0 and gains),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how often each happened."""
    parser = argparse.ArgumentParser(prog="python -m bench.null_pools", description=__doc__)
    parser.add_argument("--pools", type=int, default=200, help="of each kind")
    asked = parser.parse_args(arguments)
    for kind in KINDS:
        counts: Counter[str] = Counter()
        for found in claims(kind, asked.pools):
            counts.update({what: int(is_so) for what, is_so in found.items()})
        print(f"{kind}, {asked.pools} pools")
        print("\n".join(f"{count:6d}  {what}" for what, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
