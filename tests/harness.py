"""What tests of the proxy share: configs, keys, requests on every route, and what the client got back.

The pool is three stub models in the routing group ``erp-auto``. Deployments of a model are called
``dep-<model>``, or ``dep-<model>-<i>`` where there are replicas.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from demo.proxy_process import ProxyProcess, StubProcess

Json = dict[str, Any]

GROUP = "erp-auto"
MODELS = ("small", "mid", "big")
SPARE = "spare"
ERP_CALLBACK = "litellm_erp.proxy.erp_router"
# USD per million tokens, input and output.
PRICES = {"small": (0.1, 0.4), "mid": (0.5, 2.0), "big": (2.5, 10.0), SPARE: (0.1, 0.4)}

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "google": "/v1beta/models/{model}:generateContent",
    "google-stream": "/v1beta/models/{model}:streamGenerateContent",
}
# On these a failing first choice can be retried; LiteLLM 1.100.5 does not retry a streamed /v1/completions.
RETRIED_ROUTES = [
    ("chat", False),
    ("chat", True),
    ("responses", False),
    ("responses", True),
    ("messages", False),
    ("messages", True),
    ("completions", False),
]
TEXT_ROUTES = [*RETRIED_ROUTES, ("completions", True)]
# Their model stands in the path, and so does whether they stream.
GOOGLE_ROUTES = [("google", False), ("google-stream", False)]


@dataclass(frozen=True)
class Answer:
    """What a client got.

    ``model`` is who answered according to the answer's own text, None where it names nobody.
    """

    status: int
    model: str | None
    text: str
    headers: httpx.Headers
    body: Json

    @property
    def erp(self) -> dict[str, str]:
        """The ``x-erp-*`` headers, without that prefix."""
        return {name[6:]: value for name, value in self.headers.items() if name.startswith("x-erp-")}

    @property
    def deployment(self) -> str | None:
        """The deployment LiteLLM says has served."""
        return str(self.headers["x-litellm-model-id"]) if "x-litellm-model-id" in self.headers else None


def deployment(stub: StubProcess, model: str, number: int | None = None, **params: Any) -> Json:
    """One ``model_list`` entry; ``params`` are laid over its ``litellm_params``."""
    input_usd, output_usd = PRICES.get(model, (1.0, 4.0))
    litellm_params = {
        "model": f"openai/{model}",
        "api_base": stub.api_base(model),
        "api_key": "none",
        "input_cost_per_token": input_usd / 1e6,
        "output_cost_per_token": output_usd / 1e6,
        # LiteLLM forwards `user` only to models it knows; tests recognise their requests by it.
        "allowed_openai_params": ["user"],
    }
    suffix = "" if number is None else f"-{number}"
    return {
        "model_name": model,
        "litellm_params": litellm_params | params,
        "model_info": {"id": f"dep-{model}{suffix}"},
    }


def proxy_config(
    stub: StubProcess,
    *,
    erp_settings: Json | None = None,
    members: Sequence[str] = MODELS,
    replicas: Mapping[str, int] | None = None,
    callbacks: Sequence[str] = (ERP_CALLBACK,),
    groups: Mapping[str, Sequence[str]] | None = None,
    router_settings: Json | None = None,
    litellm_settings: Json | None = None,
    general_settings: Json | None = None,
) -> Json:
    """A complete proxy config, as users write them; change what it returns for anything else.

    Parameters
    ----------
    erp_settings : the top-level key of that name; left out where None
    members : the pool models of ``erp-auto``
    replicas : deployments per model, one where not named
    callbacks : ``litellm_settings.callbacks``
    groups : routing groups beside ``erp-auto``, name to members
    router_settings, litellm_settings, general_settings : laid over the config's own; retries and
        ``allowed_fails`` are LiteLLM's defaults unless given here
    """
    named = {GROUP: members} | dict(groups or {})
    models = list(dict.fromkeys(model for group in named.values() for model in group))
    config: Json = {
        "model_list": [entry for model in models for entry in _deployments(stub, model, replicas or {})],
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "custom_auth": "demo.auth.user_api_key_auth",
            "custom_auth_run_common_checks": True,
        }
        | (general_settings or {}),
        "litellm_settings": {"callbacks": list(callbacks), "enable_post_custom_auth_checks": True}
        | (litellm_settings or {}),
        "router_settings": {
            "routing_groups": [
                {"group_name": name, "models": list(group), "routing_strategy": "simple-shuffle"}
                for name, group in named.items()
            ],
            "enable_pre_call_checks": True,
        }
        | (router_settings or {}),
    }
    return config if erp_settings is None else config | {"erp_settings": erp_settings}


def write_config(path: Path, config: Json) -> Path:
    """Write a config as YAML and return its path."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def write_keys(path: Path, keys: Mapping[str, Json]) -> dict[str, str]:
    """Write a key table of :mod:`demo.auth`; returns the environment that names it."""
    path.write_text(json.dumps(keys), encoding="utf-8")
    return {"ERP_DEMO_KEYS": str(path)}


