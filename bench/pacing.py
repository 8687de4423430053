"""Spend windows over a month of simulated traffic: the shipped book of budgets, with a clock of the simulation's own.

Beside it stand fixed λ, chosen in hindsight, under the same windows: exhausted ones are enforced alike. A figure of
100% is the best of those that overspend no window by more than 2%; 0% is the cheapest model for everything. A harder
bound, which no controller that cannot see ahead reaches, is the best mixture of two λ *for every window of its own*.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.machine import heading
from bench.month import DAYS, START_S, Month, Traffic, World, build, month
from bench.pacing_plot import write_plot
from demo import prepare
from demo.proxy_process import REPOSITORY
from erp_trainer.store import open_run
from litellm_erp import bundle as bundles
from litellm_erp.budget import Frontier, Policy, Window
from litellm_erp.counters import Counters
from litellm_erp.spending import SpendBook
from litellm_erp.tenancy import Claim, Grant
from litellm_erp.terms import Terms
from litellm_erp.windows import span

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
    """What one way of routing made of a month.

    Attributes
    ----------
    reward : sum over requests; a refused one brings nothing
    spent_W : shape (W,), USD by window
    refused : how many requests
    lambda_R : shape (R,), λ of every request, infinite where the money was gone
    spent_R : shape (R,), spend of the window so far
    """

    reward: float
    spent_W: np.ndarray
    refused: int
    lambda_R: np.ndarray
    spent_R: np.ndarray

    def overspend(self, budget_usd: float) -> float:
        """Of the worst window, as a share of the budget."""
        return float(self.spent_W.max() / budget_usd - 1.0)


def main(quick: bool = False) -> None:
    """Print the table and draw the plot."""
    print(
        heading(
            f"Spend windows over {DAYS} simulated days, held-out prompts of llmrouter_example",
            "used: of all money that dearest routing could have spent; over: worst window; hindsight: share of the way",
            "from the cheapest model to the best fixed λ; ideal: to the best mixture of two λ for every window.",
            "Days have a cycle, weekends are quiet, bursts of five-fold traffic come; reward of a refused request: 0.",
        )
    )
    world, frontier = _world()
    print(f"{'case':41}seed  requests   used    over  refused  hindsight   ideal")
    for case in cases(frontier):
        for seed in SEEDS[:1] if quick else SEEDS:
            drawn = month(world, case.traffic, seed)
            paced = simulate(case, drawn, world, frontier)
            _print_row(case, seed, drawn, paced, world, frontier)
            if case.name == "day" and seed == SEEDS[0] and not quick:
                write_plot(PLOT, drawn, paced.lambda_R, paced.spent_R, case.budget_usd)


def cases(frontier: Frontier) -> list[Case]:
    """Budgets a weekday's traffic can spend, at the middle of the frontier, and a step of ten."""
    low, high = (float(frontier.cost_L[frontier.envelope[i]]) for i in (0, -1))
    middle, n = (low * high) ** 0.5, Traffic().per_day
    plain, step = Traffic(), Traffic(step_at=15.5)
    return [
        Case("day", plain, Window("day"), middle * n),
        Case("day, tight", plain, Window("day"), 1.6 * low * n),
        Case("day, reject", plain, Window("day", on_exhausted="reject"), middle * n),
        Case("day in Berlin", plain, Window("day", "Europe/Berlin"), middle * n),
        Case("day, dear models +50% for ten days", Traffic(prices=True), Window("day"), middle * n),
        Case("hour", plain, Window("hour"), middle * n / 24),
        Case("week", plain, Window("week"), 5.6 * middle * n),
        Case("month", plain, Window("month"), 24 * middle * n),
        Case("day, ten-fold from noon of day 16, reject", step, Window("day", on_exhausted="reject"), middle * n),
        Case("day, ten-fold, a budget that suffices", step, Window("day"), 16 * low * n),
    ]


def simulate(case: Case, drawn: Month, world: World, frontier: Frontier) -> Run:
    """Route a month with the shipped controller."""
    now = [START_S]
    book = SpendBook(Counters("one"), clock=lambda: now[0])
    claim = Claim("team:a", Policy("budget_usd", case.budget_usd, case.window))
    grant, rng = Grant(claim), np.random.default_rng(0)
    under_way: list[tuple[float, int, object, float]] = []
    draws, delays = rng.random(len(drawn.at_R)), rng.uniform(*ANSWER_S, len(drawn.at_R))

    def route(r: int) -> tuple[float, bool]:
        now[0] = float(drawn.at_R[r])
        while under_way and under_way[0][0] <= now[0]:
            _, _, ticket, usd = heapq.heappop(under_way)
            book.settle(ticket, usd)  # type: ignore[arg-type]
        gone = book.exhausted(GROUP, claim)
        mixture = book.mixture(GROUP, claim, frontier)
        lambda_ = np.inf if gone == "cheapest" or mixture is None else mixture.at(draws[r])
        if gone == "reject":
            book.arrived(GROUP, grant.claims)
            return lambda_, False
        p, m = drawn.prompt_R[r], _chosen(world, drawn.prompt_R[r], lambda_)
        ticket = book.reserve(GROUP, grant, Terms(lambda_, claim, exhausted=gone), float(world.expected_PM[p, m]), None)
        heapq.heappush(under_way, (now[0] + delays[r], r, ticket, float(world.cost_PM[p, m] * drawn.factor_RM[r, m])))
        return lambda_, True

    return _account(case, drawn, world, route)


