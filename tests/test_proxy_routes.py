"""Every route of the proxy is routed and says why; nothing of the plugin reaches the upstream or other models."""

from typing import Any

import pytest

from demo.proxy_process import ProxyProcess
from tests.harness import GROUP, SPARE, TEXT_ROUTES, Answer, ask, deployment, proxy_config, served, write_keys
from tests.pools import CHEAPEST, add_group, erp_settings, group_settings, prompts

pytestmark = pytest.mark.proxy

BEST, PROMPT = prompts(2)[1]
# The upstream of /v1/messages is /v1/responses: LiteLLM translates.
FULL = {"bundle", "expected-cost-usd", "expected-reward", "lambda", "model", "reason"}
# Streamed completions fall back nowhere in LiteLLM: a failure of theirs is the client's.
FALLBACK_ROUTES = [route for route in TEXT_ROUTES if route != ("completions", True)]


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    groups: dict[str, Any] = {
        "erp-reason": group_settings(planted_bundle, headers="reason"),
        "erp-none": group_settings(planted_bundle, headers="none"),
        "erp-doomed": group_settings(planted_bundle, lambda_=CHEAPEST),
        "erp-leaving": group_settings(planted_bundle, lambda_=CHEAPEST),
    }
    fallbacks = [{"erp-doomed": [GROUP]}, {"erp-leaving": ["outside"]}]
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(planted_bundle, groups),
        # Failures of one test must not keep a model from the next.
        router_settings={"fallbacks": fallbacks, "num_retries": 1, "disable_cooldowns": True},
    )
    for name in ("erp-reason", "erp-none"):
        add_group(config, stub_process, name)
    for name in ("erp-doomed", "erp-leaving"):
        # Two, because LiteLLM waits before it retries where there is no other deployment.
        add_group(config, stub_process, name, {"small": [SPARE, SPARE]})
    config["model_list"].append(
        deployment(stub_process, "mid") | {"model_name": "outside", "model_info": {"id": "out"}}
    )
    add_group(config, stub_process, "not-ours")
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", {"sk-research": {}})
    return start_module_proxy(config, env=keys)


def ask_on(proxy: ProxyProcess, route: tuple[str, bool], model: str = GROUP, **body: Any) -> Answer:
    return ask(proxy, PROMPT, route=route[0], stream=route[1], model=model, **body)


@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_every_route_goes_to_the_best_model_and_says_so(proxy, stub, route):
    answer = ask_on(proxy, route)
    assert served([answer]) == [BEST]
    assert set(answer.erp) == FULL
    assert (answer.erp["model"], answer.erp["reason"]) == (BEST, "routed")
    assert [record["model"] for record in stub.requests()] == [BEST]


@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_the_upstream_gets_nothing_that_it_would_not_get_without_routing(proxy, stub, route):
    ask_on(proxy, route)
    # The same model without routing: whatever else is there, LiteLLM sends it anyway.
    ask_on(proxy, route, BEST)
    routed, direct = stub.requests()
    assert (routed["model"], set(routed["keys"])) == (direct["model"], set(direct["keys"]))


@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_headers_can_be_cut_to_the_reason(proxy, stub, route):
    answer = ask_on(proxy, route, "erp-reason")
    assert served([answer]) == [BEST]
    assert answer.erp == {"reason": "routed"}


@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_headers_can_be_switched_off(proxy, stub, route):
    answer = ask_on(proxy, route, "erp-none")
    assert served([answer]) == [BEST]
    assert answer.erp == {}


@pytest.mark.parametrize("model", ["small", "outside", "not-ours", "not-ours.big"])
@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_other_models_and_groups_are_left_alone(proxy, stub, route, model):
    answer = ask_on(proxy, route, model)
    assert answer.status == 200
    assert answer.erp == {}


@pytest.mark.parametrize("route", FALLBACK_ROUTES)
def test_after_a_fallback_to_a_routed_group_the_header_names_who_really_served(proxy, stub, route):
    stub.set_mode(SPARE, "500")
    answer = ask_on(proxy, route, "erp-doomed")
    assert served([answer]) == [BEST]
    assert answer.erp["model"] == BEST
    assert answer.erp["lambda"] == "0"


@pytest.mark.parametrize("route", FALLBACK_ROUTES)
def test_after_a_fallback_to_another_model_the_header_says_so(proxy, stub, route):
    stub.set_mode(SPARE, "500")
    answer = ask_on(proxy, route, "erp-leaving")
    assert served([answer]) == ["mid"]
    assert answer.erp == {"reason": "fallback:other-group"}


@pytest.mark.parametrize("route", FALLBACK_ROUTES)
def test_after_a_retry_the_header_names_the_model_that_served(proxy, stub, route):
    stub.set_mode(BEST, "fail:1")
    answer = ask_on(proxy, route)
    assert served([answer]) == [answer.erp["model"]]
    assert answer.erp["model"] != BEST
    assert answer.erp["reason"] == "retry"


@pytest.mark.parametrize("field", ["metadata", "litellm_metadata"])
@pytest.mark.parametrize("route", ["chat", "responses", "messages", "completions"])
def test_what_a_client_plants_in_metadata_changes_nothing(proxy, stub, route, field):
    failed = {"model_info": {"id": f"dep-{BEST}"}}
    planted = {
        "previous_models": [{"metadata": failed, "litellm_metadata": failed}, 3, None],
        "litellm_erp": {"group": "erp-none", "model": "small", "reason": "routed"},
        "erp": {"lambda": CHEAPEST},
        "model_group": "not-ours",
    }
    answer = ask_on(proxy, (route, False), **{field: planted})
    assert served([answer]) == [BEST]
    assert set(answer.erp) == FULL
    assert answer.erp["lambda"] == "0"


def test_embeddings_of_a_routed_group_are_served_by_one_of_its_models(proxy, stub):
    answer = ask(proxy, PROMPT, route="embeddings")
    assert answer.status == 200
    assert len(answer.body["data"][0]["embedding"]) == 64
    # Some versions hand the text on, and some do not.
    assert answer.erp["reason"] in ("routed", "safe-default")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([{"type": "text", "text": PROMPT}], id="text-part"),
        pytest.param(
            [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": "data:,x"}}], id="image"
        ),
        pytest.param([], id="nothing"),
        pytest.param("", id="empty"),
    ],
)
def test_content_of_any_form_is_routed(proxy, stub, content):
    answer = ask(proxy, messages=[{"role": "user", "content": content}])
    assert served([answer]) == [answer.erp["model"]]
    assert answer.erp["reason"] in ("routed", "safe-default")


def test_a_completion_of_several_prompts_is_routed(proxy, stub):
    answer = ask(proxy, route="completions", prompt=[PROMPT, "and another"])
    assert served([answer]) == [answer.erp["model"]]


def test_an_order_from_a_client_does_not_choose_the_model(proxy, stub):
    answer = ask_on(proxy, ("chat", False), _target_order=3)
    assert served([answer]) == [BEST]
    assert answer.erp["reason"] == "routed"
