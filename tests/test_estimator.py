"""The estimator: memberships in tasks and clusters, one ridge, and one vector of weights for the pool."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from erp_trainer.learning import differences
from erp_trainer.learning.features import Labelling, LabelSums, discriminant, labellings
from erp_trainer.learning.ridge import assign_folds, cross_fit
from erp_trainer.learning.stack import BETAS, cell_means, choose_beta, choose_weights, out_of_fold_parts
from erp_trainer.policies.erp import fit_erp, served_predictions
from litellm_erp.bundle.features import Features
from tests.test_fitting import table


def clustered(n=300, n_tasks=4, n_models=3, noise=1.0, seed=0):
    """Prompts around one centre per task, with models that differ by task."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(n_tasks, size=n)
    x = np.eye(12, dtype=np.float32)[tasks] + 0.2 * rng.normal(size=(n, 12)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    means = rng.normal(size=(n_tasks, n_models))
    return x, means[tasks] + noise * rng.normal(size=(n, n_models)), tasks, means


def routed(fitted, x):
    """What a bundle would choose at λ = 0."""
    predicted, trust = served_predictions(fitted, x)
    mean = fitted.mean_reward_M
    return (mean + trust[:, None] * (predicted - mean)).argmax(axis=1)


def test_the_ridge_is_scikit_learns():
    x, y, _, _ = clustered()
    weights, intercepts = cross_fit(x, y, assign_folds(np.arange(300), 0), ("a", "b", "c")).probes(7.0)
    reference = Ridge(alpha=7.0).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(weights.T, reference.coef_, atol=1e-5)
    np.testing.assert_allclose(intercepts, reference.intercept_, atol=1e-5)


def test_memberships_are_those_of_linear_discriminant_analysis():
    x, _, tasks, _ = clustered(4000)
    found = discriminant(x.astype(float).T @ x, LabelSums.of(x, Labelling(tasks, 4, 0.0)), 1e-9)
    features = Features(*(part.astype(np.float32) for part in found), (4,), np.empty(0), 0.0)
    reference = LinearDiscriminantAnalysis().fit(x.astype(float), tasks).predict_proba(x.astype(float))
    np.testing.assert_allclose(features.memberships(features.scores(x)), reference, atol=0.02)


def test_sums_by_label_add_up_and_subtract():
    x, _, tasks, _ = clustered(90)
    labels = Labelling(tasks, 4, 1.0)
    whole = LabelSums.of(x, labels)
    head, tail = (LabelSums.of(x[rows], labels.rows(rows)) for rows in (np.arange(40), np.arange(40, 90)))
    np.testing.assert_allclose((head + tail).sum_CD, whole.sum_CD)
    np.testing.assert_allclose((whole - head).sum_CD, tail.sum_CD, atol=1e-9)


def test_means_by_label_lean_to_the_model_and_leave_missing_rewards_out():
    y = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 1.0], [0.0, np.nan]])
    found = cell_means(y, Labelling(np.array([0, 0, 1, 1]), 2, 1.0), np.array([0.5, 0.5]))
    np.testing.assert_allclose(found, [[4.5 / 7, 2.5 / 6], [2.5 / 7, 3.5 / 6]])


def test_rare_categories_and_none_are_one_task():
    codes = labellings(np.eye(14, dtype=np.float32), np.array(["a"] * 5 + ["b"] * 6 + ["", "x", "y"]))[0].codes_P
    assert len(set(codes[:5])) == len(set(codes[5:11])) == len(set(codes[11:])) == 1
    assert len(set(codes.tolist())) == 3


@pytest.mark.parametrize("names", [[""] * 200, ["one"] * 200, [f"c{i}" for i in range(200)]])
def test_without_tasks_there_are_clusters(names):
    found = labellings(clustered(200)[0], np.array(names))
    assert [each.names for each in found] == [()] * len(found)
    assert len(found) >= 1


