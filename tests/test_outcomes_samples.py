"""Single rewards behind a mean: kept from `sample` rows or lists, through files, subsets and added models."""

from pathlib import Path

import numpy as np
import pytest

from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.table import MAX_KEPT_SAMPLES, OutcomesTable
from erp_trainer.outcomes.write import write_outcomes
from litellm_erp.errors import OutcomesError
from tests.planted import Row, planted_rows
from tests.planted import write_outcomes as write_rows


def rows_of(rewards: dict[str, list[float]], prompt_id: str = "p0") -> list[Row]:
    return [
        {"prompt_id": prompt_id, "prompt": prompt_id, "model": model, "reward": reward, "sample": s}
        for model, values in rewards.items()
        for s, reward in enumerate(values)
    ]


def read(folder: Path, rows: list[Row]) -> OutcomesTable:
    return read_outcomes(write_rows(folder / "outcomes.jsonl", rows))


def test_single_rewards_are_kept_in_sample_order(tmp_path: Path) -> None:
    rows = rows_of({"a": [0.1, 0.2, 0.3], "b": [0.5]})
    outcomes = read(tmp_path, rows[::-1])
    np.testing.assert_allclose(outcomes.samples_PMK, [[[0.1, 0.2, 0.3], [0.5, np.nan, np.nan]]], rtol=1e-6)


def test_lists_of_rows_in_any_order_stay_with_their_row(tmp_path: Path) -> None:
    rows = [{"prompt_id": "p", "prompt": "p", "model": m, "reward": r, "sample_rewards": [r, r]} for m, r in
            (("b", 1.0), ("a", 2.0))]  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path, rows).samples_PMK, [[[2, 2], [1, 1]]])


def test_one_sample_each_keeps_none(tmp_path: Path) -> None:
    assert read(tmp_path, rows_of({"a": [0.1], "b": [0.5]})).samples_PMK is None


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_single_rewards_survive_a_file(tmp_path: Path, suffix: str) -> None:
    outcomes = read(tmp_path, planted_rows(12, samples=3))
    write_outcomes(outcomes, tmp_path / f"again{suffix}")
    again = read_outcomes(tmp_path / f"again{suffix}")
    np.testing.assert_array_equal(again.samples_PMK, outcomes.samples_PMK)
    np.testing.assert_array_equal(again.n_samples_PM, outcomes.n_samples_PM)


def test_a_file_holds_the_first_of_many_samples(tmp_path: Path) -> None:
    many = np.linspace(0, 1, MAX_KEPT_SAMPLES + 8).tolist()
    outcomes = read(tmp_path, rows_of({"a": many, "b": [0.5, 0.7]}))
    write_outcomes(outcomes, tmp_path / "again.parquet")
    again = read_outcomes(tmp_path / "again.parquet")
    assert again.samples_PMK is not None
    assert again.samples_PMK.shape == (1, 2, MAX_KEPT_SAMPLES)
    assert again.rewards_PM[0, 0] == pytest.approx(0.5)


def test_a_list_alone_says_how_many_samples_there_are(tmp_path: Path) -> None:
    row = {"prompt_id": "p", "prompt": "p", "model": "a", "reward": 0.5, "sample_rewards": [0.0, 1.0, 0.5]}
    assert read(tmp_path, [row]).n_samples_PM.tolist() == [[3]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sample_rewards": [0.0, 2.0]}, "the mean of its sample_rewards 1"),
        ({"sample_rewards": [0.0, None]}, "JSON list of numbers"),
        ({"sample_rewards": [0.0, 1.0], "n_samples": 3}, "n_samples is 3, and sample_rewards holds 2"),
        ({"sample_rewards": "often"}, "JSON list of numbers"),
    ],
)
def test_a_list_that_contradicts_its_row_is_an_error(tmp_path: Path, wrong: Row, message: str) -> None:
    row = {"prompt_id": "p", "prompt": "p", "model": "a", "reward": 0.5}
    with pytest.raises(OutcomesError, match=message):
        read(tmp_path, [row | wrong])


def test_parts_of_a_table_keep_their_single_rewards(tmp_path: Path) -> None:
    outcomes = read(tmp_path, rows_of({"a": [0, 1], "b": [2, 3]}) + rows_of({"a": [4, 5]}, "p1"))
    assert outcomes.samples_PMK is not None
    np.testing.assert_array_equal(outcomes.of_models(["b"]).samples_PMK, outcomes.samples_PMK[:, 1:])
    part = outcomes.subset(np.array([False, True]))
    np.testing.assert_array_equal(part.samples_PMK, outcomes.samples_PMK[1:])


def test_an_added_model_brings_its_single_rewards(tmp_path: Path) -> None:
    outcomes = read(tmp_path, rows_of({"a": [0, 1]}) + rows_of({"a": [2, 3]}, "p1"))
    newcomer = read(tmp_path, rows_of({"c": [7, 8, 9]}, "p1"))
    both = outcomes.with_model(newcomer).samples_PMK
    expected = [[[0, 1, np.nan], [np.nan] * 3], [[2, 3, np.nan], [7, 8, 9]]]
    np.testing.assert_array_equal(both, np.array(expected))
