"""What was decided is what served, and where it is not, that is seen: by clients, in the log and in the metrics."""

import math
from typing import Any

import httpx
import pytest

from demo.proxy_process import ProxyProcess
from tests.harness import GOOGLE_ROUTES, GROUP, MODELS, SPARE, TEXT_ROUTES, Json, ask, proxy_config, served, write_keys
from tests.pools import CHEAPEST, add_group, ask_all, erp_settings, failures, group_settings, prompts, wait_until
from tests.undoing import GROUP as UNDONE

pytestmark = pytest.mark.proxy

BEST, PROMPT = prompts(2)[1]
TO_SMALL = prompts(1)[0][1]
ROUTES = [*TEXT_ROUTES, *GOOGLE_ROUTES]
# λ by team: at 0 each prompt goes where its kind does best, at CHEAPEST all go to the cheapest.
KEYS: Json = {"sk-research": {}, "sk-support": {}, "sk-small": {"models": [GROUP, "small"]}}
NAMES = ["模型-big", "😀", "a\r\nx-evil: 1", "tab\tbed", "100%", "ünïcode/модель", " lead", "x" * 300]
ODD_NUMBERS = [10**400, -(10**400), -1, 0, 0.5, True, "7", "1e999", math.nan, math.inf, [1], {"a": 1}]


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    teams = {"support": {"lambda": CHEAPEST}}
    groups: dict[str, Any] = {UNDONE: group_settings(planted_bundle)}
    groups |= {f"erp-name-{i}": group_settings(planted_bundle, unknown="first") for i in range(len(NAMES))}
    groups |= {name: group_settings(planted_bundle) for name in ("erp-tags", "erp-rpm", "erp-full")}
    groups["erp-order"] = group_settings(planted_bundle, teams=teams)
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(planted_bundle, groups, teams=teams),
        callbacks=["litellm_erp.proxy.erp_router", "tests.undoing.undoing", "prometheus"],
        router_settings={
            "num_retries": 2,
            "disable_cooldowns": True,
            "enable_tag_filtering": True,
            "fallbacks": [{"plain": [GROUP]}],
            "model_group_alias": {"friendly": GROUP},
        },
        litellm_settings={
            "cache": True,
            "cache_params": {"type": "local"},
            "require_auth_for_metrics_endpoint": False,
        },
    )
    add_group(config, stub_process, UNDONE)
    for i, name in enumerate(NAMES):
        add_group(config, stub_process, f"erp-name-{i}", infos={"big": {"erp_model": name}})
    add_group(config, stub_process, "erp-tags")
    for entry in config["model_list"]:
        if entry["model_name"].startswith("erp-tags."):
            where = "eu" if entry["model_name"].endswith(".mid") else "us"
            entry["litellm_params"] |= {"tags": [where], "region_name": where}
    add_group(config, stub_process, "erp-rpm")
    limited = next(entry for entry in config["model_list"] if entry["model_name"] == "erp-rpm.small")
    limited["litellm_params"]["rpm"] = 1
    with_spare = {**{model: [model] for model in MODELS}, SPARE: [SPARE]}
    for name, params in (("erp-full", {"rpm": 1}), ("erp-order", {"order": 1})):
        add_group(config, stub_process, name, with_spare)
        for entry in config["model_list"]:
            if entry["model_name"].startswith(f"{name}.") and not entry["model_name"].endswith(SPARE):
                entry["litellm_params"] |= params
    config["model_list"][-1]["litellm_params"]["order"] = 2
    doomed = {"model": "openai/small", "api_base": "http://127.0.0.1:9/v1", "api_key": "none", "max_retries": 0}
    config["model_list"].append({"model_name": "plain", "litellm_params": doomed, "model_info": {"id": "plain"}})
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS)
    return start_module_proxy(config, env=keys)


@pytest.fixture
def well(proxy: ProxyProcess, stub: Any) -> ProxyProcess:
    """The proxy, with a fresh record of the stub."""
    return proxy


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_serves_what_was_decided_for_the_team_that_asks(well, stub, route):
    asked = [{"prompt": f"{PROMPT} {route}", "route": route[0], "stream": route[1], "key": key} for key in KEYS]
    answers = ask_all(well, asked, at_once=1)
    assert served(answers) == [BEST, "small", "small"]
    assert [answer.erp["model"] for answer in answers] == served(answers)
    assert {answer.erp["reason"] for answer in answers} <= {"routed", "safe-default", "cached"}


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_a_model_of_any_name_is_served_and_named(well, stub, number):
    answer = ask(well, PROMPT, model=f"erp-name-{number}")
    assert served([answer]) == ["big"]
    value = answer.headers["x-erp-model"]
    assert value.isascii()
    assert httpx.URL(f"http://x/?{value}").host == "x"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=lambda number: repr(number)[:12])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of"])
