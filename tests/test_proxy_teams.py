"""The plugin's own routes on a real proxy: what each team gets, what it spent, and what would be chosen."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from demo.proxy_process import ProxyProcess
from tests.harness import GROUP, ask, proxy_config, served, write_keys
from tests.pools import erp_settings, prompts, wait_until

pytestmark = pytest.mark.proxy

TEAMS: dict[str, dict[str, Any]] = {
    "research": {"lambda": 0, "allow_override": [0, 2]},
    "support": {"min_quality": 0.5},
}
# As custom auth may have them.
ODD = ("a/b", "té 😀", "a\r\nx-evil: 1", "<b>&\"'", "x" * 5_000, "a\ud800b")
KEYS: dict[str, dict[str, Any]] = {
    "sk-admin": {"user_role": "proxy_admin", "team_id": None},
    "sk-research": {},
    "sk-support": {},
    "sk-database": {"team_id": "uuid-1", "team_alias": "database", "team_metadata": {"erp": {"lambda": 5}}},
    "sk-narrow": {"team_id": "research", "models": [GROUP, "mid"]},
    **{f"sk-odd-{i}": {"team_id": name} for i, name in enumerate(ODD)},
    "sk-user": {"user_role": "internal_user", "user_id": "u", "team_id": "support"},
}
ARITHMETIC, _, POETRY = (text for _, text in prompts(3))


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle, lambda_=7.0, teams=TEAMS))
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


def call(proxy, path, key="sk-admin", body=None):
    url, headers = f"{proxy.base_url}/erp/{path}", {"Authorization": f"Bearer {key}"}
    method = "GET" if body is None else "POST"
    answer = httpx.request(method, url, headers=headers, json=body, trust_env=False, timeout=120)
    return answer.status_code, answer.json()


def test_an_admin_sees_every_team_also_those_that_only_litellm_knows(proxy, stub):
    served([ask(proxy, key="sk-database")])
    status, body = call(proxy, "teams")
    assert status == 200
    found = {team["team"]: (team["source"], team["goal"]) for team in body["teams"]}
    assert found == {
        "research": ("settings", {"lambda": 0.0}),
        "support": ("settings", {"min_quality": 0.5}),
        "uuid-1": ("team", {"lambda": 5.0}),
    }


@pytest.mark.parametrize("number", range(len(ODD)))
def test_a_team_of_any_name_hides_no_other(proxy, stub, number):
    name, key = ODD[number], f"sk-odd-{number}"
    served([ask(proxy, key=key)])
    status, body = call(proxy, "teams")
    assert status == 200
    assert {name, "research"} <= {team["team"] for team in body["teams"]}
    assert [team["team"] for team in call(proxy, "teams", key)[1]["teams"]] == [name]
    if name.isprintable():
        for asking in ("sk-admin", key):
            status, body = call(proxy, f"teams/{quote(name, safe='')}", asking)
            assert (status, [team["team"] for team in body["teams"]]) == (200, [name])


def test_a_teams_key_sees_its_own_team_only(proxy, stub):
    for path in ("teams", "teams/research"):
        status, body = call(proxy, path, "sk-research")
        assert (status, [team["team"] for team in body["teams"]]) == (200, ["research"])
    assert call(proxy, "teams/support", "sk-research")[0] == 403
    assert call(proxy, "teams/support", "sk-user")[0] == 200
    assert call(proxy, "teams/research", "sk-user")[0] == 403


def test_a_team_is_found_by_its_id_and_by_its_alias(proxy, stub):
    served([ask(proxy, key="sk-database")])
    for name in ("uuid-1", "database"):
        (team,) = call(proxy, f"teams/{name}")[1]["teams"]
        assert (team["team"], team["alias"], team["lambda"]) == ("uuid-1", "database", {"lambda": 5.0})
    assert call(proxy, "teams/nobody")[0] == 404


def test_a_team_is_told_what_it_spent_and_on_which_models(proxy, stub):
    served([ask(proxy, text, key="sk-support") for _, text in prompts(6)])

    def spent():
        return call(proxy, "teams/support")[1]["teams"][0]["spent"]

    wait_until(lambda: spent()["requests"] >= 6)
    assert spent()["usd"] > 0
    assert sum(spent()["share"].values()) == pytest.approx(1)
    assert spent()["saved_against_best_single"] < 1


def test_an_unknown_key_sees_nothing(proxy, stub):
    assert call(proxy, "teams", "sk-nobody")[0] == 401
    assert call(proxy, "explain", "sk-nobody", {"prompt": "x"})[0] == 401


def test_a_team_is_told_what_is_expected_of_its_goal_and_what_it_may_move(proxy, stub):
    (team,) = call(proxy, "teams/research", "sk-research")[1]["teams"]
    assert team["allow_override"] == [0, 2]
    assert team["expected"]["reached"]
    assert team["expected"]["usd_per_1k_requests"] > 0
    assert "erp_settings" in team["why"]


def test_an_explanation_is_what_a_request_then_gets_and_calls_no_model(proxy, stub):
    status, body = call(proxy, "explain", "sk-support", {"prompt": POETRY})
    assert (status, stub.requests()) == (200, [])
    answer = ask(proxy, POETRY, key="sk-support")
    wanted = next(c for c in body["choices"] if f"{c['lambda']:.6g}" == answer.erp["lambda"])
    assert (wanted["model"], wanted["reason"]) == (answer.erp["model"], answer.erp["reason"])
    first = wanted["models"][0]
    assert f"{first['expected_reward']:.6g}" == answer.erp["expected-reward"]
    utilities = [model["utility"] for model in wanted["models"]]
    assert utilities == sorted(utilities, reverse=True)


def test_an_explanation_keeps_to_allow_lists_and_bounds(proxy, stub):
    body = call(proxy, "explain", "sk-narrow", {"prompt": ARITHMETIC, "erp": {"lambda": 9}})[1]
    (choice,) = body["choices"]
    assert ([m["model"] for m in choice["models"]], choice["lambda"], body["source"]) == (["mid"], 2, "request")


def test_only_an_admin_may_ask_for_another_team(proxy, stub):
    body = {"prompt": ARITHMETIC, "team": "support"}
    assert call(proxy, "explain", "sk-admin", body)[1]["team"] == "support"
    assert call(proxy, "explain", "sk-research", body)[0] == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"prompt": 3}, 400), ({"messages": {}}, 400), ({"prompt": "x", "group": "nope"}, 404),
     ({"prompt": "x", "group": [1]}, 404), ({"prompt": "x", "team": {}}, 400), ({"prompt": "x", "team": "nope"}, 404),
     ({"messages": [3, None, {"role": []}]}, 200), ({"prompt": "x", "erp": "🦜", "max_tokens": "many"}, 200),
     ({"prompt": "x", "tools": 5, "response_format": []}, 200), ({"prompt": "x" * 1_000_001}, 413)],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_answered_with_a_reason(proxy, stub, body, status):
    found, answer = call(proxy, "explain", "sk-admin", body)
    assert found == status
    assert status == 200 or answer["error"]["message"]


def test_no_prompt_is_logged(proxy, stub):
    call(proxy, "explain", "sk-admin", {"prompt": "SENTINEL-4711"})
    assert "SENTINEL-4711" not in proxy.log_text()