def ask(
    proxy: ProxyProcess,
    prompt: str = "hello",
    *,
    route: str = "chat",
    stream: bool = False,
    model: str = GROUP,
    key: str = "sk-research",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
    **body: Any,
) -> Answer:
    """Send one prompt to the proxy on a route of :data:`PATHS`; ``body`` is laid over the request."""
    sent = {"model": model, **prompt_fields(route, prompt), **({"stream": True} if stream else {}), **body}
    answer = httpx.post(
        f"{proxy.base_url}{PATHS[route].format(model=model)}",
        # NaN and the like are not JSON, and clients send them all the same.
        content=json.dumps(sent),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json", **(headers or {})},
        timeout=timeout_s,
        trust_env=False,
        # Plain HTTP; loading the system's certificates for each client would take 50 ms.
        verify=False,
    )
    streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
    parsed = {} if streamed else _json(answer)
    text = _streamed_text(answer.text) if streamed else answer.text
    found = re.search(r"answer from ([\w.-]+)", text)
    return Answer(answer.status_code, found.group(1) if found else None, text, answer.headers, parsed)


def team_of(proxy: ProxyProcess, team: str) -> Json:
    """A team as ``GET /erp/teams/{id}`` shows it to its key, ``sk-<team>``."""
    answer = httpx.get(
        f"{proxy.base_url}/erp/teams/{team}",
        headers={"Authorization": f"Bearer sk-{team}"},
        trust_env=False,
        timeout=60.0,
    )
    found: Json = answer.json()["teams"][0]
    return found


def cost_of(stub: StubProcess) -> float:
    """What all answers of the stub cost, USD, from its own records."""
    return sum(
        (r["prompt_tokens"] * PRICES[r["model"]][0] + _tokens_out(r) * PRICES[r["model"]][1]) / 1e6
        for r in stub.requests()
        if r["status"] == 200
    )


def _tokens_out(record: Json) -> int:
    return int(record["completion_tokens"] * record["answers"])


def served(answers: Iterable[Answer]) -> list[str | None]:
    """Who answered each, in order; fails on an answer that is not 200."""
    models = []
    for answer in answers:
        assert answer.status == 200, answer.text[:500]
        models.append(answer.model)
    return models


def _deployments(stub: StubProcess, model: str, replicas: Mapping[str, int]) -> list[Json]:
    count = replicas.get(model, 1)
    return [deployment(stub, model, None if count == 1 else number) for number in range(count)]


def prompt_fields(route: str, prompt: str) -> Json:
    """The part of a body in which a route has its prompt."""
    if route in ("responses", "embeddings"):
        return {"input": prompt}
    if route == "completions":
        return {"prompt": prompt}
    if route.startswith("google"):
        return {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    fields: Json = {"messages": [{"role": "user", "content": prompt}]}
    return fields | ({"max_tokens": 512} if route == "messages" else {})


def _streamed_text(raw: str) -> str:
    """The text in the deltas of a stream, of whichever route; the raw stream where it is an error."""
    lines = [line[5:].strip() for line in raw.splitlines() if line.startswith("data:")]
    events = [json.loads(line) for line in lines if line not in ("", "[DONE]")]
    if any("error" in event and event["error"] for event in events):
        return raw
    return "".join(_delta(event) for event in events)


def _json(answer: httpx.Response) -> Json:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {"list": found}


def _delta(event: Json) -> str:
    for candidate in event.get("candidates") or ():
        return "".join(str(part.get("text") or "") for part in (candidate.get("content") or {}).get("parts") or ())
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    if event.get("type") == "content_block_delta":
        return str(event["delta"].get("text") or "")
    for choice in event.get("choices") or ():
        return str((choice.get("delta") or choice).get("content") or choice.get("text") or "")
    return ""
