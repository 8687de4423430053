"""``python -m bench.shadow``: recorded outcomes through a real proxy in ``mode: shadow``, and what its log then proves.

Stub upstreams answer held-out prompts of the example data, and whoever was served says what the answer was worth, as it
is on record. What `erp-train report --log` then says that routing would have earned and saved is put beside what
`erp-train evaluate` says of the same prompts. The same requests go through the same proxy without the plugin, one by
one, with LiteLLM's dice seeded by request: what both send upstream must be the same to the byte.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bench.machine import heading
from demo.deployments import TEAM_KEYS, deployment, router_settings
from demo.prepare import EXAMPLE, erp_train
from demo.proxy_process import ProxyProcess, StubProcess, interrupt_on_sigterm
from litellm_erp.errors import ServingError

GROUP, TEAM = "erp-auto", "research"
_OTHERS = ("prompt_id", "split", "category", "prompt")
# One after the other: a seed holds for the next pick of a process.
_SEEDING = "tests.seeded_picks.seeding"
# A key may send 600 feedbacks at once.
_PER_KEY = 500


@dataclass(frozen=True)
class World:
    """Held-out prompts with what every model earned on them, the bundle that was fitted on others, and its evaluation.

    Attributes
    ----------
    rewards_PM : on record, columns as ``models``
    evaluated : what ``erp-train evaluate --json`` says of these prompts
    seed : of LiteLLM's dice at the first request; the next have the next
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    rewards_PM: np.ndarray
    bundle: Path
    evaluated: Mapping[str, Any]
    lambda_: float
    seed: int = 0


@dataclass(frozen=True)
class Passed:
    """What one proxy did with the prompts, one by one.

    Attributes
    ----------
    deployments : that LiteLLM says have served
    upstream : the stub's records, but for what counts or times them
    answers : status, text, model and usage of each
    """

    deployments: tuple[str, ...]
    upstream: tuple[Mapping[str, Any], ...]
    answers: tuple[Any, ...]

    def first(self, n: int) -> Passed:
        """Of the first requests."""
        return Passed(self.deployments[:n], self.upstream[:n], self.answers[:n])


def world(folder: Path, n_test: int, n_train: int, models: Sequence[str] = (), lambda_: float = 0.25) -> World:
    """Import, fit and evaluate a part of the example data.

    Parameters
    ----------
    models : some of the pool; none for all
    """
    table = pq.read_table(EXAMPLE / "outcomes.parquet")
    texts = table["prompt"].to_pylist()
    first = np.array(sorted({text: p for p, text in enumerate(texts)}.values()))
    order = np.random.default_rng(0).permutation(first)[: n_test + n_train]
    table = table.take(pa.array(order)).set_column(
        table.schema.get_field_index("split"), "split", pa.array(["test"] * n_test + ["train"] * (len(order) - n_test))
    )
    if models:
        table = table.select([*_OTHERS, *models])
    source, run, bundle = folder / "outcomes.parquet", folder / "run", folder / "bundle"
    pq.write_table(table, source)
    prices = yaml.safe_load((EXAMPLE / "prices.yaml").read_text(encoding="utf-8"))
    names = tuple(name for name in table.schema.names if name not in _OTHERS)
    (folder / "prices.yaml").write_text(yaml.safe_dump({name: prices[name] for name in names}), encoding="utf-8")
    erp_train("import", source, "--wide", "--prices", folder / "prices.yaml", "--out", run)
    erp_train("fit", run, "--out", bundle)
    evaluated = erp_train("evaluate", run, "--bundle", bundle, "--lambda", lambda_, "--no-rivals")
    held_out = table.slice(0, n_test)
    rewards_PM = np.column_stack([held_out[name].to_numpy() for name in names])
    return World(names, tuple(held_out["prompt"].to_pylist()), rewards_PM, bundle, evaluated, lambda_)


def config(found: World, stub: StubProcess, folder: Path, *, plugin: bool) -> Path:
    """A proxy's config.yaml; with and without the plugin it is else the same."""
    prices = yaml.safe_load((folder / "prices.yaml").read_text(encoding="utf-8"))
    document: dict[str, Any] = {
        "model_list": [
            deployment(
                name,
                name,
                stub.api_base(name),
                (prices[name]["input_usd_per_mtok"], prices[name]["output_usd_per_mtok"]),
                allowed_openai_params=["user"],
            )
            for name in found.models
        ],
        "general_settings": TEAM_KEYS,
        "litellm_settings": {"callbacks": [*(["litellm_erp.proxy.erp_router"] if plugin else []), _SEEDING]},
        "router_settings": router_settings({GROUP: found.models}),
    }
    if plugin:
        group = {"bundle": str(found.bundle), "policy": {"lambda": found.lambda_}, "mode": "shadow"}
        document["erp_settings"] = {"groups": {GROUP: group}, "decision_log": {"path": str(folder / "log")}}
    path = folder / f"{'shadow' if plugin else 'plain'}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def send(found: World, proxy: ProxyProcess, stub: StubProcess, n: int) -> Passed:
    """The first ``n`` prompts, one after the other."""
    stub.reset()
    deployments, answers = [], []
    with _client(proxy) as client:
        for p, prompt in enumerate(found.prompts[:n]):
            body = {"model": GROUP, "user": f"seed-{found.seed + p}", "messages": [{"role": "user", "content": prompt}]}
            answer = client.post(
                "/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer sk-{TEAM}", "x-litellm-call-id": f"p{p}"},
            )
            deployments.append(answer.headers.get("x-litellm-model-id", ""))
            said = answer.json()
            # Ids and times are of the one answer.
            answers.append((answer.status_code, {k: v for k, v in said.items() if k not in ("id", "created")}))
    upstream = tuple({k: v for k, v in record.items() if k not in ("n", "id")} for record in stub.requests())
    return Passed(tuple(deployments), upstream, tuple(answers))


