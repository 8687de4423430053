"""Prices, expected costs, and λ from a budget or a quality floor."""

from dataclasses import replace

import numpy as np
import pytest

from litellm_erp.budgets.book import SpendBook
from litellm_erp.budgets.counters import Counters
from litellm_erp.bundle.frontier import Frontier
from litellm_erp.choice.cost import UNKNOWN_PRICE, Price, PriceTable
from litellm_erp.errors import PricesError, SettingsError
from litellm_erp.goals.curve import Mixture
from litellm_erp.goals.goal import Goal, Window, quality_floor
from litellm_erp.goals.solve import solve
from litellm_erp.goals.tenant import Claim

FRONTIER = Frontier(
    lambda_L=np.array([0.0, 1.0, 2.0, 4.0]),
    reward_L=np.array([10.0, 9.0, 6.0, 2.0]),
    cost_L=np.array([0.010, 0.004, 0.002, 0.001]),
    shrinkage_L=np.array([1.0, 0.5, 0.8, 0.0]),
    single_reward_M=np.array([2.0, 9.5]),
    single_cost_M=np.array([0.001, 0.012]),
    document={},
)


def test_a_request_costs_its_tokens_times_the_prices():
    table = PriceTable.from_prices([Price(1.0, 4.0), Price(relative_cost=7.0), UNKNOWN_PRICE])
    cost = table.expected_cost(1_000_000, 500_000)
    np.testing.assert_allclose(cost, [1.0 + 2.0, 7.0, np.nan])


def test_costs_of_many_prompts_have_a_row_each():
    table = PriceTable.from_prices([Price(1.0, 0.0), Price(2.0, 0.0)])
    cost = table.expected_cost(np.array([[1e6], [3e6]]), np.ones((2, 2)))
    np.testing.assert_allclose(cost, [[1.0, 2.0], [3.0, 6.0]])


@pytest.mark.parametrize(
    "price",
    [{"input": 1}, {"input_usd_per_mtok": -1}, {"relative_cost": float("nan")}, {"relative_cost": True},
     {"relative_cost": 1, "input_usd_per_mtok": 1}, {"output_usd_per_mtok": "2"}],
)  # fmt: skip
def test_a_price_that_makes_no_sense_is_refused(price):
    with pytest.raises(PricesError, match="here"):
        Price.from_json(price, where="here")


@pytest.mark.parametrize("goal", ["lambda", "budget_usd_per_1k_requests", "min_quality"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "1", None])
def test_a_goal_without_a_sensible_number_is_refused(goal, value):
    with pytest.raises(SettingsError, match=goal):
        Goal.from_mapping({goal: value}, where="policy")


@pytest.mark.parametrize("value", [{}, {"lambda": 1, "min_quality": 0.5}, {"price": 1}, 3, None, {"min_quality": 1.5}])
def test_exactly_one_known_goal_is_expected(value):
    with pytest.raises(SettingsError, match="policy"):
        Goal.from_mapping(value, where="policy")


def budget(usd):
    return solve(Goal("budget_usd_per_1k_requests", usd), FRONTIER)


def test_a_budget_is_met_exactly_by_mixing_two_neighbouring_lambdas():
    solution = budget(5.0)
    # From λ = 1 at 4 USD to λ = 0 at 10 USD, a sixth of the way.
    assert (solution.mixture.low, solution.mixture.high) == (0.0, 1.0)
    assert solution.mixture.share_high == pytest.approx(5 / 6)
    assert (solution.cost * 1000, solution.reached) == (pytest.approx(5.0), True)


def test_the_share_of_requests_that_get_each_lambda_is_the_mixtures():
    mixture = budget(5.0).mixture
    draws = (np.arange(600) + 0.5) / 600
    assert sum(mixture.at(u) == 1.0 for u in draws) == 500


@pytest.mark.parametrize(("usd", "lambda_", "reached"), [(0.5, 4.0, False), (1.0, 4.0, True), (99.0, 0.0, True)])
def test_beyond_the_ends_of_the_curve_the_end_counts(usd, lambda_, reached):
    solution = budget(usd)
    assert (solution.mixture.at(0.3), solution.reached) == (lambda_, reached)


