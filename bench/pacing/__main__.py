"""Spend windows over a month of simulated traffic: the shipped book of budgets, with a clock of the simulation's own.

Beside it stand fixed λ, chosen in hindsight, under the same windows: exhausted ones are enforced alike. A figure of
100% is the best of those that overspend no window that can be kept by more than 2%; 0% is the cheapest model for
everything. A harder bound, which no controller that cannot see ahead reaches, is the best mixture of two λ *for every
window of its own*.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.machine import heading
from bench.pacing.month import DAYS
from bench.pacing.simulation import cases, load_world, row
from demo.proxy_process import REPOSITORY

SEEDS = (1, 2, 3)
PLOT = REPOSITORY / "docs" / "images" / "pacing.svg"


def main() -> None:
    """Print the table, and draw the plot of the first case and seed where asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.pacing", description=__doc__)
    parser.add_argument("--case", action="append", help="one of the ten, by name; may be given again")
    parser.add_argument("--seed", action="append", type=int, help="of the traffic; may be given again")
    parser.add_argument("--processes", type=int, default=2, help="months simulated side by side")
    parser.add_argument("--plot", action="store_true", help=f"draw {PLOT.relative_to(REPOSITORY)} of case day, seed 1")
    asked = parser.parse_args()
    began = time.perf_counter()
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
    print("case         seed  requests windows    used     over  > 2%  refused  hindsight   ideal   others", flush=True)
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(row, case, seed, world, frontier, PLOT if asked.plot and (name, seed) == ("day", 1) else None)
            for name, case in cases(frontier).items()
            if not asked.case or name in asked.case
            for seed in asked.seed or SEEDS
        ]
        for job in jobs:
            print(job.result(), flush=True)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