def feed(found: World, proxy: ProxyProcess, deployments: Sequence[str]) -> None:
    """Say of every answer what it was worth, as it is on record.

    Raises
    ------
    ServingError : one was not taken
    """
    place = {f"dep-{name}": m for m, name in enumerate(found.models)}
    with _client(proxy) as client:

        def say(p: int) -> int:
            reward = float(found.rewards_PM[p, place[deployments[p]]])
            key = f"sk-{TEAM}-{p // _PER_KEY}"
            body = {"request_id": f"p{p}", "reward": reward}
            return client.post("/erp/feedback", json=body, headers={"Authorization": f"Bearer {key}"}).status_code

        with ThreadPoolExecutor(4) as threads:
            statuses = list(threads.map(say, range(len(deployments))))
    if set(statuses) != {200}:
        raise ServingError(f"feedback was answered {sorted(set(statuses))}; expected 200")


def run(found: World, folder: Path, n_plain: int) -> tuple[Passed, Passed, dict[str, Any]]:
    """What went through with the plugin, of the first few what went through without, and the report of the log."""
    names = [TEAM, *(f"{TEAM}-{i}" for i in range(1 + len(found.prompts) // _PER_KEY))]
    keys = folder / "keys.json"
    keys.write_text(json.dumps({f"sk-{name}": {"team_id": TEAM} for name in names}), encoding="utf-8")
    env = {"ERP_DEMO_KEYS": str(keys)}
    passed = []
    with StubProcess(found.models, log_path=folder / "stub.log") as stub:
        for plugin, n in ((True, len(found.prompts)), (False, n_plain)):
            path = config(found, stub, folder, plugin=plugin)
            with ProxyProcess(path, env=env, log_path=folder / f"{path.stem}.log") as proxy:
                passed.append(send(found, proxy, stub, n))
                if plugin:
                    feed(found, proxy, passed[0].deployments)
    return passed[0].first(n_plain), passed[1], erp_train("report", "--log", folder / "log")


def compared(found: World, report: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, ...] | None]]:
    """Reward of routing, and its saving against all models in turn, which is what was served: mean, low and high.

    Each as the evaluation says and as the report does; None where the report refuses.
    """
    policies = found.evaluated["policies"]
    routed = next(p for p in policies.values() if p["kind"] == "bundle" and p["lambda"] == found.lambda_)
    singles = {next(iter(p["share"])): p["cost_usd"] for p in policies.values() if p["kind"] == "single"}
    served = float(np.mean([singles[name] for name in found.models]))
    [mine] = [each for each in report["targets"] if each["key"] == "routed"]
    return {
        "reward": {
            "evaluated": (routed["reward"], *routed["reward_ci"]),
            "predicted": _ends(mine["predicted"]),
            "measured": _ends(mine["measured"].get("dr")),
        },
        "saving": {
            "evaluated": tuple(1 - cost / served for cost in (routed["cost_usd"], *reversed(routed["cost_ci"]))),
            "reported": _ends(mine["saved"]),
        },
    }


def _ends(interval: Mapping[str, float] | None) -> tuple[float, ...] | None:
    return None if interval is None else (interval["mean"], interval["low"], interval["high"])


def _client(proxy: ProxyProcess) -> httpx.Client:
    return httpx.Client(base_url=proxy.base_url, trust_env=False, timeout=60.0)


def main() -> int:
    """Print the comparison; 1 where something was served differently."""
    parser = argparse.ArgumentParser(prog="python -m bench.shadow", description=__doc__)
    parser.add_argument("--prompts", type=int, default=3000, help="held-out prompts to send (3000)")
    parser.add_argument("--train", type=int, default=3000, help="prompts to fit on (3000)")
    parser.add_argument("--seed", type=int, default=0, help="of LiteLLM's dice at the first request (0)")
    parser.add_argument("--lambda", dest="lambda_", type=float, default=0.25)
    asked = parser.parse_args()
    interrupt_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        found = replace(world(Path(folder), asked.prompts, asked.train, lambda_=asked.lambda_), seed=asked.seed)
        shadow, plain, report = run(found, Path(folder), asked.prompts)
    print(heading(f"shadow: {len(found.prompts):,} prompts, {len(found.models)} models, λ = {found.lambda_:g}"))
    different = sum(a != b for a, b in zip(shadow.upstream, plain.upstream, strict=True))
    strayed = sum(a != b for a, b in zip(shadow.deployments, plain.deployments, strict=True))
    answers = sum(a != b for a, b in zip(shadow.answers, plain.answers, strict=True))
    print(
        f"with the plugin and without: {different} requests upstream differ, {strayed} deployments, {answers} answers; "
        f"feedback joined: {report['counts']['feedback_joined']:,}\n"
    )
    print("| | says | mean | 95% |\n|---|---|---|---|")
    for what, figures in compared(found, report).items():
        for who, figure in figures.items():
            said = (
                ("refused", "")
                if figure is None
                else (f"{figure[0]:.4f}", " to ".join(map("{:.4f}".format, figure[1:])))
            )
            print(f"| {what} | {who} | {said[0]} | {said[1]} |")
    print(f"\n{report['verdict']['headline']}. {report['verdict']['text']}")
    return int(bool(different or strayed or answers))


if __name__ == "__main__":
    sys.exit(main())
