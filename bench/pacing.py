"""Spend windows over a month of simulated traffic: the shipped book of budgets, with a clock of the simulation's own.

Beside it stand fixed λ, chosen in hindsight, under the same windows: exhausted ones are enforced alike. A figure of
100% is the best of those that overspend no window that can be kept by more than 2%; 0% is the cheapest model for
everything. A harder bound, which no controller that cannot see ahead reaches, is the best mixture of two λ *for every
window of its own*.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.hindsight import ALLOWED, Hindsight
from bench.machine import heading
from bench.month import DAYS, START_S, Month, Traffic, World, build, month
from bench.pacing_plot import write_plot
from demo import prepare
from demo.proxy_process import REPOSITORY
from erp_trainer.outcomes.run import open_run
from litellm_erp.budgets.book import SpendBook, Ticket
from litellm_erp.budgets.counters import Counters
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.bundle.load import load_bundle
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant

GROUP = "erp-auto"
SEEDS = (1, 2, 3)
ANSWER_S = (1.0, 20.0)
PLOT = REPOSITORY / "docs" / "images" / "pacing.svg"


@dataclass(frozen=True)
class Case:
    """One row of the table: what comes in, and what may be spent."""

    name: str
    traffic: Traffic
    window: Window
    budget_usd: float


@dataclass(frozen=True, eq=False)
class Run:
    """What routing made of a month.

    Attributes
    ----------
    reward_R, cost_R : shape (R,); a refused request brings and costs nothing
    lambda_R : shape (R,), λ of every request, infinite where the money was gone
    refused : how many requests
    """

    reward_R: np.ndarray
    cost_R: np.ndarray
    lambda_R: np.ndarray
    refused: int


def cases(frontier: Frontier) -> dict[str, Case]:
    """Budgets a weekday's traffic can spend, at the middle of the frontier, and a step of ten."""
    low, high = (float(frontier.cost_L[frontier.envelope[i]]) for i in (0, -1))
    middle, n = (low * high) ** 0.5, Traffic().per_day
    plain, step = Traffic(), Traffic(step_at=15.5)
    found = [
        Case("day", plain, Window("day"), middle * n),
        Case("day-tight", plain, Window("day"), 1.6 * low * n),
        Case("day-reject", plain, Window("day", on_exhausted="reject"), middle * n),
        Case("day-berlin", plain, Window("day", "Europe/Berlin"), middle * n),
        Case("day-prices", Traffic(prices=True), Window("day"), middle * n),
        Case("hour", plain, Window("hour"), middle * n / 24),
        Case("week", plain, Window("week"), 5.6 * middle * n),
        Case("month", plain, Window("month"), 24 * middle * n),
        Case("step-reject", step, Window("day", on_exhausted="reject"), middle * n),
        Case("step", step, Window("day"), 16 * low * n),
    ]
    return {case.name: case for case in found}


def simulate(case: Case, drawn: Month, world: World, frontier: Frontier) -> Run:
    """Route a month with the shipped controller."""
    now = START_S
    book = SpendBook(Counters("one"), clock=lambda: now)
    claim = Claim("team:a", Goal("budget_usd", case.budget_usd, case.window))
    grant, rng, count = Grant(claim), np.random.default_rng(0), len(drawn.at_R)
    under_way: list[tuple[float, int, Ticket, float]] = []
    draws, delays = rng.random(count).tolist(), rng.uniform(*ANSWER_S, count).tolist()
    choice = {x: choice_P.tolist() for x, choice_P in world.choice.items()} | {np.inf: world.cheapest_P.tolist()}
    expected, cost, reward = world.expected_PM.tolist(), world.cost_PM.tolist(), world.reward_PM.tolist()
    lambda_R, cost_R, reward_R = np.empty(count), np.zeros(count), np.zeros(count)
    refused = 0
    for r, (now, p) in enumerate(zip(drawn.at_R.tolist(), drawn.prompt_R.tolist(), strict=True)):
        while under_way and under_way[0][0] <= now:
            _, _, ticket, usd = heapq.heappop(under_way)
            book.settle(ticket, usd)
        account = book.tick(GROUP, claim, frontier)
        gone, mixture = account.exhausted(), account.mixture
        lambda_R[r] = lambda_ = np.inf if gone == "cheapest" or mixture is None else mixture.at(draws[r])
        if gone == "reject":
            book.arrived(GROUP, grant.claims)
            refused += 1
            continue
        m = choice[lambda_][p]
        reward_R[r], cost_R[r] = reward[p][m], cost[p][m] * drawn.factor_RM[r, m]
        ticket = book.reserve(GROUP, grant, RequestLambda(lambda_, claim, exhausted=gone), expected[p][m], None)
        heapq.heappush(under_way, (now + delays[r], r, ticket, float(cost_R[r])))
    return Run(reward_R, cost_R, lambda_R, refused)


