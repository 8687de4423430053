"""A model that became worse is noticed, and one that did not is left alone."""

import math

import numpy as np
import pytest

from bench.drift import alarms
from litellm_erp.drift.residuals import DROP, Drift, threshold


@pytest.mark.parametrize(("kind", "std_error"), [("normal", 0.2), ("normal", 0.3), ("binary", 0.3), ("binary", 0.4)])
def test_nothing_rings_more_than_once_in_a_hundred_thousand_and_a_drop_rings_within_three_hundred(kind, std_error):
    rung, _ = alarms(np.random.default_rng(0), kind, std_error, 0.0, 2000, 1000)
    assert rung <= 30  # of 2,000,000, where 20 are allowed
    _, first = alarms(np.random.default_rng(1), kind, std_error, DROP, 1000, 1000)
    assert np.median(first) < 300
    assert (first < 1000).mean() > 0.98


def test_one_feedback_at_a_time_is_what_the_figures_are_of():
    rng = np.random.default_rng(3)
    drift, said = Drift(), 0
    while not drift.drifted:
        drift = drift.heard(0.7 - DROP + rng.normal(0, 0.2), 0.7, 0.2)
        said += 1
    assert 30 < said < 300
    assert drift.total > threshold(DROP / 0.2)


def test_a_model_that_becomes_better_never_rings():
    drift = Drift()
    for _ in range(10_000):
        drift = drift.heard(0.9, 0.7, 0.2)
    assert drift.total == 0
    assert not drift.drifted


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_changes_nothing(odd):
    drift = Drift().heard(0.1, 0.7, 0.2)
    assert drift.heard(odd, 0.7, 0.2) == drift.heard(0.1, odd, 0.2) == drift.heard(0.1, 0.7, odd) == drift
    assert drift.heard(0.1, 0.7, 0.0) == drift


def test_a_single_reward_never_rings():
    assert not Drift().heard(-1e9, 0.7, 0.2).drifted
    assert not Drift().heard(-1e9, 0.7, 0.01).drifted


def test_a_threshold_asks_more_where_alarms_may_come_less():
    assert threshold(0.3, 1e4) < threshold(0.3, 1e5) < threshold(0.3, 1e6)
