"""R², calibration, AUROC, win rates and the bound: by hand, and against scikit-learn where it has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score, roc_auc_score

from erp_trainer.evaluation.pairs import auroc, bound_tightness, draws, pair_measures, win_rates
from erp_trainer.evaluation.predictions import (
    calibration,
    calibration_slopes,
    error_calibration,
    noise_ceiling,
    r2_estimates,
)
from erp_trainer.evaluation.studies.routellm import gap_recovered, routing_curve, two_model_measures
from erp_trainer.learning.bootstrap import Resamples
from tests.evaluated import table

RNG = np.random.default_rng(0)


def resamples(n: int) -> Resamples:
    return Resamples.draw(np.arange(n))


@pytest.mark.parametrize("shift", [0.0, -5.0, 1e6])
def test_r_squared_is_that_of_scikit_learn(shift: float) -> None:
    observed = RNG.normal(size=200) + shift
    predicted = observed + RNG.normal(size=200)
    assert r2_estimates(predicted[:, None], observed[:, None], resamples(200)).value_S[0] == pytest.approx(
        r2_score(observed, predicted)
    )


def test_resampled_r_squared_is_that_of_the_resampled_rows() -> None:
    observed, predicted = RNG.normal(size=20), RNG.normal(size=20)
    drawn = resamples(20)
    rows = np.repeat(np.arange(20), drawn.weights_RG[0])
    found = r2_estimates(predicted[:, None], observed[:, None], drawn).resampled_RS[0, 0]
    assert found == pytest.approx(r2_score(observed[rows], predicted[rows]))


def test_r_squared_of_rewards_that_do_not_vary_is_not_known() -> None:
    assert np.isnan(r2_estimates(RNG.normal(size=(9, 1)), np.full((9, 1), 0.1), resamples(9)).value_S[0])


def test_the_ceiling_is_what_a_perfect_prediction_reaches() -> None:
    expected = RNG.normal(0, 1, 20_000)
    samples = expected[:, None] + RNG.normal(0, 2, (20_000, 8))
    observed, noise = samples.mean(axis=1), samples.var(axis=1, ddof=1) / 8
    assert noise_ceiling(observed, noise) == pytest.approx(r2_score(observed, expected), abs=0.01)


def test_the_ceiling_is_unknown_without_spreads_and_nought_in_noise() -> None:
    assert np.isnan(noise_ceiling(np.arange(4.0), np.full(4, np.nan)))
    assert noise_ceiling(np.array([0.0, 1.0]), np.array([9.0, 9.0])) == 0


def test_calibration_is_a_line_and_bins_of_equal_counts() -> None:
    predicted = np.linspace(0, 1, 100)
    found = calibration(predicted, 2 * predicted + 1, resamples(100))
    assert (found["slope"], found["intercept"]) == pytest.approx((2, 1))
    assert [row["prompts"] for row in found["bins"]] == [20] * 5
    assert found["bins"][0]["observed"] == pytest.approx(1 + 2 * found["bins"][0]["predicted"])


def test_slopes_have_intervals_from_resampled_rows() -> None:
    predicted = RNG.normal(size=(50, 1))
    observed, drawn = predicted + RNG.normal(size=(50, 1)) + 100, Resamples.draw(np.arange(50), n_resamples=200)
    found = calibration_slopes(predicted, observed, drawn)
    by_hand = [np.polyfit(np.repeat(predicted[:, 0], n), np.repeat(observed[:, 0], n), 1)[0] for n in drawn.weights_RG]
    assert found.value_S[0] == pytest.approx(np.polyfit(predicted[:, 0], observed[:, 0], 1)[0], abs=1e-5)
    assert found.bounds()[0] == pytest.approx(np.percentile(by_hand, [2.5, 97.5]), abs=1e-4)


def test_one_prediction_for_all_has_no_slope() -> None:
    assert np.isnan(calibration_slopes(np.full((9, 1), 0.3), RNG.normal(size=(9, 1)), resamples(9)).value_S[0])


def test_errors_of_their_stated_size_are_within_it() -> None:
    stated = np.repeat([0.5, 2.0], 5000)
    found = error_calibration(RNG.normal(size=10_000) * stated, stated)
    assert found["within_95"] == pytest.approx(0.95, abs=0.01)
    assert found["bins"][0]["rms_error"] == pytest.approx(0.5, abs=0.05)
    assert found["bins"][-1]["rms_error"] == pytest.approx(2.0, abs=0.2)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_auroc_is_that_of_scikit_learn_draw_by_draw(rows: list[tuple[int, int, int]]) -> None:
    score, lost, won = (np.array(column) for column in zip(*rows, strict=True))
    area, influence = auroc(score.astype(float), lost, won)
    if not lost.sum() or not won.sum():
        assert np.isnan(area)
        return
    labels = np.concatenate([np.zeros(lost.sum()), np.ones(won.sum())])
    assert area == pytest.approx(roc_auc_score(labels, np.concatenate([np.repeat(score, lost), np.repeat(score, won)])))
    assert influence.sum() == pytest.approx(0, abs=1e-9)


def test_resampled_auroc_is_near_that_of_the_resampled_rows() -> None:
    score, won = RNG.normal(size=400), RNG.random(400)
    won = (won < 1 / (1 + np.exp(-score))).astype(int)
    area, influence = auroc(score, 1 - won, won)
    drawn = resamples(400)
    rows = [np.repeat(np.arange(400), weights) for weights in drawn.weights_RG[:50]]
    exact = [roc_auc_score(won[row], score[row]) for row in rows]
    assert area + drawn.weights_RG[:50] @ influence == pytest.approx(exact, abs=0.01)


def test_a_draw_compares_sample_with_sample() -> None:
    samples = np.array([[[1, 2, 3], [2, 2, 1]], [[0, 0, np.nan], [1, np.nan, np.nan]]], dtype=np.float32)
    found = draws(table([[2, 5 / 3], [0, 1]], samples_PMK=samples), 0, 1)
    assert (found.first_P.tolist(), found.second_P.tolist(), found.tied_P.tolist()) == ([1, 0], [1, 1], [1, 0])


def test_without_samples_the_recorded_means_are_the_one_draw() -> None:
    found = draws(table([[0.1, 0.2], [0.3, 0.3], [0.5, np.nan]]), 0, 1)
    assert (found.first_P.tolist(), found.second_P.tolist(), found.tied_P.tolist()) == ([0, 0, 0], [1, 0, 0], [0, 1, 0])


def test_pairs_are_measured_beside_a_rival_and_paired_with_it() -> None:
    test = table(RNG.random((60, 3)), costs=np.ones(3))
    rewards = test.rewards_PM
    scores = {"erp": lambda a, b: rewards[:, b] - rewards[:, a], "coin": lambda a, b: np.zeros(60)}
    found = pair_measures(test, scores, resamples(60))
    assert found["auroc"][0][1] == found["auroc"][2][0] == 1.0
    assert found["auroc_other"]["coin"][0][1] == 0.5
    assert found["rows"][0]["difference"]["coin"]["mean"] == 0.5
    assert found["rows"][0]["true_win"] == found["rows"][0]["predicted_win"]


def test_win_rates_share_ties_and_leave_out_what_is_missing() -> None:
    test = table([[1, 1, 0], [0, 2, np.nan]], costs=np.ones(3), categories=["x", "y"])
    found = win_rates(test, np.array([[3.0, 1, 2], [1, 2, 9]]), resamples(2))
    assert found["true"][""] == pytest.approx([0.25, 0.75, 0])
    assert found["true"]["x"] == pytest.approx([0.5, 0.5, 0])
    assert list(found["predicted"][""]) == pytest.approx([0.5, 0.5, 0])
    assert found["pairwise_true"][""][0][1] == 0.75


def test_the_bound_holds_on_gaussian_rewards_and_is_the_formula() -> None:
    samples = RNG.normal(size=(300, 2, 30)) + np.array([0.0, 1.5])[None, :, None]
    found = bound_tightness(table(samples.mean(axis=2), samples_PMK=samples.astype(np.float32)), resamples(300))
    assert found is not None
    assert found["overall"]["held"] > 0.99
    mean, variance = samples.mean(axis=2), samples.var(axis=2, ddof=1).max(axis=1)
    expected = 1 - np.exp(-((mean[:, 1] - mean[:, 0]) ** 2) / (4 * variance))
    assert found["overall"]["bound"] == pytest.approx(expected.mean(), abs=1e-6)
    assert found["overall"]["bound_ci"][0] < found["overall"]["bound"] < found["overall"]["bound_ci"][1]


def test_without_spread_the_better_model_always_wins_and_equals_promise_nothing() -> None:
    samples = np.array([[[1.0, 1.0], [2.0, 2.0]], [[3.0, 3.0], [3.0, 3.0]]], dtype=np.float32)
    found = bound_tightness(table([[1, 2], [3, 3]], samples_PMK=samples), resamples(2))
    assert found is not None
    assert found["bins"][0] | {"slack": 0} == {"bound": 0.0, "won": 0.5, "slack": 0, "held": 1.0, "instances": 1}
    assert (found["overall"]["bound"], found["overall"]["won"], found["overall"]["held"]) == (0.5, 0.75, 1.0)
    assert found["overall"]["held_ci"] == [1.0, 1.0]


def test_apgr_is_one_for_an_oracle_in_few_calls_and_half_at_random() -> None:
    weak, strong = np.zeros(2000), (RNG.random(2000) < 0.2).astype(float)
    oracle = gap_recovered(strong, weak, strong, resamples(2000))
    chance = gap_recovered(RNG.random(2000), weak, strong, resamples(2000))
    assert oracle["cpt"]["0.8"] < 0.25
    assert chance["apgr"]["mean"] == pytest.approx(0.5, abs=0.05)
    assert chance["cpt"]["0.5"] == pytest.approx(0.5, abs=0.1)
    assert chance["apgr"]["low"] < 0.5 < chance["apgr"]["high"]
    assert chance["cpt_ci"]["0.5"][0] < chance["cpt"]["0.5"] < chance["cpt_ci"]["0.5"][1]


def test_apgr_of_ten_prompts_by_hand() -> None:
    strong = np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    found = gap_recovered(np.arange(10.0)[::-1], np.zeros(10), strong, resamples(10))
    # All of the gap after two of ten calls: a rise over two tenths, then one.
    assert found["apgr"]["mean"] == pytest.approx(0.9)
    assert found["cpt"] == {"0.2": pytest.approx(0.04), "0.5": pytest.approx(0.1), "0.8": pytest.approx(0.16)}


def test_equal_scores_move_together() -> None:
    assert routing_curve(np.zeros(5)).sum(axis=0).tolist() == [0] + [5] * 10


def test_a_strong_model_that_is_no_better_leaves_no_gap() -> None:
    found = gap_recovered(RNG.random(20), np.ones(20), np.ones(20), resamples(20))
    assert np.isnan(found["apgr"]["mean"])
    assert found["cpt"] == {"0.2": None, "0.5": None, "0.8": None}
    assert found["cpt_ci"]["0.5"] == [None, None]


def test_the_protocol_is_for_two_models() -> None:
    assert two_model_measures(table(np.ones((3, 3)), costs=np.ones(3)), np.ones(3), {}, resamples(3)) is None
