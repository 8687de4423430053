"""What was planted in the outcomes is found by `erp-train fit` and routed on by a real proxy.

λ comes from whoever may state it: the admin's settings, the team's metadata, the key's metadata; never the client.
"""

from collections import Counter
from typing import Any

import pytest

from demo.proxy_process import ProxyProcess, StubProcess
from litellm_erp.bundle.load import load_bundle
from tests.harness import GROUP, ask, proxy_config, served, write_keys
from tests.pools import CHEAPEST, add_group, ask_all, erp_settings, group_settings, prompts

pytestmark = pytest.mark.proxy

GARBAGE: dict[str, Any] = {
    "text": "loud",
    "number": 3,
    "list": [{"lambda": 1}],
    "nan": {"lambda": float("nan")},
    "infinite": {"lambda": float("inf")},
    "negative": {"lambda": -1},
    "numeral": {"lambda": "0.5"},
    "nested": {"lambda": {"lambda": {"lambda": 1}}},
    "two-goals": {"lambda": 1, "min_quality": 0.9},
    "unknown-key": {"lamda": 1},
    "bad-bounds": {"lambda": 1, "allow_override": [2, 1]},
}
TEAMS = {
    "support": {"lambda": CHEAPEST},
    "labs": {"lambda": 0, "allow_override": [0.1, 0.5]},
    "thrift": {"budget_usd_per_1k_requests": 0.3},
    "quality": {"min_quality": 0.9},
}
KEYS: dict[str, dict[str, Any]] = {
    "sk-research": {},
    "sk-support": {"team_metadata": {"erp": {"lambda": 0}}},
    "sk-support-wish": {"team_id": "support", "metadata": {"erp": {"lambda": 0}}},
    "sk-labs": {"metadata": {"erp": {"lambda": 100}}},
    "sk-labs-low": {"team_id": "labs", "metadata": {"erp": {"lambda": 0.01}}},
    "sk-labs-inside": {"team_id": "labs", "metadata": {"erp": {"lambda": 0.25}}},
    "sk-labs-budget": {"team_id": "labs", "team_metadata": {"erp": {"budget_usd_per_1k_requests": 0.05}}},
    "sk-labs-nested": {
        "team_id": "labs",
        "team_metadata": {"erp": {"lambda": 0.2, "allow_override": True}},
        "metadata": {"erp": {"lambda": CHEAPEST}},
    },
    "sk-thrift": {},
    "sk-quality": {},
    "sk-by-alias": {"team_id": "7d1f", "team_alias": "support"},
    "sk-metadata": {"team_metadata": {"erp": {"lambda": CHEAPEST}}},
    "sk-metadata-open": {
        "team_metadata": {"erp": {"lambda": 0, "allow_override": True}},
        "metadata": {"erp": {"lambda": CHEAPEST}},
    },
    "sk-wish": {"metadata": {"erp": {"lambda": CHEAPEST}}},
    **{f"sk-team-{name}": {"team_metadata": {"erp": value}} for name, value in GARBAGE.items()},
    **{f"sk-key-{name}": {"team_id": "labs", "metadata": {"erp": value}} for name, value in GARBAGE.items()},
}


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, shuffled_bundle, tmp_path_factory) -> ProxyProcess:
    groups = {
        "erp-shuffled": group_settings(shuffled_bundle),
        "erp-cheap": group_settings(planted_bundle, lambda_=CHEAPEST),
    }
    config = proxy_config(
        stub_process, erp_settings=erp_settings(planted_bundle, groups, teams=TEAMS, teams_by="alias")
    )
    for name in groups:
        add_group(config, stub_process, name)
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


def answers_for(proxy: ProxyProcess, group: str, count: int = 30):
    asked = prompts(count)
    requests = [{"prompt": text, "model": group, "user": f"u{i}"} for i, (_, text) in enumerate(asked)]
    return [best for best, _ in asked], ask_all(proxy, requests)


def test_at_lambda_zero_each_kind_goes_to_the_model_that_is_best_at_it(proxy: ProxyProcess, stub: StubProcess):
    best, answers = answers_for(proxy, GROUP, 60)
    right = Counter(b for b, got in zip(best, served(answers), strict=True) if b == got)
    assert all(count >= 18 for count in right.values()), right
    assert len(right) == 3


def test_the_header_names_the_model_that_the_upstream_saw(proxy: ProxyProcess, stub: StubProcess):
    _, answers = answers_for(proxy, GROUP)
    seen = {record["user"]: record["model"] for record in stub.requests()}
    assert len(seen) == 30
    assert {f"u{i}": answer.erp["model"] for i, answer in enumerate(answers)} == seen


