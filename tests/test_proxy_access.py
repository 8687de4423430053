"""Who may use which model of a group, and which models a request can use.

LiteLLM checks the requested name only, here the group's; the rest is the plugin's to keep, also while the allowed
models are down.
"""

from typing import Any

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from tests.harness import GROUP, RETRIED_ROUTES, ask, proxy_config, served, write_keys
from tests.pools import add_group, ask_all, erp_settings, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

KEYS: dict[str, dict[str, Any]] = {
    "sk-research": {},
    "sk-all": {},
    "sk-star": {"models": ["*"]},
    "sk-group": {"models": [GROUP]},
    "sk-group-and-foreign": {"models": [GROUP, "elsewhere"]},
    "sk-two": {"models": [GROUP, "small", "mid"]},
    "sk-small": {"models": [GROUP, "small"]},
    "sk-wildcard": {"models": [GROUP, "m*"]},
    "sk-team-two": {"team_models": [GROUP, "small", "mid"]},
    "sk-both": {"models": [GROUP, "mid", "big"], "team_models": [GROUP, "small", "mid"]},
    "sk-as-team": {"models": ["all-team-models"], "team_models": [GROUP, "mid"]},
    "sk-access": {"models": [GROUP, "cheap-ones"]},
    "sk-group-wildcard": {"models": ["erp-*"]},
    "sk-alias": {"models": ["friendly"]},
    "sk-alias-two": {"models": ["friendly", "small", "mid"]},
    "sk-team-alias": {"team_models": ["cheap"], "team_model_aliases": {"cheap": GROUP}},
    "sk-member-alias": {"models": [GROUP, "tiny"]},
    "sk-none": {"models": ["small"]},
}
ALLOWED = {
    "sk-all": {"small", "mid", "big"},
    "sk-star": {"small", "mid", "big"},
    "sk-group": {"small", "mid", "big"},
    "sk-group-and-foreign": {"small", "mid", "big"},
    "sk-two": {"small", "mid"},
    "sk-small": {"small"},
    "sk-wildcard": {"mid"},
    "sk-team-two": {"small", "mid"},
    "sk-both": {"mid"},
    "sk-as-team": {"mid"},
    "sk-access": {"small", "mid"},
    "sk-group-wildcard": {"small", "mid", "big"},
    "sk-member-alias": {"small"},
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
ARITHMETIC, CODE, POETRY = (text for _, text in prompts(3))


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    groups = {"erp-able": group_settings(planted_bundle)}
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(planted_bundle, groups),
        # The first failure takes a model out of what LiteLLM offers.
        router_settings={
            "allowed_fails": 0,
            "cooldown_time": 2,
            "model_group_alias": {"friendly": GROUP, "tiny": "small"},
        },
    )
    for entry in config["model_list"]:
        if entry["model_name"] in ("small", "mid"):
            entry["model_info"]["access_groups"] = ["cheap-ones"]
    infos = {
        "small": {"supports_vision": False, "supports_function_calling": False},
        "mid": {"supports_function_calling": True, "supports_response_schema": False},
        "big": {"supports_vision": True, "supports_response_schema": True},
    }
    add_group(config, stub_process, "erp-able", infos=infos)
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


@pytest.mark.parametrize("key", ALLOWED)
def test_a_key_gets_the_models_that_it_and_its_team_may_use(proxy, stub, key):
    answers = ask_all(proxy, [{"prompt": text, "key": key} for _, text in prompts(18)])
    assert set(served(answers)) == ALLOWED[key]
    assert [answer.erp["model"] for answer in answers] == served(answers)


@pytest.mark.parametrize(
    ("key", "expected"), [("sk-alias", {"small", "mid", "big"}), ("sk-alias-two", {"small", "mid"})]
)
def test_an_alias_of_the_group_counts_as_the_group(proxy, stub, key, expected):
    answers = ask_all(proxy, [{"prompt": text, "key": key, "model": "friendly"} for _, text in prompts(18)])
    assert set(served(answers)) == expected
    assert {answer.erp["reason"] for answer in answers} == {"routed"}


def test_a_name_that_a_team_calls_the_group_by_counts_as_the_group(proxy, stub):
    answers = ask_all(proxy, [{"prompt": text, "key": "sk-team-alias", "model": "cheap"} for _, text in prompts(18)])
    assert set(served(answers)) == {"small", "mid", "big"}


@pytest.mark.parametrize(("route", "stream"), RETRIED_ROUTES)
def test_a_model_that_is_not_allowed_is_not_served_on_any_route(proxy, stub, route, stream):
    assert served([ask(proxy, POETRY, route=route, stream=stream, key="sk-two")])[0] in ("small", "mid")


def test_a_key_without_the_group_is_refused_by_litellm(proxy, stub):
    assert ask(proxy, POETRY, key="sk-none").status in (401, 403)
    assert stub.requests() == []


def test_a_model_that_is_not_allowed_is_not_served_while_the_allowed_ones_are_down(proxy, stub):
    stub.set_mode("small", "500")
    answers = [ask(proxy, ARITHMETIC, key="sk-small") for _ in range(12)]
    assert {answer.status for answer in answers} != {200}
    assert {record["model"] for record in stub.requests()} == {"small"}
    stub.reset()
    wait_until(lambda: ask(proxy, ARITHMETIC, key="sk-small").status == 200)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param({}, "small", id="plain"),
        pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": ARITHMETIC}, IMAGE]}]}, "big",
                     id="image"),
        pytest.param({"tools": [TOOL]}, "mid", id="tools"),
        pytest.param({"response_format": SCHEMA}, "big", id="response-format"),
        pytest.param({"tools": []}, "small", id="no-tools"),
    ],
)  # fmt: skip
def test_a_request_keeps_to_models_that_declare_what_it_needs(proxy, stub, sent, expected):
    assert served([ask(proxy, ARITHMETIC, model="erp-able", **sent)]) == [expected]


@pytest.mark.parametrize("route", ["responses", "messages"])
def test_tools_count_on_the_other_routes_too(proxy, stub, route):
    tool = (
        {"type": "function", "name": "f", "parameters": {}}
        if route == "responses"
        else {"name": "f", "input_schema": {}}
    )
    assert served([ask(proxy, ARITHMETIC, route=route, model="erp-able", tools=[tool])]) == ["mid"]


def test_a_model_that_declares_nothing_is_used_before_none_at_all(proxy: ProxyProcess, stub: StubProcess):
    stub.set_mode("big", "500")
    content = [{"type": "text", "text": ARITHMETIC}, IMAGE]
    answer = ask(proxy, messages=[{"role": "user", "content": content}], model="erp-able")
    # mid may or may not see images; small is known not to.
    assert served([answer]) == ["mid"]
