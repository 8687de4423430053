"""Several reward models as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_trainer.rewards.combining import Key, combine
from litellm_erp.errors import SettingsError


def scores(seed: int, scale: float = 1.0, shift: float = 0.0) -> dict[Key, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {(f"p{i}", model): shift + scale * rng.normal(size=3) for i in range(8) for model in ("a", "b")}


TRAIN = {f"p{i}" for i in range(4)}


def test_one_reward_model_stays_raw() -> None:
    combined = combine({"rm": scores(0, 5, 2)}, {"rm": 0.3}, TRAIN)
    assert combined.unit == "raw reward"
    assert all(np.array_equal(combined.rewards[key], found) for key, found in scores(0, 5, 2).items())


def test_one_of_weight_0_leaves_the_other_raw_and_keeps_no_prompt_from_it() -> None:
    lacking = scores(1)
    del lacking["p0", "a"]
    combined = combine({"y": lacking, "x": scores(0, 5, 2)}, {"x": 0.3, "y": 0}, TRAIN)
    assert (combined.unit, combined.incomplete) == ("raw reward", 0)
    assert all(np.array_equal(combined.rewards[key], found) for key, found in scores(0, 5, 2).items())


def test_each_is_normalised_over_all_samples_of_the_train_split() -> None:
    found = combine({"x": scores(0, 9, 4), "y": scores(1)}, {"x": 3, "y": 1}, TRAIN).normalisation["x"]
    trained = np.concatenate([rewards for key, rewards in scores(0, 9, 4).items() if key[0] in TRAIN])
    assert (found.mean, found.std) == (pytest.approx(trained.mean()), pytest.approx(trained.std()))
    assert found.weight == 0.75


def test_test_prompts_take_no_part() -> None:
    changed = {key: rewards if key[0] in TRAIN else rewards + 100 for key, rewards in scores(0).items()}
    before, after = (combine({"x": x, "y": scores(1)}, {"x": 1, "y": 1}, TRAIN) for x in (scores(0), changed))
    assert before.normalisation == after.normalisation


@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_the_scale_of_a_reward_model_changes_nothing(scale: float, shift: float) -> None:
    plain, scaled = (
        combine({"x": x, "y": scores(1)}, {"x": 2, "y": 1}, TRAIN).rewards for x in (scores(0), scores(0, scale, shift))
    )
    assert all(scaled[key] == pytest.approx(plain[key], abs=1e-6) for key in plain)


def test_what_one_reward_model_lacks_is_left_out_and_counted() -> None:
    lacking = scores(1)
    del lacking["p0", "a"]
    combined = combine({"x": scores(0), "y": lacking}, {"x": 1, "y": 1}, TRAIN)
    assert combined.incomplete == 1
    assert ("p0", "a") not in combined.rewards


@pytest.mark.parametrize(
    ("second", "weights", "train", "message"),
    [
        (scores(1), {"x": 0, "y": 0}, TRAIN, "weights sum to zero"),
        (scores(1, 0, 7), {"x": 1, "y": 1}, TRAIN, r"rewards\.y: gave every response the same reward"),
        (scores(1), {"x": 1, "y": 1}, set(), r"rewards\.x: scored no response on the train split"),
    ],
)
def test_what_cannot_be_normalised_is_an_error(
    second: dict[Key, np.ndarray], weights: dict[str, float], train: set[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        combine({"x": scores(0), "y": second}, weights, train)