def test_a_decision_is_explained_by_lambda_reward_cost_and_bundle(proxy, stub, planted_bundle):
    answer = ask(proxy, prompts(1)[0][1])
    assert (answer.erp["model"], answer.erp["lambda"], answer.erp["reason"]) == ("small", "0", "routed")
    # Above small's mean, below its reward on arithmetic: predictions lean towards the mean.
    assert 0.5 < float(answer.erp["expected-reward"]) < 1
    assert 0 < float(answer.erp["expected-cost-usd"]) < 0.001
    assert answer.erp["bundle"] == load_bundle(planted_bundle).id


def test_shuffled_rewards_send_everything_to_the_best_single_model(proxy, stub, shuffled_bundle):
    _, answers = answers_for(proxy, "erp-shuffled")
    assert Counter(served(answers)) == {"big": 30}
    assert {answer.erp["reason"] for answer in answers} == {"safe-default"}
    assert load_bundle(shuffled_bundle).frontier.document["verdict"]["helps"] is False


def test_a_high_lambda_sends_everything_to_the_cheapest(proxy: ProxyProcess, stub: StubProcess):
    _, answers = answers_for(proxy, "erp-cheap")
    assert Counter(served(answers)) == {"small": 30}


@pytest.mark.parametrize(
    ("key", "lambda_", "reason"),
    [
        pytest.param("sk-research", 0, "", id="no-settings-of-its-own"),
        pytest.param("sk-support", CHEAPEST, "", id="settings-before-team-metadata"),
        pytest.param("sk-by-alias", CHEAPEST, "", id="settings-by-alias"),
        pytest.param("sk-metadata", CHEAPEST, "", id="team-metadata"),
        pytest.param("sk-metadata-open", CHEAPEST, "", id="key-where-the-team-metadata-allows-it"),
        pytest.param("sk-labs", 0.5, "", id="key-clamped-to-the-maximum"),
        pytest.param("sk-labs-low", 0.1, "", id="key-clamped-to-the-minimum"),
        pytest.param("sk-labs-inside", 0.25, "", id="key-within-the-bounds"),
        pytest.param("sk-labs-budget", 0.5, "", id="a-budget-of-the-team-clamped-too"),
        pytest.param("sk-labs-nested", 0.5, "", id="key-within-the-bounds-of-settings-and-metadata"),
        pytest.param("sk-support-wish", CHEAPEST, ";override-ignored", id="key-refused-by-the-team"),
        pytest.param("sk-wish", 0, ";override-ignored", id="key-refused-by-the-group"),
    ],
)
def test_lambda_is_the_one_that_may_be_stated(proxy, stub, key, lambda_, reason):
    answer = ask(proxy, prompts(1)[0][1], key=key)
    assert float(answer.erp["lambda"]) == lambda_
    assert answer.erp["reason"].endswith(reason)
    assert (";override-ignored" in answer.erp["reason"]) == bool(reason)


@pytest.mark.parametrize("key", ["sk-thrift", "sk-quality"])
def test_a_budget_and_a_quality_floor_become_a_lambda(proxy, stub, key):
    asked = [{"prompt": text, "key": key} for _, text in prompts(30)]
    answers = ask_all(proxy, asked)
    assert {float(answer.erp["lambda"]) for answer in answers} != {0.0}
    assert Counter(served(answers))["big"] < 10


@pytest.mark.parametrize(("owner", "reason"), [("team", "routed"), ("key", "routed;override-ignored")])
def test_garbage_in_metadata_is_as_if_it_were_not_there(proxy, stub, owner, reason):
    answers = [ask(proxy, prompts(1)[0][1], key=f"sk-{owner}-{name}") for name in GARBAGE]
    assert set(served(answers)) == {"small"}
    assert {(answer.erp["lambda"], answer.erp["reason"]) for answer in answers} == {("0", reason)}


@pytest.mark.parametrize("route", ["chat", "responses", "messages", "completions"])
@pytest.mark.parametrize("field", ["metadata", "litellm_metadata"])
def test_a_client_cannot_pass_for_another_team(proxy, stub, route, field):
    claims = {"user_api_key_team_id": "support", "user_api_key_team_alias": "support", "team_id": "support"}
    best, prompt = prompts(3)[2]
    answer = ask(proxy, prompt, route=route, **{field: claims})
    assert served([answer]) == [best]
    assert answer.erp["lambda"] == "0"