@pytest.mark.parametrize("missing", [False, True])
def test_the_penalty_is_that_of_the_least_error_of_differences(missing):
    x, y, _, _ = clustered(noise=3.0)
    if missing:
        y[:100, 1] = np.nan
    fitted = cross_fit(x, y, assign_folds(np.arange(300), 0), ("a", "b", "c"))
    gaps = [differences.relative(y - fitted.out_of_fold(beta), np.isnan(y)) for beta in BETAS]
    assert choose_beta(fitted, y, np.arange(300)) == BETAS[int(np.argmin([np.square(gap).sum() for gap in gaps]))]


def test_no_row_is_predicted_from_its_own_fold():
    x, y, tasks, _ = clustered()
    labels = labellings(x, tasks.astype(str))
    fitted = cross_fit(x, y, assign_folds(np.arange(300), 0), ("a", "b", "c"))
    rows = fitted.folds_P == 2
    before = out_of_fold_parts(fitted, y, labels, 3.0)
    other = np.where(rows[:, None], 99.0, y)
    again = cross_fit(x, other, fitted.folds_P, ("a", "b", "c"))
    after = out_of_fold_parts(again, other, labels, 3.0)
    for one, two in zip(before.all, after.all, strict=True):
        np.testing.assert_allclose(one[rows], two[rows], atol=1e-4)


def test_weights_are_not_negative_and_a_useless_part_has_none():
    x, y, tasks, _ = clustered(600, noise=0.5)
    labels = (labellings(x, tasks.astype(str))[0], Labelling(np.random.default_rng(0).integers(3, size=600), 3, 1.0))
    fitted = cross_fit(x, y, assign_folds(np.arange(600), 0), ("a", "b", "c"))
    stack = choose_weights(out_of_fold_parts(fitted, y, labels, 3.0), y, y.mean(axis=0), 3.0)
    assert min(stack.weights) >= 0
    assert stack.weights[0] > 0.5 > 10 * stack.weights[1]


def test_tasks_are_found_from_fewer_noisy_prompts_than_rewards_alone_need():
    errors = np.zeros(2)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tasks, means = rng.integers(5, size=200), rng.normal(size=(5, 3))
        x = np.eye(60, dtype=np.float32)[tasks] + 0.15 * rng.normal(size=(200, 60)).astype(np.float32)
        y = means[tasks] + 2.0 * rng.normal(size=(200, 3))
        for way, categories in enumerate((tasks.astype(str), None)):
            found = fit_erp(table(y, x, categories=categories), preset="best")
            gap = served_predictions(found, x)[0] - means[tasks]
            errors[way] += np.square(differences.relative(gap, np.isnan(gap))).sum()
    assert errors[0] < errors[1], errors


def test_what_no_direction_tells_apart_is_routed_by_membership():
    """Six tasks around a circle, every other one best answered by the other model: no plane has them on its sides."""
    rng = np.random.default_rng(0)
    tasks = rng.integers(6, size=1200)
    angles = tasks * np.pi / 3 + 0.1 * rng.normal(size=1200)
    x = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    y = np.where((tasks % 2 == 1)[:, None], [0.2, 0.8], [0.8, 0.2]) + 0.3 * rng.normal(size=(1200, 2))
    chosen = routed(fit_erp(table(y, x, categories=tasks.astype(str)), preset="best"), x)
    assert (chosen == tasks % 2).mean() > 0.95
    linear = fit_erp(table(y, x), preset="paper").probes.predict(x).argmax(axis=1)
    assert (linear == tasks % 2).mean() < 0.7


def test_a_prompt_of_no_task_leans_to_the_means():
    x, y, tasks, _ = clustered(800, noise=0.3)
    found = fit_erp(table(y, x, categories=tasks.astype(str)), preset="best")
    strange = np.full((1, 12), 12**-0.5, dtype=np.float32)
    _, trust = served_predictions(found, np.vstack([x, strange]))
    assert trust[:-1].mean() > 0.9
    assert trust[-1] < 0.1


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
    np.testing.assert_allclose(one.stack.weights, other.stack.weights, atol=1e-6)
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


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kinds", [1, 2, 7])
def test_prompts_that_differ_in_nothing_make_no_more_clusters_than_there_are_kinds_of_them(kinds):
    x = np.eye(8, dtype=np.float32)[np.arange(300) % kinds]
    found = labellings(x, np.full(300, ""))
    assert {each.n for each in found} == {kinds}
