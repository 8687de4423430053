"""What a request's note remembers, and what a client is told."""

import json

import pytest

from litellm_erp.budget import Policy
from litellm_erp.headers import Note, response_headers
from litellm_erp.routing import Decision
from litellm_erp.tenancy import Claim, Grant
from litellm_erp.terms import Terms

CLAIM = Claim("team:a", Policy("lambda", 0.25))
DECISION = Decision(
    models=("big", "small"),
    expected_reward={"big": 0.75, "small": 0.5},
    expected_cost={"big": 0.002},
    terms=Terms(0.25, CLAIM),
    reason="routed",
    bundle_id="abc",
    best_single_cost=0.002,
)


def decided(refused=False, retry=False):
    note = Note()
    note.group = "auto"
    note.decided(DECISION, Grant(CLAIM, refused=refused), retry=retry)
    return note


def test_headers_are_of_the_model_that_really_served():
    assert response_headers(decided(), "small", "all") == {
        "x-erp-reason": "routed",
        "x-erp-model": "small",
        "x-erp-bundle": "abc",
        "x-erp-lambda": "0.25",
        "x-erp-expected-reward": "0.5",
    }


@pytest.mark.parametrize(("level", "expected"), [("none", {}), ("reason", {"x-erp-reason": "routed"})])
def test_a_client_sees_no_more_than_the_settings_allow(level, expected):
    assert response_headers(decided(), "big", level) == expected


def test_an_ignored_wish_is_told():
    assert response_headers(decided(refused=True), "big", "reason") == {"x-erp-reason": "routed;override-ignored"}


def test_a_response_from_outside_the_group_says_nothing_of_the_choice():
    assert response_headers(decided(), None, "all") == {"x-erp-reason": "fallback:other-group"}


def test_a_fallback_forgets_the_choice_but_not_what_failed():
    note = decided()
    note.failed({"previous_models": ({},), "model_info": {"id": "a"}})
    note.fell_back("error")
    assert (note.model, note.reason, note["failed"]) == ("", "fallback:error", ["a"])


def test_nothing_has_failed_at_the_first_pick_whatever_a_client_sent():
    planted = {"previous_models": [{"metadata": {"model_info": {"id": "a"}}}], "model_info": {"id": "a"}}
    assert Note().failed(planted) == frozenset()


def test_each_later_pick_adds_what_was_tried_last():
    note = decided()
    assert note.failed({"previous_models": [{}], "model_info": {"id": "a"}}) == {"a"}
    assert note.failed({"previous_models": [{}], "model_info": {"id": 7}}) == {"a", "7"}
    assert note.failed({"previous_models": [{}], "model_info": None}) == {"a", "7"}


def test_a_second_pick_without_a_failure_is_no_retry():
    assert decided().failed({"model_info": {"id": "a"}}) == frozenset()


def test_whoever_logs_metadata_can_write_a_note_down():
    assert json.loads(json.dumps(decided()))["model"] == "big"
