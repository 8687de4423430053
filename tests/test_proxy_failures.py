"""A model that fails costs no request while another one can serve, with LiteLLM's default ``allowed_fails`` and with 0.

Left out, because no plugin can change it: LiteLLM 1.100.5 neither retries nor falls back on a streamed
``/v1/completions``, and it does not retry a 400 from the upstream. A prompt that is too long therefore goes to a model
it fits only where ``model_info.max_input_tokens`` says what fits; an upstream that refuses it with
``context_length_exceeded`` costs the request unless ``context_window_fallbacks`` are configured.
"""

from collections import Counter
from typing import Any

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from tests.harness import GOOGLE_ROUTES, GROUP, RETRIED_ROUTES, SPARE, ask, proxy_config, served
from tests.pools import add_group, ask_all, erp_settings, failures, group_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

PROMPT = prompts(1)[0][1]
ROUNDS = 20
TIMEOUT_S = 0.5
LIMITS = {"small": 100, "big": 400, "mid": 100_000}


@pytest.fixture(scope="module", params=[None, 0], ids=["allowed-fails-default", "allowed-fails-0"])
def proxy(request, start_module_proxy, stub_process, planted_bundle) -> ProxyProcess:
    groups: dict[str, Any] = {name: group_settings(planted_bundle) for name in ("erp-twins", "erp-limits")}
    limit = {} if request.param is None else {"allowed_fails": request.param}
    config = proxy_config(
        stub_process,
        erp_settings=erp_settings(planted_bundle, groups),
        router_settings={"cooldown_time": 1, "timeout": TIMEOUT_S, **limit},
    )
    add_group(config, stub_process, "erp-twins", {"small": ["small", SPARE], "mid": ["mid"], "big": ["big"]})
    infos = {model: {"max_input_tokens": tokens} for model, tokens in LIMITS.items()}
    add_group(config, stub_process, "erp-limits", infos=infos)
    return start_module_proxy(config)


@pytest.fixture
def well(proxy: ProxyProcess, stub: StubProcess) -> ProxyProcess:
    """The proxy, with no model cooling down."""
    for group in (GROUP, "erp-twins"):
        wait_until(lambda group=group: ask(proxy, PROMPT, model=group).erp["model"] == "small")
    stub.reset()
    return proxy


@pytest.mark.parametrize("mode", ["500", "429", "hang", "close"])
def test_no_request_fails_while_another_model_can_serve(well, stub, mode):
    stub.set_mode("small", mode)
    requests = [{"prompt": PROMPT, "route": r, "stream": s} for _ in range(ROUNDS) for r, s in RETRIED_ROUTES]
    answers = ask_all(well, requests)
    # While it cools down nobody tries it, and which route tries it next is chance.
    wait_until(
        lambda: routes_tried(stub) >= {"chat/completions", "responses"} or answers.extend(ask_all(well, requests))
    )
    assert failures(answers) == []
    assert [answer.erp["model"] for answer in answers] == served(answers)


def routes_tried(stub: StubProcess) -> set[str]:
    """Routes on which the upstream `small` was asked."""
    return {record["route"] for record in stub.requests() if record["model"] == "small"}


def test_after_a_failure_the_second_best_serves_and_the_reason_is_retry(well, stub):
    stub.set_mode("small", "fail:1")
    answer = ask(well, PROMPT)
    assert [record["model"] for record in stub.requests()] == ["small", answer.model]
    assert (answer.erp["model"], answer.erp["reason"]) == (answer.model, "retry")


@pytest.mark.parametrize(("route", "stream"), [*RETRIED_ROUTES, *GOOGLE_ROUTES])
def test_on_every_route_a_retry_is_of_another_model_and_says_so(well, stub, route, stream):
    stub.set_mode("small", "fail:3")
    # A short answer, so that the window which `erp-limits` states of the model does for both.
    short = {"max_tokens": 8} if route == "messages" else {}
    answer = ask(well, PROMPT, route=route, stream=stream, **short)
    assert [record["model"] for record in stub.requests()] == ["small", answer.model]
    assert (answer.status, answer.erp["model"], answer.erp["reason"]) == (200, answer.model, "retry")


def test_two_failing_models_leave_the_third(well, stub):
    stub.set_mode("small", "500")
    stub.set_mode("mid", "500")
    answers = ask_all(well, [{"prompt": PROMPT}] * ROUNDS)
    assert set(served(answers)) == {"big"}


def test_a_model_that_is_well_again_returns_after_its_cooldown(well, stub):
    stub.set_mode("small", "500")
    assert "small" not in served(ask_all(well, [{"prompt": PROMPT}] * ROUNDS))
    stub.set_mode("small", "ok")
    wait_until(lambda: ask(well, PROMPT).erp["model"] == "small")
    assert set(served(ask_all(well, [{"prompt": PROMPT}] * ROUNDS))) == {"small"}


def test_replicas_of_the_best_model_share_its_load(well, stub):
    answers = ask_all(well, [{"prompt": PROMPT, "model": "erp-twins"}] * 60)
    assert {answer.erp["model"] for answer in answers} == {"small"}
    share = Counter(served(answers))
    assert set(share) == {"small", SPARE}
    assert 10 <= share[SPARE] <= 50


def test_a_replica_that_failed_is_followed_by_its_sister(well, stub):
    stub.set_mode(SPARE, "500")
    answers = ask_all(well, [{"prompt": PROMPT, "model": "erp-twins"}] * ROUNDS)
    assert set(served(answers)) == {"small"}
    assert {record["model"] for record in stub.requests()} == {"small", SPARE}
    assert {answer.erp["model"] for answer in answers} == {"small"}


@pytest.mark.parametrize(("sentences", "expected"), [(1, "small"), (12, "big"), (60, "mid")])
def test_a_long_prompt_goes_to_the_best_model_that_it_fits(well, stub, sentences, expected):
    asked = " ".join(prompts(3 * sentences)[i * 3][1] for i in range(sentences))
    answer = ask(well, asked, model="erp-limits")
    assert served([answer]) == [expected]
    assert answer.erp["model"] == expected


def test_a_window_that_only_another_deployment_of_a_model_states_counts_as_in_litellms_own_check(well, stub):
    """LiteLLM keeps one window a model name: that of ``erp-limits`` counts for the group that states none."""
    asked = " ".join(prompts(36)[i * 3][1] for i in range(12))
    assert served([ask(well, asked)]) == ["big"]


def test_an_upstream_that_finds_a_prompt_too_long_is_not_hidden(well, stub):
    stub.set_mode("small", "context:5")
    answer = ask(well, PROMPT)
    assert answer.status == 400


def test_when_every_model_fails_the_client_gets_the_upstreams_error(well, stub):
    for model in ("small", "mid", "big"):
        stub.set_mode(model, "500")
    answer = ask(well, PROMPT)
    assert answer.status == 500
    assert "is set to fail" in answer.text
    assert answer.erp == {"reason": "retry"}
