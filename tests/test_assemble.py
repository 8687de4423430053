"""Samples and rewards become outcomes, and the run keeps what they were made from."""

import numpy as np
import pytest

from erp_trainer.outcomes.from_samples import outcomes_of
from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.run import check_run_target, complete_run, open_run
from erp_trainer.outcomes.write import write_outcomes
from erp_trainer.prompts.prompt_set import Prompt
from litellm_erp.choice.cost import Price
from litellm_erp.errors import RunError

PROMPTS = [
    Prompt("a", "one", "math", "train", tags=("x",)),
    Prompt("b", [{"role": "user", "content": "two"}], "chat", "test"),
    Prompt("c", "three", "chat", "train"),
]


def sample(text="text", finish="stop", tokens=(10, 20)):
    return {"text": text, "finish_reason": finish, "input_tokens": tokens[0], "output_tokens": tokens[1], "seed": 1}


def record(prompt_id, *samples, **others):
    return {"prompt_id": prompt_id, "model": "m", **({"samples": list(samples)} if samples else {}), **others}


SAMPLES = {
    "m": [
        record("a", skipped="context: replaced by the next record"),
        record("a", sample(), sample("", "length", (10, 40))),
        record("b", sample(tokens=(7, None)), sample(tokens=(7, None))),
        record("c", skipped="context: 9 tokens"),
        record("gone", sample()),
    ],
    "l": [record("a", sample())],
}
REWARDS = {("a", "m"): np.array([1.0, 2.0]), ("b", "m"): np.array([0.5, 0.5]), ("a", "l"): np.array([3.0])}


@pytest.fixture
def assembled():
    return outcomes_of(PROMPTS, SAMPLES, REWARDS, reward_model="r")


def test_an_outcome_is_the_mean_of_its_samples_with_their_spread(assembled):
    outcomes, _ = assembled
    assert outcomes.models == ("l", "m")
    np.testing.assert_array_equal(outcomes.rewards_PM, [[3.0, 1.5], [np.nan, 0.5]])
    np.testing.assert_array_equal(outcomes.n_samples_PM, [[1, 2], [0, 2]])
    np.testing.assert_allclose(outcomes.reward_std_PM, [[np.nan, np.std([1, 2], ddof=1)], [np.nan, 0.0]])
    np.testing.assert_array_equal(outcomes.output_tokens_PM, [[20, 30], [np.nan, np.nan]])
    np.testing.assert_array_equal(outcomes.input_tokens_PM, [[10, 10], [np.nan, 7]])


def test_prompts_keep_text_category_split_and_tags(assembled):
    outcomes, _ = assembled
    assert outcomes.prompts == ("one", '[{"role": "user", "content": "two"}]')
    assert (outcomes.categories, outcomes.splits, outcomes.tags) == (("math", "chat"), ("train", "test"), (("x",), ()))
    assert (outcomes.prompts_without_outcome, outcomes.reward_model) == (1, "r")


def test_everything_that_is_missing_is_counted_by_reason(assembled):
    _, counts = assembled
    assert counts["m"].to_json() == {
        "prompts": 2, "samples": 4, "skipped": {"context": 1}, "unscored": 0, "truncated": 1, "empty": 1,
        "input_tokens": 34, "output_tokens": 60,
    }  # fmt: skip
    assert counts["l"].to_json()["skipped"] == {"not sampled": 2}


def test_samples_without_a_reward_are_no_outcome():
    _, counts = outcomes_of(PROMPTS, SAMPLES, {key: r for key, r in REWARDS.items() if key != ("b", "m")})
    assert (counts["m"].prompts, counts["m"].unscored) == (1, 1)


def test_a_model_without_any_outcome_is_an_error_with_the_reasons():
    with pytest.raises(RunError, match=r"'m' has no outcome.*context \(3\)"):
        outcomes_of(PROMPTS, {"m": [record(p.prompt_id, skipped="context: x") for p in PROMPTS]}, {})


def test_rewards_of_other_samples_are_an_error():
    with pytest.raises(RunError, match=r"'b'.*1 rewards for 2 samples"):
        outcomes_of(PROMPTS, SAMPLES, {**REWARDS, ("b", "m"): np.array([1.0])})


