"""Measures over whole tasks, by hand."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from erp_trainer.evaluation.studies.tasks import (
    entropy_bins,
    pearson,
    per_prompt,
    per_task,
    task_rows,
    task_scores,
    tasks_of,
)
from erp_trainer.learning.bootstrap import Resamples
from tests.evaluated import table

REWARDS = [[1.0, 0.5, 0.2], [0.8, 0.7, 0.0], [0.1, 0.2, 0.9], [0.3, 0.4, 0.7]]
TEST = table(REWARDS, costs=[1.0, 2.0, 4.0], categories=["x", "x", "y", "y"])


def resamples(n):
    return Resamples.draw(np.arange(n), n_resamples=200)


def tasks():
    found = tasks_of(TEST, 0)
    assert found is not None
    return found


def test_a_task_is_a_category_with_its_means():
    np.testing.assert_allclose(tasks().reward_TM, [[0.9, 0.6, 0.1], [0.2, 0.3, 0.8]])
    np.testing.assert_allclose(tasks().cost_TM, [[1, 2, 4]] * 2)


def test_one_task_is_none():
    assert tasks_of(table(REWARDS, costs=np.ones(3), categories=["x"] * 4), 0) is None


def test_a_task_that_a_model_missed_is_left_out():
    holes = np.array([*REWARDS, [0.5, np.nan, 0.5]])
    found = tasks_of(table(holes, costs=np.ones(3), categories=["x", "x", "y", "y", "z"]), 0)
    assert found is not None
    assert found.names == ("x", "y")


def test_choosing_per_task_by_hand():
    row = per_task(tasks(), np.array([[0.9, 0.6, 0.1], [0.3, 0.2, 0.1]]))
    assert row["accuracy"] == pytest.approx((0.9 + 0.2) / 2)
    assert row["ratio_to_best"] == pytest.approx((1 + 0.25) / 2)
    assert row["share_best_on_average"] == 1.0
    assert row["mean_cost_usd"] == 1.0
    assert row["rank"] == pytest.approx((1 + 3) / 2)


def test_correlations_are_those_of_scipy():
    scores = np.array([[0.5, 0.5, 0.1], [0.9, 0.3, 0.2]])
    row = per_task(tasks(), scores)
    true = tasks().reward_TM
    assert row["pearson"] == pytest.approx(np.mean([pearsonr(s, t)[0] for s, t in zip(scores, true, strict=True)]))
    assert row["spearman"] == pytest.approx(np.mean([spearmanr(s, t)[0] for s, t in zip(scores, true, strict=True)]))


def test_a_score_that_does_not_vary_correlates_with_nothing():
    assert np.isnan(pearson(np.ones(3), np.arange(3.0)))


def test_choosing_per_prompt_is_ranked_among_the_single_models():
    row = per_prompt(tasks(), np.array([1.0, 0.9, 0.2, 0.4]))
    # .95 beats every single model on x; .3 on y equals b, and c is better.
    assert row["ranked_first"] == 0.5
    assert row["mean_task_rank"] == pytest.approx((1 + 2) / 2)


def test_rows_end_with_the_best_model_on_average_and_the_oracle():
    scores = {"erp": np.array(REWARDS)}
    rows = task_rows(tasks(), scores, {"erp": np.ones(4)}, {"erp": "erp"}, TEST, resamples(4))
    assert [row["policy"] for row in rows] == ["erp", "best-on-average", "task-oracle"]
    assert rows[0]["accuracy"] == rows[2]["accuracy"] == pytest.approx(0.85)
    assert rows[1]["accuracy"] == pytest.approx(0.55)


def test_scores_are_averaged_over_the_prompts_of_a_task():
    np.testing.assert_allclose(task_scores(tasks(), np.array(REWARDS)), tasks().reward_TM)


def test_rankings_are_harder_where_rewards_are_alike():
    rng = np.random.default_rng(0)
    gaps = np.repeat([0.02, 3.0], 400)[:, None] * np.array([0.0, 1.0, 2.0])
    samples = (gaps[:, :, None] + rng.normal(0, 0.5, (800, 3, 4))).astype(np.float32)
    found = entropy_bins(table(samples.mean(axis=2), costs=np.ones(3), samples_PMK=samples), gaps, resamples(800))
    assert found is not None
    first, last = found["bins"][0], found["bins"][-1]
    assert first["entropy"] < last["entropy"] <= 1
    assert first["ranking"] > 0.95 > 0.75 > last["ranking"]
    assert first["router"] > last["router"]
    assert first["router_ci"][0] <= first["router"] <= first["router_ci"][1]


def test_intervals_of_tasks_are_those_of_the_resampled_prompts():
    rng = np.random.default_rng(1)
    rewards, scores = rng.random((2, 40, 3))
    test = table(rewards, costs=np.arange(3.0) + 1, categories=["x", "y"] * 20)
    found, drawn = tasks_of(test, 0), resamples(40)
    assert found is not None
    row = task_rows(found, {"a": scores}, {"a": rewards[:, 1]}, {"a": "a"}, test, drawn)[0]
    by_hand = []
    for counts in drawn.weights_RG:
        again = test.rows(np.repeat(np.arange(40), counts))
        part = tasks_of(again, 0)
        assert part is not None
        by_hand.append(per_task(part, task_scores(part, np.repeat(scores, counts, axis=0)))["rank"])
    assert row["rank_ci"] == pytest.approx(np.percentile(by_hand, [2.5, 97.5]), abs=1e-6)
    assert row["mean_cost_usd_ci"][0] <= row["mean_cost_usd"] <= row["mean_cost_usd_ci"][1]
    assert row["routed_reward_ci"][0] < row["routed_reward"] < row["routed_reward_ci"][1]
