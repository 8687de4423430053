"""What a budget in money adds to a request: by itself, and as the difference between two teams of one hook.

By itself: is the money gone, which λ, hold back what the request will cost; and once it is answered, count that. The
book has four weeks of traffic behind it. A controller that steps at every request is what a quiet proxy has, where
requests are more than half a second apart; on a busy one nearly all of them come between two steps.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import litellm
import numpy as np

from bench import decision
from bench.machine import heading, milliseconds
from bench.prompts import prompts
from bench.synthetic import write_bundle
from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.bundle.load import load_bundle
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.goals import settings
from litellm_erp.goals.goal import Goal, Window
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant
from litellm_erp.proxy import ErpRouter

POOL, WORDS = 5, 20
LIMIT_MS, WARM_UP = 0.1, 20
BUDGET = {"budget_usd": 50.0, "per": "day"}
# A Monday at noon, UTC.
NOW_S = 1_780_315_200.0


def main(quick: bool = False) -> None:
    """Print the table."""
    rounds = 300 if quick else 2000
    print(
        heading(
            "Time that a budget adds to a request, ms: median (p99)",
            f"limit: a median of {LIMIT_MS}; {rounds} requests each, {POOL} models, prompts of {WORDS} words.",
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write_bundle(Path(folder) / "bundle", POOL)
        for name, apart_s in (("controller steps at every request", 0.6), ("between two steps", 1e-4)):
            before, after = _by_itself(path, rounds, apart_s)
            print(f"{name:36} before it is routed {_cell(before)}, once it is answered {_cell(after)}", flush=True)
        without, with_budget = asyncio.run(_hooks(path, rounds))
        added = np.array(with_budget) - np.array(without)
        print(
            f"{'the whole hook, by turns':36} λ {_cell(without)}, budget {_cell(with_budget)}; "
            f"medians differ by {milliseconds(with_budget) - milliseconds(without):.3f}, "
            f"pairs by {milliseconds(added.tolist()):.3f}"
        )


def _cell(seconds: Sequence[float]) -> str:
    return f"{milliseconds(seconds):.3f} ({milliseconds(seconds, 99):.3f})"


def _by_itself(path: Path, rounds: int, apart_s: float) -> tuple[list[float], list[float]]:
    """Seconds before routing, and after the answer, of requests that come ``apart_s`` after each other."""
    now = NOW_S
    book, frontier = SpendBook(Counters("one"), clock=lambda: now), load_bundle(path).frontier
    claim = Claim("team:a", Goal("budget_usd", 50.0, Window("day")))
    grant = Grant(claim)
    for hour in range(28 * 24, 0, -1):
        now = NOW_S - hour * 3600.0
        for _ in range(20):
            book.arrived("g", grant.claims)
    now = NOW_S
    before, after = [], []
    for _ in range(rounds):
        now += apart_s
        began = time.perf_counter()
        account = book.tick("g", claim, frontier)
        gone, mixture = account.exhausted(), account.mixture
        ticket = book.reserve(
            "g", grant, RequestLambda(mixture.low if mixture else 0.0, claim, exhausted=gone), 1e-4, None
        )
        before.append(time.perf_counter() - began)
        began = time.perf_counter()
        book.settle(ticket, 1.1e-4)
        after.append(time.perf_counter() - began)
    return before, after


async def _hooks(path: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the hook for a team with a λ and for one with a budget."""
    models = [f"model-{m:03d}" for m in range(POOL)]
    group = {"group_name": decision.GROUP, "models": models, "routing_strategy": "simple-shuffle"}
    router = litellm.Router(
        model_list=[decision.entry(name, 1 + m) for m, name in enumerate(models)], routing_groups=[group]
    )
    teams = {"plain": {"lambda": 0.5}, "paced": BUDGET}
    document = {"groups": {decision.GROUP: {"bundle": str(path), "policy": {"lambda": 0.5}, "teams": teams}}}
    embedder = StaticEmbedder()
    plugin = ErpRouter(settings.parse(document, path.parent / "erp_settings"), embedder=embedder, router=router)
    texts, rng = prompts(WORDS, 2 * (rounds + WARM_UP), seed=1), np.random.default_rng(0)
    seconds: dict[str, list[float]] = {team: [] for team in teams}
    gc.collect()
    for i in range(rounds + WARM_UP):
        for j, team in enumerate(rng.permutation(list(teams)).tolist()):
            request, messages = decision.request_of(team), [{"role": "user", "content": texts[2 * i + j]}]
            offered = list(router.model_list)
            began = time.perf_counter()
            await plugin.async_filter_deployments(decision.GROUP, offered, messages, request)
            if i >= WARM_UP:
                seconds[team].append(time.perf_counter() - began)
    return seconds["plain"], seconds["paced"]


if __name__ == "__main__":
    main()
