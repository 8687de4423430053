"""The decision log's lines: what is written is read back, and what is none is one error."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.decision_log.desk import FeedbackDesk
from litellm_erp.decision_log.record import Candidate, Feedback, Record, parse_line, to_line
from litellm_erp.errors import DecisionLogError

RECORD = Record(
    time=1764547200.5,
    request_id="abc",
    group="erp-auto",
    mode="percent",
    arm="baseline",
    account="team:research",
    team="research",
    bundle="b1",
    lambda_=0.25,
    reason="shadow",
    candidates={"small": Candidate(0.61, 0.02, 1.2e-5), "mid": Candidate(None, None, None)},
    chosen="mid",
    served="small",
    propensity={"small": 0.3, "mid": 0.7},
    input_tokens=120.0,
    output_tokens=88.0,
    cost_usd=3.1e-5,
    latency_s=0.84,
)
FEEDBACK = Feedback(time=1.0, request_id="abc", reward=0.8, account="team:research")
LINE = json.loads(to_line(RECORD))


@pytest.mark.parametrize("entry", [RECORD, FEEDBACK, Record(time=1.0, request_id="a", group="g")])
def test_a_line_is_read_as_it_was_written(entry: Record | Feedback) -> None:
    line = to_line(entry)
    assert parse_line(line) == entry
    assert parse_line(line.encode()) == entry
    assert line.count("\n") == 1


def test_keys_and_kinds_of_later_versions_are_passed_over() -> None:
    assert parse_line(json.dumps(LINE | {"colour": "red"})) == RECORD
    assert parse_line(json.dumps({"v": 1, "kind": "weather"})) is None
    assert parse_line("\n") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("v", 2),
        ("time", "now"),
        ("request_id", ""),
        ("request_id", "x" * 201),
        ("mode", "sideways"),
        ("candidates", []),
        ("candidates", {"small": 1}),
        ("propensity", {"small": 0.3}),
        ("propensity", {"small": 2.0, "mid": -1.0}),
        ("cost_usd", -1),
        ("failed", "no"),
        ("lambda", math.nan),
    ],
)
def test_what_breaks_the_contract_is_one_error_that_names_the_key(key: str, value: object) -> None:
    with pytest.raises(DecisionLogError, match=key):
        parse_line(json.dumps(LINE | {key: value}))


@given(st.integers(min_value=1, max_value=len(to_line(RECORD)) - 3))
def test_a_torn_line_is_one_error(kept: int) -> None:
    with pytest.raises(DecisionLogError):
        parse_line(to_line(RECORD)[:kept])


def test_numbers_that_are_none_become_null() -> None:
    odd = Record(time=1.0, request_id="a", group="g", cost_usd=math.inf, candidates={"m": Candidate(math.nan)})
    read = parse_line(to_line(odd))
    assert isinstance(read, Record)
    assert read.cost_usd is None
    assert read.candidates["m"].expected_reward is None


def test_feedback_counts_for_its_own_account_only() -> None:
    assert FEEDBACK.is_of(RECORD)
    assert not Feedback(time=1.0, request_id="abc", reward=1.0, account="team:other").is_of(RECORD)
    assert Feedback(time=1.0, request_id="abc", reward=1.0, source="score").is_of(RECORD)


def test_feedback_that_comes_before_the_answers_line_is_its_own_teams_or_foreign():
    desk = FeedbackDesk()
    desk.expect("r1", "team:a", "erp-auto")
    assert desk.judge("r1", "team:b", "key:b") == "foreign"
    assert desk.judge("r1", "team:a", "key:a") == "verified"
    assert desk.asked("r1", "team:a") == ("erp-auto", None)
    assert desk.asked("r1", "team:b") is None
    # A client may choose its ids, and take another's.
    desk.expect("r1", "team:b", "erp-auto")
    assert desk.judge("r1", "team:b", "key:b") == "verified"
    assert desk.judge("r1", "team:a", "key:a") == "repeated"