def fixed(case: Case, drawn: Month, world: World, lambda_: float) -> Run:
    """Route a month at one λ; a window that is spent is enforced as the case says."""
    state = {"window": -1.0, "spent": 0.0}

    def route(r: int) -> tuple[float, bool]:
        begins = span(case.window.per, case.window.timezone, float(drawn.at_R[r])).start_s
        if begins != state["window"]:
            state.update(window=begins, spent=0.0)
        gone = state["spent"] >= case.budget_usd
        if gone and case.window.on_exhausted == "reject":
            return lambda_, False
        used = np.inf if gone else lambda_
        p, m = drawn.prompt_R[r], _chosen(world, drawn.prompt_R[r], used)
        state["spent"] += float(world.cost_PM[p, m] * drawn.factor_RM[r, m])
        return used, True

    return _account(case, drawn, world, route)


def _chosen(world: World, prompt: int, lambda_: float) -> int:
    return int(world.cheapest_P[prompt] if np.isinf(lambda_) else world.choice[lambda_][prompt])


def _account(case: Case, drawn: Month, world: World, route: Callable[[int], tuple[float, bool]]) -> Run:
    """Run through a month and add up what it brought."""
    count = len(drawn.at_R)
    lambda_R, spent_R, cost_R = np.empty(count), np.empty(count), np.zeros(count)
    reward, refused, window_R = 0.0, 0, _windows(case, drawn)
    spent_W = np.zeros(window_R[-1] + 1)
    for r in range(count):
        lambda_R[r], served = route(r)
        if served:
            p, m = drawn.prompt_R[r], _chosen(world, drawn.prompt_R[r], lambda_R[r])
            reward += float(world.reward_PM[p, m])
            cost_R[r] = world.cost_PM[p, m] * drawn.factor_RM[r, m]
        refused += not served
        spent_W[window_R[r]] += cost_R[r]
        spent_R[r] = spent_W[window_R[r]]
    return Run(reward, spent_W, refused, lambda_R, spent_R)


def _windows(case: Case, drawn: Month) -> np.ndarray:
    """Shape (R,), int: which window a request falls into."""
    starts = [span(case.window.per, case.window.timezone, float(at)).start_s for at in drawn.at_R]
    return np.unique(np.array(starts), return_inverse=True)[1]


def _print_row(case: Case, seed: int, drawn: Month, paced: Run, world: World, frontier: Frontier) -> None:
    lambdas = [float(frontier.lambda_L[i]) for i in frontier.envelope]
    others = [fixed(case, drawn, world, x) for x in (np.inf, *lambdas)]
    allowed = [run for run in others if run.overspend(case.budget_usd) <= 0.02] or others[:1]
    low, best = others[0].reward, max(run.reward for run in allowed)
    could = np.minimum(_dearest(case, drawn, world, lambdas), case.budget_usd)
    ideal = low + _ideal_gain(case, drawn, world, lambdas)
    print(
        f"{case.name:41}{seed:4}{len(drawn.at_R):10}{paced.spent_W.sum() / could.sum():7.1%}"
        f"{paced.overspend(case.budget_usd):8.2%}{paced.refused:9}{_share(paced.reward, low, best):11.1%}"
        f"{_share(paced.reward, low, ideal):8.1%}",
        flush=True,
    )


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else float("nan")


def _dearest(case: Case, drawn: Month, world: World, lambdas: list[float]) -> np.ndarray:
    """Shape (W,): what each window would have spent without any budget, at the frontier's dear end."""
    m_R = world.choice[lambdas[-1]][drawn.prompt_R]
    cost_R = world.cost_PM[drawn.prompt_R, m_R] * drawn.factor_RM[np.arange(len(m_R)), m_R]
    return np.bincount(_windows(case, drawn), cost_R)


def _ideal_gain(case: Case, drawn: Month, world: World, lambdas: list[float]) -> float:
    """What the best mixture of two λ for every window would gain on the cheapest model, in hindsight."""
    window_R, rows = _windows(case, drawn), np.arange(len(drawn.at_R))
    options = [world.cheapest_P[drawn.prompt_R], *(world.choice[x][drawn.prompt_R] for x in lambdas)]
    reward = np.stack([np.bincount(window_R, world.reward_PM[drawn.prompt_R, m]) for m in options])
    cost = np.stack(
        [np.bincount(window_R, world.cost_PM[drawn.prompt_R, m] * drawn.factor_RM[rows, m]) for m in options]
    )
    gained = 0.0
    for w in range(reward.shape[1]):
        gained += _best_mixture(cost[:, w], reward[:, w], case.budget_usd) - reward[0, w]
    return gained


def _best_mixture(cost: np.ndarray, reward: np.ndarray, budget: float) -> float:
    """Highest mean of one or two points whose cost fits; the cheapest point's share of the money where none does."""
    if cost.min() > budget:
        return float(reward[np.argmin(cost)])
    best = float(reward[cost <= budget].max())
    for i in np.flatnonzero(cost <= budget):
        for j in np.flatnonzero(cost > budget):
            share = (budget - cost[i]) / (cost[j] - cost[i])
            best = max(best, float(reward[i] + share * (reward[j] - reward[i])))
    return best


def _world() -> tuple[World, Frontier]:
    with tempfile.TemporaryDirectory() as folder:
        run, path = Path(folder) / "run", Path(folder) / "bundle"
        source, prices = prepare.EXAMPLE / "outcomes.parquet", prepare.EXAMPLE / "prices.yaml"
        prepare.erp_train("import", source, "--wide", "--prices", prices, "--out", run)
        prepare.erp_train("fit", run, "--out", path)
        bundle = bundles.load(path)
        data = prepare.held_out(open_run(run), None)
    frontier = bundle.frontier
    return build(bundle, data, [float(frontier.lambda_L[i]) for i in frontier.envelope]), frontier


if __name__ == "__main__":
    main()
