"""``python -m bench.exploration``: a month with exploring and without, on LLMRouter's example data.

Half of its prompts, a random half for each seed, are fitted; of the others seven in ten are what a month's requests are
drawn from, and the rest judge. The shipped code decides (`RoutedGroup.decide`) on expected costs by token; a request
earns the reward recorded for its prompt and costs what its recorded tokens do. One request in five gets its reward back
as feedback, and every night `erp-train update` learns from the log. A newcomer, in turn each of ``NEWCOMERS`` or none,
is on offer from the first day and in no bundle.

Regret is against the bundle fitted on the same half with the newcomer among it: mean reward less λ times cost, in
points. Of the newcomer: what greedy routing by the night's bundle gains on the judging prompts at λ = 0 over the first
day's, beside what `erp-train add-model` gains with as many random and chosen prompts (`bench.newcomers`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench.machine import heading
from demo.prepare import EXAMPLE, erp_train
from erp_trainer.logged.log import read_log
from erp_trainer.logged.update import update_bundle
from litellm_erp.bundle.bundle import Bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import predict_pool, rank_pool
from litellm_erp.choice.cost import Price
from litellm_erp.choice.exploration import Trial
from litellm_erp.choice.prompt import PromptText
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.errors import DecisionLogError
from litellm_erp.goals.settings import parse
from litellm_erp.goals.tenant import Tenant
from litellm_erp.serving.deployments import Member
from litellm_erp.serving.group import Ask, RoutedGroup
from litellm_erp.serving.reload import ReloadedBundle

GROUP = "erp-auto"
NEWCOMERS = ("llama-3.3-nemotron-super-49b-v1", "llama-3.1-nemotron-51b-instruct", "codegemma-7b", "")
DAYS, FEEDBACK = 30, 0.2
SHARE, EXTRA_COST = 0.05, 0.02
OUTPUT_TOKENS = 256.0
DAY_S = 86_400.0


@dataclass
class Month:
    """What a month was, by day.

    Attributes
    ----------
    utility : mean reward less λ times cost
    explored, extra : share of requests, and expected USD above the greedy choice; ``expected`` is what greedy costs
    gain : of the night's bundle over the first at λ = 0, in points on the judging prompts
    rows : feedbacks of the newcomer that were learned from, by night
    worst : the largest ratio of extra to expected cost, at any request
    """

    utility: list[float] = field(default_factory=list)
    explored: list[float] = field(default_factory=list)
    extra: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    gain: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    worst: float = 0.0


@dataclass(frozen=True)
class World:
    """Prompts that are held out, and what models earn on them."""

    texts: list[str]
    rewards: pd.DataFrame
    cost: pd.DataFrame
    judging: np.ndarray


def halves(folder: Path, seed: int) -> tuple[Path, World, dict[str, dict[str, float]]]:
    """Outcomes with a split of this seed, and the held-out half."""
    table = pd.read_parquet(EXAMPLE / "outcomes.parquet")
    prices = yaml.safe_load((EXAMPLE / "prices.yaml").read_text())
    rng = np.random.default_rng(seed)
    train = np.zeros(len(table), dtype=bool)
    train[rng.permutation(len(table))[: len(table) // 2]] = True
    table["split"] = np.where(train, "train", "test")
    path = folder / "outcomes.parquet"
    table.to_parquet(path)
    held = table[~train].reset_index(drop=True)
    embedder = StaticEmbedder()
    tokens = np.array([embedder.count_tokens(text) for text in held["prompt"]])
    usd = {
        m: (tokens * p["input_usd_per_mtok"] + OUTPUT_TOKENS * p["output_usd_per_mtok"]) / 1e6
        for m, p in prices.items()
    }
    judging = rng.random(len(held)) < 0.3
    return path, World(held["prompt"].tolist(), held[list(prices)], pd.DataFrame(usd), judging), prices


def fitted(folder: Path, outcomes: Path, models: Sequence[str], name: str) -> Path:
    """A bundle of some models."""
    prices = {m: p for m, p in yaml.safe_load((EXAMPLE / "prices.yaml").read_text()).items() if m in models}
    stated = folder / f"{name}-prices.yaml"
    stated.write_text(yaml.safe_dump(prices))
    columns = ["--models", ",".join(models)]
    erp_train("import", outcomes, "--wide", *columns, "--prices", stated, "--out", folder / f"{name}-run")
    erp_train("fit", folder / f"{name}-run", "--out", folder / name)
    return folder / name


def greedy(bundle: Bundle, x: np.ndarray, tokens: np.ndarray, lambda_: float) -> list[str]:
    """What the bundle routes prompts to."""
    prices = bundle.prices()
    order = rank_pool(bundle, predict_pool(bundle, x, tokens[:, None], prices=prices), lambda_).order
    return [bundle.models[m] for m in order[:, 0]]


def mean_of(table: pd.DataFrame, rows: np.ndarray, chosen: Sequence[str]) -> float:
    """Mean of what the chosen have in a table."""
    columns = table.columns.get_indexer(pd.Index(chosen))
    return float(table.to_numpy()[rows, columns].mean())


async def month(
    world: World,
    first: Path,
    folder: Path,
    prices: dict[str, dict[str, float]],
    lambda_: float,
    explores: bool,
    requests: int,
    newcomer: str,
    seed: int,
) -> Month:
    """One month; ``first`` is the bundle of its first day."""
    bundle = Path(shutil.copytree(first, folder / "bundle"))
    log = folder / "log"
    log.mkdir()
    stated = {"bundle": str(bundle), "policy": {"lambda": lambda_}}
    if explores:
        stated["explore"] = {"share": SHARE, "extra_cost": EXTRA_COST}
    settings = parse({"groups": {GROUP: stated}}, folder / "erp").groups[GROUP]
    members = [
        Member(name, name, name, Price(p["input_usd_per_mtok"], p["output_usd_per_mtok"]), None, (None,) * 3, ())
        for name, p in prices.items()
    ]
    rng = np.random.default_rng([seed, 7])
    embedder, found = StaticEmbedder(), Month()
    pool, judging = np.flatnonzero(~world.judging), np.flatnonzero(world.judging)
    x = embedder.embed([world.texts[p] for p in judging])
    tokens = np.array([embedder.count_tokens(world.texts[p]) for p in judging], dtype=np.float64)
    start = time.time() - 40 * DAY_S
    before = mean_of(world.rewards, judging, greedy(load_bundle(first), x, tokens, 0.0))
    allowance, total_extra, total_expected = None, 0.0, 0.0
    for day in range(DAYS):
        group = RoutedGroup(settings, ReloadedBundle(settings, embedder=embedder))
        group.allowance = allowance or group.allowance
        allowance = group.allowance
        granted = group.grant_of(Tenant())
        utility, explored, extra, expected, lines = 0.0, 0, 0.0, 0.0, []
        for i in range(requests):
            p = int(rng.choice(pool))
            # The same requests, draws and feedback with exploring and without.
            draw, heard = rng.random(), rng.random() < FEEDBACK
            text = world.texts[p]
            decision = await group.decide(
                PromptText(text[:4096], len(text)), members, granted, Ask(), trial=Trial(draw), shown=20
            )
            served = decision.models[0]
            utility += world.rewards.at[p, served] - lambda_ * 1000 * world.cost.at[p, served]
            if explores:
                best = served
                if decision.reason == "explored":
                    best = (
                        await group.decide(PromptText(text[:4096], len(text)), members, granted, Ask(), shown=20)
                    ).models[0]
                    explored += 1
                    extra += decision.expected_cost[served] - decision.expected_cost[best]
                expected += decision.expected_cost[best]
                ratio = (total_extra + extra) / (total_expected + expected)
                found.worst = max(found.worst, ratio)
            at = start + day * DAY_S + i
            if heard:
                lines.append(_decision(f"d{day}r{i}", at, served, float(world.cost.at[p, served]), text))
                lines.append(_feedback(f"d{day}r{i}", at + 1, float(world.rewards.at[p, served])))
        total_extra, total_expected = total_extra + extra, total_expected + expected
        found.utility.append(utility / requests)
        found.explored.append(explored / requests)
        found.extra.append(extra)
        found.expected.append(expected)
        (log / f"{day}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        try:
            update_bundle(bundle, read_log([log]), embedder)
        except DecisionLogError as e:
            if "nothing new" not in str(e):
                raise
        loaded = load_bundle(bundle)
        record = next((model for model in loaded.manifest.models if model.name == newcomer), None)
        found.rows.append(0 if record is None else record.rows)
        found.gain.append(100 * (mean_of(world.rewards, judging, greedy(loaded, x, tokens, 0.0)) - before))
    return found


def _decision(request: str, at: float, served: str, usd: float, text: str) -> dict[str, object]:
    candidates = {served: {"expected_reward": None, "std_error": None, "expected_cost_usd": None}}
    return {
        "v": 1, "kind": "decision", "time": at, "request_id": request, "group": GROUP, "candidates": candidates,
        "chosen": served, "served": served, "cost_usd": usd, "prompt": text,
    }  # fmt: skip


def _feedback(request: str, at: float, reward: float) -> dict[str, object]:
    return {"v": 1, "kind": "feedback", "time": at, "request_id": request, "reward": reward}


@dataclass(frozen=True)
class Found:
    """Both months of one newcomer and seed.

    Attributes
    ----------
    ideal : utility on the same prompts of the bundle fitted with the newcomer
    whole : what that bundle gains at λ = 0 over the first day's, in points
    """

    newcomer: str
    seed: int
    ideal: float
    whole: float
    off: Month
    on: Month


def measured(newcomer: str, seed: int, lambda_: float, requests: int) -> Found:
    """Both months."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        outcomes, world, prices = halves(folder, seed)
        others = [m for m in prices if m != newcomer]
        first = fitted(folder, outcomes, others, "first")
        everything = fitted(folder, outcomes, list(prices), "everything") if newcomer else first
        months = []
        for explores in (False, True):
            own = folder / str(explores)
            own.mkdir()
            months.append(asyncio.run(month(world, first, own, prices, lambda_, explores, requests, newcomer, seed)))
        embedder = StaticEmbedder()
        pool, judging = np.flatnonzero(~world.judging), np.flatnonzero(world.judging)

        def chosen(path: Path, rows: np.ndarray, at: float) -> list[str]:
            texts = [world.texts[p] for p in rows]
            tokens = np.array([embedder.count_tokens(text) for text in texts], dtype=np.float64)
            return greedy(load_bundle(path), embedder.embed(texts), tokens, at)

        best = chosen(everything, pool, lambda_)
        ideal = mean_of(world.rewards, pool, best) - lambda_ * 1000 * mean_of(world.cost, pool, best)
        whole = 100 * (
            mean_of(world.rewards, judging, chosen(everything, judging, 0.0))
            - mean_of(world.rewards, judging, chosen(first, judging, 0.0))
        )
        return Found(newcomer, seed, ideal, whole, *months)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.exploration", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="a day")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lambda", dest="lambda_", type=float, default=0.1)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args(arguments)
    print(
        heading(
            "A month with exploring and without",
            f"{DAYS} days of {asked.requests:,} requests, share {SHARE}, extra cost {EXTRA_COST}, λ {asked.lambda_:g}, "
            f"feedback on {FEEDBACK:g}, {asked.seeds} seeds",
        )
    )
    with ProcessPoolExecutor(asked.processes) as processes:
        waiting = [
            processes.submit(measured, newcomer, seed, asked.lambda_, asked.requests)
            for newcomer in NEWCOMERS
            for seed in range(asked.seeds)
        ]
        found = [each.result() for each in waiting]
    for newcomer in NEWCOMERS:
        _print(newcomer, [each for each in found if each.newcomer == newcomer])


