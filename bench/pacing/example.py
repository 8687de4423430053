"""IO. llmrouter_example fitted, and a real proxy that serves it to teams over the stub: what the parts here share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from demo import prepare
from demo.prepare import EXAMPLE, PROXY_CONFIG, HeldOut
from demo.proxy_process import ProxyProcess, StubProcess
from erp_trainer.outcomes.run import open_run

GROUP = "erp-auto"


def fit(folder: Path, outcomes: Path = EXAMPLE / "outcomes.parquet") -> tuple[Path, HeldOut]:
    """Fit a bundle on the train split; its folder, and the held-out prompts."""
    run, path = folder / "run", folder / "bundle"
    prepare.erp_train("import", outcomes, "--wide", "--prices", EXAMPLE / "prices.yaml", "--out", run)
    prepare.erp_train("fit", run, "--out", path)
    return path, prepare.held_out(open_run(run), None)


def serve(
    stack: ExitStack,
    bundle: Path,
    data: HeldOut,
    teams: Mapping[str, Mapping[str, Any]],
    *,
    proxies: int = 1,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    **settings: Any,
) -> tuple[StubProcess, list[ProxyProcess]]:
    """Start a stub that reports the recorded tokens, and proxies; the key of a team is ``sk-<team>``.

    Parameters
    ----------
    stack : ends them; the bundle's folder takes their files
    teams : goals by name
    env : of the proxies, beside what they need
    settings : further keys of ``erp_settings``
    """
    folder, models = bundle.parent, data.outcomes.models
    group = {"bundle": str(bundle.resolve()), "policy": {"lambda": 0.0}, "teams": dict(teams)}
    document = {"erp_settings": {"groups": {GROUP: group}} | settings}
    (folder / "erp.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (folder / "keys.json").write_text(json.dumps({f"sk-{team}": {} for team in teams}), encoding="utf-8")
    prepare.write_tokens(data, folder / "tokens.jsonl")
    stub = stack.enter_context(StubProcess(models, recorded=folder / "tokens.jsonl"))
    env = prepare.stub_environment(models, stub.base_url) | dict(env or {})
    env |= {"ERP_SETTINGS": str(folder / "erp.yaml"), "ERP_DEMO_KEYS": str(folder / "keys.json")}
    started = [
        ProxyProcess(PROXY_CONFIG, env=env, num_workers=workers, log_path=folder / f"proxy-{number}.log")
        for number in range(proxies)
    ]
    return stub, [stack.enter_context(proxy) for proxy in started]
