"""Public data sets of routing and of human preferences, imported as they are published."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from litellm_erp.errors import OutcomesError
from tests.foreign import SAMPLES, cells, guess, read

COURT = "Which court?\nA) one\nB) two"
TURNS = "First turn.\n\nAnd it's second."
GPT, CLAUDE = "gpt-4-1106-preview", "claude-v1"
ROUTERBENCH = {(COURT, GPT): 1, (COURT, CLAUDE): 0, (TURNS, GPT): 0.7, (TURNS, CLAUDE): 0.9, ("Odd", GPT): 0.25}


def as_parquet(source, path):
    """A CSV as Parquet, as pandas writes it: numbers are numbers, and an empty one is NaN."""
    import csv

    rows = list(csv.DictReader(source.open()))
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        try:
            columns[name] = pa.array([float(value) if value else float("nan") for value in values])
        except ValueError:
            columns[name] = pa.array(values)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_routerbench_has_its_costs_turns_and_evaluations(tmp_path, form):
    path = SAMPLES["routerbench"]
    if form != "csv":
        path = as_parquet(path, tmp_path / "0shot.parquet")
    if form == "jsonl":
        rows = pq.read_table(path).to_pylist()
        path = tmp_path / "0shot.jsonl"
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if v == v}) + "\n" for row in rows))
    assert guess(path) == "routerbench"
    outcomes, _ = read(path)
    assert cells(outcomes) == ROUTERBENCH
    assert cells(outcomes, "cost_usd")[COURT, GPT] == 0.00123
    assert outcomes.categories == ("mmlu-law", "mtbench", "grade-school-math")
    assert outcomes.prompt_ids == ("mmlu-law.val.0", "mtbench.7", "gsm.3")


def test_a_pickle_is_refused_with_a_remedy_and_never_read(tmp_path):
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    assert guess(path) == "routerbench"
    with pytest.raises(
        OutcomesError, match=r"pickle can run any code.*read_pickle\('routerbench_0shot.pkl'\).to_parquet"
    ):
        read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_embedllm_takes_the_best_label_of_an_answer_that_was_judged_twice(tmp_path, form):
    path = SAMPLES["embedllm"]
    path = path if form == "csv" else as_parquet(path, tmp_path / "train.parquet")
    assert guess(path) == "embedllm"
    outcomes, _ = read(path)
    assert cells(outcomes) == {
        ("Is water wet?", "meta/llama-7b"): 1,
        ("Is water wet?", "01-ai/Yi-34B"): 0,
        ("2, 4, 6?", "meta/llama-7b"): 1,
        ("2, 4, 6?", "01-ai/Yi-34B"): 1,
    }
    assert (outcomes.prompt_ids, outcomes.categories) == (("0", "7"), ("mmlu", "gsm8k"))


def test_alpaca_eval_counts_wins_against_the_pool():
    outcomes, skipped = read(SAMPLES["alpaca-eval"])
    joke, egg, judge = "Tell me a joke.", "Boil an egg?", "gpt4_1106_preview"
    assert cells(outcomes) == {
        (joke, "small"): 0.25,
        (joke, "large"): 0.75,
        (joke, judge): 0.5,
        (egg, "small"): 1,
        (egg, "large"): 0.5,
        (egg, judge): 0.25,
    }
    assert cells(outcomes, "n_samples")[joke, judge] == 2
    assert skipped == {"comparisons that the annotator did not decide": 1}


@pytest.mark.parametrize(("preference", "won"), [(1, 0), (2, 1), (2.0, 1), (0, 0.5), (1.5, 0.5)])
def test_alpaca_eval_preferences_of_every_version(tmp_path, preference, won):
    path = tmp_path / "annotations.json"
    record = {"instruction": "Hi", "generator_1": "base", "generator_2": "new", "preference": preference}
    path.write_text(json.dumps([record]))
    assert cells(read(path)[0]) == {("Hi", "new"): won, ("Hi", "base"): 1 - won}


def test_a_preference_out_of_range_is_named_by_its_record(tmp_path):
    path = tmp_path / "annotations.json"
    record = {"instruction": "Hi", "generator_1": "base", "generator_2": "new", "preference": 3}
    path.write_text(json.dumps([record]))
    with pytest.raises(
        OutcomesError, match=r"annotations\.json: record 1: preference is 3; expected a number from 1 to 2"
    ):
        read(path)


def test_battles_count_wins_against_the_pool():
    outcomes, _ = read(SAMPLES["battles"])
    haiku, love = "Write a haiku.", "What is love?"
    # gpt-4 won twice and tied once.
    assert cells(outcomes) == {
        (haiku, "gpt-4"): pytest.approx(2.5 / 3),
        (haiku, "vicuna-13b"): 0.25,
        (haiku, "alpaca-13b"): 0,
        (love, "vicuna-13b"): 0.5,
        (love, "alpaca-13b"): 0.5,
    }


WINNERS = [
    ({"winner": "model_a"}, 1),
    ({"winner": "model_b"}, 0),
    ({"winner": "tie"}, 0.5),
    ({"winner": "tie (bothbad)"}, 0.5),
    ({"winner": "both_bad"}, 0.5),
    ({"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}, 0),
    ({"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1}, 0.5),
]
PROMPTS = [
    {"prompt": "Sort [3, 1]"},
    {"prompt": json.dumps(["Sort [3, 1]", "And now backwards"])},
    {"conversation_a": [{"role": "user", "content": "Sort [3, 1]"}, {"role": "assistant", "content": "x"}]},
    {"conversation_a": json.dumps([{"role": "user", "content": [{"type": "text", "text": "Sort [3, 1]"}]}])},
    {
        "full_conversation": [
            {"user": {"role": "user", "content": "Sort [3, 1]"}, "model_side_a": {"role": "assistant"}}
        ]
    },
]


@pytest.mark.parametrize(("winner", "won"), WINNERS)
def test_battles_of_every_release_say_who_won(tmp_path, winner, won):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"model_a": "a", "model_b": "b", "prompt": "Hi", **winner}))
    assert guess(path) == "battles"
    assert cells(read(path)[0]) == {("Hi", "a"): won, ("Hi", "b"): 1 - won}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_battles_of_every_release_say_what_was_asked_first(tmp_path, prompt, form):
    path = tmp_path / f"train.{form}"
    record = {"model_a": "a", "model_b": "b", "winner": "model_a", **prompt}
    if form == "jsonl":
        path.write_text(json.dumps(record))
    else:
        pq.write_table(pa.Table.from_pylist([record]), path)
    assert cells(read(path)[0]) == {("Sort [3, 1]", "a"): 1, ("Sort [3, 1]", "b"): 0}


def test_battles_in_csv_have_their_prompts_as_json(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
        '1,a,b,"[""Hi, you"",""More""]",x,y,1,0,0\n'
    )
    assert guess(path) == "battles"
    assert cells(read(path)[0]) == {("Hi, you", "a"): 1, ("Hi, you", "b"): 0}


def test_routerbench_rows_that_share_an_id_and_not_a_prompt_stay_apart(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"sample_id": "s", "prompt": f"['{text}']", "eval_name": "e", "m": 1, "m|total_cost": 0.1} for text in "xy"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cells(read(path)[0]) == {("x", "m"): 1, ("y", "m"): 1}
