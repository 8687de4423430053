"""Budgets of a real proxy that is attacked, restarted, and run twice: what was spent stays spent."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from tests.conftest import StartProxy
from tests.harness import GROUP, ask, cost_of, proxy_config, write_keys
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
def proxies(
    start_module_proxy: StartProxy,
    stub_process: StubProcess,
    planted_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[ProxyProcess]:
    """Two workers with one budget file."""
    folder = tmp_path_factory.mktemp("budgets")
    settings = {
        "budget_file": str(folder / "budgets.json"),
        "groups": {GROUP: {"bundle": str(planted_bundle), "policy": {"lambda": 0}, "teams": TEAMS}},
    }
    keys = write_keys(folder / "keys.json", {f"sk-{name}": {"team_id": name} for name in TEAMS})
    return [start_module_proxy(proxy_config(stub_process, erp_settings=settings), env=keys) for _ in range(2)]


def team(proxy: ProxyProcess, name: str) -> dict[str, Any]:
    answer = httpx.get(
        f"{proxy.base_url}/erp/teams/{name}",
        headers={"Authorization": f"Bearer sk-{name}"},
        trust_env=False,
        timeout=60.0,
    )
    found: dict[str, Any] = answer.json()["teams"][0]
    return found


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
    wait_until(lambda: team(proxies[0], "spent")["window"]["spent_usd"] > 0)
    whole = usd - team(proxies[0], "spent")["window"]["spent_usd"]
    for proxy in proxies:
        wait_until(lambda proxy=proxy: team(proxy, "kept")["window"]["spent_usd"] == pytest.approx(whole, rel=1e-6))
        spent = team(proxy, "kept")["spent"]
        assert (spent["requests"], spent["workers"], spent["shared"]) == (6, 2, True)
    for proxy in proxies:
        proxy.stop()
    proxies[0].start()
    # The first request after the start knows: an unspent budget would do for four answers.
    assert ask(proxies[0], "alpha once more", key="sk-spent", n=4).status == 429
    assert team(proxies[0], "kept")["window"]["spent_usd"] == pytest.approx(whole, rel=1e-6)
    assert team(proxies[0], "kept")["spent"]["requests"] == 6
