"""Three teams of one real proxy, each with a goal of its own, on prompts that no probe has seen.

A bundle is fitted on the train split of llmrouter_example; its held-out prompts are sent again and again, in a seeded
order. That test split is of another mix of tasks than train; ``--split N`` fits on three random quarters of the train
split and sends the prompts of the fourth. The stub upstream reports token counts that are drawn once per prompt and
model and recorded; cost is prices times those, reward the recorded outcome of whoever really answered. "Offline" is the
same bundle's choice on the same prompts, computed by the code that serves.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.machine import heading
from bench.pacing.example import GROUP, fit, serve
from bench.pacing.month import build
from demo.prepare import EXAMPLE, HeldOut
from demo.sending import Served, ask_all, join
from erp_trainer.learning.bootstrap import interval
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.bundle.load import load_bundle
from litellm_erp.errors import ServingError
from litellm_erp.goals.goal import Goal, quality_floor
from litellm_erp.goals.solve import solve
from litellm_erp.serving.team_view import mixture_json, mixture_text

REQUESTS = 2000
FLOOR = 0.9


@dataclass(frozen=True, eq=False)
class Offline:
    """The bundle's choices on the P held-out prompts, over the λ of its frontier.

    Attributes
    ----------
    reward_LP, cost_LP : shape (L, P), recorded reward and cost (USD) of what is chosen at each λ
    cheapest, best : held-out mean rewards of the cheapest and of the best single model, as training names them
    """

    frontier: Frontier
    data: HeldOut
    reward_LP: np.ndarray
    cost_LP: np.ndarray
    cheapest: float
    best: float

    @classmethod
    def of(cls, bundle: Bundle, data: HeldOut) -> "Offline":
        """Choose for every prompt at every λ."""
        frontier = bundle.frontier
        world = build(bundle, data, frontier.lambda_L.tolist())
        rows, choices = np.arange(len(data)), list(world.choice.values())
        rewards, costs = (np.stack([of_PM[rows, m] for m in choices]) for of_PM in (world.reward_PM, world.cost_PM))
        named = np.nanargmin(frontier.single_cost_M), np.argmax(frontier.single_reward_M)
        return cls(frontier, data, rewards, costs, *(float(world.reward_PM[:, m].mean()) for m in named))

    def at_cost(self, cost: float) -> np.ndarray:
        """Reward of each prompt, shape (P,), at the mixture of two of the bundle's λ that costs this much here.

        The λ are those of the bundle's own envelope: what is chosen here sees no held-out reward.
        """
        hull = self.frontier.envelope
        costs = self.cost_LP[hull].mean(axis=1)
        right = int(np.searchsorted(np.maximum.accumulate(costs), cost))
        if right == 0 or right == len(hull):
            return np.asarray(self.reward_LP[hull[min(right, len(hull) - 1)]])
        weight = (cost - costs[right - 1]) / (costs[right] - costs[right - 1])
        return (1 - weight) * self.reward_LP[hull[right - 1]] + weight * self.reward_LP[hull[right]]


def measure(out: Path, n_requests: int, split: int | None = None) -> list[dict[str, Any]]:
    """Fit, serve and measure; one row per team. ``split`` seeds a random split of the train prompts."""
    table = EXAMPLE / "outcomes.parquet"
    path, data = fit(out, table if split is None else _split_anew(table, out / "outcomes.parquet", split))
    offline = Offline.of(load_bundle(path), data)
    hull = offline.frontier.envelope
    # Half way from the cheapest point of the curve to the best, on train.
    budget = 500.0 * float(offline.frontier.cost_L[hull[0]] + offline.frontier.cost_L[hull[-1]])
    teams: dict[str, dict[str, float]] = {
        "best": {"lambda": 0.0},
        "budget": {"budget_usd_per_1k_requests": round(budget, 4)},
        "quality": {"min_quality": FLOOR},
    }
    served = _serve(data, path, teams, n_requests)
    return [_row(team, goal, [s for s in served if s.team == team], offline) for team, goal in teams.items()]


def _split_anew(source: Path, target: Path, seed: int) -> Path:
    table = pq.read_table(source)
    table = table.filter(pc.equal(table["split"], "train"))
    splits = np.full(len(table), "train", dtype=object)
    splits[np.random.default_rng(seed).permutation(len(table))[: len(table) // 4]] = "test"
    at = table.column_names.index("split")
    pq.write_table(table.set_column(at, "split", pa.array(splits)), target)
    return target


def _serve(data: HeldOut, bundle: Path, teams: Mapping[str, Mapping[str, float]], n_requests: int) -> list[Served]:
    rng = np.random.default_rng(0)
    rounds = -(-n_requests // len(data))
    order = np.concatenate([rng.permutation(len(data)) for _ in range(rounds)])[:n_requests].tolist()
    with ExitStack() as stack:
        stub, (proxy,) = serve(stack, bundle, data, teams)
        prompts = [data.outcomes.prompts[i] for i in order]
        answers = asyncio.run(ask_all(proxy.base_url, GROUP, prompts, list(teams), lambda steps: None))
        records = stub.requests()
    if failed := [answer.error for answer in answers if answer.error]:
        raise ServingError(f"{len(failed)} of {len(answers)} requests failed, the first with {failed[0]}")
    by_prompt = [replace(answer, prompt=order[answer.prompt]) for answer in answers]
    return join(by_prompt, records, data, dict.fromkeys(teams, 0.0), safety=True)


def _row(team: str, stated: Mapping[str, float], served: Sequence[Served], offline: Offline) -> dict[str, Any]:
    goal = Goal.from_mapping(stated, where=team)
    reward, cost = (float(np.mean([getattr(s, name) for s in served])) for name in ("reward", "cost_usd"))
    expected = interval(offline.at_cost(cost), offline.data.groups_P)
    target, landed, other = _judged(goal, reward, cost, offline)
    return {
        "team": team,
        "goal": dict(stated),
        "lambda": mixture_text(mixture_json(solve(goal, offline.frontier).mixture)),
        "requests": len(served),
        "usd_per_1k": cost * 1000,
        "reward": reward,
        "target": target,
        "landed": landed,
        "ratio": landed / target,
        "other_ratio": other,
        "offline_reward": expected.mean,
        "offline_reward_ci": [expected.low, expected.high],
        "within": bool(expected.low <= reward <= expected.high),
    }


def _judged(goal: Goal, reward: float, cost: float, offline: Offline) -> tuple[float, float, float | None]:
    """Target, what landed, and for the floor the ratio on the bundle's own anchors (those of its training)."""
    if goal.form == "budget_usd_per_1k_requests":
        return goal.value, cost * 1000, None
    if goal.form == "min_quality":
        floor = offline.cheapest + goal.value * (offline.best - offline.cheapest)
        return floor, reward, reward / quality_floor(offline.frontier, goal.value)
    return float(offline.reward_LP[0].mean()), reward, None


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        heading(
            "Three teams with goals of their own, on held-out prompts through a real proxy",
            "target: λ = 0: the mean reward of the same bundle's choice on the same prompts; budget: USD per 1,000",
            "requests; floor: mean reward 0.9 of the way from the cheapest to the best single model, both held out",
            "(in brackets: against the same floor between the anchors of training).",
            "offline: mean reward, and its 95% interval clustered by prompt, of the bundle's λ that cost as much here.",
        ),
        f"{'team':8} {'requests':>8}  {'target':>8} {'landed':>8} {'ratio':>14}  {'USD/1k':>7} {'reward':>7}  "
        f"{'offline at that cost':>24}  in  λ",
    ]
    for row in rows:
        low, high = row["offline_reward_ci"]
        ratio = f"{row['ratio']:.3f}" + ("" if row["other_ratio"] is None else f" ({row['other_ratio']:.3f})")
        lines.append(
            f"{row['team']:8} {row['requests']:8}  {row['target']:8.4f} {row['landed']:8.4f} {ratio:>14}  "
            f"{row['usd_per_1k']:7.4f} {row['reward']:7.4f}  {row['offline_reward']:8.4f} [{low:.4f}, {high:.4f}]  "
            f"{'yes' if row['within'] else 'NO':3} {row['lambda']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.pacing.teams", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each team")
    parser.add_argument("--split", type=int, help="seed of a random split of the train prompts")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(Path(temporary), arguments.requests, arguments.split)
    print(report(found))
    print(f"{time.perf_counter() - began:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.exit(0 if all(abs(row["ratio"] - 1) <= 0.05 for row in found) else 1)
