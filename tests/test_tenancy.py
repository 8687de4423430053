"""Who gets which λ, and which models."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from litellm_erp.goals import settings as settings_file
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.request_goal import RequestGoal
from litellm_erp.goals.tenant import Claim, Tenant, allowed_members, grant
from litellm_erp.proxy.litellm_request import request_goal_in, tenant_in

MEMBERS = (("small", ()), ("mid", ("cheap",)), ("big", ()))


def group(**options):
    document = {"groups": {"g": {"bundle": "b", "policy": {"lambda": 7}, **options}}}
    return settings_file.parse(document, Path("config.yaml")).groups["g"]


def tenant(team=None, key=None, **fields):
    metadata = {k: {"erp": v} for k, v in (("team_metadata", team), ("key_metadata", key)) if v is not None}
    return Tenant(**{"team_id": "t1", "team_alias": "research", **metadata, **fields})


def test_without_a_team_entry_the_groups_policy_counts():
    assert grant(group(), Tenant()).goal.value == 7


def test_settings_name_a_team_by_its_id():
    assert grant(group(teams={"t1": {"lambda": 1}}), tenant()).goal.value == 1


def test_an_alias_of_another_teams_name_gets_nothing_and_is_told():
    granted = grant(group(teams={"research": {"lambda": 0}}), tenant())
    assert granted.goal.value == 7
    assert "teams_by: alias" in granted.problem


@pytest.mark.parametrize("where", ["group", "top"])
def test_aliases_count_where_the_settings_say_so(where):
    inner, top = ({"teams_by": "alias"}, {}) if where == "group" else ({}, {"teams_by": "alias"})
    document = {"groups": {"g": {"bundle": "b", "teams": {"research": {"lambda": 1}}, **inner}}, **top}
    settings = settings_file.parse(document, Path("config.yaml")).groups["g"]
    granted = grant(settings, tenant())
    assert (granted.goal.value, granted.problem) == (1, None)


def test_the_id_counts_before_the_alias():
    teams = {"research": {"lambda": 1}, "t1": {"lambda": 2}}
    assert grant(group(teams=teams, teams_by="alias"), tenant()).goal.value == 2


def test_an_alias_without_an_id_is_not_taken_for_a_teams_id():
    assert Tenant(team_alias="t1").team_account != Tenant(team_id="t1").team_account


def test_a_team_admin_does_not_write_the_groups_budget_away():
    daily = {"budget_usd": 5, "per": "day", "on_exhausted": "reject"}
    granted = grant(group(policy=daily), tenant(team={"lambda": 0}))
    assert [(c.account, c.goal.form) for c in granted.claims] == [("group", "budget_usd"), ("team:t1", "lambda")]
    open_ = grant(group(policy=daily, allow_override=[1, 4]), tenant(team={"lambda": 0}))
    assert [c.account for c in open_.claims] == ["team:t1"]
    assert open_.bounds.clamp(open_.goal.value) == 1


def test_the_settings_of_a_team_stand_beside_the_groups_budget():
    daily = {"budget_usd": 5, "per": "day"}
    granted = grant(group(policy=daily, teams={"t1": {"lambda": 0}}), tenant(team={"lambda": 3}))
    assert [(c.account, c.goal.value) for c in granted.claims] == [("team:t1", 0)]


def test_team_metadata_counts_where_settings_say_nothing():
    assert grant(group(), tenant(team={"lambda": 3})).goal.value == 3


def test_settings_are_not_loosened_by_team_metadata():
    assert grant(group(teams={"t1": {"lambda": 1}}), tenant(team={"lambda": 0})).goal.value == 1


def test_team_metadata_moves_within_the_bounds_that_settings_give():
    settings = group(teams={"t1": {"lambda": 1, "allow_override": [0.5, 2]}})
    granted = grant(settings, tenant(team={"lambda": 9}))
    assert granted.bounds.clamp(granted.goal.value) == 2


def test_a_key_may_not_state_a_lambda_unless_the_level_above_allows_it():
    refused = grant(group(), tenant(team={"lambda": 3}, key={"lambda": 0}))
    assert (refused.goal.value, refused.refused) == (3, True)
    allowed = grant(group(), tenant(team={"lambda": 3, "allow_override": [1, 4]}, key={"lambda": 0}))
    assert (allowed.refused, allowed.bounds.clamp(allowed.goal.value)) == (False, 1)


def test_a_key_without_a_team_needs_the_groups_leave():
    assert grant(group(), Tenant(key_metadata={"erp": {"lambda": 0}})).refused
    assert not grant(group(allow_override=True), Tenant(key_metadata={"erp": {"lambda": 0}})).refused


def test_a_budget_above_stays_a_floor_under_what_is_asked_for_below():
    settings = group(teams={"t1": {"budget_usd_per_1k_requests": 1, "allow_override": True}})
    granted = grant(settings, tenant(key={"lambda": 0}, key_id="k"))
    assert [(c.account, c.goal.form) for c in granted.claims] == [
        ("team:t1", "budget_usd_per_1k_requests"),
        ("key:k", "lambda"),
    ]
    assert granted.accounts == ("team:t1", "key:k")


def test_a_request_needs_the_leave_of_the_level_above_and_has_no_account():
    settings = group(teams={"t1": {"lambda": 1, "allow_override": [0, 2]}})
    request_goal = RequestGoal(Goal("lambda", 9.0))
    granted = grant(settings, tenant(), request_goal)
    assert (granted.claim, granted.bounds.high) == (Claim("", request_goal.goal, "request"), 2)
    refused = grant(settings, tenant(key={"lambda": 1}), request_goal)
    assert (refused.claim.source, refused.refused) == ("key", True)


@pytest.mark.parametrize("garbage", ["x", 3, [], {"lambda": "x"}, {"lambda": float("nan")}, {"a": {}}, {"lambda": -1}])
def test_metadata_that_makes_no_sense_is_ignored_with_a_reason(garbage):
    granted = grant(group(), tenant(team=garbage))
    assert granted.goal.value == 7
    assert "team metadata" in granted.problem


def test_an_empty_list_and_a_star_allow_every_model():
    assert allowed_members("g", MEMBERS, Tenant()) is None
    assert allowed_members("g", MEMBERS, Tenant(key_models=("*",), team_models=("all-proxy-models",))) is None


def test_where_only_the_group_is_allowed_all_members_are():
    assert allowed_members("g", MEMBERS, Tenant(key_models=("g", "elsewhere"))) is None


def test_a_list_that_names_members_narrows_to_them():
    assert allowed_members("g", MEMBERS, Tenant(key_models=("g", "small", "mid"))) == {"small", "mid"}


def test_key_and_team_narrow_together():
    both = Tenant(key_models=("g", "small", "mid"), team_models=("g", "mid", "big"))
    assert allowed_members("g", MEMBERS, both) == {"mid"}


def test_a_key_with_its_teams_models_has_the_teams():
    assert allowed_members("g", MEMBERS, Tenant(key_models=("all-team-models",), team_models=("g", "big"))) == {"big"}


def test_access_groups_and_wildcards_name_models_too():
    assert allowed_members("g", MEMBERS, Tenant(key_models=("g", "cheap", "b*"))) == {"mid", "big"}


@pytest.mark.parametrize(
    ("listed", "allowed"), [("ours", None), ("s", {"small"}), ("m*", {"mid"}), ("friendly", None), ("tiny", {"small"})]
)
def test_another_name_counts_as_what_it_stands_for(listed, allowed):
    own = (("ours", "g"), ("s", "small"))
    names = ("g", listed) if allowed else (listed,)
    found = allowed_members(
        "g", MEMBERS, Tenant(team_models=names, aliases=own), [("friendly", "g"), ("tiny", "small")]
    )
    assert found == allowed


def test_aliases_of_a_key_and_its_team_are_read_and_odd_ones_are_not():
    auth = SimpleNamespace(aliases={"a": "g", 1: "g", "b": None}, team_model_aliases={"c": {"model": "small"}})
    assert set(tenant_in({"user_api_key_auth": auth}).aliases) == {("a", "g"), ("c", "small")}


def test_odd_metadata_reads_as_nothing():
    odd = {"user_api_key_team_id": 3, "user_api_key_metadata": "x", "user_api_key_auth": SimpleNamespace(models=7)}
    assert tenant_in(odd) == Tenant()


@pytest.mark.parametrize(
    ("metadata", "lambda_"),
    [
        ({"headers": {"x-erp-lambda": " 0.5 "}, "erp": {"lambda": 9}}, 0.5),
        ({"requester_metadata": {"erp": {"lambda": 2}}, "erp": {"lambda": 9}}, 2),
        ({"erp": {"lambda": 3}}, 3),
        ({"requester_metadata": {"erp": '{"lambda": 4}'}}, 4),
    ],
)
def test_a_wish_is_read_from_the_header_then_the_body(metadata, lambda_):
    assert request_goal_in(metadata).goal == Goal("lambda", lambda_)


def test_a_request_that_asks_for_nothing_has_no_wish():
    assert request_goal_in({"headers": {"accept": "*/*"}, "requester_metadata": None, "erp": None}) is None
