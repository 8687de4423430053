"""What a request's note remembers, and what a client is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.goals.goal import Goal
from litellm_erp.goals.lambda_of import RequestLambda
from litellm_erp.goals.tenant import Claim, Grant
from litellm_erp.serving.note import Decision, Note, header_value, response_headers

CLAIM = Claim("team:a", Goal("lambda", 0.25))
DECISION = Decision(
    models=("big", "small"),
    expected_reward={"big": 0.75, "small": 0.5},
    expected_cost={"big": 0.002},
    request_lambda=RequestLambda(0.25, CLAIM),
    reason="routed",
    bundle_id="abc",
    best_single_cost=0.002,
)


RETRY = True


def decided(refused=False):
    note = Note()
    note.asked("auto")
    note.decided(DECISION, Grant(CLAIM, refused=refused), "big", "routed")
    note.left_in = frozenset({"b1", "b2"})
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
    assert response_headers(decided(), None, "all", "other-group") == {"x-erp-reason": "fallback:other-group"}


@pytest.mark.parametrize("outcome", ["cached", "not-followed"])
def test_what_became_of_the_choice_counts_before_why_it_was_made(outcome):
    headers = response_headers(decided(), "small", "all", outcome)
    assert (headers["x-erp-reason"], headers["x-erp-model"]) == (outcome, "small")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o mini", "gpt-4o mini"),
        ("模型-big", "%E6%A8%A1%E5%9E%8B-big"),
        ("a\r\nset-cookie: b", "a%0D%0Aset-cookie:%20b"),
        ("100%", "100%25"),
        ("😀", "%F0%9F%98%80"),
        ("\ud800", "?"),
    ],
)
def test_any_name_fits_a_header(name, expected):
    assert header_value(name) == expected


@given(st.text(max_size=400))
def test_a_header_is_one_line_of_printable_ascii_whatever_the_name(name):
    value = header_value(name)
    assert value.isascii()
    assert value.isprintable()
    assert len(value) <= 256
    assert value == value.strip()


@pytest.mark.parametrize(
    ("group", "served", "cached", "expected"),
    [
        ("auto", "b1", False, "followed"),
        ("auto", "b1", True, "cached"),
        ("auto", "s1", False, "not-followed"),
        ("auto", "elsewhere", False, "other-group"),
        ("other", "s1", False, "other-group"),
        ("friendly", "b1", False, "followed"),
        (None, "", False, "followed"),
    ],
)
def test_what_served_is_compared_with_what_was_left_in(group, served, cached, expected):
    assert decided().following(group, served, {"b1", "b2", "s1"}, {"friendly"}, cached=cached) == expected


def test_where_nothing_was_decided_nothing_can_be_disobeyed():
    note = Note()
    note.asked("auto")
    assert note.following("auto", "s1", {"s1"}, (), cached=False) == "followed"


def test_a_fallback_forgets_the_choice_but_not_what_failed():
    note = decided()
    note.called = "b1"
    note.failed(RETRY)
    note.fell_back("error")
    assert (note.model, note.reason, note["failed"]) == ("", "fallback:error", ["b1"])


def test_nothing_has_failed_at_the_first_pick_whatever_a_client_sent():
    planted = {"previous_models": [{"metadata": {"model_info": {"id": "a"}}}], "model_info": {"id": "a"}}
    assert Note().failed(planted) == frozenset()


def test_each_later_pick_adds_what_was_called_last():
    note = decided()
    note.called = "b1"
    assert note.failed(RETRY) == {"b1"}
    note.left_in, note.called = frozenset({"s1"}), "s1"
    assert note.failed(RETRY) == {"b1", "s1"}


def test_what_was_left_in_and_never_called_was_taken_out_by_a_later_filter():
    assert decided().failed(RETRY) == {"b1", "b2"}


def test_what_was_dropped_is_counted_by_group():
    note = decided()
    note.failed(RETRY)
    assert (note.picks, note.dropped) == (1, 1)
    note.left_in, note.called = frozenset({"s1"}), "s1"
    note.failed(RETRY)
    assert (note.picks, note.dropped) == (2, 1)
    note.asked("another")
    assert (note.picks, note.dropped) == (0, 0)


def test_what_litellm_was_left_after_a_fallback_is_followed():
    note = decided()
    note.fell_back("order-fallback", ["s1"])
    assert note.following("auto", "s1", {"b1", "s1"}, (), cached=False) == "followed"


def test_a_second_pick_without_a_failure_is_no_retry():
    note = decided()
    note.called = "b1"
    assert note.failed(False) == frozenset()


def test_whoever_logs_metadata_can_write_a_note_down():
    assert json.loads(json.dumps(decided()))["model"] == "big"


def test_who_answered_is_one_that_was_called_whatever_is_stated():
    note = Note()
    assert note.answered_by("stated") == "stated"
    note.calls("first")
    note.calls("")
    note.calls("second")
    assert [note.answered_by(stated) for stated in ("first", "second", "", "spoofed")] == [
        *("first", "second"),
        *("second", "second"),
    ]
