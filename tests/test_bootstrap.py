"""Intervals: paired, clustered, and the same whether figures are asked for one by one or together."""

import numpy as np
import pytest

from erp_trainer.learning.bootstrap import Resamples, interval


def test_a_resample_draws_as_many_clusters_as_there_are() -> None:
    drawn = Resamples.draw(np.arange(10_000), n_resamples=20)
    assert (drawn.weights_RG.sum(axis=1) == 10_000).all()
    # A cluster is drawn once on average, with the variance of a multinomial count.
    assert drawn.weights_RG.mean() == 1.0
    assert drawn.weights_RG.var() == pytest.approx(1.0, abs=0.02)


def test_an_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, 4000)
    found = interval(values, np.arange(4000))
    half = 1.96 * values.std() / np.sqrt(4000)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_duplicates_are_drawn_together() -> None:
    values = np.random.default_rng(0).normal(size=400)
    alone, together = interval(values, np.arange(400)), interval(np.repeat(values, 9), np.repeat(np.arange(400), 9))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))


def test_figures_of_one_set_of_resamples_are_paired() -> None:
    values = np.random.default_rng(0).normal(size=(200, 2))
    drawn = Resamples.draw(np.arange(200))
    both = drawn.means(values)
    difference = (both.column(0) - both.column(1)).intervals()[0]
    assert difference == drawn.mean(values[:, 0] - values[:, 1]) or difference.low == pytest.approx(
        drawn.mean(values[:, 0] - values[:, 1]).low
    )


def test_a_mean_leaves_out_what_is_missing() -> None:
    drawn = Resamples.draw(np.arange(4))
    found = drawn.means(np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [np.nan, np.nan]]))
    assert found.value_S[0] == 2.0
    assert np.isnan(found.value_S[1])
    assert np.isnan(found.bounds()[1]).all()


def test_some_prompts_keep_their_resamples() -> None:
    values = np.random.default_rng(0).normal(size=50)
    drawn = Resamples.draw(np.arange(50))
    inside = np.where(np.arange(50) < 20, values, np.nan)
    assert drawn.among(np.arange(20)).mean(values[:20]).low == pytest.approx(drawn.mean(inside).low)


def test_bins_have_the_means_of_their_prompts() -> None:
    values = np.arange(10.0)
    found = Resamples.draw(np.arange(10)).binned_means(values, np.array([0, 4]))
    np.testing.assert_allclose(found.value_S, [1.5, 6.5])
    assert (found.bounds()[:, 0] <= found.value_S).all()


def test_one_prompt_has_an_interval_of_no_width() -> None:
    found = interval(np.array([0.7]), np.array([3]))
    assert (found.mean, found.low, found.high) == pytest.approx((0.7, 0.7, 0.7))


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=30)
    groups = np.arange(30)
    assert interval(values, groups, seed=1) == interval(values, groups, seed=1)
    assert interval(values, groups, seed=1) != interval(values, groups, seed=2)
