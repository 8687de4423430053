"""The curve a bundle records: from no price on money to the cheapest model for every prompt."""

import re
from dataclasses import replace

import numpy as np
import pytest

from erp_trainer.policies.frontier import FRONTIER_SCALES, MOST_BEYOND, frontier
from litellm_erp.bundle.frontier import LARGEST
from tests.policy_tables import table_of


def curve(table, *, safe=False):
    return frontier(table, table.rewards_PM, np.ones(len(table)), safe=safe)["points"]


def specialists(prompts=400):
    """Two models that are nearly as good on average and very different on every prompt."""
    best = np.arange(prompts) % 2
    return table_of(0.5 * np.eye(2)[best] + 1e-4 * np.array([0, 1]))


@pytest.mark.parametrize("safe", [False, True])
def test_a_curve_ends_at_the_cheapest_model_however_much_models_specialise(safe):
    points = curve(specialists(), safe=safe)
    assert len(points) > len(FRONTIER_SCALES)
    assert points[-1]["share"] == {"a": 1.0}
    assert points[-1]["cost_usd"] == pytest.approx(0.001)
    assert (np.diff([point["lambda"] for point in points]) > 0).all()


def test_a_curve_that_gets_there_on_its_own_has_the_usual_points():
    better_is_dearer = table_of(np.random.default_rng(0).normal([0.0, 1.0, 2.0], 0.1, (50, 3)))
    assert len(curve(better_is_dearer)) == len(FRONTIER_SCALES)


def test_a_cheapest_model_that_no_price_reaches_ends_the_curve_all_the_same():
    table = specialists()
    nearly_free = replace(table, expected_cost_PM=np.broadcast_to([1e-3, 1e-3 + 1e-15], table.rewards_PM.shape))
    assert len(curve(nearly_free)) == len(FRONTIER_SCALES) + MOST_BEYOND


def test_without_costs_there_is_one_point_and_no_standard_error_of_cost():
    table = specialists()
    (point,) = curve(replace(table, realised_cost_PM=np.full(table.rewards_PM.shape, np.nan)))
    assert (point["cost_usd"], point["cost_se"]) == (None, None)


def test_a_point_records_the_standard_errors_of_its_means():
    table = specialists(100)
    point = curve(table)[0]
    assert point["cost_usd"] == pytest.approx(0.0015)
    assert point["cost_se"] == pytest.approx(0.0005 / 10)
    assert point["reward_se"] == pytest.approx(5e-5 / 10)


def test_the_verdict_names_the_cheaper_of_equals_and_writes_no_signed_nought_and_no_saving_of_0_percent():
    table = table_of(np.tile([0.5, 0.5, 0.1], (40, 1)), costs_M=[3e-3, 1e-3, 5e-4])
    found = frontier(table, table.rewards_PM, np.ones(40), safe=True)["verdict"]
    assert found["best_single"] == "b"
    assert not re.search(r"[+−-]0(?![.\d])", found["text"]), found["text"]
    assert "0% less" not in found["text"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("usd", [1e-20, 1e-300, 1e-320])
def test_costs_near_nought_lead_to_no_lambda_beyond_what_a_bundle_may_hold(usd):
    cost = usd * np.array([1.0, 2.0, 4.0])
    table = table_of(np.random.default_rng(0).normal(size=(60, 3)), costs_M=cost)
    lambdas = [point["lambda"] for point in curve(table)]
    assert lambdas[0] == 0
    assert lambdas[-1] <= LARGEST
    assert (np.diff(lambdas) > 0).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_models_that_answered_other_prompts_are_compared_on_the_same_ones():
    """The cheap model was asked easy prompts mostly, the dear one hard ones; the curve is that of all prompts."""
    rng = np.random.default_rng(0)
    hard = rng.random(4000) < 0.5
    predicted = np.where(hard[:, None], [0.3, 0.7], [0.8, 0.9]) + rng.normal(0, 0.05, (4000, 2))
    whole = table_of((rng.random((4000, 2)) < predicted).astype(float), costs_M=[1e-4, 1e-3])
    chance = np.where(hard[:, None], [0.1, 0.9], [0.9, 0.1])
    asked = rng.random((4000, 2)) < chance
    asked[~asked.any(axis=1), 0] = True
    part = replace(whole, rewards_PM=np.where(asked, whole.rewards_PM, np.nan),
                   realised_cost_PM=np.where(asked, whole.realised_cost_PM, np.nan))  # fmt: skip
    true, found = (frontier(table, predicted, np.ones(4000), safe=False) for table in (whole, part))
    # Over its own prompts the cheap model earns .75, as much as the dear one; over all .55, against .8.
    assert abs(np.nanmean(part.rewards_PM, axis=0) - np.nanmean(whole.rewards_PM, axis=0)).max() > 0.08
    for name, single in true["single_models"].items():
        assert found["single_models"][name]["reward"] == pytest.approx(single["reward"], abs=0.03)
    rewards = {point["cost_usd"]: point["reward"] for point in true["points"]}
    costs = np.array(sorted(rewards))
    for point in found["points"]:
        expected = np.interp(point["cost_usd"], costs, [rewards[cost] for cost in costs])
        assert point["reward"] == pytest.approx(expected, abs=0.03)
    assert found["points"][-1]["reward"] == pytest.approx(found["single_models"]["a"]["reward"])
    assert found["points"][-1]["reward_se"] > true["points"][-1]["reward_se"]
