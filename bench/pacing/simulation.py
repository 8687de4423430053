"""A month of traffic through the shipped book of budgets, on a clock of the simulation's own; and what came of it."""

from __future__ import annotations

import heapq
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.pacing.example import GROUP, fit
from bench.pacing.hindsight import ALLOWED, Hindsight
from bench.pacing.month import START_S, Month, Traffic, World, build, month
from bench.pacing.plot import write_plot
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.budgets.holds import Ticket
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.bundle.load import load_bundle
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant

ANSWER_S = (1.0, 20.0)


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


def load_world() -> tuple[World, Frontier]:
    """Fit a bundle on the train split of llmrouter_example and let it choose on the held-out prompts."""
    with tempfile.TemporaryDirectory() as folder:
        path, data = fit(Path(folder))
        bundle = load_bundle(path)
    frontier = bundle.frontier
    return build(bundle, data, frontier.lambda_L[frontier.envelope].tolist(), data.input_tokens_P), frontier
