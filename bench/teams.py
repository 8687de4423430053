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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from bench.machine import heading
from demo import prepare
from demo.prepare import EXAMPLE, PROXY_CONFIG, HeldOut
from demo.proxy_process import ProxyProcess, StubProcess
from demo.sending import Served, ask_all, join
from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.learning.bootstrap import Interval, interval
from erp_trainer.learning.embed import embed_prompts
from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import Predictions, predict_pool, rank_pool
from litellm_erp.errors import ServingError
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.solve import quality_floor, solve
from litellm_erp.serving.team_view import mixture_json, mixture_text

REQUESTS = 2000
GROUP = "erp-auto"
FLOOR = 0.9
BEST, BUDGET, QUALITY = "best", "budget", "quality"


@dataclass(frozen=True, eq=False)
class Offline:
    """The bundle's choices on the P held-out prompts, over the λ of its frontier.

    Attributes
    ----------
    reward_LP, cost_LP : shape (L, P), recorded reward and cost (USD) of what is chosen at each λ
    """

    bundle: Bundle
    data: HeldOut
    reward_LP: np.ndarray
    cost_LP: np.ndarray

    @classmethod
    def of(cls, bundle: Bundle, data: HeldOut) -> "Offline":
        """Choose for every prompt at every λ."""
        embedder = bundle_embedder(bundle)
        embedded = embed_prompts(tuple(data.outcomes.prompts), embedder, lambda steps: None)
        embedder.close()
        scores = predict_pool(bundle, embedded.embeddings_PD, embedded.input_tokens_P[:, None], prices=bundle.prices())
        columns = [data.outcomes.models.index(name) for name in bundle.models]
        rewards, costs = data.outcomes.rewards_PM[:, columns], data.cost_PM[:, columns]
        choices = np.stack([_choice(bundle, scores, float(x)) for x in bundle.frontier.lambda_L])
        prompts = np.arange(len(data))
        return cls(bundle, data, rewards[prompts, choices], costs[prompts, choices])

    def at_cost(self, cost: float) -> tuple[np.ndarray, float]:
        """Reward of each prompt, shape (P,), at the mixture of two of the bundle's λ that costs this much here.

        The λ are those of the bundle's own envelope: what is chosen here sees no held-out reward.

        Returns
        -------
        the rewards, and the mixture's mean cost
        """
        hull = self.bundle.frontier.envelope
        costs = self.cost_LP[hull].mean(axis=1)
        right = int(np.searchsorted(np.maximum.accumulate(costs), cost))
        if right == 0 or right == len(hull):
            end = hull[min(right, len(hull) - 1)]
            return self.reward_LP[end], float(self.cost_LP[end].mean())
        weight = (cost - costs[right - 1]) / (costs[right] - costs[right - 1])
        mixed = (1 - weight) * self.reward_LP[hull[right - 1]] + weight * self.reward_LP[hull[right]]
        return mixed, cost

    def anchors(self) -> tuple[float, float]:
        """Held-out mean rewards of the cheapest and of the best single model, as the bundle's training names them."""
        frontier, rewards = self.bundle.frontier, self.data.outcomes.rewards_PM
        named = [
            self.bundle.models[int(np.nanargmin(frontier.single_cost_M))],
            self.bundle.models[int(np.argmax(frontier.single_reward_M))],
        ]
        cheapest, best = (float(rewards[:, self.data.outcomes.models.index(name)].mean()) for name in named)
        return cheapest, best


def _choice(bundle: Bundle, scores: Predictions, lambda_: float) -> np.ndarray:
    return rank_pool(bundle, scores, lambda_).order[:, 0]


def main(quick: bool = False) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), REQUESTS // 10 if quick else REQUESTS)
    print(report(rows))


def measure(out: Path, n_requests: int, split: int | None = None) -> list[dict[str, Any]]:
    """Fit, serve and measure; one row per team. ``split`` seeds a random split of the train prompts."""
    run, path, table = out / "run", out / "bundle", EXAMPLE / "outcomes.parquet"
    if split is not None:
        table = _split_anew(table, out / "outcomes.parquet", split)
    prepare.erp_train("import", table, "--wide", "--prices", EXAMPLE / "prices.yaml", "--out", run)
    prepare.erp_train("fit", run, "--out", path)
    data, bundle = prepare.held_out(open_run(run), None), load_bundle(path)
    prepare.write_tokens(data, out / "tokens.jsonl")
    offline = Offline.of(bundle, data)
    hull = bundle.frontier.envelope
    # Half way from the cheapest point of the curve to the best, on train.
    budget = 500.0 * float(bundle.frontier.cost_L[hull[0]] + bundle.frontier.cost_L[hull[-1]])
    teams: dict[str, dict[str, float]] = {
        BEST: {"lambda": 0.0},
        BUDGET: {"budget_usd_per_1k_requests": round(budget, 4)},
        QUALITY: {"min_quality": FLOOR},
    }
    served = _serve(out, data, path, teams, n_requests)
    return [_row(team, goal, [s for s in served if s.team == team], offline) for team, goal in teams.items()]


