"""Three proxies, of which one has the plugin, and a stub upstream behind each."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from bench.differential.requests import KEYS
from bench.differential.routes import ALIAS, DOOMED, GROUP, MODELS, TAGGED
from bench.synthetic import write_bundle
from demo.deployments import TEAM_KEYS, deployment, router_settings
from demo.proxy_process import ProxyProcess, StubProcess

PLUGIN, BARE, SECOND = "plugin", "bare", "second bare"
_NOWHERE = "http://127.0.0.1:9"


def config(stub: StubProcess) -> dict[str, Any]:
    """The proxies' config, the plugin aside: two groups, one with tags; an alias; a model that falls back."""
    windows = dict(zip(MODELS, (2_000, 60_000, 1_000_000), strict=True))

    def entry(name: str, model: str, api_base: str = "", **params: Any) -> dict[str, Any]:
        info = {"max_input_tokens": windows[model], "mode": "chat", "erp_model": model}
        return deployment(name, model, api_base or stub.api_base(model), info=info, **params)

    where = (("eu", ["a"]), ("us", ["b"]), ("eu", ["a", "b"]))
    places = {model: {"region_name": region, "tags": tags} for model, (region, tags) in zip(MODELS, where, strict=True)}
    tagged = {f"{TAGGED}.{model}": model for model in MODELS}
    return {
        "model_list": [
            *(entry(model, model) for model in MODELS),
            *(entry(name, model, **places[model]) for name, model in tagged.items()),
            entry(DOOMED, MODELS[0], api_base=f"{_NOWHERE}/v1", max_retries=0),
        ],
        "general_settings": TEAM_KEYS | {"custom_auth_run_common_checks": True},
        "litellm_settings": {
            "enable_post_custom_auth_checks": True,
            # More of the odd fields get past LiteLLM.
            "drop_params": True,
            "cache": True,
            "cache_params": {"type": "local", "mode": "default_off"},
        },
        "router_settings": router_settings(
            {GROUP: MODELS, TAGGED: tagged},
            model_group_alias={ALIAS: GROUP},
            fallbacks=[{DOOMED: [GROUP]}],
            enable_pre_call_checks=True,
            enable_tag_filtering=True,
            optional_pre_call_checks=["responses_api_deployment_check", "encrypted_content_affinity"],
            num_retries=1,
            # What failed for one request must not decide what the next may use.
            disable_cooldowns=True,
            timeout=20,
        ),
    }


def erp_settings(bundle: Path) -> dict[str, Any]:
    """Goals of three teams; the fourth has an allow list."""
    teams = {"cheap": {"lambda": 100.0}, "budget": {"budget_usd": 1e6, "per": "month"}}
    group = {"bundle": str(bundle), "policy": {"lambda": 0.1}, "allow_override": [0, 10], "teams": teams}
    return {"groups": {GROUP: group, TAGGED: group}}


def start(folder: Path, stack: ExitStack) -> list[tuple[str, ProxyProcess, StubProcess]]:
    """Start all of it: three upstreams, three proxies."""
    bundle = write_bundle(folder / "bundle", len(MODELS))
    keys = folder / "keys.json"
    keys.write_text(json.dumps(KEYS), encoding="utf-8")
    names = (PLUGIN, BARE, SECOND)
    stubs = [stack.enter_context(StubProcess(MODELS)) for _ in names]

    def make(name: str, stub: StubProcess) -> ProxyProcess:
        content = config(stub)
        if name == PLUGIN:
            content["litellm_settings"]["callbacks"] = ["litellm_erp.proxy.erp_router"]
            content["erp_settings"] = erp_settings(bundle)
        path = folder / f"{name.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        # Whatever would go anywhere else goes to a port where nobody listens.
        out = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NOWHERE)
        # Before Python 3.12 a collection in the wrong place ends a process (python/cpython#148891).
        rare = {} if sys.version_info >= (3, 12) else {"PYTHON_GC_THRESHOLD": "1000000,50,50"}
        env = (
            {"ERP_DEMO_KEYS": str(keys), "OPENAI_BASE_URL": f"{_NOWHERE}/v1", "AIOHTTP_TRUST_ENV": "True"} | rare | out
        )
        return ProxyProcess(path, env=env, log_path=path.with_suffix(".log"))

    proxies = [make(name, stub) for name, stub in zip(names, stubs, strict=True)]
    with ThreadPoolExecutor(len(proxies)) as threads:
        list(threads.map(stack.enter_context, proxies))
    return list(zip(names, proxies, stubs, strict=True))
