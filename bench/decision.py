"""Time of a routing decision, beside LiteLLM's rule-based router and the tokenizer library alone.

Everything is measured in turn, a new order on every prompt, in CPU time of its thread, so that a busy machine slows all
of it and what others run meanwhile is not counted; every prompt is seen once, by one column, so that nothing can
remember it. *Cold* is after other work that empties the caches, as a proxy's own does between two decisions; *warm* is
right after other prompts.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import litellm
import numpy as np
from litellm.proxy._types import UserAPIKeyAuth
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

from bench.machine import Stranger, heading, milliseconds
from bench.prompts import prompts
from bench.synthetic import write_bundle
from demo.deployments import deployment, router_settings
from litellm_erp.choice.prompt import from_messages, from_request
from litellm_erp.embedding.static import MODEL_DIR, VOCABULARY_FILE, StaticEmbedder
from litellm_erp.embedding.wordpiece import reference_tokenizer
from litellm_erp.goals import settings
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.tenant import Claim, Grant
from litellm_erp.proxy import ErpRouter
from litellm_erp.serving.group import Ask

WORDS = (20, 200, 2000)
POOLS = (5, 50, 500)
GROUP = "erp-auto"
# Rounds that are cold, or warm, before it is the other's turn; those at a block's begin are not counted.
BLOCK, SETTLE = 20, 5


@dataclass(frozen=True)
class Column:
    """What is timed: ``run``, on what ``prepare`` makes of a text beforehand."""

    prepare: Callable[[str], Any]
    run: Callable[[Any], Awaitable[object]]


def main(quick: bool = False) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), rounds=120 if quick else 400))


async def _measure(folder: Path, rounds: int) -> None:
    print(
        heading(
            "CPU time of a decision, ms: cold median (p99) / warm median",
            "tokenizer: the tokenizers library on the text that is embedded (cut to 4,096 bytes), nothing else.",
            "rule-based: LiteLLM's complexity_router.classify on the whole prompt.",
            "decision: prompt -> text -> embedding -> predictions -> ranking of the pool models.",
            "hook: async_filter_deployments: the decision, and reading metadata, copying deployments, metrics.",
            "cold: each after a pass that writes 48 MB and some Python of no concern to it; warm: one after another.",
            f"{rounds} rounds of the four in turn, cold and warm by blocks of {BLOCK}.",
            "Prompts are joined from real ones, all different, each seen once.",
        )
    )
    names = ("tokenizer", "rule-based", "decision", "hook")
    titles = "".join(f"{name:>24}" for name in names)
    print(f"words  models{titles}   rule-based/decision, cold")
    embedder, tokenizer = StaticEmbedder(), _tokenizer()
    routers = {pool: _router(pool) for pool in POOLS}
    rules = _rule_based(routers[POOLS[0]])
    plugins = {pool: _plugin(folder, router, embedder) for pool, router in routers.items()}
    for n_words in WORDS:
        for pool, plugin in plugins.items():
            offered = routers[pool].model_list
            columns = (tokenizer, rules, _decision(plugin, offered), _hook(plugin, offered))
            texts = prompts(n_words, 2 * rounds * len(columns), seed=pool)
            _print_row(n_words, pool, *await _interleaved(columns, texts))


Seconds = list[list[float]]


def _print_row(n_words: int, pool: int, cold: Seconds, warm: Seconds) -> None:
    cells = [
        f"{milliseconds(c):.3f} ({milliseconds(c, 99):.2f}) / {milliseconds(w):.3f}"
        for c, w in zip(cold, warm, strict=True)
    ]
    ratio = milliseconds(cold[1]) / milliseconds(cold[2])
    print(f"{n_words:5}  {pool:6}{''.join(f'{cell:>24}' for cell in cells)}   {ratio:25.1f}", flush=True)


async def _interleaved(columns: Sequence[Column], texts: list[str]) -> tuple[Seconds, Seconds]:
    """Seconds of each column, cold and warm."""
    cold: Seconds = [[] for _ in columns]
    warm: Seconds = [[] for _ in columns]
    rng, stranger, rest = np.random.default_rng(0), Stranger(), iter(texts)
    gc.collect()
    for i in range(len(texts) // len(columns)):
        is_cold, counts = i // BLOCK % 2 == 0, i % BLOCK >= SETTLE
        # Who runs after the regular expressions finds cold caches, so it must not always be the same.
        for k in rng.permutation(len(columns)):
            given = columns[k].prepare(next(rest))
            if is_cold:
                stranger.work()
            began = time.thread_time()
            await columns[k].run(given)
            if counts:
                (cold if is_cold else warm)[k].append(time.thread_time() - began)
    return cold, warm


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _tokenizer() -> Column:
    vocabulary = (MODEL_DIR / VOCABULARY_FILE).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    library = reference_tokenizer(vocabulary)

    async def run(text: str) -> object:
        return library.encode(text, add_special_tokens=False)

    return Column(lambda text: from_messages(_messages(text)).text, run)


def _rule_based(router: litellm.Router) -> Column:
    tiers = {"SIMPLE": "model-000", "MEDIUM": "model-001", "COMPLEX": "model-002", "REASONING": "model-003"}
    rules = ComplexityRouter("auto", router, {"tiers": tiers})

    async def run(text: str) -> object:
        return rules.classify(text)

    return Column(str, run)


def _router(pool: int) -> litellm.Router:
    models = [f"model-{m:03d}" for m in range(pool)]
    entries = [entry(name, 1 + m % 50) for m, name in enumerate(models)]
    return litellm.Router(model_list=entries, **router_settings({GROUP: models}))


def _plugin(folder: Path, router: litellm.Router, embedder: StaticEmbedder) -> ErpRouter:
    pool = len(router.model_list)
    bundle = write_bundle(folder / f"bundle-{pool}", pool, embedder=embedder)
    document = {"groups": {GROUP: {"bundle": str(bundle), "policy": {"lambda": 0.5}}}}
    return ErpRouter(settings.parse(document, folder / "erp_settings"), embedder=embedder, router=router)


def _decision(plugin: ErpRouter, deployments: list[Any]) -> Column:
    group = plugin.groups[GROUP]
    members = [plugin.members.member(deployment) for deployment in deployments]
    grant = Grant(Claim("group", Goal("lambda", 0.5)))
    ask = Ask()

    async def run(messages: Any) -> object:
        prompt = from_request(messages, {})
        return await group.decide(prompt, members, grant, ask)

    return Column(_messages, run)


def _hook(plugin: ErpRouter, deployments: list[Any]) -> Column:
    async def run(given: Any) -> object:
        offered, messages, request = given
        return await plugin.async_filter_deployments(GROUP, offered, messages, request)

    return Column(lambda text: (list(deployments), _messages(text), request_of()), run)


def request_of(team: str = "research") -> dict[str, Any]:
    """What LiteLLM's proxy passes for a chat request of a team's key."""
    metadata = {
        "user_api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "user_api_key_team_id": team,
        "user_api_key_team_alias": team,
        "user_api_key_team_metadata": {},
        "user_api_key_metadata": {},
        "user_api_key_auth": _KEY,
        "user_api_key_request_route": "/v1/chat/completions",
        "requester_metadata": {},
        "headers": {"host": "127.0.0.1:4000", "content-type": "application/json"},
        "model_group": GROUP,
    }
    return {"metadata": metadata, "max_tokens": 512, "litellm_call_id": "0b0c", "proxy_server_request": {}}


_KEY = UserAPIKeyAuth(api_key="sk-research", team_id="research", team_alias="research", models=[GROUP])


def entry(name: str, price: int) -> dict[str, Any]:
    """A deployment of the benchmark's router."""
    return deployment(name, name, f"http://127.0.0.1:9911/{name}/v1", (0.1 * price, 0.4 * price))


if __name__ == "__main__":
    main()
