"""A verdict says what routing gains at equal cost and what it saves at equal reward, each with an interval."""

from dataclasses import replace

import numpy as np
import pytest

from bench.null_pools import KINDS, claims
from erp_trainer.learning.verdict import headline, judge
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


def by_difficulty(n=4000):
    """Both models are right on easy prompts, the dear one alone on hard ones; each errs now and then on either."""
    hard = RNG.random(n) < 0.3
    chance = np.where(hard[:, None], [0.1, 0.9], [0.95, 0.9])
    return hard, (RNG.random((n, 2)) < chance).astype(float)


def test_asking_the_dear_model_only_where_it_alone_is_right_saves():
    hard, rewards = by_difficulty()
    found = judged(rewards, [hard.astype(int)])
    assert (found["helps"], found["best_single"]) == (True, "b")
    assert found["kind"] in ("saves", "both")
    saved = found["savings"]["1"]
    assert 0.5 < saved["low"] < saved["mean"] < saved["high"] < 0.9
    assert "less cost" in found["text"]
    assert found["recommended"]["lambda"] == 0.0
    assert found["recommended"]["budget_usd_per_1k_requests"] == pytest.approx(0.1 + 0.9 * hard.mean())


def test_what_earns_as_much_within_noise_saves_at_nearly_equal_reward_and_says_so():
    rewards = np.repeat(two_models(), 5, axis=0)
    found = judged(rewards, [(rewards[:, 1] > rewards[:, 0]).astype(int)])
    # Not once did the cheap model do worse where it was asked; that it never would is not proven.
    assert (found["kind"], found["savings"]["1"]["low"]) == ("saves", 0.0)
    assert found["nearly_equal"]["saved"] == pytest.approx(1 - 0.325, abs=1e-6)
    assert headline(found).endswith("at nearly equal reward")
    assert "at 68% less cost" in found["text"]
    assert "against single models mixed at that cost" in found["text"]


@pytest.mark.parametrize("kind", KINDS)
def test_pools_that_know_nothing_of_a_prompt_show_neither_saving_nor_gain(kind):
    found = list(claims(kind, 40, sizes=(300, 1000)))
    assert sum(pool["nothing is saved at equal reward"] for pool in found) > 30
    assert sum(pool["nothing is saved at equal reward, a saving claimed"] for pool in found) <= 2
    assert sum(pool["nothing is gained, a gain claimed"] for pool in found) <= 2


def test_a_few_prompts_that_went_elsewhere_to_no_harm_prove_no_saving():
    rewards = two_models()
    few = np.ones(400, dtype=int)
    few[np.flatnonzero(rewards[:, 0] == rewards[:, 1])[:12]] = 0
    found = judged(rewards, [few])
    assert (found["kind"], found["savings"]["1"]["low"]) == ("neither", 0.0)


def test_a_long_name_is_cut_in_the_sentences_and_whole_in_the_figures():
    name = "provider/" + "x" * 300
    table = table_of(RNG.normal([0.0, 0.3], 1.0, size=(400, 2)), costs_M=COSTS)
    table = replace(table, models=("cheap", name))
    found = judge(table, [0.0], [np.ones(400, dtype=int)])
    assert found["best_single"] == name
    assert len(found["text"]) < 400


def test_advice_that_costs_many_times_the_best_single_models_cost_says_so():
    dear = (np.arange(400) % 5 > 3).astype(int)
    found = judged(np.eye(2)[dear], [dear], costs=[1e-4, 5e-3])
    assert found["recommended"]["times_best_single_cost"] == pytest.approx(0.2 * 50 + 0.8)
    assert found["text"].endswith("0.100 with that model alone, 10.8 times that model's cost).")


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


def test_one_lambda_that_training_chose_is_looked_at_by_itself_and_told_once():
    hard, rewards = by_difficulty()
    # As many others as a curve has, of which the best by luck would be told if none were chosen beforehand.
    others = [np.where(RNG.random(4000) < 0.02, 0, 1) for _ in range(30)]
    table, choices = table_of(rewards, costs_M=COSTS), [*others, hard.astype(int)]
    lambdas = [*range(30), 100.0]
    alone, chosen = (judge(table, lambdas, choices, rows="test split", best=1, advised=advice)
                     for advice in (None, {"lambda": 100.0}))  # fmt: skip
    width = [found["nearly_equal"]["gain"]["high"] - found["nearly_equal"]["gain"]["low"] for found in (alone, chosen)]
    assert chosen["nearly_equal"]["lambda"] == 100.0
    assert width[1] < 0.9 * width[0]
    assert chosen["text"].count("At λ = 100") == chosen["text"].count("which training recommends") == 1