def _print(newcomer: str, found: Sequence[Found]) -> None:
    print(f"\n### {newcomer or 'no newcomer'}\n")
    print("| days | regret without, points | with | explored | extra cost | rows | gain at λ = 0 without | with |")
    print("|---|---|---|---|---|---|---|---|")
    for start in range(0, DAYS, 5):
        days = range(start, start + 5)
        regret = [
            [100 * (f.ideal - np.mean([m.utility[d] for d in days])) for f in found for m in [getattr(f, side)]]
            for side in ("off", "on")
        ]
        share = np.mean([f.on.explored[d] for f in found for d in days])
        extra = np.mean([sum(f.on.extra[d] for d in days) / sum(f.on.expected[d] for d in days) for f in found])
        gains = [np.mean([getattr(f, side).gain[days[-1]] for f in found]) for side in ("off", "on")]
        rows = np.mean([f.on.rows[days[-1]] for f in found])
        print(
            f"| {start + 1}-{start + 5} | {_mean(regret[0])} | {_mean(regret[1])} | {share:.2%} | {extra:.2%} | "
            f"{rows:.0f} | {gains[0]:+.2f} | {gains[1]:+.2f} |"
        )
    most = max(max(f.on.explored) for f in found)
    worst = max(f.on.worst for f in found)
    whole = np.mean([f.whole for f in found])
    print(
        f"\nmost explored on a day {most:.2%}; most extra cost at any request {worst:.2%}; fitted with it {whole:+.2f}"
    )
    by_rows: dict[int, list[float]] = {}
    for f in found:
        for rows, gain in zip(f.on.rows, f.on.gain, strict=True):
            if rows:
                by_rows.setdefault(next((n for n in (25, 50, 100, 200, 400) if rows < 2 * n), 400), []).append(gain)
    for n, gains_of in sorted(by_rows.items()):
        print(f"{n} to {2 * n} rows: {np.mean(gains_of):+.2f} ({np.quantile(gains_of, 0.1):+.2f})")


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=min(1, len(values) - 1)) / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    main()
