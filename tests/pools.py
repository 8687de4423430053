"""Fitted bundles and routing groups for the tests of the proxy.

LiteLLM lets a model name belong to one routing group only, so a further group over the same pool gets deployments of
its own, called ``<group>.<model>``, which name their pool model in ``model_info.erp_model``.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from demo.proxy_process import ProxyProcess, StubProcess
from erp_trainer.cli import cli
from tests.harness import GROUP, MODELS, PRICES, Answer, Json, ask, deployment
from tests.planted import BEST, planted_rows, prompt_of, write_outcomes

KINDS = tuple(BEST)
RIVALS = ("zooter", "benchmark", "pairwise")
# So high that only cost counts.
CHEAPEST = 100.0


def fit_bundle(folder: Path, *, embedder: str = "static", **planted: Any) -> Path:
    """Write planted outcomes, import and fit them with the command line, and return the bundle.

    Parameters
    ----------
    planted : passed to :func:`tests.planted.planted_rows`
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = write_outcomes(folder / "outcomes.jsonl", planted_rows(**planted))
    prices = folder / "prices.yaml"
    stated = {m: {"input_usd_per_mtok": PRICES[m][0], "output_usd_per_mtok": PRICES[m][1]} for m in MODELS}
    prices.write_text(yaml.safe_dump(stated), encoding="utf-8")
    _erp_train("import", outcomes, "--out", folder / "run", "--prices", prices)
    _erp_train("fit", folder / "run", "--out", folder / "bundle", "--embedder", embedder)
    return folder / "bundle"


def fit_rivals(run: Path, folder: Path) -> dict[str, Path]:
    """Fit a bundle of every other policy on a run, and return them by policy."""
    bundles = {policy: folder / policy for policy in RIVALS}
    for policy, bundle in bundles.items():
        _erp_train("fit", run, "--out", bundle, "--policy", policy)
    return bundles


def group_settings(bundle: Path, *, lambda_: float = 0.0, **others: Any) -> Json:
    """One group of ``erp_settings``."""
    return {"bundle": str(bundle), "policy": {"lambda": lambda_}} | others


def erp_settings(bundle: Path, groups: Mapping[str, Json] | None = None, **own: Any) -> Json:
    """``erp_settings`` with ``erp-auto`` and further groups; bundle folders are looked at five times a second."""
    return {"reload_s": 0.2, "groups": {GROUP: group_settings(bundle, **own)} | dict(groups or {})}


def add_group(
    config: Json,
    stub: StubProcess,
    name: str,
    members: Sequence[str] | Mapping[str, Sequence[str]] = MODELS,
    *,
    infos: Mapping[str, Json] | None = None,
    params: Json | None = None,
    strategy: str = "simple-shuffle",
) -> None:
    """Add a routing group to a config, with deployments of its own.

    Parameters
    ----------
    members : pool models; or a map from each to the stub models that serve as its replicas
    infos : laid over the ``model_info`` of a member's deployments
    params : laid over the ``litellm_params`` of all
    """
    replicas = members if isinstance(members, Mapping) else {model: [model] for model in members}
    for model, upstreams in replicas.items():
        for number, upstream in enumerate(upstreams):
            entry = deployment(stub, upstream, **(params or {}))
            entry["model_name"] = f"{name}.{model}"
            entry["model_info"] = {"id": f"dep-{name}.{model}-{number}", "erp_model": model} | (infos or {}).get(
                model, {}
            )
            config["model_list"].append(entry)
    config["router_settings"]["routing_groups"].append(
        {"group_name": name, "models": [f"{name}.{model}" for model in replicas], "routing_strategy": strategy}
    )


def prompts(count: int, first: int = 0) -> list[tuple[str, str]]:
    """(best model, prompt), the kinds in turn; other ``first``, other prompts."""
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    return [(BEST[kind], prompt_of(kind, first + i)) for i, kind in enumerate(kinds)]


def ask_all(proxy: ProxyProcess, requests: Iterable[Mapping[str, Any]], *, at_once: int = 6) -> list[Answer]:
    """Send requests, some at a time, and return the answers in the order of the requests.

    Parameters
    ----------
    requests : keyword arguments of :func:`tests.harness.ask`
    """
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(lambda request: ask(proxy, **request), requests))


def failures(answers: Iterable[Answer]) -> list[str]:
    """What went wrong with those that did not get an answer from a model."""
    return [f"{a.status} {a.text[:300]}" for a in answers if a.status != 200 or a.model is None]


def wait_until(condition: Callable[[], bool], deadline_s: float = 120.0) -> None:
    """Ask ten times a second until it is so; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not so after {deadline_s:g} s"
        time.sleep(0.1)


def _erp_train(*arguments: object) -> None:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exit_code != 0:
        raise RuntimeError(f"erp-train {arguments[0]} failed: {result.output}") from result.exception
