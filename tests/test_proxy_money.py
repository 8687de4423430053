"""Budgets of a real proxy that is attacked, restarted, and run twice: what was spent stays spent."""

from typing import Any

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from tests.conftest import StartProxy
from tests.harness import ask, cost_of, team_of
from tests.pools import wait_until

pytestmark = pytest.mark.proxy

SMALL_USD = 0.004
TEAMS = {
    "many": {"budget_usd": SMALL_USD, "per": "month", "on_exhausted": "reject"},
    "list": {"budget_usd": SMALL_USD, "per": "month", "on_exhausted": "reject"},
    "kept": {"budget_usd": 50, "per": "month", "on_exhausted": "reject"},
    "spent": {"budget_usd": 5e-4, "per": "month", "on_exhausted": "reject"},
}


@pytest.fixture(scope="module")
def proxies(start_team_proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory) -> list[ProxyProcess]:
    """Two workers with one budget file."""
    settings = {"budget_file": str(tmp_path_factory.mktemp("budgets") / "budgets.json")}
    return [start_team_proxy(TEAMS, settings=settings) for _ in range(2)]


def test_requests_for_many_answers_do_not_spend_a_budget_many_times(
    proxies: list[ProxyProcess], stub: StubProcess
) -> None:
    statuses = [ask(proxies[0], f"alpha {i}", key="sk-many", n=100).status for i in range(5)]
    # A hundred answers of the cheapest model are more than there is.
    assert statuses == [429, 429, 429, 429, 429]
    assert stub.requests() == []


def test_lists_of_prompts_count_as_many_requests(proxies: list[ProxyProcess], stub: StubProcess) -> None:
    prompts: Any = [f"alpha question {i}" for i in range(100)]
    statuses = [ask(proxies[0], prompts, route="completions", key="sk-list").status for _ in range(5)]
    assert statuses == [429, 429, 429, 429, 429]


def test_what_was_spent_survives_a_restart_and_is_known_to_the_other_worker(
    proxies: list[ProxyProcess], stub: StubProcess
) -> None:
    for i in range(6):
        assert ask(proxies[i % 2], f"alpha kept {i}", key="sk-kept").status == 200
    statuses = [ask(proxies[0], f"alpha spends it all {i}", key="sk-spent").status for i in range(30)]
    assert (statuses[0], statuses[-1]) == (200, 429)
    usd = cost_of(stub)
    wait_until(lambda: team_of(proxies[0], "spent")["window"]["spent_usd"] > 0)
    whole = usd - team_of(proxies[0], "spent")["window"]["spent_usd"]
    for proxy in proxies:
        wait_until(lambda proxy=proxy: team_of(proxy, "kept")["window"]["spent_usd"] == pytest.approx(whole, rel=1e-6))
        spent = team_of(proxy, "kept")["spent"]
        assert (spent["requests"], spent["workers"], spent["shared"]) == (6, 2, True)
    for proxy in proxies:
        proxy.stop()
    proxies[0].start()
    # The first request after the start knows: an unspent budget would do for four answers.
    assert ask(proxies[0], "alpha once more", key="sk-spent", n=4).status == 429
    assert team_of(proxies[0], "kept")["window"]["spent_usd"] == pytest.approx(whole, rel=1e-6)
    assert team_of(proxies[0], "kept")["spent"]["requests"] == 6
