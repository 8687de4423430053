"""Laws that every policy a bundle can hold obeys."""

from dataclasses import replace

import numpy as np
import pytest

from erp_trainer.policies.registry import SERVED, served
from litellm_erp.errors import FitError
from tests.policy_tables import BY_KEY, Fitted, planted, table_of

every_rival = pytest.mark.parametrize("name", [name for name in SERVED if name != "erp"])


@every_rival
def test_a_policy_finds_the_planted_best_model(name):
    test = planted(seed=1)
    choice = Fitted(name, planted()).choose(test, 0.0)
    assert test.reward_of(choice).mean() > 0.75  # always the same model earns 0.47


@every_rival
def test_without_a_price_on_money_the_score_alone_decides_and_at_a_huge_one_the_cost(name):
    test = planted()
    fitted = Fitted(name, test)
    np.testing.assert_array_equal(fitted.choose(test, 0.0), np.argmax(fitted.scores(test), axis=1))
    assert (fitted.choose(test, 1e9) == 0).all()


@every_rival
def test_permuting_the_models_permutes_the_choices(name):
    train, order = planted(), [2, 0, 1]
    choice = Fitted(name, train).choose(train, 0.1)
    permuted = Fitted(name, train.columns(order)).choose(train.columns(order), 0.1)
    # Sums in another order may tip a tie.
    assert (np.array(order)[permuted] == choice).mean() > 0.99


@every_rival
def test_of_identical_models_the_cheaper_is_chosen(name):
    train = planted(models=2)
    twins = replace(train, rewards_PM=np.repeat(train.rewards_PM[:, :1], 2, axis=1))
    assert (Fitted(name, twins).choose(twins, 0.01) == 0).all()


@every_rival
def test_a_pool_of_one_model_is_that_model(name):
    train = planted(models=1)
    assert (Fitted(name, train).choose(train, 0.0) == 0).all()


@every_rival
@pytest.mark.parametrize("constant", [-3.0, 0.0, 0.7])
def test_constant_rewards_are_predicted_and_the_cheapest_is_chosen(name, constant):
    train = table_of(np.full((60, 3), constant))
    fitted = Fitted(name, train)
    np.testing.assert_allclose(fitted.scores(train), constant, atol=1e-3)
    assert (fitted.choose(train, 0.1) == 0).all()


@every_rival
def test_shifted_rewards_shift_the_level_and_leave_the_choices(name):
    train = planted()
    shifted = replace(train, rewards_PM=train.rewards_PM - 10.0)
    before, after = Fitted(name, train), Fitted(name, shifted)
    # Only kNN looks at a threshold, and that one is the median once rewards leave [0, 1].
    agree = (before.choose(train, 0.0) == after.choose(shifted, 0.0)).mean()
    assert agree > (0.8 if name == "benchmark" else 0.99)
    assert abs(after.scores(shifted).mean() + 10.0 - before.scores(train).mean()) < 0.1


@every_rival
def test_models_that_missed_prompts_are_fitted_on_the_others_and_never_chosen_there(name):
    train = planted()
    holes = train.rewards_PM.copy()
    holes[::4, 1] = np.nan
    holey = replace(train, rewards_PM=holes)
    fitted = Fitted(name, holey)
    assert np.isfinite(fitted.scores(holey)).all()
    assert (fitted.choose(holey, 0.0)[::4] != 1).all()
    assert holey.reward_of(fitted.choose(holey, 0.0)).mean() > 0.7


@every_rival
def test_the_same_seed_fits_the_same_policy(name):
    train = planted()
    np.testing.assert_array_equal(Fitted(name, train).scores(train), Fitted(name, train).scores(train))


@pytest.mark.parametrize("name", BY_KEY)
def test_every_policy_says_what_it_lacks_or_has_an_outcome_for_every_prompt(name):
    train = planted(80)
    if BY_KEY[name].lacking(train):
        with pytest.raises(FitError, match="no column"):
            Fitted(name, train)
        return
    outcome = Fitted(name, train).outcome(train, 0.1)
    assert np.isfinite(outcome.reward_P).all()
    assert np.isfinite(outcome.cost_P).all()
    assert outcome.share_M.sum() == pytest.approx(1)


def test_an_unknown_policy_is_refused_with_the_names_there_are():
    with pytest.raises(FitError, match="zooter"):
        served("oracle")
