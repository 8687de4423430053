"""A verdict says what routing gains at equal cost and what it saves at equal reward, each with an interval."""

import numpy as np
import pytest

from erp_trainer.learning.verdict import judge
from erp_trainer.words import significant
from tests.policy_tables import table_of

RNG = np.random.default_rng(0)
COSTS = [1e-4, 1e-3]


def judged(rewards, choices, costs=COSTS):
    """The verdict on routing by some choices, at λ = 0 and, at a high λ, the cheapest model."""
    table = table_of(np.asarray(rewards, dtype=float), costs_M=costs)
    cheapest = np.full(len(table), int(np.argmin(costs)))
    return judge(table, [0.0, *range(1, len(choices)), 1e6], [*choices, cheapest])


def two_models(n=400):
    """The cheap model is right on half of the prompts, the dear one on those and a quarter more."""
    rewards = np.zeros((n, 2))
    rewards[: n // 2] = 1.0
    rewards[n // 2 : 3 * n // 4, 1] = 1.0
    return RNG.permutation(rewards)


def test_asking_the_dear_model_only_where_it_alone_is_right_saves_and_does_not_gain():
    rewards = two_models()
    found = judged(rewards, [(rewards[:, 1] > rewards[:, 0]).astype(int)])
    assert (found["helps"], found["kind"], found["best_single"]) == (True, "saves", "b")
    saved = found["savings"]["1"]
    # A quarter of the prompts at 1e-3, the others at 1e-4.
    assert saved["low"] < saved["mean"] == pytest.approx(1 - 0.325, abs=1e-6)
    assert saved["high"] > 0.6
    assert found["gain"]["mean"] == pytest.approx(0.0, abs=1e-9)
    assert "less cost" in found["text"]
    assert found["recommended"]["lambda"] == 0.0
    assert found["recommended"]["budget_usd_per_1k_requests"] == pytest.approx(0.325)


def test_a_share_of_the_reward_is_met_by_mixing_two_points_of_the_curve():
    rewards = two_models()
    found = judged(rewards, [(rewards[:, 1] > rewards[:, 0]).astype(int)])
    # From 0.75 at 0.325 to 0.5 at 0.1: 0.95 * 0.75 lies 0.15 of the way down.
    assert found["savings"]["0.95"]["mean"] == pytest.approx(1 - (0.325 - 0.15 * 0.225), abs=1e-6)


def test_models_that_are_right_on_different_prompts_gain_at_equal_cost():
    best = (np.arange(400) % 5 > 1).astype(int)
    found = judged(np.eye(2)[best], [best], costs=[9e-4, 1e-3])
    assert (found["kind"], found["best_single"]) == ("both", "b")
    assert found["gain"]["mean"] == pytest.approx(0.4)
    assert found["gain_at_equal_cost"]["mean"] == pytest.approx(0.4)
    assert found["gain_at_equal_cost"]["low"] > 0.3


def test_noise_helps_nobody():
    rewards = RNG.normal([0.0, 0.3], 1.0, size=(400, 2))
    found = judged(rewards, [np.ones(400, dtype=int)])
    assert (found["helps"], found["kind"], found["recommended"]) == (False, "neither", None)
    assert "Routing does not clearly help" in found["text"]
    assert "Every prompt goes to it" in found["text"]


def test_without_costs_only_reward_is_judged():
    best = RNG.integers(2, size=400)
    table = table_of(np.eye(2)[best], costs_M=[np.nan, np.nan])
    found = judge(table, [0.0], [best])
    assert (found["kind"], found["gain_at_equal_cost"], found["savings"]) == ("gains", None, {})
    assert "cost" not in found["text"]
    assert found["recommended"]["budget_usd_per_1k_requests"] is None


def test_a_gain_that_shows_only_at_equal_cost_is_told_with_its_figure():
    best = (np.arange(400) % 5 > 1).astype(int)
    found = judged(np.eye(2)[best], [np.ones(400, dtype=int), best], costs=[9e-4, 1e-3])
    assert (found["kind"], found["gain"]["low"]) == ("both", 0.0)
    assert "in reward and in cost" in found["text"]
    assert "At that model's cost it earns +0.400 (95% interval" in found["text"]


def test_what_is_advised_stands_beside_the_cost_of_the_best_single_model():
    best = (np.arange(400) % 5 > 1).astype(int)
    found = judged(np.eye(2)[best], [best], costs=[9e-4, 1e-3])
    assert found["text"].endswith("(about 0.960 USD per 1,000 requests, 1.00 with that model alone).")
    # The dear model is the worse one on average: routing to it gains and saves nothing, at any share of the reward.
    dear = (np.arange(400) % 5 > 3).astype(int)
    found = judged(np.eye(2)[dear], [dear], costs=[9e-4, 1e-3])
    assert found["kind"] == "gains"
    assert "at no less cost." in found["text"]
    assert "0% less" not in found["text"]


def test_routing_that_clearly_earns_less_is_told_so():
    best = (np.arange(400) % 5 > 3).astype(int)
    found = judged(np.eye(2)[best], [np.ones(400, dtype=int)], costs=[1e-3, 1e-3])
    assert (found["helps"], found["kind"], found["recommended"]) == (False, "hurts", None)
    assert found["text"].startswith("Routing earns less than the best single model (out of fold, 400 prompts).")


def test_other_prompts_keep_the_best_single_model_and_the_advice_that_training_gave():
    rewards = two_models()
    table = table_of(rewards, costs_M=COSTS)
    choices = [(rewards[:, 1] > rewards[:, 0]).astype(int), np.zeros(400, dtype=int)]
    found = judge(table, [0.0, 1e6], choices, rows="test split", best=0, advised={"lambda": 1e6})
    assert found["best_single"] == "a"
    assert found["text"].startswith("Routing helps: it earns more (test split, 400 prompts).")
    assert found["text"].endswith("which training recommends, it earns 0 (95% interval 0 to 0) at the same cost.")


def test_pools_of_which_only_the_means_are_known_show_no_saving_beyond_chance():
    claims = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        means = rng.uniform(0.5, 0.8, 3)
        rewards = (rng.random((300, 3)) < means).astype(float)
        costs = np.sort(rng.uniform(1e-5, 1e-3, 3))
        believed = rewards.mean(axis=0) + rng.normal(0, 0.05, (300, 3))
        lambdas = np.r_[0.0, np.geomspace(1e-3, 1e2, 25)]
        choices = [(believed - lambda_ * 1000 * costs).argmax(axis=1) for lambda_ in lambdas]
        found = judge(table_of(rewards, costs_M=costs), lambdas, choices)
        claims += found["helps"]
    assert claims <= 6


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e9])
def test_what_is_gained_is_written_at_the_scale_of_the_rewards(scale):
    rewards = scale * RNG.permutation(np.repeat([[1.0, 0.0], [0.0, 1.0]], 200, axis=0))
    found = judged(rewards, [rewards.argmax(axis=1)])
    assert found["gain"]["mean"] == pytest.approx(0.5 * scale)
    assert "routing earns 0 " not in found["text"]
    assert f"routing earns {significant(0.5 * scale, sign=True)} " in found["text"]


def test_prompts_that_the_best_single_model_did_not_answer_show_no_saving():
    rewards = np.full((300, 2), np.nan)
    rewards[:150, 0], rewards[150:, 1] = 0.1, 0.9
    found = judged(rewards, [np.repeat([0, 1], 150)])
    assert (found["best_single"], found["kind"]) == ("b", "neither")