def test_outcomes_survive_a_file(assembled, tmp_path):
    write_outcomes(assembled[0], tmp_path / "o.parquet")
    read = read_outcomes(tmp_path / "o.parquet")
    np.testing.assert_array_equal(read.rewards_PM, assembled[0].rewards_PM)
    assert (read.prompt_ids, read.tags) == (assembled[0].prompt_ids, assembled[0].tags)


def test_a_newcomers_outcomes_stand_beside_those_of_the_others(assembled):
    outcomes, _ = assembled
    newcomer, _ = outcomes_of(PROMPTS, {"k": [record("b", sample())]}, {("b", "k"): np.array([9.0])})
    merged = outcomes.with_model(newcomer)
    assert merged.models == ("k", "l", "m")
    np.testing.assert_array_equal(merged.rewards_PM[:, 0], [np.nan, 9.0])
    np.testing.assert_array_equal(merged.of_models(["l", "m"]).rewards_PM, outcomes.rewards_PM)


def complete(folder, outcomes, source):
    prices = dict.fromkeys(outcomes.models, Price(1.0, 2.0))
    return complete_run(folder, outcomes, prices, source=source, options={"reward": {"unit": "u"}})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "prompts.jsonl").write_text("{}")
    (tmp_path / "pool.yaml").write_text("")
    return tmp_path / "run"


def test_a_sampled_folder_becomes_a_run_and_keeps_its_samples(folder, assembled):
    for _ in range(2):
        run = complete(folder, assembled[0], folder.parent / "pool.yaml")
    assert run.outcomes().models == ("l", "m")
    assert run.manifest["options"] == {"reward": {"unit": "u"}}
    assert {p.name for p in folder.iterdir()} == {"samples", "prompts.jsonl", "outcomes.parquet", "prices.json",
                                                  "run.json"}  # fmt: skip


def test_the_cache_goes_with_the_prompts_it_is_of(folder, assembled):
    run = complete(folder, assembled[0], folder.parent / "pool.yaml")
    run.cached_array("key", lambda: np.zeros(1))
    assert (complete(folder, assembled[0], folder.parent / "pool.yaml").path / "cache").is_dir()
    fewer = assembled[0].subset(np.array([True, False]))
    assert not (complete(folder, fewer, folder.parent / "pool.yaml").path / "cache").exists()


def test_a_run_cut_short_is_no_run_until_it_is_made_again(folder, assembled):
    complete(folder, assembled[0], folder.parent / "pool.yaml")
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match=r"run\.json is missing"):
        open_run(folder)
    complete(folder, assembled[0], folder.parent / "pool.yaml")
    assert open_run(folder).outcomes().models == ("l", "m")


@pytest.mark.parametrize("moved", [(), ("outcomes.parquet",), ("outcomes.parquet", "prices.json")])
def test_a_completion_cut_short_while_it_moves_is_ended_by_whoever_opens_the_run(folder, assembled, moved):
    complete(folder, assembled[0].subset(np.array([True, False])), folder.parent / "pool.yaml")
    other = folder.parent / "other"
    other.mkdir()
    complete(other, assembled[0], folder.parent / "pool.yaml")
    (folder / ".next").mkdir()
    for name in ("outcomes.parquet", "prices.json", "run.json"):
        (other / name).rename(folder / ("" if name in moved else ".next") / name)
    assert len(open_run(folder).outcomes().prompt_ids) == len(assembled[0].prompt_ids)
    assert not (folder / ".next").exists()


def test_a_completion_cut_short_before_it_moves_leaves_the_run_as_it_was(folder, assembled):
    complete(folder, assembled[0], folder.parent / "pool.yaml")
    (folder / ".next").mkdir()
    (folder / ".next" / "outcomes.parquet").write_bytes(b"half")
    assert open_run(folder).outcomes().models == ("l", "m")
    assert complete(folder, assembled[0], folder.parent / "pool.yaml").outcomes().models == ("l", "m")


def test_an_import_never_replaces_samples(folder, assembled):
    complete(folder, assembled[0], folder.parent / "pool.yaml")
    with pytest.raises(RunError, match=r"holds prompts\.jsonl, samples"):
        check_run_target(folder)
