"""Who may state a λ, on a real proxy: nobody leaves the bounds, nothing a client sends is an error."""

import json
from typing import Any

import pytest

from demo.proxy_process import ProxyProcess
from tests.harness import TEXT_ROUTES, ask, proxy_config, write_keys
from tests.pools import ask_all, erp_settings

pytestmark = pytest.mark.proxy

CLOSED, OPEN, TIGHT, PAID = "closed", "open", "tight", "paid"
TEAMS: dict[str, dict[str, Any]] = {
    CLOSED: {"lambda": 2},
    OPEN: {"lambda": 2, "allow_override": True},
    TIGHT: {"lambda": 2, "allow_override": [1, 4]},
    # Dear enough that its own λ is above 0.
    PAID: {"budget_usd_per_1k_requests": 0.4, "allow_override": [0, 1000]},
}
KEYS: dict[str, dict[str, Any]] = {
    **{f"sk-{team}": {"team_id": team} for team in TEAMS},
    "sk-own": {"team_id": TIGHT, "metadata": {"erp": {"lambda": 3, "allow_override": [0, 3.5]}}},
    "sk-greedy": {"team_id": TIGHT, "metadata": {"erp": {"lambda": 0, "allow_override": True}}},
    "sk-forbidden": {"team_id": CLOSED, "metadata": {"erp": {"lambda": 0, "allow_override": True}}},
    "sk-selfish": {"team_id": PAID, "metadata": {"erp": {"lambda": 0, "allow_override": True}}},
    "sk-broken": {"team_id": TIGHT, "metadata": {"erp": {"lambda": "x"}}},
    "sk-wide": {"team_id": TIGHT, "metadata": {"erp": {"budget_usd_per_1k_requests": 1e9}}},
}
NESTED: Any = {"lambda": 0}
for _ in range(60):
    NESTED = {"a": [NESTED]}
# What no request may be granted, as a header and as a value of metadata.erp.
BAD_HEADERS = ["", "x", "nan", "inf", "-inf", "-1", "0x1", "1,5", "1 2", "1_0", "{}", "9" * 400, "1e999", "--1"]
BAD_VALUES: list[Any] = [
    "x", True, 3, -1, [], [0], {}, {"lambda": None}, {"lambda": "0"}, {"lambda": -1}, {"lambda": True},
    {"lambda": [0]}, {"lambda": {"lambda": 0}}, {"lambda": 0, "min_quality": 1}, {"λ": 0}, {"min_quality": 1.5},
    {"budget_usd": 5, "per": "day"}, {"budget_usd_per_1k_requests": -1}, {"allow_override": True}, NESTED,
    '{"lambda": ', '{"lambda": NaN}', '{"lambda": -1}', "[" * 5000, '{"a":' * 3000, "🦜" * 2000, 10**300, "١",
]  # fmt: skip


@pytest.fixture(scope="module")
def proxy(start_module_proxy, stub_process, planted_bundle, tmp_path_factory) -> ProxyProcess:
    config = proxy_config(stub_process, erp_settings=erp_settings(planted_bundle, lambda_=7.0, teams=TEAMS))
    return start_module_proxy(config, env=write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEYS))


def asked(proxy, team, **request):
    answer = ask(proxy, key=f"sk-{team}", **request)
    assert answer.status == 200, answer.text[:300]
    return float(answer.erp["lambda"]), answer.erp["reason"].endswith(";override-ignored")


def header(value):
    return {"headers": {"x-erp-lambda": value}}


def metadata(value):
    return {"metadata": {"erp": value}}


@pytest.mark.parametrize("wish", [header("3"), metadata({"lambda": 3}), metadata("3"), metadata('{"lambda": 3}')])
@pytest.mark.parametrize(("team", "expected"), [(CLOSED, (2, True)), (OPEN, (3, False)), (TIGHT, (3, False))])
def test_a_request_states_its_lambda_only_where_its_team_allows_it(proxy, stub, team, expected, wish):
    assert asked(proxy, team, **wish) == expected


@pytest.mark.parametrize(("sent", "granted"), [("0", 1), ("1", 1), ("2.5", 2.5), ("4", 4), ("1e308", 4), ("1e-300", 1)])
def test_what_is_out_of_bounds_is_moved_to_the_nearest(proxy, stub, sent, granted):
    assert asked(proxy, TIGHT, **header(sent)) == (granted, False)