def test_more_budget_never_lowers_quality():
    rewards = [budget(usd).reward for usd in np.linspace(0, 20, 50)]
    assert (np.diff(rewards) >= 0).all()


def test_points_below_the_envelope_are_never_used():
    dented = replace(FRONTIER, reward_L=np.array([10.0, 3.0, 6.0, 2.0]))
    assert dented.envelope.tolist() == [3, 2, 0]


def test_the_envelope_is_concave_and_above_the_curve():
    rng = np.random.default_rng(0)
    for _ in range(50):
        cost, reward = rng.random(20), rng.random(20)
        noisy = replace(FRONTIER, lambda_L=np.arange(20.0), cost_L=cost, reward_L=reward)
        hull = noisy.envelope
        assert (np.diff(np.diff(reward[hull]) / np.diff(cost[hull])) <= 0).all()
        assert (np.interp(cost, cost[hull], reward[hull]) >= reward - 1e-12)[cost >= cost[hull[0]]].all()


def test_a_quality_floor_is_measured_between_the_cheapest_and_the_best_single_model():
    assert quality_floor(FRONTIER, 0.5) == pytest.approx(2.0 + 0.5 * 7.5)
    solution = solve(Goal("min_quality", 0.5), FRONTIER)
    assert (solution.reward, solution.reached) == (pytest.approx(5.75), True)
    assert (solution.mixture.low, solution.mixture.high) == (2.0, 4.0)


def test_a_floor_above_the_curve_takes_its_best_and_says_so():
    low = replace(FRONTIER, single_reward_M=np.array([2.0, 12.0]))
    solution = solve(Goal("min_quality", 1.0), low)
    assert (solution.mixture.at(0.3), solution.reward, solution.reached) == (0.0, 10.0, False)


def test_without_known_costs_a_budget_is_not_reached():
    unpriced = replace(FRONTIER, cost_L=np.full(4, np.nan), single_cost_M=np.full(2, np.nan))
    assert not solve(Goal("budget_usd_per_1k_requests", 1.0), unpriced).reached
    assert not solve(Goal("min_quality", 0.5), unpriced).reached


def test_one_lambda_is_for_everybody_and_read_off_the_curve():
    solution = solve(Goal("lambda", 1.5), FRONTIER)
    assert (solution.mixture, solution.reward) == (Mixture.of(1.5), pytest.approx(7.5))
    assert solve(Goal("lambda", 99.0), FRONTIER).cost == 0.001


def test_a_window_needs_its_period_and_only_money_has_one():
    policy = Goal.from_mapping({"budget_usd": 50, "per": "day", "on_exhausted": "reject"}, where="policy")
    assert policy.window == Window("day", "UTC", "reject", "group")
    for wrong in ({"budget_usd": 5}, {"budget_usd": 5, "per": "decade"}, {"lambda": 1, "per": "day"}):
        with pytest.raises(SettingsError, match="policy"):
            Goal.from_mapping(wrong, where="policy")


def test_shrinkage_between_two_points_is_the_more_cautious_one():
    assert FRONTIER.shrinkage(1.0) == 0.5
    assert FRONTIER.shrinkage(1.5) == 0.5
    assert FRONTIER.shrinkage(99.0) == 0.0


def test_requests_that_are_checked_at_once_hold_what_they_are_likely_to_cost():
    book = SpendBook(Counters("one"), clock=lambda: 1e9)
    claim = Claim("team:a", Goal("budget_usd", 1.0, Window("day", on_exhausted="reject")))
    book.tick("g", claim, FRONTIER)
    tickets = []
    while book.tick("g", claim).exhausted() is None:
        tickets.append(book.hold("g", [claim]))
    assert 1.0 / 0.010 <= len(tickets) <= 1.0 / 0.001
    for ticket in tickets[:50]:
        book.release(ticket)
    assert book.tick("g", claim).exhausted() is None
    for ticket in tickets[50:]:
        book.settle(ticket, 0.0)
    assert book.tick("g", claim).status().reserved_usd == pytest.approx(0.0, abs=1e-12)
