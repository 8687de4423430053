"""Cascades, rankings of answers and baselines, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from erp_trainer.learning.outcome import (
    permuted,
    uniform,
)
from erp_trainer.policies.cascade import Chain, fit_cascade, run_chain
from erp_trainer.policies.rankings import ranked_by_likelihood, ranked_by_reward
from litellm_erp.errors import FitError
from tests.policy_tables import table_of

COSTS = [1.0, 10.0, 100.0]


def test_a_cascade_stops_at_the_first_accepted_answer_and_pays_for_all_it_asked():
    table = table_of([[0.9, 0.1, 0.5], [0.2, 0.8, 0.1], [0.3, 0.2, 0.1]], costs_M=COSTS)
    outcome = run_chain(table, "reward", Chain((0, 1, 2), (0.5, 0.5)))
    # The third prompt goes through the whole chain, and the best answer seen is kept.
    np.testing.assert_allclose(outcome.reward_P, [0.9, 0.8, 0.3])
    np.testing.assert_allclose(outcome.cost_P, [1, 11, 111])
    np.testing.assert_allclose(outcome.share_M, [2 / 3, 1 / 3, 0])


def test_a_self_check_decides_without_a_look_at_rewards_and_the_last_answer_is_kept():
    table = table_of([[0.9, 0.1], [0.2, 0.8]], costs_M=COSTS[:2], self_check_PM=np.array([[0.1, 0.5], [0.9, 0.5]]))
    outcome = run_chain(table, "self_check", Chain((0, 1), (0.5,)))
    np.testing.assert_allclose(outcome.reward_P, [0.1, 0.2])
    np.testing.assert_allclose(outcome.cost_P, [11, 1])


def test_a_cascade_passes_over_models_without_an_outcome():
    table = table_of([[np.nan, 0.8, np.nan], [0.2, np.nan, 0.5]], costs_M=COSTS)
    outcome = run_chain(table, "reward", Chain((0, 1, 2), (0.5, 0.5)))
    np.testing.assert_allclose(outcome.reward_P, [0.8, 0.5])
    np.testing.assert_allclose(outcome.cost_P, [10, 101])
    assert np.isnan(run_chain(table, "reward", Chain((1,), ())).reward_P[1])


def test_chains_are_measured_as_they_run():
    rng = np.random.default_rng(0)
    table = table_of(rng.random((200, 4)), self_check_PM=rng.random((200, 4)))
    for signal in ("reward", "self_check"):
        fitted = fit_cascade(table, signal)
        for chain in fitted.chains[:: len(fitted.chains) // 20]:
            outcome = run_chain(table, signal, chain)
            assert outcome.reward_P.mean() == pytest.approx(chain.reward)
            assert outcome.cost_P.mean() == pytest.approx(chain.cost)


def test_a_dearer_lambda_never_makes_a_cascade_dearer_and_a_huge_one_asks_the_cheapest_only():
    table = table_of(np.random.default_rng(0).random((200, 3)), costs_M=np.array(COSTS) / 1e6)
    cascade = fit_cascade(table, "reward")
    costs = [cascade.outcome(table, lambda_).cost_P.mean() for lambda_ in (0, 1, 10, 100, 1e9)]
    assert costs == sorted(costs, reverse=True)
    assert cascade.chain(table, 1e9).models == (0,)


def test_a_cascade_of_one_model_or_of_identical_models_is_the_cheapest():
    assert fit_cascade(table_of([[0.5]] * 9), "reward").chains == (Chain((0,), (), 0.5, 0.001),)
    same = table_of(np.repeat(np.random.default_rng(0).random((50, 1)), 3, axis=1))
    assert fit_cascade(same, "reward").chain(same, 0.01).models == (0,)


def test_a_cascade_by_self_check_needs_the_column():
    with pytest.raises(FitError, match="self_check"):
        fit_cascade(table_of([[1.0, 0.0]]), "self_check")


def test_ranking_by_reward_keeps_the_best_answer_and_pays_for_all():
    table = table_of([[0.9, 0.1, np.nan], [0.2, 0.8, 0.3]], costs_M=COSTS)
    outcome = ranked_by_reward(table)
    np.testing.assert_allclose(outcome.reward_P, [0.9, 0.8])
    np.testing.assert_allclose(outcome.cost_P, [11, 111])
    samples = np.array([[[0, 1], [1, 0], [np.nan] * 2]], dtype=np.float32)
    # Both means are a half, and one of the two is right in every draw.
    assert ranked_by_reward(replace(table_of([[0.5, 0.5, np.nan]]), samples_PMK=samples)).reward_P[0] == 1.0


def test_ranking_by_likelihood_keeps_the_answer_its_model_believes_most():
    likelihood = np.array([[-1.0, -2.0, np.nan], [-3.0, np.nan, -1.0], [np.nan] * 3])
    table = table_of(
        [[0.9, 0.1, 0.3], [0.2, 0.8, np.nan], [0.5, 0.6, 0.7]], costs_M=COSTS, log_likelihood_PM=likelihood
    )
    outcome = ranked_by_likelihood(table)
    np.testing.assert_allclose(outcome.reward_P, [0.9, 0.2, 0.5])
    np.testing.assert_allclose(outcome.cost_P, [111, 11, 111])


def test_permuted_choices_keep_the_shares_and_lose_the_insight():
    table = table_of([[1.0, 0.0], [0.0, 1.0], [0.0, np.nan]], costs_M=COSTS[:2])
    outcome = permuted(table, np.array([0, 1, 0]))
    np.testing.assert_allclose(outcome.reward_P, [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(outcome.cost_P, [4, 4, 1])


def test_a_random_model_is_any_that_answered():
    np.testing.assert_allclose(uniform(table_of([[1.0, 0.0, np.nan]])).reward_P, [0.5])


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_cascade_over_models_that_answered_other_prompts_has_thresholds_that_are_numbers():
    rewards = np.random.default_rng(0).normal(size=(90, 3))
    rewards[np.arange(90)[:, None] % 3 != np.arange(3)] = np.nan
    chains = fit_cascade(table_of(rewards, costs_M=[1e-4, 1e-3, 1e-2]), "reward").chains
    assert any(len(chain.models) == 3 for chain in chains)
    assert not any(np.isnan(threshold) for chain in chains for threshold in chain.thresholds)
