"""Contract 1: what a good outcomes table is read as."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erp_trainer.outcomes.read import read_outcomes
from erp_trainer.outcomes.table import OutcomesTable, assign_split
from erp_trainer.outcomes.write import write_outcomes
from erp_trainer.prompts.duplicates import split_by_share

FORMATS = (".parquet", ".csv", ".jsonl")
EXAMPLE = Path(__file__).parents[1] / "examples" / "llmrouter_example" / "outcomes.parquet"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def assert_same(found: OutcomesTable, expected: OutcomesTable) -> None:
    for field in dataclasses.fields(OutcomesTable):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def test_long_rows_become_a_matrix_with_nan_where_there_is_no_outcome(tmp_path):
    rows = "prompt_id,prompt,model,reward\np1,one,b,0.5\np1,one,a,1\np2,two,b,-2\n"
    outcomes = read_outcomes(write(tmp_path / "o.csv", rows))
    assert (outcomes.prompt_ids, outcomes.prompts, outcomes.models) == (("p1", "p2"), ("one", "two"), ("a", "b"))
    np.testing.assert_array_equal(outcomes.rewards_PM, [[1, 0.5], [np.nan, -2]])
    np.testing.assert_array_equal(outcomes.n_samples_PM, [[1, 1], [0, 1]])


def test_wide_and_long_form_of_the_same_outcomes_are_equal(tmp_path):
    wide = write(tmp_path / "w.csv", "prompt_id,prompt,split,b,a\np1,one,train,0.5,\np2,two,test,1,0\n")
    long = "prompt_id,prompt,split,model,reward\np1,one,train,b,0.5\np2,two,test,b,1\np2,two,test,a,0\n"
    assert_same(read_outcomes(wide, wide=True), read_outcomes(write(tmp_path / "l.csv", long)))


def test_order_of_rows_changes_only_the_order_of_prompts(tmp_path):
    rows = ["p1,one,b,0.5", "p1,one,a,1", "p2,two,a,3"]
    head = "prompt_id,prompt,model,reward\n"
    forward = read_outcomes(write(tmp_path / "f.csv", head + "\n".join(rows)))
    backward = read_outcomes(write(tmp_path / "b.csv", head + "\n".join(rows[::-1])))
    assert forward.models == backward.models
    np.testing.assert_array_equal(forward.rewards_PM, backward.rewards_PM[::-1])


def test_samples_are_averaged_and_their_spread_kept(tmp_path):
    head = "prompt_id,prompt,model,sample,reward,output_tokens\n"
    rows = "p1,one,a,0,1,10\np1,one,a,1,3,\np1,one,a,2,5,20\np1,one,b,0,7,\n"
    outcomes = read_outcomes(write(tmp_path / "o.csv", head + rows))
    np.testing.assert_array_equal(outcomes.rewards_PM, [[3, 7]])
    np.testing.assert_array_equal(outcomes.n_samples_PM, [[3, 1]])
    np.testing.assert_array_equal(outcomes.reward_std_PM, [[2, np.nan]])
    np.testing.assert_array_equal(outcomes.output_tokens_PM, [[15, np.nan]])


def test_one_of_several_reward_models_is_read(tmp_path):
    rows = "prompt_id,prompt,model,reward_model,reward\np1,one,a,x,1\np1,one,a,y,2\n"
    outcomes = read_outcomes(write(tmp_path / "o.csv", rows), reward_model="y")
    assert (outcomes.rewards_PM.tolist(), outcomes.reward_model) == ([[2.0]], "y")


@pytest.mark.parametrize("column", [[True, False], [1, 0], ["1", "0.0"], ["true", "False"]])
def test_rewards_may_be_booleans_integers_or_numbers_as_text(tmp_path, column):
    path = parquet(tmp_path / "o.parquet", prompt_id=["p", "q"], prompt=["x", "y"], model=["a", "a"], reward=column)
    assert read_outcomes(path).rewards_PM.tolist() == [[1.0], [0.0]]


def test_integer_prompt_ids_are_read_as_text(tmp_path):
    path = parquet(tmp_path / "o.parquet", prompt_id=[7, 8], prompt=["x", "y"], a=[0.5, 1.0])
    assert read_outcomes(path, wide=True).prompt_ids == ("7", "8")


def test_chat_messages_become_json_text_in_every_format(tmp_path):
    messages = [{"role": "user", "content": "hé"}]
    record = {"prompt_id": "p", "prompt": messages, "model": "a", "reward": 1}
    jsonl = write(tmp_path / "o.jsonl", json.dumps(record))
    native = parquet(tmp_path / "o.parquet", prompt_id=["p"], prompt=[messages], model=["a"], reward=[1.0])
    assert [json.loads(read_outcomes(path).prompts[0]) for path in (jsonl, native)] == [messages, messages]


@pytest.mark.parametrize(("cell", "tags"), [('"a, b"', ("a", "b")), ('"[""a,b"", ""c""]"', ("a,b", "c")), ("", ())])
def test_tags_in_csv_are_a_json_list_or_comma_separated(tmp_path, cell, tags):
    path = write(tmp_path / "o.csv", f"prompt_id,prompt,tags,a\np1,one,{cell},1\n")
    assert read_outcomes(path, wide=True).tags == (tags,)


def test_a_byte_order_mark_is_accepted(tmp_path):
    for suffix, text in ((".csv", "prompt_id,prompt,a\np,x,1\n"), (".jsonl", '{"prompt_id":"p","prompt":"x","a":1}')):
        path = tmp_path / f"o{suffix}"
        path.write_text(text, encoding="utf-8-sig")
        assert read_outcomes(path, wide=True).models == ("a",)


def test_parquet_nan_is_an_empty_cell_in_wide_form(tmp_path):
    path = parquet(tmp_path / "o.parquet", prompt_id=["p", "q"], prompt=["x", "y"], a=[np.nan, 1.0], b=[None, 2.0])
    outcomes = read_outcomes(path, wide=True)
    assert (outcomes.prompt_ids, outcomes.prompts_without_outcome) == (("q",), 1)


def test_a_split_stated_in_one_row_holds_for_the_prompt(tmp_path):
    rows = "prompt_id,prompt,model,reward,split\np,x,a,1,\np,x,b,1,dev\nq,y,a,1,\n"
    assert read_outcomes(write(tmp_path / "o.csv", rows)).splits == ("dev", "")


def test_named_models_are_the_only_ones_read(tmp_path):
    path = write(tmp_path / "o.csv", "prompt_id,prompt,metric,a,b\np,x,f1,1,2\n")
    assert read_outcomes(path, wide=True, models=["b"]).models == ("b",)


def test_model_names_with_dots_do_not_pull_in_each_other(tmp_path):
    path = parquet(tmp_path / "o.parquet", **{"prompt_id": ["p"], "prompt": ["x"], "m": [1.0], "m.5": [2.0]})
    assert read_outcomes(path, wide=True, models=["m"]).rewards_PM.tolist() == [[1.0]]


def test_duplicates_ignore_case_and_white_space(tmp_path):
    path = write(tmp_path / "o.csv", 'prompt_id,prompt,a\n1,"Is  it\n?",1\n2,other,1\n3, is it ? ,1\n')
    assert read_outcomes(path, wide=True).duplicate_groups().tolist() == [0, 1, 0]


def test_the_vendored_example_is_complete():
    outcomes = read_outcomes(EXAMPLE, wide=True)
    assert outcomes.rewards_PM.shape == (6108, 9)
    assert len(outcomes.split("train").prompts) == 5608
    assert not np.isnan(outcomes.rewards_PM).any()


def unsplit_example() -> OutcomesTable:
    outcomes = read_outcomes(EXAMPLE, wide=True)
    return dataclasses.replace(outcomes, splits=("",) * len(outcomes.prompts))


def test_an_assigned_split_halves_every_category_and_keeps_duplicates_together():
    outcomes = assign_split(unsplit_example(), seed=3)
    sides: dict[int, set[str]] = {}
    for group, side in zip(outcomes.duplicate_groups().tolist(), outcomes.splits, strict=True):
        sides.setdefault(group, set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    for category in set(outcomes.categories):
        inside = [s for s, c in zip(outcomes.splits, outcomes.categories, strict=True) if c == category]
        assert abs(inside.count("train") - inside.count("test")) <= 2


@pytest.mark.parametrize("share", [0.1, 0.2, 0.37, 0.8])
@pytest.mark.parametrize("n", [300, 6108])
def test_a_share_for_testing_holds_over_all_and_in_every_category(share, n):
    everything = unsplit_example()
    outcomes = assign_split(everything.subset(np.arange(len(everything.prompts)) < n), seed=3, test_share=share)
    sides: dict[int, set[str]] = {}
    for group, side in zip(outcomes.duplicate_groups().tolist(), outcomes.splits, strict=True):
        sides.setdefault(group, set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    assert outcomes.splits.count("test") == pytest.approx(
        share * len(outcomes.prompts), abs=0.02 * len(outcomes.prompts)
    )
    for category in set(outcomes.categories):
        inside = [s for s, c in zip(outcomes.splits, outcomes.categories, strict=True) if c == category]
        assert abs(inside.count("test") - share * len(inside)) <= 2


def test_categories_of_one_prompt_are_shared_out_together():
    found = split_by_share(np.arange(100), [f"category {i}" for i in range(100)], 0, 0.2)
    assert found.count("test") == 20


def test_an_assigned_split_depends_on_the_seed_and_not_on_the_order_of_prompts():
    outcomes = unsplit_example().subset(np.arange(6108) < 300)
    order = np.random.default_rng(0).permutation(300)
    shuffled = dataclasses.replace(
        outcomes,
        **{f: tuple(getattr(outcomes, f)[i] for i in order) for f in ("prompt_ids", "prompts", "categories")},
    )
    first, second = assign_split(outcomes, 1), assign_split(shuffled, 1)
    assert dict(zip(first.prompt_ids, first.splits, strict=True)) == dict(
        zip(second.prompt_ids, second.splits, strict=True)
    )
    assert first.splits != assign_split(outcomes, 2).splits


def test_a_given_split_is_left_alone():
    outcomes = read_outcomes(EXAMPLE, wide=True)
    assert assign_split(outcomes, 1) is outcomes


# Anything UTF-8 can say, except a text of nothing but white space, which is no prompt.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
maybe = st.one_of(st.just(np.nan), st.floats(0, 1e9))


@st.composite
def tables(draw: st.DrawFn) -> OutcomesTable:
    ids = draw(st.lists(texts, min_size=1, max_size=5, unique=True))
    models = sorted(draw(st.lists(texts, min_size=1, max_size=3, unique=True)))
    shape = (len(ids), len(models))
    cells = lambda strategy: np.array(  # noqa: E731
        draw(st.lists(strategy, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    ).reshape(shape)
    per_prompt = lambda strategy: tuple(draw(strategy) for _ in ids)  # noqa: E731
    n_samples = cells(st.integers(0, 9))
    n_samples[n_samples.sum(axis=1) == 0, 0] = 1
    n_samples[0, n_samples.sum(axis=0) == 0] = 1
    missing = n_samples == 0
    extra = {name: np.where(missing, np.nan, cells(maybe)) for name in ("std", "out", "in", "usd")}
    return OutcomesTable(
        prompt_ids=tuple(ids),
        prompts=per_prompt(texts),
        models=tuple(models),
        rewards_PM=np.where(missing, np.nan, cells(st.floats(-1e15, 1e15))),
        n_samples_PM=n_samples.astype(np.int64),
        reward_std_PM=extra["std"],
        output_tokens_PM=extra["out"],
        input_tokens_PM=extra["in"],
        cost_usd_PM=extra["usd"],
        categories=per_prompt(st.one_of(st.just(""), texts)),
        tags=per_prompt(st.lists(texts, max_size=3, unique=True).map(tuple)),
        splits=per_prompt(st.sampled_from(["train", "test", "dev", ""])),
        reward_model=draw(st.one_of(st.just(""), texts)),
        log_likelihood_PM=None if np.isnan(extra["usd"]).all() else -extra["usd"],
    )


@pytest.mark.parametrize("suffix", FORMATS)
@given(outcomes=tables())
@settings(max_examples=60)
def test_what_is_written_is_read_back(tmp_path_factory, suffix, outcomes):
    path = tmp_path_factory.mktemp("round") / f"o{suffix}"
    write_outcomes(outcomes, path)
    assert_same(read_outcomes(path), outcomes)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_vendored_routellm_outcomes_have_the_accuracies_of_its_protocol():
    outcomes = read_outcomes(EXAMPLE.parents[1] / "routellm_mmlu_gsm8k" / "outcomes.parquet", wide=True)
    gsm8k = np.array([name == "gsm8k" for name in outcomes.categories])
    assert outcomes.models == ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
    np.testing.assert_allclose(outcomes.rewards_PM[~gsm8k].mean(axis=0), [0.8059, 0.6809], atol=5e-5)
    np.testing.assert_allclose(outcomes.rewards_PM[gsm8k].mean(axis=0), [0.8577, 0.6373], atol=5e-5)


def test_vendored_paretobandit_outcomes_have_the_means_and_the_recorded_costs_of_its_readme():
    outcomes = read_outcomes(EXAMPLE.parents[1] / "paretobandit_k4" / "outcomes.parquet")
    test = np.array(outcomes.splits) == "test"
    assert outcomes.models == (
        "google/gemini-2.5-flash",
        "google/gemini-2.5-pro",
        "meta-llama/llama-3.1-8b-instruct",
        "mistralai/mistral-large-2512",
    )
    assert (len(test), test.sum()) == (3559, 1793)
    np.testing.assert_allclose(outcomes.rewards_PM[test].mean(axis=0), [0.9247, 0.9332, 0.7945, 0.9244], atol=5e-5)
    np.testing.assert_allclose(1000 * outcomes.cost_usd_PM[test].mean(axis=0), [0.882, 15.05, 0.0284, 0.513], rtol=2e-3)


def test_judged_columns_are_kept_and_averaged_over_samples_and_absent_columns_are_none(tmp_path):
    rows = "prompt_id,prompt,model,reward,sample,log_likelihood\np,x,a,1,0,-1\np,x,a,0,1,-3\np,x,b,0,0,\n"
    outcomes = read_outcomes(write(tmp_path / "o.csv", rows))
    np.testing.assert_array_equal(outcomes.log_likelihood_PM, [[-2, np.nan]])
    assert outcomes.self_check_PM is None
    assert outcomes.subset(np.array([True])).log_likelihood_PM.shape == (1, 2)
