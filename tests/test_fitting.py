"""Moments, ridge solutions and what is chosen out of fold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from erp_trainer.learning.moments import Moments, RidgeSolver
from erp_trainer.learning.ridge import assign_folds, blocks, cross_fit, r_squared, variance_line
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.erp import fit_erp
from litellm_erp.bundle.probe import Probes
from litellm_erp.errors import EmbedderMismatch, FitError

RNG = np.random.default_rng(0)


def unit_rows(n, d, rng=RNG):
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def table(rewards, embeddings, cost=None, categories=None):
    cost = np.ones_like(rewards) if cost is None else np.broadcast_to(cost, rewards.shape)
    n, m = rewards.shape
    names = tuple(f"m{i}" for i in range(m))
    categories = np.array([""] * n) if categories is None else categories
    return TrainingTable(names, embeddings, rewards, cost, cost, np.arange(n), categories)


@pytest.mark.parametrize("beta", [0.1, 1.0, 30.0])
def test_probes_equal_scikit_learns_ridge(beta):
    x, y = unit_rows(200, 12), RNG.normal(size=(200, 3))
    weights, intercept = RidgeSolver(Moments.of(x, y)).solve(beta)
    reference = Ridge(alpha=beta).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(weights.T, reference.coef_, atol=1e-6)
    np.testing.assert_allclose(intercept, reference.intercept_, atol=1e-6)


def test_moments_of_parts_add_up_and_subtract():
    x, y = unit_rows(60, 5), RNG.normal(size=(60, 2))
    whole, head, tail = Moments.of(x, y), Moments.of(x[:20], y[:20]), Moments.of(x[20:], y[20:])
    np.testing.assert_allclose((head + tail).gram_DD, whole.gram_DD)
    np.testing.assert_allclose((whole - head).xty_DM, tail.xty_DM, atol=1e-12)


def test_models_that_missed_the_same_prompts_share_a_block():
    targets = np.ones((6, 3))
    targets[:2, 1] = np.nan
    assert [block.columns.tolist() for block in blocks(targets)] == [[0, 2], [1]]


def test_out_of_fold_predictions_never_saw_their_fold():
    x, y = unit_rows(100, 4), RNG.normal(size=(100, 1))
    folds = assign_folds(np.arange(100), seed=1)
    predicted = cross_fit(x, y, folds, ("m",)).out_of_fold(1.0)
    for fold in range(5):
        reference = Ridge(alpha=1.0).fit(x[folds != fold].astype(np.float64), y[folds != fold])
        expected = reference.predict(x[folds == fold]).reshape(-1, 1)
        np.testing.assert_allclose(predicted[folds == fold], expected, atol=1e-5)


def test_a_model_that_missed_prompts_is_fitted_on_its_own():
    x, y = unit_rows(80, 4), RNG.normal(size=(80, 2))
    y[:30, 1] = np.nan
    weights, _ = cross_fit(x, y, assign_folds(np.arange(80), 0), ("a", "b")).probes(2.0)
    reference = Ridge(alpha=2.0).fit(x[30:].astype(np.float64), y[30:, 1])
    np.testing.assert_allclose(weights[:, 1], reference.coef_, atol=1e-5)


@given(st.lists(st.integers(0, 8), min_size=30, max_size=60))
def test_duplicates_share_a_fold(groups):
    groups = np.array([*groups, 0, 1, 2, 3, 4])
    folds = assign_folds(groups, seed=3)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups.tolist()))


def test_too_few_prompts_and_too_few_outcomes_are_refused():
    with pytest.raises(FitError, match="3 distinct"):
        assign_folds(np.array([0, 1, 2]), seed=0)
    y = np.full((50, 1), np.nan)
    y[:4] = 1.0
    with pytest.raises(FitError, match="'lonely' has 4"):
        cross_fit(unit_rows(50, 3), y, assign_folds(np.arange(50), 0), ("lonely",))


def test_choosing_at_many_degrees_of_trust_at_once_is_choosing_at_each():
    rewards = RNG.normal(size=(500, 4))
    rewards[::7, 1] = np.nan
    found, predicted = table(rewards, unit_rows(500, 3), np.arange(4.0)), RNG.normal(size=(500, 4))
    trusts, mean = [np.full((500, 1), s) for s in (1.0, 0.7, 0.4, 0.0)], found.mean_reward_M
    together = found.choose_each(predicted, 0.0001, trusts, mean_reward_M=mean)
    for choice, trust in zip(together, trusts, strict=True):
        np.testing.assert_array_equal(choice, found.choose(predicted, 0.0001, mean_reward_M=mean, trust=trust))
    assert (together[0] != together[-1]).any()


def test_both_ways_to_solve_give_the_same_probes_and_leverage():
    moments = Moments.of(unit_rows(300, 70), RNG.normal(size=(300, 2)))
    first, later = RidgeSolver(moments), RidgeSolver(moments)
    later.decompose()
    np.testing.assert_allclose(first.solve(5.0)[0], later.solve(5.0)[0], atol=1e-12)
    x = RNG.normal(size=70)
    assert ((x @ first.whitener(5.0)) ** 2).sum() == pytest.approx(((x @ later.whitener(5.0)) ** 2).sum())


def test_residuals_standardised_by_the_variance_line_have_unit_variance():
    leverage = RNG.uniform(0, 1, 20_000)
    residuals = (RNG.normal(size=20_000) * np.sqrt(0.5 + 2.0 * leverage))[:, None]
    noise, slope = variance_line(residuals, leverage)
    assert np.std(residuals[:, 0] / np.sqrt(noise[0] + slope[0] * leverage)) == pytest.approx(1.0, abs=0.01)
    assert (noise[0], slope[0]) == (pytest.approx(0.5, abs=0.1), pytest.approx(2.0, abs=0.2))


def test_r_squared_is_scikit_learns_and_nan_where_nothing_varies():
    y = np.column_stack([RNG.normal(size=50), np.ones(50)])
    predicted = y + 0.1
    found = r_squared(predicted, y)
    assert found[0] == pytest.approx(1 - 0.01 * 50 / ((y[:, 0] - y[:, 0].mean()) ** 2).sum())
    assert np.isnan(found[1])


def test_probes_refuse_an_embedding_of_another_dimension():
    with pytest.raises(EmbedderMismatch, match="7 dimensions"):
        Probes(np.zeros((5, 2), np.float32), np.zeros(2, np.float32)).predict(np.zeros(7, np.float32))


def test_a_planted_preference_is_found_and_a_shuffled_one_is_not():
    x = unit_rows(600, 8)
    rewards = np.column_stack([x[:, 0] * 3, -x[:, 0] * 3 + 0.1]) + RNG.normal(size=(600, 2)) * 0.2
    planted = fit_erp(table(rewards, x), preset="best")
    shuffled = fit_erp(table(RNG.permutation(rewards), x), preset="best")
    assert planted.frontier["verdict"]["helps"]
    assert planted.frontier["points"][0]["shrinkage"] > 0
    assert not shuffled.frontier["verdict"]["helps"]
    assert shuffled.frontier["points"][0]["share"] == {shuffled.frontier["verdict"]["best_single"]: 1.0}


def test_the_paper_preset_has_beta_one_constant_costs_and_no_shrinkage():
    x, rewards = unit_rows(100, 4), RNG.normal(size=(100, 2))
    cost = RNG.uniform(1, 2, size=(100, 2))
    fitted = fit_erp(table(rewards, x, cost), preset="paper")
    assert (fitted.stack.beta, fitted.stack.weights, fitted.features) == (1.0, (1.0,), None)
    reference = Ridge(alpha=1.0).fit(x.astype(np.float64), rewards)
    np.testing.assert_allclose(fitted.probes.weights_DM.T, reference.coef_, atol=1e-6)
    np.testing.assert_allclose(fitted.constant_cost_M, cost.mean(axis=0))
    assert {point["shrinkage"] for point in fitted.frontier["points"]} == {1.0}


def test_the_frontier_starts_at_the_best_reward_and_ends_at_the_cheapest_model():
    x = unit_rows(300, 6)
    rewards = np.column_stack([np.full(300, 0.2), 0.8 + x[:, 0]])
    points = fit_erp(table(rewards, x, np.array([0.001, 0.01])), preset="best").frontier["points"]
    assert points[0]["lambda"] == 0
    assert points[-1]["share"] == {"m0": 1.0}


def test_an_identical_fit_gives_identical_probes():
    x, rewards = unit_rows(120, 5), RNG.normal(size=(120, 2))
    first, second = (fit_erp(table(rewards, x), preset="best", seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.probes.weights_DM, second.probes.weights_DM)