def test_no_number_of_a_client_lifts_a_goal(well, stub, field, number):
    plain = ask(well, f"{PROMPT} {field} {number!r:.9}", model="small", **{field: number})
    answer = ask(well, f"{PROMPT} {field} {number!r:.9}", key="sk-support", **{field: number})
    assert answer.status == plain.status
    assert {record["model"] for record in stub.requests()} <= {"small"}
    assert not answer.erp.get("reason", "").startswith("fallback")


@pytest.mark.parametrize(("key", "group"), [("sk-support", GROUP), ("sk-small", GROUP), ("sk-support", "erp-order")])
@pytest.mark.parametrize(
    "sent",
    [
        {"_excluded_deployment_ids": ["dep-small", "dep-erp-order.small-0"]},
        {"_retry_skipped_deployment_ids": ["dep-small", "dep-erp-order.small-0"]},
        {"_target_order": 2},
    ],
    ids=lambda sent: next(iter(sent)),
)
def test_what_only_a_router_writes_is_not_believed_of_a_client(well, stub, sent, group, key):
    answer = ask(well, f"{PROMPT} {sent} {group} {key}", model=group, key=key, **sent)
    assert served([answer]) == ["small"]


@pytest.mark.parametrize(
    ("route", "field", "believed"),
    [
        ("responses", "max_tokens", False),
        ("responses", "max_output_tokens", True),
        ("chat", "max_tokens", True),
        ("messages", "max_output_tokens", False),
        ("google", "max_tokens", False),
    ],
)
def test_only_a_limit_that_the_route_forwards_is_believed(well, stub, route, field, believed):
    costs = [
        float(ask(well, f"{PROMPT} {route} {field}", route=route, **limit).erp["expected-cost-usd"])
        for limit in ({}, {field: 1})
    ]
    assert (costs[1] < costs[0]) == believed


def test_googles_own_limit_is_believed(well, stub):
    costs = [
        float(ask(well, f"{PROMPT} own", route="google", **limit).erp["expected-cost-usd"])
        for limit in ({}, {"generationConfig": {"maxOutputTokens": 1}})
    ]
    assert costs[1] < costs[0]


@pytest.mark.parametrize("route", ROUTES)
def test_a_cached_answer_is_of_the_model_that_was_chosen(well, stub, route):
    def once(key: str) -> Any:
        return ask(well, f"{PROMPT} cached {route}", route=route[0], stream=route[1], key=key)

    small, big = once("sk-support"), once("sk-research")
    assert served([small, big]) == ["small", BEST]
    again = [once("sk-support"), once("sk-research")]
    assert served(again) == ["small", BEST]
    assert [answer.erp["model"] for answer in again] == ["small", BEST]


@pytest.mark.parametrize("planted", [{"id": "dep-small"}, "dep-small", {"id": ["x"]}], ids=str)
@pytest.mark.parametrize("route", ROUTES)
def test_who_served_is_not_the_clients_to_say(well, stub, route, planted):
    answer = ask(well, f"{PROMPT} {len(str(planted))}", route=route[0], stream=route[1], model_info=planted)
    assert served([answer]) == [answer.erp["model"]] == [BEST]
    assert answer.erp["reason"] == "routed"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("cache", [None, "x"], ids=str)
def test_odd_controls_of_the_cache_are_answered_as_without_routing(well, stub, route, cache):
    asked: Json = {"prompt": f"{PROMPT} {route} {cache}", "route": route[0], "stream": route[1], "num_retries": 0}
    assert ask(well, cache=cache, **asked).status == ask(well, model="big", cache=cache, **asked).status


def test_an_answer_from_the_cache_says_so(well, stub):
    answers = [ask(well, f"{PROMPT} twice") for _ in range(2)]
    assert served(answers) == [BEST, BEST]
    assert answers[1].erp["reason"] == "cached"
    assert len(stub.requests()) == 1


def test_after_a_plain_model_falls_back_into_the_group_the_headers_are_of_the_group(well, stub):
    answer = ask(well, PROMPT, model="plain")
    assert served([answer]) == [BEST]
    assert answer.erp["model"] == BEST
    assert answer.erp["reason"] in ("routed", "retry")