def row(case: Case, seed: int, world: World, frontier: Frontier, plot: Path | None = None) -> str:
    """Simulate one month and say what came of it."""
    drawn = month(world, case.traffic, seed)
    paced = simulate(case, drawn, world, frontier)
    known = Hindsight.of(case.window, case.budget_usd, drawn, world, frontier)
    if plot is not None:
        write_plot(plot, drawn, paced.lambda_R, known.so_far(paced.cost_R), case.budget_usd)
    spent_W, could_W, whole_W = known.by_window(paced.cost_R), known.meetable_W, known.whole_W
    used = spent_W[whole_W].sum() / known.spendable_W[whole_W].sum()
    over_W = spent_W / case.budget_usd - 1
    low, best = known.fixed()
    reward = float(paced.reward_R.sum())
    share = f"{(reward - low) / (best - low):.1%}" if best > low else "none"
    others = "-"
    if not could_W.all():
        alone = known.cheapest_W.max() / case.budget_usd - 1
        others = f"{(~could_W).sum()}: {over_W[~could_W].max():+.0%} ({alone:+.0%})"
    return (
        f"{case.name:12}{seed:5}{len(drawn.at_R):10}{len(spent_W):8}{used:8.1%}"
        f"{over_W[could_W].max(initial=-1.0):+9.2%}{(over_W[could_W] > ALLOWED).sum():6}{paced.refused:9}"
        f"{share:>11}{(reward - low) / (known.ideal() - low):8.1%}   {others}"
    )


def main(
    quick: bool = False, only: Sequence[str] = (), seeds: Sequence[int] = SEEDS, processes: int = 2, plot: bool = False
) -> None:
    """Print the table, and draw the plot of the first case and seed where asked to."""
    print(
        heading(
            f"Spend windows over {DAYS} simulated days, held-out prompts of llmrouter_example",
            "used: of all money that dearest routing could have spent in whole windows; over: the worst of the windows",
            "whose budget the cheapest model alone could have kept, and how many of these are over by more than 2%;",
            "hindsight: share of the way from the cheapest model to the best fixed λ that keeps these windows, none",
            "where that is the cheapest model; ideal: to the best mixture of two λ for every window; others: windows",
            "that the cheapest model could not keep: how many, the worst (and with the cheapest alone).",
            "Days have a cycle, weekends are quiet, bursts of five-fold traffic come; reward of a refused request: 0.",
        )
    )
    world, frontier = load_world()
    chosen = [case for name, case in cases(frontier).items() if not only or name in only]
    print("case         seed  requests windows    used     over  > 2%  refused  hindsight   ideal   others", flush=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(row, case, seed, world, frontier, PLOT if plot and (case.name, seed) == ("day", 1) else None)
            for case in chosen
            for seed in (seeds[:1] if quick else seeds)
        ]
        for job in jobs:
            print(job.result(), flush=True)


def load_world() -> tuple[World, Frontier]:
    """Fit a bundle on the train split of llmrouter_example and let it choose on the held-out prompts."""
    with tempfile.TemporaryDirectory() as folder:
        run, path = Path(folder) / "run", Path(folder) / "bundle"
        source, prices = prepare.EXAMPLE / "outcomes.parquet", prepare.EXAMPLE / "prices.yaml"
        prepare.erp_train("import", source, "--wide", "--prices", prices, "--out", run)
        prepare.erp_train("fit", run, "--out", path)
        bundle = load_bundle(path)
        data = prepare.held_out(open_run(run), None)
    frontier = bundle.frontier
    return build(bundle, data, [float(frontier.lambda_L[i]) for i in frontier.envelope]), frontier


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.pacing", description=__doc__)
    parser.add_argument("--case", action="append", default=[], help="one of the ten, by name; may be given again")
    parser.add_argument("--seed", action="append", type=int, default=[], help="of the traffic; may be given again")
    parser.add_argument("--quick", action="store_true", help="the first seed only")
    parser.add_argument("--processes", type=int, default=2, help="months simulated side by side")
    parser.add_argument("--plot", action="store_true", help=f"draw {PLOT.relative_to(REPOSITORY)} of case day, seed 1")
    arguments = parser.parse_args()
    began = time.perf_counter()
    main(arguments.quick, arguments.case, arguments.seed or SEEDS, arguments.processes, arguments.plot)
    print(f"{time.perf_counter() - began:.0f} s")
