"""A model that was asked few of a pool's prompts is placed among the others, and cautiously."""

import numpy as np
import pytest

from erp_trainer.bundles.grown_pool import grow
from erp_trainer.learning.features import labels_of
from erp_trainer.learning.newcomer import newcomer_of, newcomer_out_of_fold
from erp_trainer.learning.ridge import assign_folds, cross_fit
from erp_trainer.learning.stack import Stack, combined_probes
from erp_trainer.policies.erp import fit_erp
from tests.test_estimator import clustered, table

N_OTHERS = 4
STACK = Stack(10.0, (1.0,))


def pool(seed=0, n=1200, noise=0.5):
    """Four models and one to come, with task effects and shared difficulty, and the expected rewards of all."""
    rng = np.random.default_rng(seed)
    x, _, tasks, _ = clustered(n, seed=seed)
    means = 0.6 * rng.normal(size=(4, N_OTHERS + 1)) + rng.normal(size=N_OTHERS + 1)
    expected = means[tasks]
    rewards = expected + 0.7 * rng.normal(size=(n, 1)) + noise * rng.normal(size=expected.shape)
    return x, rewards, tasks.astype(str), expected


def asked(rewards, rows, m=N_OTHERS):
    """The rewards with those of the newcomer at some rows only."""
    some = rewards.copy()
    some[np.setdiff1d(np.arange(len(rewards)), rows), m] = np.nan
    return some


def fitted(x, rewards):
    return cross_fit(x, rewards, assign_folds(np.arange(len(x)), 0), tuple("abcde"[: rewards.shape[1]]))


def added(x, rewards, rows, labels=(), stack=STACK):
    return newcomer_of(fitted(x, rewards), asked(rewards, rows), N_OTHERS, np.arange(N_OTHERS), labels, stack)


def test_its_mean_is_nearer_the_truth_than_that_of_its_own_few_rewards():
    errors = np.zeros(2)
    for seed in range(30):
        x, rewards, _, expected = pool(seed)
        rows = np.random.default_rng(seed).permutation(len(x))[:25]
        truth = expected[:, N_OTHERS].mean()
        errors += np.square([added(x, rewards, rows).expected_mean - truth, rewards[rows, N_OTHERS].mean() - truth])
    assert errors[0] < 0.7 * errors[1], errors


def test_what_it_leans_to_is_less_than_is_expected_and_ever_nearer_to_it():
    x, rewards, _, _ = pool()
    found = [added(x, rewards, np.arange(n)) for n in (25, 100, 400)]
    margins = [each.expected_mean - each.mean for each in found]
    assert margins[0] > margins[1] > margins[2] > 0


def test_asked_everything_it_is_fitted_as_the_others_were():
    x, rewards, _, _ = pool()
    found = added(x, rewards, np.arange(len(x)))
    probes, _ = combined_probes(fitted(x, rewards), rewards, (), STACK)
    np.testing.assert_allclose(found.weights_D, probes.weights_DM[:, N_OTHERS], atol=1e-6)
    assert found.mean == found.expected_mean == pytest.approx(rewards[:, N_OTHERS].mean())


def test_asked_nearly_everything_it_is_nearly_what_the_others_are():
    x, rewards, tasks, _ = pool(n=3000)
    bundle = fit_erp(table(rewards[:, :N_OTHERS], x, categories=tasks), preset="best")
    memberships = bundle.features.memberships(bundle.features.scores(x))
    labels = labels_of_bundle(bundle, x, tasks)
    one, two = (added(x, rewards, np.arange(n), labels, bundle.stack).predict(x, memberships) for n in (2990, 3000))
    assert np.abs(one - two).mean() < 0.05 * two.std()


def labels_of_bundle(bundle, x, tasks):
    return labels_of(bundle.features, x, tasks)


