"""Probes of two parts, task means and the rest, and what is chosen about them."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from erp_trainer.learning import differences
from erp_trainer.learning.moments import Moments
from erp_trainer.learning.ridge import Penalties, assign_folds, cross_fit
from erp_trainer.learning.task_means import PRIOR_ROWS, TaskSums, task_codes, with_task_means
from erp_trainer.policies.erp import fit_erp
from tests.test_fitting import table


def clustered(n=300, n_tasks=4, n_models=3, noise=1.0, seed=0):
    """Prompts around one centre per task, with models that differ by task."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(n_tasks, size=n)
    x = np.eye(12, dtype=np.float32)[tasks] + 0.2 * rng.normal(size=(n, 12)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    means = rng.normal(size=(n_tasks, n_models))
    return x, means[tasks] + noise * rng.normal(size=(n, n_models)), tasks, means


def fitted(n=300, n_tasks=4, missing=False, **kw):
    x, y, tasks, _ = clustered(n, n_tasks, **kw)
    if missing:
        y[: n // 3, 1] = np.nan
    return x, y, tasks, cross_fit(x, y, assign_folds(np.arange(n), 0), ("a", "b", "c"), tasks)


def test_equal_penalties_are_one_ridge_regression():
    x, y, _, found = fitted()
    weights, intercepts = found.probes(7.0)
    reference = Ridge(alpha=7.0).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(weights.T, reference.coef_, atol=1e-5)
    np.testing.assert_allclose(intercepts, reference.intercept_, atol=1e-5)


def test_the_parts_are_ridge_regressions_of_task_means_and_of_the_rest():
    x, y, tasks, found = fitted()
    overall, counts = y.mean(axis=0), np.bincount(tasks)[:, None]
    sums = np.stack([y[tasks == t].sum(axis=0) for t in range(4)])
    target = ((sums + PRIOR_ROWS * overall) / (counts + PRIOR_ROWS))[tasks]
    wide = x.astype(np.float64)
    expected = Ridge(alpha=0.5).fit(wide, target).coef_ + Ridge(alpha=50.0).fit(wide, y - target).coef_
    np.testing.assert_allclose(found.probes(Penalties(0.5, 50.0))[0].T, expected, atol=1e-5)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("n_tasks", [1, 4])
def test_errors_of_all_pairs_are_those_of_their_predictions(missing, n_tasks):
    _, y, _, found = fitted(n_tasks=n_tasks, missing=missing)
    betas = (0.3, 3.0, 30.0)
    errors = differences.errors(found, y, betas)
    for t, r in ((0, 0), (0, 2), (2, 1)) if n_tasks > 1 else ((1, 1),):
        predicted = found.out_of_fold(Penalties(betas[t], betas[r]))
        gap = differences.relative(y - predicted, np.isnan(y))
        assert errors[t, r] == pytest.approx(np.square(gap).sum(), rel=1e-4)


def test_sums_of_parts_add_up_and_subtract():
    x, y, tasks, _ = clustered(90)
    whole = TaskSums.of(x, y, tasks, 4)
    head, tail = TaskSums.of(x[:40], y[:40], tasks[:40], 4), TaskSums.of(x[40:], y[40:], tasks[40:], 4)
    np.testing.assert_allclose((head + tail).sum_x_CD, whole.sum_x_CD)
    np.testing.assert_allclose((whole - head).sum_y_CM, tail.sum_y_CM, atol=1e-9)
    assert with_task_means(Moments.of(x, y), whole).xty_DM.shape == (12, 6)


def test_rare_categories_and_none_are_one_task():
    codes = task_codes(np.array(["a"] * 5 + ["b"] * 6 + ["", "x", "y"]))
    assert len(set(codes[:5])) == len(set(codes[5:11])) == len(set(codes[11:])) == 1
    assert len(set(codes.tolist())) == 3
    assert set(task_codes(np.array([f"c{i}" for i in range(50)])).tolist()) == {0}


def test_tasks_are_found_from_fewer_noisy_prompts_than_rewards_alone_need():
    errors = np.zeros(2)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tasks, means = rng.integers(5, size=200), rng.normal(size=(5, 3))
        x = np.eye(60, dtype=np.float32)[tasks] + 0.15 * rng.normal(size=(200, 60)).astype(np.float32)
        y = means[tasks] + 2.0 * rng.normal(size=(200, 3))
        for way, categories in enumerate((tasks.astype(str), None)):
            found = fit_erp(table(y, x, categories=categories), preset="best")
            assert (found.task_beta is None) == (categories is None)
            gap = found.probes.predict(x) - means[tasks]
            errors[way] += np.square(differences.relative(gap, np.isnan(gap))).sum()
    assert errors[0] < 0.9 * errors[1], errors


def test_a_dominating_model_gets_every_prompt():
    x, y, tasks, _ = clustered(400, noise=0.5)
    y[:, 1] += 20.0
    points = fit_erp(table(y, x, categories=tasks.astype(str)), preset="best").frontier["points"]
    assert points[0]["share"] == {"m1": 1.0}


def test_the_order_of_models_changes_nothing():
    x, y, tasks, _ = clustered(300)
    order = [2, 0, 1]
    one = fit_erp(table(y, x, categories=tasks.astype(str)), preset="best")
    other = fit_erp(table(y[:, order], x, categories=tasks.astype(str)), preset="best")
    assert one.penalties == other.penalties
    np.testing.assert_allclose(one.probes.weights_DM[:, order], other.probes.weights_DM, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_rewards_dealt_to_other_prompts_are_no_evidence(seed):
    x, y, tasks, _ = clustered(300, seed=seed)
    y = np.random.default_rng(seed).permutation(y)
    points = fit_erp(table(y, x, categories=tasks.astype(str)), preset="best").frontier["points"]
    assert {point["shrinkage"] for point in points} == {0.0}


@pytest.mark.parametrize("kind", ["constant", "one-model", "one-prompt-per-category", "never-two-models"])
def test_tables_with_nothing_to_compare_are_fitted(kind):
    x, y, tasks, _ = clustered(60)
    names = tasks.astype(str)
    if kind == "constant":
        y = np.ones_like(y)
    elif kind == "one-model":
        y = y[:, :1]
    elif kind == "one-prompt-per-category":
        names = np.arange(60).astype(str)
    else:
        y = np.where(np.arange(60)[:, None] % 3 == np.arange(3), y, np.nan)
    found = fit_erp(table(y, x, categories=names), preset="best")
    assert np.isfinite(found.probes.weights_DM).all()
    assert found.frontier["points"][0]["lambda"] == 0
