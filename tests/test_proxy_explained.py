"""The decision in an answer's body, for clients whose SDK hides headers: on every route, streamed or not."""

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI

from demo.proxy_process import ProxyProcess
from tests.harness import GOOGLE_ROUTES, GROUP, PATHS, TEXT_ROUTES, Json, prompt_fields, proxy_config, write_keys
from tests.pools import add_group, erp_settings, group_settings, prompts

pytestmark = pytest.mark.proxy

BEST, PROMPT = prompts(2)[1]
ROUTES = [*TEXT_ROUTES, *GOOGLE_ROUTES]
WHY = {"erp": {"explain": True}}
LEVELS = ("reason", "none")


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    groups = {f"erp-{level}": group_settings(planted_bundle, headers=level) for level in LEVELS}
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(planted_bundle, groups, allow_override=[0.0, 100.0]),
        litellm_settings={"cache": True, "cache_params": {"type": "local"}},
    )
    for level in LEVELS:
        add_group(config, stub_process, f"erp-{level}")
    return start_module_proxy(
        config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", {"sk-research": {}})
    )


def bodies_of(proxy: ProxyProcess, prompt: str, route: tuple[str, bool], model: str = GROUP, **body: Any) -> Any:
    """The response's ``x-erp-*`` headers as the body would have them, and every body or event of it."""
    sent = {"model": model, **prompt_fields(route[0], prompt), **({"stream": True} if route[1] else {}), **body}
    url = f"{proxy.base_url}{PATHS[route[0]].format(model=model)}"
    auth = {"Authorization": "Bearer sk-research", "Content-Type": "application/json"}
    answer = httpx.post(url, content=json.dumps(sent), headers=auth, timeout=60.0, trust_env=False)
    assert answer.status_code == 200, answer.text
    headers = {k[6:].replace("-", "_"): v for k, v in answer.headers.items() if k.startswith("x-erp-")}
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return headers, [answer.json()]
    lines = [line[5:].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    return headers, [json.loads(line) for line in lines if line not in ("", "[DONE]")]


def told_in(body: Json) -> Any:
    """What a body, or an event of a stream, tells of the decision; None for nothing."""
    return ((body.get("response") or body).get("provider_specific_fields") or {}).get("erp")


def as_headers(told: Json) -> dict[str, str]:
    return {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in told.items()}


@pytest.mark.parametrize("route", ROUTES)
def test_the_body_tells_what_the_headers_tell(proxy, route):
    headers, bodies = bodies_of(proxy, f"{PROMPT} {route}", route, metadata=WHY)
    told = [told_in(body) for body in bodies]
    assert [found for found in told if found is not None] == [told[-1]]
    assert as_headers(told[-1]) == headers
    assert headers["model"] == BEST
    assert headers["reason"] == "routed"


@pytest.mark.parametrize("route", ROUTES)
def test_a_client_that_asks_for_nothing_gets_the_same_answer_and_no_more(proxy, route):
    plain = bodies_of(proxy, f"{PROMPT} plain {route}", route)[1]
    assert [told_in(body) for body in plain] == [None] * len(plain)
    asked = bodies_of(proxy, f"{PROMPT} plain {route}", route, metadata=WHY)[1]
    assert told_in(asked[-1])["model"] == BEST
    # What another asked for is in no cache.
    again = bodies_of(proxy, f"{PROMPT} plain {route}", route)[1]
    assert [told_in(body) for body in again] == [None] * len(again)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("level", "told"), [("reason", {"reason": "routed"}), ("none", None)])
def test_nobody_is_told_more_than_the_headers_may_tell(proxy, route, level, told):
    _, bodies = bodies_of(proxy, f"{PROMPT} {level} {route}", route, f"erp-{level}", metadata=WHY)
    assert told_in(bodies[-1]) == told


ODD = ["true", "yes", 1, None, [True], {"a": True}, 10**400, 1.5]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
def test_an_odd_wish_for_an_explanation_is_ignored(proxy, value):
    headers, bodies = bodies_of(
        proxy, f"{PROMPT} odd {value!r:.12}", ("chat", False), metadata={"erp": {"explain": value}}
    )
    assert told_in(bodies[0]) is None
    # It is no goal either that could be refused.
    assert headers["reason"] == "routed"


@pytest.mark.parametrize("stated", [{"explain": True, "lambda": 100.0}, '{"explain": true, "lambda": 100.0}'])
def test_a_request_may_state_a_goal_beside_it_and_both_as_text(proxy, stated):
    _, bodies = bodies_of(proxy, f"{PROMPT} both {type(stated)}", ("chat", False), metadata={"erp": stated})
    assert told_in(bodies[0])["lambda"] == 100.0
    assert told_in(bodies[0])["model"] == "small"


@pytest.mark.parametrize("stream", [False, True])
def test_openais_own_client_finds_it(proxy, stream):
    client = OpenAI(base_url=f"{proxy.base_url}/v1", api_key="sk-research", max_retries=0)
    messages: Any = [{"role": "user", "content": f"{PROMPT} sdk {stream}"}]
    answer: Any = client.chat.completions.create(
        model=GROUP, messages=messages, stream=stream, extra_body={"metadata": WHY}
    )
    last = list(answer)[-1] if stream else answer
    told = last.provider_specific_fields["erp"]
    assert told["model"] == BEST
    assert 0 < told["expected_reward"] <= 1
    found: Any = client.responses.create(model=GROUP, input=f"{PROMPT} of responses", extra_body={"metadata": WHY})
    assert found.provider_specific_fields["erp"]["model"] == BEST