def _split_anew(source: Path, target: Path, seed: int) -> Path:
    table = pq.read_table(source)
    table = table.filter(pc.equal(table["split"], "train"))
    splits = np.full(len(table), "train", dtype=object)
    splits[np.random.default_rng(seed).permutation(len(table))[: len(table) // 4]] = "test"
    at = table.column_names.index("split")
    pq.write_table(table.set_column(at, "split", pa.array(splits)), target)
    return target


def _serve(
    out: Path, data: HeldOut, bundle: Path, teams: Mapping[str, Mapping[str, float]], n_requests: int
) -> list[Served]:
    rng = np.random.default_rng(0)
    rounds = -(-n_requests // len(data))
    order = np.concatenate([rng.permutation(len(data)) for _ in range(rounds)])[:n_requests]
    group = {"bundle": str(bundle.resolve()), "policy": {"lambda": 0.0}, "teams": dict(teams)}
    (out / "erp.yaml").write_text(yaml.safe_dump({"erp_settings": {"groups": {GROUP: group}}}), encoding="utf-8")
    (out / "keys.json").write_text(json.dumps({f"sk-{team}": {} for team in teams}), encoding="utf-8")
    models = data.outcomes.models
    with StubProcess(models, request_log=out / "stub.jsonl", recorded=out / "tokens.jsonl") as stub:
        env = prepare.stub_environment(models, stub.base_url)
        env |= {"ERP_SETTINGS": str(out / "erp.yaml"), "ERP_DEMO_KEYS": str(out / "keys.json")}
        with ProxyProcess(PROXY_CONFIG, env=env, log_path=out / "proxy.log") as proxy:
            prompts = [data.outcomes.prompts[i] for i in order]
            answers = asyncio.run(ask_all(proxy.base_url, GROUP, prompts, list(teams), lambda steps: None))
    if failed := [answer.error for answer in answers if answer.error]:
        raise ServingError(f"{len(failed)} of {len(answers)} requests failed, the first with {failed[0]}")
    records = [json.loads(line) for line in (out / "stub.jsonl").read_text(encoding="utf-8").splitlines()]
    by_prompt = [_with_prompt(answer, int(order[answer.prompt])) for answer in answers]
    return join(by_prompt, records, data, dict.fromkeys(teams, 0.0), safety=True)


def _with_prompt(answer: Any, prompt: int) -> Any:
    return type(answer)(prompt, answer.team, answer.stub_id, answer.headers, answer.error)


def _row(team: str, goal: Mapping[str, float], served: Sequence[Served], offline: Offline) -> dict[str, Any]:
    frontier = offline.bundle.frontier
    policy = Goal.from_mapping(goal, where=team)
    solution = solve(policy, frontier)
    reward = np.array([request.reward for request in served], dtype=np.float64)
    cost = np.array([request.cost_usd for request in served], dtype=np.float64)
    at_cost, offline_cost = offline.at_cost(float(cost.mean()))
    expected: Interval = interval(at_cost, offline.data.groups_P)
    cheapest, best = offline.anchors()
    target, landed, other = _judged(policy, reward, cost, offline)
    return {
        "team": team,
        "goal": dict(goal),
        "lambda": mixture_text(mixture_json(solution.mixture)),
        "requests": len(served),
        "usd_per_1k": float(cost.mean() * 1000),
        "reward": float(reward.mean()),
        "target": target,
        "landed": landed,
        "ratio": landed / target,
        "other_ratio": other,
        "offline_usd_per_1k": offline_cost * 1000,
        "offline_reward": expected.mean,
        "offline_reward_ci": [expected.low, expected.high],
        "within": bool(expected.low <= reward.mean() <= expected.high),
        "anchors": [cheapest, best],
        "quality": (float(reward.mean()) - cheapest) / (best - cheapest),
    }


def _judged(policy: Goal, reward: np.ndarray, cost: np.ndarray, offline: Offline) -> tuple[float, float, float | None]:
    """Target, what landed, and for the floor the ratio on the bundle's own anchors (those of its training)."""
    if policy.form == "budget_usd_per_1k_requests":
        return policy.value, float(cost.mean() * 1000), None
    if policy.form == "min_quality":
        cheapest, best = offline.anchors()
        trained = quality_floor(offline.bundle.frontier, policy.value)
        return cheapest + policy.value * (best - cheapest), float(reward.mean()), float(reward.mean()) / trained
    return float(offline.reward_LP[0].mean()), float(reward.mean()), None


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
            f"{row['usd_per_1k']:7.4f} {row['reward']:7.4f}  "
            f"{row['offline_reward']:8.4f} [{low:.4f}, {high:.4f}]  {'yes' if row['within'] else 'NO':3} "
            f"{row['lambda']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.teams", description=__doc__)
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
