"""What the policies' regressions and neighbours compute, against scikit-learn and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from erp_trainer.evaluation.studies.new_tasks import (
    benchmark_study,
    in_distribution_curve,
    leave_one_task_out,
    mixed,
    small_models,
)
from erp_trainer.policies.benchmark import BenchmarkOptions, right_threshold, train_benchmark
from erp_trainer.policies.methods.logistic import fit_binary, fit_multinomial
from erp_trainer.policies.methods.neighbours import Records, choose_bandwidth, leave_tasks_out, leave_two_tasks_out
from erp_trainer.policies.methods.prompt_groups import cluster, tag_means
from erp_trainer.policies.pairwise import (
    PairwiseOptions,
    apply_pairwise,
    preferences,
    reward_slope,
    train_pairwise,
    tune_pairwise,
)
from erp_trainer.policies.zooter import ZooterOptions, teacher, train_zooter
from litellm_erp.bundle.stored.benchmark import NeighbourPredictor, Trust
from litellm_erp.bundle.stored.pairwise import PairPredictor
from litellm_erp.errors import EmbedderMismatch, FitError
from tests.policy_tables import planted, table_of, unit


def _classes(seed=0):
    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(400, 8)))
    logits = x @ rng.normal(size=(8, 3)) * 4
    drawn = [rng.choice(3, p=p) for p in np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)]
    return x, np.eye(3)[drawn]


@pytest.mark.parametrize("beta", [1.0, 30.0])
def test_a_linear_softmax_agrees_with_scikit_learn(beta):
    x, targets = _classes()
    found = fit_multinomial(x, targets, beta).logits(x)
    expected = (
        LogisticRegression(C=1 / beta, tol=1e-9, max_iter=3000).fit(x, targets.argmax(axis=1)).decision_function(x)
    )
    # Softmax does not see a constant per prompt.
    np.testing.assert_allclose(found - found.mean(axis=1, keepdims=True), expected, atol=0.03)


@pytest.mark.parametrize("beta", [1.0, 30.0])
def test_binary_regressions_agree_with_scikit_learn_and_leave_missing_rows_out(beta):
    x, labels = _classes()
    labels[::3, 1] = np.nan
    found = fit_binary(x, labels, beta).logits(x)
    for q in range(3):
        rows = ~np.isnan(labels[:, q])
        model = LogisticRegression(C=1 / beta, tol=1e-9, max_iter=3000).fit(x[rows], labels[rows, q])
        np.testing.assert_allclose(found[:, q], model.decision_function(x), atol=0.03)


def test_soft_labels_are_fitted_as_the_same_rows_split_by_weight():
    x, _ = _classes()
    labels = np.random.default_rng(1).random((len(x), 1))
    both = np.vstack([x, x]), np.repeat([1, 0], len(x)), np.concatenate([labels[:, 0], 1 - labels[:, 0]])
    expected = LogisticRegression(tol=1e-9).fit(both[0], both[1], sample_weight=both[2]).decision_function(x)
    np.testing.assert_allclose(fit_binary(x, labels, 1.0).logits(x)[:, 0], expected, atol=0.01)


def test_the_teacher_is_the_softmax_of_rewards_over_the_models_that_are_there():
    table = table_of([[1.0, 0.0], [0.5, np.nan]])
    found = teacher(table, ZooterOptions(1.0, 0.5, 1.0), 0)
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))], [1.0, np.nan]])


def test_the_teacher_averages_the_softmax_over_samples():
    samples = np.array([[[1.0, 0.0], [0.0, 0.0]]], dtype=np.float32)
    table = table_of([[0.5, 0.0]], samples_PMK=samples)
    found = teacher(table, ZooterOptions(1.0, 1.0, 1.0), 0)
    np.testing.assert_allclose(found[0, 0], (1 / (1 + np.exp(-1)) + 0.5) / 2, atol=1e-6)


def test_tags_count_before_categories_and_a_prompt_without_a_tag_gets_the_overall_mean():
    tags = np.empty(4, dtype=object)
    tags[:] = [("x",), ("x", "y"), ("y",), ()]
    rewards = [[1.0], [3.0], [8.0], [4.0]]
    by_tag = tag_means(table_of(rewards, tags_P=tags, categories=["c"] * 4), 0)
    # x: (1 + 3) / 2 = 2, y: (3 + 8) / 2 = 5.5, both: 3.75; overall 4.
    np.testing.assert_allclose(by_tag[:, 0], [2, 3.75, 5.5, 4])
    np.testing.assert_allclose(tag_means(table_of(rewards, categories=list("aabb")), 0)[:, 0], [2, 2, 6, 6])


def test_without_tags_or_categories_clusters_of_embeddings_stand_in():
    table = planted(200)
    codes = cluster(table.embeddings_PD, 0)
    assert codes.min() == 0
    by_cluster = tag_means(table_of(table.rewards_PM, embeddings_PD=table.embeddings_PD), 0)
    assert np.unique(by_cluster.round(9), axis=0).shape[0] == len(np.unique(codes))


def test_zooter_scores_are_differences_of_reward_at_the_level_of_the_pool():
    table = planted(2000, models=2, noise=0.0)
    scores = train_zooter(table, ZooterOptions(0.1, 0.5, 1.0)).predict(table.embeddings_PD)
    np.testing.assert_allclose(scores.mean(), table.mean_reward_M.mean(), atol=1e-4)
    difference = table.rewards_PM[:, 0] - table.rewards_PM[:, 1]
    np.testing.assert_allclose((scores[:, 0] - scores[:, 1])[difference > 0].mean(), 0.5, atol=0.1)


def test_labels_of_pairs_are_wins_losses_and_half_for_a_draw():
    rewards = np.array([[2.0, 1.0, 2.0], [0.0, 1.0, np.nan]])
    np.testing.assert_array_equal(preferences(rewards), [[1, 0.5, 0], [0, np.nan, np.nan]])
    samples = np.array([[[1, 0], [0, 0], [np.nan, np.nan]]], dtype=np.float32)
    np.testing.assert_array_equal(preferences(np.array([[0.5, 0.0, 1.0]]), samples), [[0.75, 0, 0]])


def test_too_many_models_for_pairs_is_one_clear_error():
    with pytest.raises(FitError, match=r"2080 pairs.*at most 64"):
        preferences(np.zeros((2, 65)))


def test_scores_of_pairs_are_mean_probabilities_of_winning():
    logit = np.log(3)  # a beats b in 3 of 4, draws with c; b loses to c in 3 of 4
    predictor = PairPredictor(np.zeros((2, 3), np.float32), np.array([logit, 0, -logit], np.float32), 3, 1.0, 2.0)
    expected = 1 + 2 * (np.array([(0.75 + 0.5) / 2, (0.25 + 0.25) / 2, (0.5 + 0.75) / 2]) - 0.5)
    np.testing.assert_allclose(predictor.predict(np.zeros(2, np.float32)), expected, atol=1e-6)


def test_probabilities_of_a_pair_are_the_regressions_and_add_up_to_one():
    table = planted()
    of_pair = apply_pairwise(train_pairwise(table, tune_pairwise(table)), table).pair_probability
    one, other = of_pair(2, 0), of_pair(0, 2)
    np.testing.assert_allclose(one + other, 1, atol=1e-6)
    wins = table.rewards_PM[:, 0] > table.rewards_PM[:, 2]
    assert one[wins].mean() > one[~wins].mean() + 0.1


def test_the_slope_of_rewards_on_scores_ignores_what_all_models_share():
    scores = np.array([[0.0, 1.0], [3.0, 2.0]])
    rewards = np.array([[7.0, 9.0], [1.0, -1.0]])
    assert reward_slope(scores, rewards) == pytest.approx(2)
    assert reward_slope(np.zeros((2, 2)), rewards) == 0


def test_neighbours_vote_as_in_scikit_learn():
    table = planted(200)
    right = (table.rewards_PM >= 0.5).astype(np.float32)
    shares, _ = Records(table.embeddings_PD, right).votes(table.embeddings_PD[:20], [5, 30])
    for found, k in zip(shares, (5, 30), strict=True):
        knn = KNeighborsClassifier(k, algorithm="brute").fit(table.embeddings_PD, right[:, 0])
        np.testing.assert_allclose(found[:, 0], knn.predict_proba(table.embeddings_PD[:20])[:, 1], atol=1e-6)


def test_tuning_and_serving_count_the_same_votes():
    table = planted(200)
    predictor = train_benchmark(table, BenchmarkOptions(10, True, 0.5))
    records = Records(predictor.rows_ND, predictor.correct_NM)
    shares, distances = records.votes(table.embeddings_PD, [10])
    share, distance = predictor.vote(table.embeddings_PD)
    np.testing.assert_allclose(share, shares[0], atol=1e-6)
    np.testing.assert_allclose(distance, distances[0], atol=1e-6)
    one = predictor.predict(table.embeddings_PD[3])
    np.testing.assert_allclose(one, predictor.predict(table.embeddings_PD)[3], rtol=1e-5)


def test_a_model_that_no_neighbour_has_an_outcome_of_gets_its_overall_share():
    rows = unit(np.array([[1, 0], [1, 0.1], [0, 1.0]])).astype(np.float32)
    correct = np.array([[1, np.nan], [0, np.nan], [0, 1]], dtype=np.float32)
    shares, distances = Records(rows, correct).votes(rows[:1], [2])
    np.testing.assert_allclose(shares[0], [[0.5, 1.0]])
    assert distances[0, 0] == pytest.approx((1 - 1 / np.sqrt(1.01)) / 2, abs=1e-6)


def test_s3_of_a_prompt_believes_a_verdict_as_far_as_it_was_right_at_such_a_distance():
    trust = Trust(np.array([0.0, 1.0], np.float32), np.array([[0.9], [0.4]], np.float32), 0.01)
    rows = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    predictor = NeighbourPredictor(rows, np.array([[1.0], [0.0]], np.float32), 1, np.ones(1), trust, 10.0, 20.0)
    # Near the right row p is 0.9; the second is right with 1 − 0.9. Scores become rewards between 10 and 20.
    np.testing.assert_allclose(predictor.predict(rows), [[19.0], [11.0]], atol=1e-3)


def test_kernels_far_from_every_task_take_the_nearest_one():
    trust = Trust(np.array([0.1, 0.2], np.float32), np.array([[0.3], [0.8]], np.float32), 1e-3)
    np.testing.assert_allclose(trust.at(np.array(0.9)), [0.8])


def test_mixing_s2_with_trust_is_the_papers_equation():
    np.testing.assert_allclose(mixed(np.array([1.0, 0.0, 0.5]), np.array([0.7, 0.7, 0.9])), [0.7, 0.3, 0.5])


def test_a_kernel_over_tasks_that_are_alike_is_wide_and_over_two_kinds_narrow():
    distance = np.arange(10.0)
    assert choose_bandwidth(distance, np.array([[0.5], [0.9]] * 5)) > choose_bandwidth(
        distance, np.where(distance < 5, 0.2, 0.9)[:, None]
    )


def test_the_threshold_of_a_right_answer_is_a_half_of_shares_and_the_median_of_other_rewards():
    assert right_threshold(np.array([[0.0, 1.0], [np.nan, 0.2]])) == 0.5
    assert right_threshold(np.array([[-1.0, 3.0], [np.nan, 2.0]])) == 2.0


def test_small_models_are_those_at_half_the_dearests_cost_or_less():
    assert small_models(table_of([[0.1, 0.2, 0.3]], costs_M=[1, 5, 10])) == [0, 1]
    assert small_models(table_of([[0.1, 0.2]], costs_M=[1, np.nan])) == [0, 1]


def _two_tasks():
    """Task A, where a is right, and far from it task B, where b is right."""
    rng = np.random.default_rng(0)
    embeddings = unit(np.vstack([rng.normal([5, 0, 0], 0.1, (20, 3)), rng.normal([0, 5, 0], 0.1, (20, 3))]))
    rewards = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
    return table_of(rewards, embeddings_PD=embeddings, categories=["A"] * 20 + ["B"] * 20)


def test_left_out_tasks_are_judged_by_the_others_and_their_own_data_helps():
    judged, scores = leave_one_task_out(_two_tasks(), BenchmarkOptions(5, True, 0.5))
    np.testing.assert_array_equal(scores["s1"], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(scores["s3-true-p"], judged.reward_TM)  # knowing that verdicts are wrong mends them
    np.testing.assert_array_equal(judged.best_on_average, [1, 0])
    curve = in_distribution_curve(_two_tasks(), BenchmarkOptions(5, True, 0.5), (0.0, 1.0))
    assert [point["s1"] for point in curve] == [0.0, 1.0]
    assert [point["prompts"] for point in curve] == [0.0, 10.0]
    assert {point["best"] for point in curve} == {1.0}


def test_leaving_two_tasks_out_is_leaving_one_out_of_a_table_without_the_other():
    table = planted(150)
    codes = np.unique(table.categories_P, return_inverse=True)[1]
    records = Records(table.embeddings_PD, (table.rewards_PM >= 0.5).astype(np.float32))
    distance, trust = leave_two_tasks_out(records, codes, 7)
    whole = leave_tasks_out(records, codes, [7])[0]
    np.testing.assert_allclose(trust[[0, 1, 2], [0, 1, 2]], whole.trust_TM)
    kept = codes != 1
    without = leave_tasks_out(records.take(kept), np.unique(codes[kept], return_inverse=True)[1], [7])[0]
    np.testing.assert_allclose(trust[1, [0, 2]], without.trust_TM)
    np.testing.assert_allclose(distance[1, [0, 2]], without.distance_T, atol=1e-6)


@pytest.mark.parametrize("name", ["pairwise", "benchmark"])
def test_embeddings_of_another_dimension_are_refused(name):
    options = {"pairwise": PairwiseOptions(1.0, 1.0), "benchmark": BenchmarkOptions(5, False, 0.5)}[name]
    train = {"pairwise": train_pairwise, "benchmark": train_benchmark}[name]
    with pytest.raises(EmbedderMismatch, match="2 dimensions"):
        train(planted(50), options).predict(np.ones(2, np.float32))


def test_the_study_of_new_tasks_has_a_row_per_score_and_a_curve_that_own_data_lift():
    study = benchmark_study(_two_tasks())
    rows = {row["policy"]: row for row in study["rows"]}
    assert [rows[key]["accuracy"] for key in ("s1", "s3-true-p", "best-on-average", "task-oracle")] == [0, 1, 0, 1]
    assert rows["s3-true-p"]["pearson"] == pytest.approx(1)
    assert rows["s1"]["share_best_on_average"] == 1
    assert "log-likelihood" not in rows
    assert study["in_distribution"][-1]["s1"] > study["in_distribution"][0]["s1"]
    judged = replace(_two_tasks(), log_likelihood_PM=_two_tasks().rewards_PM - 1)
    judged_rows = {row["policy"]: row for row in benchmark_study(judged)["rows"]}
    assert judged_rows["log-likelihood"]["accuracy"] == 1


def test_the_small_models_of_a_pool_are_studied_on_their_own():
    study = benchmark_study(planted(150, models=4))
    assert study["small_models"]["models"] == ["a", "b"]
    assert {row["policy"] for row in study["small_models"]["rows"]} >= {"s1", "s2", "s3"}
