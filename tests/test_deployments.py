"""LiteLLM's deployments as pool models."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_erp.choice.cost import Price
from litellm_erp.serving.deployments import MemberTable, Needs, capabilities_used, narrowed, pool_price

KNOWN = {"openai/gpt-known": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "supports_vision": True}}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]


def deployment(name="small", id_="d1", info=None, **params):
    return {
        "model_name": name,
        "litellm_params": {"model": f"openai/{name}", **params},
        "model_info": {"id": id_, **(info or {})},
    }


@pytest.fixture
def members():
    return MemberTable(KNOWN.get)


def test_a_deployment_belongs_to_the_pool_model_it_names(members):
    assert members.member(deployment()).pool_model == "small"
    assert members.member(deployment(id_="d2", info={"erp_model": "org/small"})).pool_model == "org/small"


def test_its_own_price_counts_before_litellms_map(members):
    own = deployment("gpt-known", "d1", input_cost_per_token=5e-6, output_cost_per_token=0)
    assert members.member(own).price == Price(5.0, 0.0)
    mapped = members.member(deployment("gpt-known", "d2"))
    assert (mapped.price, mapped.map_price) == (None, Price(1.0, 2.0))


@pytest.mark.parametrize("price", ["x", float("nan"), -1.0, [1]])
def test_a_price_that_is_no_price_counts_as_none(members, price):
    assert members.member(deployment(input_cost_per_token=price, output_cost_per_token=1e-6)).price is None


def test_a_replaced_deployment_is_read_again(members):
    members.member(deployment(input_cost_per_token=1e-6, output_cost_per_token=1e-6))
    again = members.member(deployment(input_cost_per_token=9e-6, output_cost_per_token=1e-6))
    assert again.price == Price(9.0, 1.0)


def left(members, offered, models, failed=(), needs=None):
    """Ids of what is left in."""
    kept = narrowed([members.member(d) for d in offered], models, failed, needs)
    return [offered[i]["model_info"]["id"] for i in kept]


POOL = [deployment("small", "a"), deployment("small", "b"), deployment("big", "c")]


def test_the_replicas_of_the_best_model_are_left_in(members):
    assert left(members, POOL, ["small", "big"]) == ["a", "b"]
    assert left(members, POOL, ["big", "small"]) == ["c"]


@given(st.lists(st.sampled_from(["x", "y", "z"]), max_size=6), st.permutations(["x", "y", "z", "unheard of"]))
def test_a_request_that_needs_nothing_gets_what_one_that_fits_everywhere_gets(names, models):
    members = MemberTable(KNOWN.get)
    offered = [deployment(name, str(i)) for i, name in enumerate(names)]
    assert left(members, offered, models) == left(members, offered, models, needs=Needs(input_tokens=1.0))


@pytest.mark.parametrize(
    ("failed", "expected"), [({"a"}, ["b"]), ({"a", "b"}, ["c"]), ({"a", "b", "c"}, ["a", "b"]), ({"c"}, ["a", "b"])]
)
def test_what_failed_comes_last_and_its_sister_stays(members, failed, expected):
    assert left(members, POOL, ["small", "big"], failed) == expected


def test_an_excluded_model_is_never_left_in(members):
    assert left(members, [deployment("new", "b"), *POOL], ["small"], {"a", "b"}) == ["a", "b"]


def windows(**tokens):
    return [deployment(name, name, info={"max_input_tokens": n}) for name, n in tokens.items()]


@pytest.mark.parametrize(
    ("input_tokens", "answer_tokens", "expected"),
    [(0, 0, 0), (90, 0, 0), (95, 0, 1), (80, 50, 1), (101, 0, 2), (math.inf, 0, 1)],
)
def test_a_window_fits_is_close_or_is_too_narrow(members, input_tokens, answer_tokens, expected):
    member = members.member(windows(small=100)[0])
    assert Needs(input_tokens=input_tokens, answer_tokens=answer_tokens).window_tier(member) == expected


def test_a_window_that_nobody_states_fits_everything(members):
    assert Needs(input_tokens=1e9).window_tier(members.member(deployment())) == 0


def test_an_answer_longer_than_a_model_gives_is_not_sure_to_be_served(members):
    member = members.member(deployment(info={"max_output_tokens": 50}))
    assert [Needs(input_tokens=1, answer_tokens=n).window_tier(member) for n in (50, 51)] == [0, 1]


def test_where_no_window_is_surely_wide_enough_wider_ones_stay_in_for_whoever_counts_exactly(members):
    offered = windows(small=100, mid=105, big=90)
    assert left(members, offered, ["small", "mid", "big"], needs=Needs(input_tokens=99)) == ["small", "mid"]


def test_of_the_replicas_those_that_the_request_fits_are_left_in(members):
    offered = [deployment("small", str(n), info={"max_input_tokens": n}) for n in (100, 1000)]
    assert left(members, offered, ["small"], needs=Needs(input_tokens=500)) == ["1000"]


@given(st.data())
def test_something_is_left_in_and_never_what_failed_beside_what_has_not(data):
    members = MemberTable(lambda name: None)
    names = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8))
    sizes = st.one_of(st.none(), st.integers(1, 100))
    offered = [deployment(n, str(i), info={"max_input_tokens": data.draw(sizes)}) for i, n in enumerate(names)]
    failed = data.draw(st.sets(st.sampled_from([str(i) for i in range(len(names))])))
    models = data.draw(st.permutations(sorted(set(names))))
    needs = Needs(input_tokens=data.draw(st.sampled_from([0, 50, 100, math.inf])))
    found = set(left(members, offered, models, failed, needs))
    assert found
    # What has no room fails for certain, whatever failed before may be well by now.
    roomy = {d["model_info"]["id"] for d in offered if needs.window_tier(members.member(d)) < 2}
    assert found <= roomy or not roomy
    if (roomy or {str(i) for i in range(len(names))}) - failed:
        assert not failed & found


@pytest.mark.parametrize(
    ("messages", "request_", "expected"),
    [
        (None, {}, (False, False, False)),
        (IMAGE, {}, (True, False, False)),
        (None, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, (True, False, False)),
        (None, {"tools": [{}]}, (False, True, False)),
        (None, {"response_format": {"type": "json_schema"}}, (False, False, True)),
        (None, {"response_format": {"type": "text"}}, (False, False, False)),
        (None, {"text": {"format": {"type": "json_schema"}}}, (False, False, True)),
        ([None, 3, {"content": 7}], {"tools": []}, (False, False, False)),
        ([{"content": [{"type": ["image_url"]}, {"type": {}}, None, "x"]}], {}, (False, False, False)),
        (None, {"response_format": {"type": ["json_schema"]}}, (False, False, False)),
    ],
)
def test_what_a_request_needs(messages, request_, expected):
    assert capabilities_used(messages, request_) == expected


def test_declared_support_comes_before_unknown_before_missing(members):
    declared = members.member(deployment("a", "1", info={"supports_vision": True}))
    unknown = members.member(deployment("b", "2"))
    missing = members.member(deployment("c", "3", info={"supports_vision": False}))
    assert [Needs((True, False, False)).tier(m) for m in (declared, unknown, missing)] == [0, 1, 2]
    assert Needs().tier(missing) == 0


def test_litellms_map_says_what_a_model_can_and_cannot_do(members):
    known = members.member(deployment("gpt-known", "1"))
    assert (Needs((True, False, False)).tier(known), Needs((False, True, False)).tier(known)) == (0, 2)


def test_replicas_with_different_prices_cost_their_mean(members):
    replicas = [
        members.member(deployment("a", str(i), input_cost_per_token=p, output_cost_per_token=p))
        for i, p in enumerate((1e-6, 3e-6))
    ]
    price = pool_price(replicas)
    np.testing.assert_allclose([price.input_usd_per_mtok, price.output_usd_per_mtok], [2.0, 2.0])
    assert pool_price([members.member(deployment("b", "9"))]) is None