def test_without_bounds_a_huge_lambda_is_still_a_number(proxy, stub):
    lambda_, ignored = asked(proxy, OPEN, **metadata({"lambda": 1e308}))
    assert (lambda_, ignored) == (1e12, False)


@pytest.mark.parametrize("goal", ["budget_usd_per_1k_requests", "min_quality"])
def test_a_budget_or_a_floor_is_solved_to_a_lambda_and_kept_within_bounds(proxy, stub, goal):
    for value in (0, 0.3, 1):
        lambda_, ignored = asked(proxy, TIGHT, **metadata({goal: value}))
        assert 1 <= lambda_ <= 4
        assert not ignored


@pytest.mark.parametrize("team", [CLOSED, OPEN, TIGHT])
def test_nonsense_is_ignored_with_a_reason_and_never_an_error(proxy, stub, team):
    wishes = [header(value) for value in BAD_HEADERS] + [metadata(value) for value in BAD_VALUES if value != 3]
    answers = ask_all(proxy, [{"key": f"sk-{team}", **wish} for wish in wishes])
    assert [(i, a.status, a.text[:200]) for i, a in enumerate(answers) if a.status != 200] == []
    assert {(a.erp["lambda"], a.erp["reason"].partition(";")[2]) for a in answers} == {("2", "override-ignored")}


@pytest.mark.parametrize(("route", "stream"), TEXT_ROUTES)
@pytest.mark.parametrize("wish", [header("3"), metadata({"lambda": 3})], ids=["header", "metadata"])
def test_every_route_sees_the_wish(proxy, stub, route, stream, wish):
    assert asked(proxy, TIGHT, route=route, stream=stream, **wish) == (3, False)
    assert asked(proxy, CLOSED, route=route, stream=stream, **wish) == (2, True)


@pytest.mark.parametrize(("route", "stream"), TEXT_ROUTES)
@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
def test_a_client_cannot_pose_as_another_team_or_key(proxy, stub, route, stream, place):
    spoofed = {
        "user_api_key_team_id": OPEN,
        "user_api_key_team_alias": OPEN,
        "user_api_key_team_metadata": {"erp": {"lambda": 0, "allow_override": True}},
        "user_api_key_metadata": {"erp": {"lambda": 0, "allow_override": True}},
        "user_api_key_auth": {"team_id": OPEN},
        "team_id": OPEN,
    }
    headers = {"x-litellm-team-id": OPEN, "x-erp-team": OPEN, "x-litellm-tags": OPEN}
    plain = {"headers": headers, place: spoofed, "team_id": OPEN, "user": OPEN}
    assert asked(proxy, CLOSED, route=route, stream=stream, **plain) == (2, False)
    wish = {**plain, "headers": {**headers, "x-erp-lambda": "0"}}
    assert asked(proxy, CLOSED, route=route, stream=stream, **wish) == (2, True)


@pytest.mark.parametrize(
    ("key", "wish", "expected"),
    [
        ("own", {}, (3, False)),
        ("own", header("9"), (3.5, False)),
        ("own", header("0"), (1, False)),
        ("greedy", {}, (1, False)),
        ("greedy", header("0"), (1, False)),
        ("greedy", header("9"), (4, False)),
        ("forbidden", {}, (2, True)),
        ("forbidden", header("0"), (2, True)),
        ("broken", {}, (2, True)),
        ("wide", {}, (1, False)),
    ],
)
def test_a_key_moves_within_its_teams_bounds(proxy, stub, key, wish, expected):
    assert asked(proxy, key, **wish) == expected


def test_neither_a_key_nor_a_request_loosens_a_teams_budget(proxy, stub):
    own = {asked(proxy, PAID)[0] for _ in range(20)}
    assert min(own) > 0
    wishes = [{}, header("0"), metadata({"budget_usd_per_1k_requests": 1e6})]
    for key in (PAID, "selfish"):
        assert {asked(proxy, key, **wish)[0] for wish in wishes for _ in range(5)} <= own
        assert asked(proxy, key, **metadata({"min_quality": 1}))[0] >= min(own)
    # Spending less is everybody's to choose.
    assert asked(proxy, "selfish", **header("900"))[0] == 900


def test_the_log_quotes_nothing_a_client_sent(proxy, stub):
    asked(proxy, TIGHT, **metadata({"lambda": "SENTINEL-4711"}))
    ask(proxy, key="sk-tight", headers={"x-erp-lambda": json.dumps("SENTINEL-4711")})
    assert "SENTINEL-4711" not in proxy.log_text()