@pytest.mark.parametrize("model", ["friendly", GROUP])
def test_an_alias_is_routed_as_the_group(well, stub, model):
    assert served([ask(well, f"{PROMPT} {model}", model=model, key="sk-support")]) == ["small"]


def test_tags_are_kept_to(well, stub):
    answers = [ask(well, TO_SMALL, model="erp-tags", tags=tags) for tags in (["eu"], ["us"])]
    assert served(answers) == ["mid", "small"]


def test_a_region_is_kept_to(well, stub):
    once: Json = {"model": "erp-tags", "num_retries": 0}
    answers = [ask(well, f"{TO_SMALL} there", allowed_model_region=where, **once) for where in ("eu", "us")]
    assert served(answers) == ["mid", "small"]


def test_where_no_model_is_in_a_region_litellm_refuses_whatever_the_length(well, stub):
    asked: Json = {"model": "erp-tags", "allowed_model_region": "nowhere", "num_retries": 0}
    assert [ask(well, prompt, **asked).status for prompt in (TO_SMALL, "word " * 3000)] == [429, 429]
    assert stub.requests() == []


@pytest.mark.parametrize("route", ROUTES)
def test_what_litellm_is_told_to_leave_out_is_not_all_that_is_left_in(well, stub, route):
    without: Json = {"_excluded_deployment_ids": ["dep-erp-tags.small-0", 7, None], "num_retries": 0}
    answer = ask(well, f"{TO_SMALL} {route}", route=route[0], stream=route[1], model="erp-tags", **without)
    assert served([answer]) == [answer.erp["model"]]


def test_a_rate_limit_of_the_best_model_costs_no_request(well, stub):
    answers = [ask(well, f"{TO_SMALL} {i}", model="erp-rpm") for i in range(4)]
    assert failures(answers) == []
    assert [answer.erp["model"] for answer in answers] == served(answers)


def test_rate_limits_of_more_models_than_there_are_retries_cost_no_request(well, stub):
    answers = [ask(well, f"{TO_SMALL} {i}", model="erp-full") for i in range(6)]
    assert failures(answers) == []
    assert [answer.erp["model"] for answer in answers] == served(answers)


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_to_a_later_order_is_no_disobedience(well, stub, stream):
    for model in MODELS:
        stub.set_mode(model, "500")
    answer = ask(well, f"{TO_SMALL} order {stream}", model="erp-order", stream=stream)
    assert served([answer]) == [SPARE]
    assert (answer.erp["model"], answer.erp["reason"]) == (SPARE, "fallback:order-fallback")


def test_a_choice_that_is_not_followed_is_told_to_the_client_the_log_and_the_metrics(well, stub):
    answers = ask_all(well, [{"prompt": f"{PROMPT} {i}", "model": UNDONE} for i in range(6)])
    assert failures(answers) == []
    assert {answer.erp["reason"] for answer in answers} == {"not-followed"}
    assert [answer.erp["model"] for answer in answers] == served(answers)
    wait_until(lambda: "was not left in for model" in well.log_text())
    metrics = httpx.get(f"{well.base_url}/metrics/", trust_env=False)
    assert f'erp_served_total{{group="{UNDONE}",outcome="not-followed"}}' in metrics.text
    assert f'erp_self_test{{group="{UNDONE}"}} 0.0' in metrics.text
    assert f'erp_self_test{{group="{GROUP}"}} 1.0' in metrics.text


def test_the_self_test_says_in_one_line_what_is_not_followed(well):
    wait_until(lambda: "does NOT follow what is decided" in well.log_text())
    lines = [line for line in well.log_text().splitlines() if "does NOT follow" in line]
    assert len(lines) == 1
    assert UNDONE in lines[0]


def conversation(proxy: ProxyProcess, key: str, prompt: str, previous: str | None = None) -> Any:
    referred = {} if previous is None else {"previous_response_id": previous}
    return ask(proxy, prompt, route="responses", key=key, **referred)


def test_a_conversation_stays_with_the_model_that_knows_it(well, stub):
    first = conversation(well, "sk-research", f"{PROMPT} first")
    assert served([first]) == [BEST]
    second = conversation(well, "sk-research", f"{TO_SMALL} second", first.body["id"])
    assert served([second]) == [BEST]
    assert second.erp["reason"] == "bound"


def test_an_id_of_somebody_elses_conversation_buys_no_dearer_model(well, stub):
    first = conversation(well, "sk-research", f"{PROMPT} stolen")
    stub.reset()
    conversation(well, "sk-support", f"{TO_SMALL} thief", first.body["id"])
    assert {record["model"] for record in stub.requests()} <= {"small"}
