"""The ring of recent decisions: bounded, of numbers that JSON can hold, and each team's for itself."""

import json
import math

import pytest

from litellm_erp.goals.tenant import Tenant
from litellm_erp.serving.call_cost import FinishedCall
from litellm_erp.serving.note import Note
from litellm_erp.serving.recent import RecentDecisions

TEAM, OTHER = Tenant(team_id="a"), Tenant(team_alias="a")
KEY, NOBODY = Tenant(key_id="k"), Tenant()


@pytest.fixture
def recent():
    return RecentDecisions()


def note(tenant, **held):
    made = Note(held)
    made.group, made.model, made.reason, made.tenant = "erp-auto", "small", "routed", tenant
    return made


def test_only_the_last_five_hundred_are_kept(recent):
    for i in range(1200):
        recent.failed(note(TEAM), {"litellm_call_id": str(i)})
    found = recent.of(None, 10_000)
    assert [d["request_id"] for d in found] == [str(i) for i in range(1199, 699, -1)]


def test_nobody_sees_what_is_anothers(recent):
    for tenant in (TEAM, OTHER, KEY, NOBODY, None):
        recent.failed(note(tenant), {})
    assert [len(recent.of(t, 10)) for t in (TEAM, OTHER, KEY, NOBODY, Tenant(key_id="l"), None)] == [1, 1, 1, 0, 0, 5]


def test_a_request_that_asked_no_routed_group_is_not_kept(recent):
    recent.failed(Note(), {"litellm_call_id": "x"})
    assert recent.of(None, 10) == []


def test_odd_numbers_and_names_become_json_all_the_same(recent):
    odd = note(TEAM, expected_reward={"small": math.nan, "big": 0.5}, expected_cost_usd={"small": math.inf})
    odd["lambda"] = math.inf
    call = FinishedCall(usd=None, tokens_in=None, tokens_out=math.inf)
    recent.answered(
        odd, call, None, "cached", {"litellm_call_id": {"not": "text"}, "start_time": 1, "messages": "secret"}
    )
    (found,) = recent.of(None, 10)
    assert "secret" not in json.dumps(found, allow_nan=False)
    assert found["candidates"] == {
        "small": {"expected_reward": None, "expected_cost_usd": None},
        "big": {"expected_reward": 0.5, "expected_cost_usd": None},
    }
    assert (found["followed"], found["failed"], found["request_id"]) == (False, False, None)