def test_tasks_are_known_by_name_where_most_prompts_of_one_left_with_a_model():
    x, rewards, tasks, _ = pool()
    bundle = fit_erp(table(rewards, x, categories=tasks), preset="best")
    assert bundle.tasks == (("0",), ("1",), ("2",), ("3",))
    # Two prompts of task 1 stay: by number there would still be four tasks, but others.
    stay = np.sort(np.concatenate([np.flatnonzero(tasks != "1"), np.flatnonzero(tasks == "1")[:2]]))
    labels = labels_of(bundle.features, x[stay], tasks[stay], bundle.tasks)
    assert labels[0].codes_P.tolist() == [int(task) for task in tasks[stay]]
    # A category that the bundle never saw is the task that it looks like.
    unknown = labels_of(bundle.features, x[stay], np.full(len(stay), "new"), bundle.tasks)
    assert (unknown[0].codes_P == labels[0].codes_P).mean() > 0.8


@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_the_unit_of_rewards_changes_nothing(scale):
    x, rewards, _, _ = pool()
    one, other = (added(x, factor * rewards + shift, np.arange(50)) for factor, shift in ((1, 0), (scale, 3 * scale)))
    np.testing.assert_allclose(other.weights_D, scale * one.weights_D, rtol=1e-3, atol=1e-5 * scale)
    assert other.mean == pytest.approx(scale * (one.mean + 3), rel=1e-4)


def test_prompts_of_one_kind_do_not_make_it_good_everywhere():
    x, rewards, tasks, expected = pool(noise=0.2)
    best = max("0123", key=lambda kind: expected[tasks == kind, N_OTHERS].mean())
    rows = np.union1d(np.flatnonzero(tasks == best)[:150], np.random.default_rng(0).permutation(len(x))[:40])
    bundle = fit_erp(table(rewards[:, :N_OTHERS], x, categories=tasks), preset="best")
    found = added(x, rewards, rows, labels_of_bundle(bundle, x, tasks), bundle.stack)
    truth, plain = expected[:, N_OTHERS].mean(), rewards[rows, N_OTHERS].mean()
    assert abs(found.expected_mean - truth) < 0.5 * abs(plain - truth)


def test_no_row_is_predicted_from_its_own_fold():
    x, rewards, _, _ = pool()
    rows, others = np.arange(0, 1200, 6), np.arange(N_OTHERS)
    found = []
    held = fitted(x, rewards).folds_P == 2
    for shown in (rewards, np.where(held[:, None], 99.0, rewards)):
        some = asked(shown, rows)
        found.append(newcomer_out_of_fold(fitted(x, some), some, N_OTHERS, others, (), STACK))
    np.testing.assert_allclose(found[0][held], found[1][held], atol=1e-3)
    assert np.abs(found[0] - found[1])[~held].max() > 1


@pytest.mark.parametrize("kind", ["one-other", "constant", "never-together", "lucky"])
def test_pools_with_little_to_compare_with_take_a_newcomer(kind):
    x, rewards, tasks, _ = pool(n=200)
    if kind == "one-other":
        rewards = rewards[:, [0, N_OTHERS]]
    elif kind == "constant":
        rewards = np.ones_like(rewards)
    elif kind == "lucky":
        rewards[:, N_OTHERS] = 5.0
    m = rewards.shape[1] - 1
    some = asked(rewards, np.arange(0, 200, 8), m)
    if kind == "never-together":
        some[::8, :m] = np.nan
    bundle = fit_erp(table(some[:, :m], x, categories=tasks), preset="best")
    grown, newcomers = grow(
        table(some, x, categories=tasks), labels_of_bundle(bundle, x, tasks), bundle.stack, bundle.features, [m]
    )
    assert np.isfinite(grown.predicted_PM).all()
    assert np.isfinite([newcomers[m].mean, newcomers[m].intercept, *newcomers[m].weights_D]).all()


def test_a_lucky_newcomer_is_not_given_the_prompts():
    """One no better than the others, whose few rewards happened to be high, from many draws."""
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = clustered(600, seed=seed)[0]
        rewards = (rng.random((600, 3)) < [0.7, 0.6, 0.6]).astype(float)
        found = newcomer_of(fitted(x, rewards), asked(rewards, np.arange(25), 2), 2, np.arange(2), (), STACK)
        wrong += found.mean > rewards[:, 0].mean()
    assert wrong == 0
