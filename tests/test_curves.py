"""Reward against cost: areas, savings and Pareto points worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from erp_trainer.evaluation import curves, duels
from erp_trainer.evaluation.contenders import oracle, oracle_kind
from erp_trainer.evaluation.curves import Line, pareto
from erp_trainer.evaluation.economics import Market, compare
from litellm_erp.bundle.frontier import upper_hull
from tests.evaluated import curve, table

CHEAP, BEST = curve([(1.0, 0.2)], key="cheap"), curve([(5.0, 0.8)], key="best")


def market(**references: curves.Curve) -> Market:
    return Market(CHEAP, BEST, 1.0, 5.0, {"best_single": BEST, **references})


def test_the_area_is_the_mean_reward_over_budgets() -> None:
    line = Line.of(curve([(3.0, 0.6), (1.0, 0.2)]), CHEAP)
    # A rise from .2 to .6 over half of the range, then .6.
    assert line.area(1.0, 5.0) == pytest.approx([(0.4 + 0.6) / 2] * 3)


def test_below_its_cheapest_point_a_policy_is_mixed_with_the_cheapest_model() -> None:
    line = Line.of(BEST, CHEAP)
    assert line.area(1.0, 5.0) == pytest.approx([0.5] * 3)
    assert line.reward_at(np.full(3, 2.0)) == pytest.approx([0.35] * 3)


def test_an_area_counts_what_lies_inside_its_budgets_only() -> None:
    line = Line.of(curve([(0.0, 0.0), (2.0, 0.4), (10.0, 1.2)]), CHEAP)
    assert line.area(1.0, 6.0) == pytest.approx([(0.3 * 1 + 0.6 * 4) / 5] * 3)


@pytest.mark.parametrize("seed", range(5))
def test_an_area_is_that_of_a_fine_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = Line.of(curve(list(zip(rng.uniform(0, 6, 7), rng.normal(size=7), strict=True))), CHEAP)
    budgets = 1.0 + (np.arange(20_000) + 0.5) * 4 / 20_000
    fine = np.interp(budgets, line.cost_RL[0], line.reward_RL[0]).mean()
    assert line.area(1.0, 5.0)[0] == pytest.approx(fine, abs=1e-3)


def test_reward_is_read_off_the_line_between_two_points() -> None:
    line = Line.of(curve([(1.0, 0.2), (3.0, 0.6)]), CHEAP)
    assert line.reward_at(np.array([0.0, 2.0, 9.0])) == pytest.approx([0.2, 0.4, 0.6])


def test_the_cost_of_a_reward_is_where_it_is_first_reached() -> None:
    line = Line.of(curve([(1.0, 0.2), (3.0, 0.6), (4.0, 0.1), (5.0, 0.9)]), CHEAP)
    assert line.cost_of(np.array([0.1, 0.4, 0.95]))[:2] == pytest.approx([1.0, 2.0])
    assert np.isnan(line.cost_of(np.full(3, 0.95))).all()


def test_a_budget_need_not_be_spent_where_a_dearer_point_earns_less() -> None:
    line = Line.of(curve([(1.0, 0.2), (2.0, 0.8), (3.0, 0.5), (4.0, 0.7)]), CHEAP)
    assert line.reward_at(np.array([1.5, 3.0, 9.0])) == pytest.approx([0.5, 0.8, 0.8])
    rising = Line.of(curve([(1.0, 0.2), (2.0, 0.8)]), CHEAP)
    assert line.area(1.0, 5.0) == pytest.approx(rising.area(1.0, 5.0))
    # At the best single model's cost of 5 the policy is taken from its best point, not from its dearest.
    found = compare(curve([(5.0, 0.5), (2.0, 0.9), (1.0, 0.2)]), market(), 0.0)["against"]["best_single"]
    assert found["gained_at_equal_cost"]["mean"] == pytest.approx(0.9 - 0.8)


def test_savings_and_gains_against_the_best_single_model() -> None:
    found = compare(curve([(6.0, 0.9), (2.0, 0.8), (1.0, 0.2)]), market(), 0.0)["against"]["best_single"]
    assert found["saved_at_equal_reward"]["mean"] == pytest.approx(1 - 2 / 5)
    # At a cost of 5 the policy is three quarters of the way from .8 to .9.
    assert found["gained_at_equal_cost"]["mean"] == pytest.approx(0.075)


def test_a_reward_that_is_never_reached_saves_nothing_known() -> None:
    found = compare(curve([(4.0, 0.7), (1.0, 0.2)]), market(), 0.0)["against"]["best_single"]
    assert found["saved_at_equal_reward"] is None


def test_against_a_curve_the_point_at_the_asked_lambda_counts() -> None:
    mixture = curve([(1.0, 0.2), (5.0, 0.8)], key="mixture")
    found = compare(curve([(5.0, 0.9), (3.0, 0.7)]), market(mixture=mixture), 1.0)["against"]["mixture"]
    assert found["gained_at_equal_cost"]["mean"] == pytest.approx(0.7 - 0.5)
    assert found["saved_at_equal_reward"]["mean"] == pytest.approx(1 - 3 / (1 + 4 * 5 / 6))


def test_pareto_points_are_those_nobody_beats() -> None:
    mine, other = curve([(5.0, 0.9), (3.0, 0.5), (1.0, 0.2)]), curve([(2.0, 0.6)], key="y")
    bound = curve([(0.5, 1.0)], key="z", kind="bound")
    marked = pareto([mine, other, bound])
    assert [points.tolist() for points in marked] == [[True, False, True], [True], [False]]


def test_equal_points_are_both_on_the_frontier() -> None:
    assert [points.all() for points in pareto([curve([(1.0, 0.5)]), curve([(1.0, 0.5)])])] == [True, True]


def test_a_mixture_is_the_hull_of_the_single_models() -> None:
    cost, reward = np.array([1.0, 2.0, 3.0, 4.0, 2.5]), np.array([0.2, 0.6, 0.55, 0.8, 0.1])
    assert upper_hull(cost, reward).tolist() == [0, 1, 3]
    assert upper_hull(np.array([1.0, np.nan, 2.0]), np.array([0.5, 0.9, 0.4])).tolist() == [0]


def test_at_one_sample_the_oracle_is_hindsight() -> None:
    one = table([[0.1, 0.9], [0.7, 0.2]])
    assert oracle_kind(one) == "ex-post"
    assert oracle(one, 0.0).reward_P.tolist() == [0.9, 0.7]


def test_with_two_samples_the_oracle_is_scored_on_the_other() -> None:
    samples = np.array([[[0.0, 1.0], [0.5, 0.4]]], dtype=np.float32)
    several = table([[0.5, 0.45]], samples_PMK=samples)
    assert oracle_kind(several) == "split-sample"
    # By the first sample b is best and earns .4 by the second; by the second a, which earns 0 by the first.
    assert oracle(several, 0.0).reward_P == pytest.approx([0.2])
    assert oracle(several, 0.0).share_M.tolist() == [0.5, 0.5]


def test_an_oracle_of_noise_gains_nothing_from_hindsight() -> None:
    samples = np.random.default_rng(0).normal(size=(4000, 5, 4)).astype(np.float32)
    noise = table(samples.mean(axis=2), costs=np.ones(5), samples_PMK=samples)
    assert oracle(noise, 0.0).reward_P.mean() == pytest.approx(0.0, abs=0.03)
    assert noise.rewards_PM.max(axis=1).mean() > 0.5


def test_an_oracle_pays_for_what_it_chooses() -> None:
    two = table([[0.1, 0.9], [0.7, 0.75]])
    assert oracle(two, 0.0).cost_P.tolist() == [2.0, 2.0]
    assert oracle(two, 0.1).cost_P.tolist() == [2.0, 1.0]
    assert oracle(two, 1e6).cost_P.tolist() == [1.0, 1.0]


def test_the_bundle_against_a_policy_in_utility_over_lambda() -> None:
    bundle, other = curve([(4.0, 0.9), (2.0, 0.7), (1.0, 0.2)]), curve([(3.0, 0.8)], key="always")
    assert duels.at_lambda(bundle, other, 1.0, 0.1)["reward"]["mean"] == pytest.approx(0.7 - 0.8)
    assert duels.at_lambda(bundle, other, 1.0, 0.1)["utility"]["mean"] == pytest.approx((0.7 - 0.2) - (0.8 - 0.3))
    # Ahead by .1, 0 and −.2 at λ = 0, 1 and 2; the λ between counts twice as much as each end.
    ahead = [0.1, 0.0, (0.2 - 0.2) - (0.8 - 0.6)]
    found = duels.over_lambda(bundle, other, 2.0, 0.1)
    assert found["mean"] == pytest.approx((ahead[0] + 2 * ahead[1] + ahead[2]) / 4)


def test_a_policy_is_level_with_itself_and_a_mixture_has_no_lambda() -> None:
    bundle = curve([(4.0, 0.9), (2.0, 0.7)])
    assert duels.over_lambda(bundle, bundle, 9.0, 1.0) == {"mean": 0.0, "low": 0.0, "high": 0.0}
    mixture = curve([(4.0, 0.9), (2.0, 0.7)], key="mixture")
    mixture = replace(mixture, lambdas=(None, None), contender=replace(mixture.contender, by_lambda=False))
    assert duels.at_lambda(bundle, mixture, 0.0, 1.0) is None


def test_without_prices_rewards_are_compared_and_utilities_are_not() -> None:
    bundle, other = curve([(float("nan"), 0.9), (float("nan"), 0.7)]), curve([(float("nan"), 0.5)])
    assert duels.at_lambda(bundle, other, 0.0, 1.0)["utility"] is None
    assert duels.at_lambda(bundle, other, 0.0, 1.0)["reward"]["mean"] == pytest.approx(0.4)
    assert duels.over_lambda(bundle, other, 2.0, 1.0) is None
