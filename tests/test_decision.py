"""The laws of choosing (decision.py)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from litellm_erp.choice.decision import UNKNOWN_PLACES, Held, first_choices, lean, name_order, rank, rank_one

NAMES = ("big", "mid", "small")
TIES = name_order(NAMES)
rewards = arrays(np.float64, (3,), elements=st.floats(-100, 100))
costs = arrays(np.float64, (3,), elements=st.floats(0, 10))
lambdas = st.floats(0, 1000)


def order(reward, cost, lambda_=0.0, **options):
    return rank(np.array(reward), np.array(cost), lambda_, tie_order_M=TIES, **options).order.tolist()


@given(rewards, costs)
def test_at_lambda_zero_the_highest_expected_reward_is_first(reward, cost):
    assert reward[order(reward, cost)[0]] == reward.max()


@given(rewards, costs, lambdas)
def test_utility_never_rises_down_the_ranking(reward, cost, lambda_):
    ranking = rank(reward, cost, lambda_, tie_order_M=TIES)
    assert (np.diff(ranking.utility[ranking.order]) <= 0).all()


@given(rewards, costs, lambdas, st.permutations(range(3)))
def test_the_order_in_which_a_pool_is_written_changes_nothing(reward, cost, lambda_, permutation):
    shuffled = rank(reward[permutation], cost[permutation], lambda_, tie_order_M=TIES[permutation])
    assert [permutation[i] for i in shuffled.order] == order(reward, cost, lambda_)


@given(rewards, costs, st.tuples(lambdas, lambdas))
def test_a_higher_lambda_never_chooses_a_dearer_model(reward, cost, pair):
    low, high = sorted(pair)
    assert cost[order(reward, cost, high)[0]] <= cost[order(reward, cost, low)[0]] + 1e-9


@given(rewards, costs, lambdas, st.floats(-50, 50))
def test_shifting_every_reward_changes_no_ranking_beyond_rounding(reward, cost, lambda_, shift):
    reward, shift = reward.round(), round(shift)
    assert order(reward + shift, cost, 0.0) == order(reward, cost, 0.0)


def test_ties_go_to_the_cheaper_model_then_to_the_name_that_sorts_first():
    assert order([1.0, 1.0, 1.0], [2.0, 1.0, 1.0]) == [1, 2, 0]


def test_lambda_counts_cost_per_thousand_requests():
    ranking = rank(np.array([1.0, 0.0, 0.0]), np.array([0.002, 0.0, 0.0]), 0.5, tie_order_M=TIES)
    assert ranking.utility[0] == pytest.approx(1.0 - 0.5 * 1000 * 0.002)


def test_a_relative_cost_counts_as_it_is():
    ranking = rank(np.array([1.0, 0.0, 0.0]), np.array([7.0, 0, 0]), 0.1, tie_order_M=TIES, cost_scale=1.0)
    assert ranking.utility[0] == pytest.approx(0.3)


def test_an_unknown_cost_stands_behind_every_known_cost_when_lambda_counts():
    cost = [np.nan, 1.0, 2.0]
    assert order([9.0, 1.0, 2.0], cost, 0.0) == [0, 2, 1]
    assert order([9.0, 1.0, 2.0], cost, 1e-6) == [2, 1, 0]


def test_without_any_price_the_ranking_is_by_reward_at_every_lambda():
    assert order([1.0, 3.0, 2.0], [np.nan] * 3, 5.0) == [1, 2, 0]


@pytest.mark.parametrize(("place", "expected"), [("last", [2, 0, 1]), ("first", [1, 2, 0])])
def test_a_model_without_a_probe_has_the_place_that_settings_give_it(place, expected):
    assert order([1.0, np.nan, 2.0], [1.0, 1.0, 1.0], 1.0, unknown=place) == expected


def test_an_excluded_model_is_not_ranked():
    ranking = rank(np.array([1.0, np.nan, 2.0]), np.zeros(3), 0.0, tie_order_M=TIES, unknown="exclude")
    assert ranking.order[: ranking.n_ranked].tolist() == [2, 0]


def test_an_excluded_model_is_not_ranked_whatever_its_tier():
    tier = np.array([2, 0, 1])
    ranking = rank(np.array([1.0, np.nan, 2.0]), np.zeros(3), 0.0, tie_order_M=TIES, unknown="exclude", tier=tier)
    assert ranking.order[: ranking.n_ranked].tolist() == [2, 0]


def test_a_lower_tier_ranks_first_whatever_the_rewards():
    assert order([9.0, 1.0, 2.0], [0.0, 0.0, 0.0], tier=np.array([1, 0, 0])) == [2, 1, 0]


def test_a_model_that_is_held_needs_to_be_outdone_by_more_than_the_margin():
    reward, cost = [1.0, 1.4, 0.0], [0.0, 0.0, 0.0]
    assert order(reward, cost, held=Held(0, 0.3)) == [1, 0, 2]
    assert order(reward, cost, held=Held(0, 0.5)) == [0, 1, 2]
    assert rank(np.array(reward), np.zeros(3), 0.0, tie_order_M=TIES, held=Held(0, 0.5)).utility[0] == 1.0


@pytest.mark.parametrize("odd", [([np.nan, 1.0, 2.0], [1.0, 1.0, 1.0]), ([0.0, 1.0, 2.0], [np.nan, 1.0, 1.0])])
def test_what_may_not_change_stays_first_of_its_tier_whatever_is_known_of_it(odd):
    reward, cost = odd
    assert order(reward, cost, 1.0, held=Held(0, np.inf))[0] == 0
    assert order(reward, cost, 1.0, held=Held(0, np.inf), tier=np.array([1, 0, 1]))[0] == 1


def test_no_conversation_keeps_an_excluded_model():
    ranking = rank(
        np.array([np.nan, 1.0, 2.0]), np.zeros(3), 0.0, tie_order_M=TIES, unknown="exclude", held=Held(0, np.inf)
    )
    assert ranking.order[: ranking.n_ranked].tolist() == [2, 1]


def test_no_trust_gives_the_best_single_model_and_says_so():
    mean = np.array([1.0, 5.0, 2.0])
    ranking = rank(np.array([9.0, 0.0, 0.0]), np.zeros(3), 0.0, tie_order_M=TIES, mean_reward_M=mean, trust=0.0)
    assert ranking.order[0] == 1
    assert ranking.leaned


def test_full_trust_is_no_safety():
    reward, mean = np.array([9.0, 0.0, 0.0]), np.array([1.0, 5.0, 2.0])
    ranking = rank(reward, np.zeros(3), 0.0, tie_order_M=TIES, mean_reward_M=mean, trust=1.0)
    assert ranking.order[0] == 0
    assert not ranking.leaned


def test_leaning_that_changes_the_first_choice_is_told():
    reward, mean = np.array([[6.0, 5.0, 0.0], [60.0, 5.0, 0.0]]), np.array([1.0, 5.0, 0.0])
    ranking = rank(reward, np.zeros(3), 0.0, tie_order_M=TIES, mean_reward_M=mean, trust=np.array([[0.5], [0.5]]))
    assert ranking.order[:, 0].tolist() == [1, 0]
    assert ranking.leaned.tolist() == [True, False]


@given(rewards, rewards, st.floats(0, 1))
def test_leaning_moves_between_mean_and_prediction(reward, mean, trust):
    leant = lean(reward, mean, trust)
    slack = 1e-9 * (1 + np.abs(reward) + np.abs(mean))
    assert (leant >= np.minimum(reward, mean) - slack).all()
    assert (leant <= np.maximum(reward, mean) + slack).all()


@given(arrays(np.float64, (5, 3), elements=st.floats(-10, 10)), costs, lambdas)
def test_many_prompts_at_once_are_ranked_as_one_by_one(reward, cost, lambda_):
    together = rank(reward, cost, lambda_, tie_order_M=TIES).order
    assert together.tolist() == [order(row, cost, lambda_) for row in reward]


grids = arrays(np.float64, (6, 3), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, np.nan]))


@given(grids, grids, st.sampled_from([0.0, 0.001, 1.0]), st.floats(0, 1), st.booleans(), st.integers(0, 9))
def test_first_choices_are_the_heads_of_the_rankings(reward, cost, lambda_, trust, safe, elsewhere):
    # Of some models of a pool, whose places among all names are further back than there are models here.
    options = {"tie_order_M": TIES + elsewhere, "mean_reward_M": np.array([0.5, 0.5, 1.0]) if safe else None}
    trusts = [np.full((6, 1), trust), np.zeros((6, 1))]
    found = first_choices(reward, cost, lambda_, trusts, **options)
    for row, given_trust in zip(found, trusts, strict=True):
        ranked = rank(reward, cost, lambda_, trust=given_trust, **options)
        np.testing.assert_array_equal(row, ranked.order[:, 0])


odd = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, np.nan, np.inf, -np.inf]),
    st.floats(-100, 100),
    st.floats(allow_nan=True),
)
odd_costs = st.one_of(st.sampled_from([0.0, -0.0, 1e-3, 1.0, np.nan]), st.floats(0, 1e300))


@st.composite
def few_models(draw):
    n = draw(st.integers(1, 7))
    some = {"mean_reward": draw(st.none() | st.lists(odd, min_size=n, max_size=n))}
    some["tier"] = draw(st.none() | st.lists(st.integers(-2, 4), min_size=n, max_size=n))
    some["trust"] = draw(st.sampled_from([0.0, 1.0, float(np.float32(0.8))]) | st.floats(0, 1))
    some["unknown"] = draw(st.sampled_from(UNKNOWN_PLACES))
    some["cost_scale"] = draw(st.sampled_from([1.0, 1000.0]))
    held = st.builds(Held, st.integers(0, n - 1), st.sampled_from([0.0, 0.5, np.inf]) | st.floats(0, 10))
    some["held"] = draw(st.none() | held)
    some["tie_order"] = draw(st.permutations(range(n)) | st.lists(st.integers(0, 2), min_size=n, max_size=n))
    lambda_ = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e12]) | lambdas)
    rewards, costs = (draw(st.lists(numbers, min_size=n, max_size=n)) for numbers in (odd, odd_costs))
    return rewards, costs, lambda_, some


@given(few_models())
@settings(max_examples=1500)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy tells of inf - inf, Python does not
def test_one_prompt_in_plain_numbers_is_ranked_as_in_arrays_to_the_bit(given_models):
    reward, cost, lambda_, some = given_models
    mean, tier = some.pop("mean_reward"), some.pop("tier")
    ties = some.pop("tie_order")
    one = rank_one(reward, cost, lambda_, tie_order=ties, mean_reward=mean, tier=tier, **some)
    many = rank(
        np.array(reward),
        np.array(cost),
        lambda_,
        tie_order_M=np.array(ties),
        mean_reward_M=None if mean is None else np.array(mean),
        tier=None if tier is None else np.array(tier),
        **some,
    )
    assert one.order == many.order[: int(many.n_ranked)].tolist()
    np.testing.assert_array_equal(one.expected_reward, many.expected_reward)
    assert one.leaned == bool(many.leaned)
