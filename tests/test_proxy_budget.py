"""Budgets in a real proxy: what counts, who is refused, and how."""

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from tests.conftest import StartProxy
from tests.harness import MODELS, TEXT_ROUTES, Json, ask, cost_of, team_of
from tests.pools import wait_until

pytestmark = pytest.mark.proxy

TEAMS = {
    "broke": {"budget_usd": 0, "per": "day", "on_exhausted": "reject"},
    "poor": {"budget_usd": 0, "per": "day"},
    "rich": {"budget_usd": 50, "per": "day", "timezone": "Europe/Berlin"},
    "counted": {"budget_usd": 50, "per": "month", "on_exhausted": "reject"},
    "listed": {"budget_usd": 50, "per": "month"},
    "cached": {"budget_usd": 50, "per": "month", "on_exhausted": "reject"},
    "failing": {"budget_usd": 50, "per": "month", "on_exhausted": "reject"},
    "wide": {"budget_usd": 50, "per": "month", "count": "everything"},
    "narrow": {"budget_usd": 50, "per": "month"},
}


@pytest.fixture(scope="module")
def proxy(start_team_proxy: StartProxy, stub_process: StubProcess) -> ProxyProcess:
    cache = {"cache": True, "cache_params": {"type": "local", "supported_call_types": ["acompletion"]}}
    stub_process.reset()
    return start_team_proxy(TEAMS, litellm_settings=cache)


def spent(proxy: ProxyProcess, team: str) -> Json:
    """The team's window."""
    window: Json = team_of(proxy, team)["window"]
    return window


@pytest.mark.parametrize(("route", "stream"), TEXT_ROUTES)
def test_a_spent_budget_that_rejects_is_a_429_and_asks_no_model(
    proxy: ProxyProcess, stub: StubProcess, route: str, stream: bool
) -> None:
    answer = ask(proxy, route=route, stream=stream, key="sk-broke")
    assert answer.status == 429
    assert "budget of team 'broke' of 0 USD per day for 'erp-auto' is spent" in answer.text
    assert stub.requests() == []


def test_a_spent_budget_that_goes_on_serves_from_the_cheapest(proxy: ProxyProcess, stub: StubProcess) -> None:
    answer = ask(proxy, "alpha question one", key="sk-poor")
    assert (answer.status, answer.model, answer.erp["reason"]) == (200, "small", "exhausted")


def test_a_budget_with_money_left_routes(proxy: ProxyProcess, stub: StubProcess) -> None:
    answer = ask(proxy, key="sk-rich")
    assert answer.status == 200
    assert answer.erp["reason"] in ("routed", "safe-default")


def test_every_route_counts_what_it_really_cost_once(proxy: ProxyProcess, stub: StubProcess) -> None:
    # Streamed /v1/completions report no usage in the stub, so that LiteLLM counts tokens itself.
    routes = [(route, stream) for route, stream in TEXT_ROUTES if (route, stream) != ("completions", True)]
    for route, stream in routes:
        assert ask(proxy, f"counted {route} {stream}", route=route, stream=stream, key="sk-counted").status == 200
    wait_until(lambda: spent(proxy, "counted")["spent_usd"] >= cost_of(stub) * 0.999)
    assert spent(proxy, "counted")["spent_usd"] == pytest.approx(cost_of(stub), rel=1e-6)
    wait_until(lambda: spent(proxy, "counted")["reserved_usd"] < 1e-9)


def test_a_price_that_litellm_has_lost_is_ours(proxy: ProxyProcess, stub: StubProcess) -> None:
    # After a list prompt, LiteLLM says that streamed /v1/messages of the same deployment are free.
    for number in range(4):
        ask(proxy, ["some", f"list {number}"], route="completions", key="sk-listed")  # type: ignore[arg-type]
        ask(proxy, f"list {number}", route="messages", stream=True, key="sk-listed")
    wait_until(lambda: spent(proxy, "listed")["spent_usd"] >= cost_of(stub) * 0.999)
    assert spent(proxy, "listed")["spent_usd"] == pytest.approx(cost_of(stub), rel=1e-6)


def test_a_cached_answer_is_free(proxy: ProxyProcess, stub: StubProcess) -> None:
    for _ in range(3):
        assert ask(proxy, "the same again", key="sk-cached").status == 200
    assert len(stub.requests()) < 3
    wait_until(lambda: spent(proxy, "cached")["reserved_usd"] < 1e-9)
    assert spent(proxy, "cached")["spent_usd"] == pytest.approx(cost_of(stub), rel=1e-6)


def test_a_request_that_fails_gives_back_what_was_held(proxy: ProxyProcess, stub: StubProcess) -> None:
    for model in MODELS:
        stub.set_mode(model, "500")
    assert ask(proxy, "will fail", key="sk-failing").status == 500
    wait_until(lambda: spent(proxy, "failing")["reserved_usd"] < 1e-9)
    assert spent(proxy, "failing")["spent_usd"] == 0


def test_requests_to_other_models_count_only_where_a_budget_says_everything(
    proxy: ProxyProcess, stub: StubProcess
) -> None:
    assert ask(proxy, "outside the group", model="mid", key="sk-narrow").status == 200
    stub.reset()
    assert ask(proxy, "outside the group as well", model="mid", key="sk-wide").status == 200
    wait_until(lambda: spent(proxy, "wide")["spent_usd"] > 0)
    assert spent(proxy, "wide")["spent_usd"] == pytest.approx(cost_of(stub), rel=1e-6)
    assert spent(proxy, "narrow")["spent_usd"] == 0
