"""Request logs whose requests carry scores, imported as LiteLLM and Langfuse export them."""

import json

import pytest

from litellm_erp.errors import OutcomesError
from tests.foreign import SAMPLES, cells, guess, read

WEEK = "Plan my week."


def test_litellm_spend_logs_give_scores_costs_and_samples():
    outcomes, skipped = read(SAMPLES["litellm"])
    assert cells(outcomes) == {(WEEK, "gpt-4o"): 0.7, (WEEK, "claude-haiku"): 0.25}
    # An answer out of the cache was free, which says nothing about what the model costs.
    assert cells(outcomes, "cost_usd") == {(WEEK, "gpt-4o"): 0.0015, (WEEK, "claude-haiku"): 0.0015}
    assert cells(outcomes, "output_tokens")[WEEK, "gpt-4o"] == 10
    assert outcomes.categories == ("planning",)
    assert sorted(skipped.values()) == [1, 1, 1, 1]


def test_litellm_prompts_that_were_cut_or_not_stored_are_counted_with_the_setting_to_change():
    reasons = " ".join(read(SAMPLES["litellm"])[1])
    for setting in ("MAX_STRING_LENGTH_PROMPT_IN_DB", "store_prompts_in_spend_logs"):
        assert setting in reasons


def test_litellm_takes_the_score_that_is_asked_for():
    assert cells(read(SAMPLES["litellm"], metric="helpful")[0]) == {(WEEK, "claude-haiku"): 1}


def test_a_log_in_which_nothing_has_a_score_says_so():
    with pytest.raises(
        OutcomesError, match=r"litellm_spend\.jsonl: no outcome found .*left out: .* a score called bleu"
    ):
        read(SAMPLES["litellm"], metric="bleu")


PLACES = [
    {"score": 0.5},
    {"metadata": {"score": 0.5}},
    {"metadata": json.dumps({"spend_logs_metadata": {"scores": {"tone": 0.5}}})},
    {"metadata": {"requester_metadata": {"scores": [{"name": "tone", "value": 0.5}]}}},
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", ["jsonl", "list", "answer"])
def test_litellm_payloads_of_callbacks_with_a_score_anywhere(tmp_path, place, form):
    path = tmp_path / ("log.jsonl" if form == "jsonl" else "log.json")
    record = {
        "call_type": "acompletion",
        "model_group": "chat",
        "model": "gpt-4o",
        "status": "success",
        "response_cost": 0.01,
        "prompt_tokens": 4,
        "completion_tokens": 2,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        **place,
    }
    path.write_text(json.dumps(record if form == "jsonl" else [record] if form == "list" else {"data": [record]}))
    assert guess(path) == "litellm"
    outcomes, _ = read(path)
    assert cells(outcomes) == {("Hi", "gpt-4o"): 0.5}
    assert cells(outcomes, "cost_usd") == {("Hi", "gpt-4o"): 0.01}


def test_langfuse_traces_with_observations_and_scores():
    outcomes, skipped = read(SAMPLES["langfuse"])
    assert cells(outcomes) == {("Ask t1", "gpt-4o"): 0.8, ("Ask t2", "claude"): 0.5}
    assert cells(outcomes, "cost_usd") == {("Ask t1", "gpt-4o"): 0.003, ("Ask t2", "claude"): 0.003}
    assert cells(outcomes, "input_tokens")["Ask t1", "gpt-4o"] == 8
    assert skipped == {"generations without a score": 1}


def blob(folder, scores):
    """Files as Langfuse writes them to blob storage, where scores and observations stand apart."""
    generation = {"project_id": "p", "type": "GENERATION", "provided_model_name": "gpt-4o", "total_cost": 0.5}
    usage = {"usage_details": {"input": 6, "output": 2}}
    observations = [
        {
            "id": "o1",
            "trace_id": "t1",
            "input": json.dumps([{"role": "user", "content": "One"}]),
            **generation,
            **usage,
        },
        {"id": "o2", "trace_id": "t2", "input": "Two", **generation, **usage},
        {"id": "o3", "trace_id": "t2", "input": "Three", **generation, "provided_model_name": "claude"},
        {"id": "o4", "trace_id": "t2", "input": "x", **generation, "type": "SPAN"},
    ]
    paths = folder / "observations.jsonl", folder / "scores.jsonl"
    for path, records in zip(paths, (observations, scores), strict=True):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return paths


def score(trace, observation, name, value, **more):
    return {
        "id": "s",
        "project_id": "p",
        "trace_id": trace,
        "observation_id": observation,
        "name": name,
        "value": value,
        **more,
    }


def test_langfuse_blob_exports_are_tied_together_by_their_ids(tmp_path):
    scores = [score("t1", None, "quality", 0.25), score("t2", "o2", "quality", 1), score("t2", None, "quality", 0)]
    paths = blob(tmp_path, scores)
    assert [guess(path) for path in paths] == ["langfuse", "langfuse"]
    for order in (paths, paths[::-1]):
        outcomes, skipped = read(*order)
        assert cells(outcomes) == {("One", "gpt-4o"): 0.25, ("Two", "gpt-4o"): 1}
        assert cells(outcomes, "cost_usd")["One", "gpt-4o"] == 0.5
        # The score of a whole trace cannot be told apart between its two generations.
        assert sum(skipped.values()) == 1


def test_langfuse_wants_one_score_by_name_and_takes_no_categories(tmp_path):
    scores = [
        score("t1", "o1", "quality", 0.25),
        score("t1", "o1", "tone", 1),
        score("t2", "o2", "mood", 0, data_type="CATEGORICAL"),
    ]
    paths = blob(tmp_path, scores)
    with pytest.raises(OutcomesError, match=r"observations\.jsonl: several measures: quality, tone; .*--metric"):
        read(*paths)
    assert cells(read(*paths, metric="tone")[0]) == {("One", "gpt-4o"): 1}
    with pytest.raises(OutcomesError, match="no measure 'mood'"):
        read(*paths, metric="mood")


def test_langfuse_without_scores_says_what_to_export(tmp_path):
    paths = blob(tmp_path, [])
    with pytest.raises(OutcomesError, match="Export the scores too"):
        read(paths[0])


def test_langfuse_tables_with_scores_as_columns_and_a_model_in_the_metadata(tmp_path):
    path = tmp_path / "traces.jsonl"
    traces = [
        {"id": "t1", "input": "One", "model": "a", "scores": {"quality": [0.5, 1.0]}, "totalCost": 0.25},
        {"id": "t2", "input": {"messages": [{"role": "user", "content": "Two"}]}, "metadata": {"model": "b"}},
    ]
    traces[1]["scores"] = [{"name": "quality", "value": 1, "dataType": "BOOLEAN"}]
    path.write_text("".join(json.dumps(trace) + "\n" for trace in traces))
    outcomes, _ = read(path, name="langfuse")
    assert cells(outcomes) == {("One", "a"): 0.75, ("Two", "b"): 1}
    assert cells(outcomes, "cost_usd") == {("One", "a"): 0.25}


@pytest.mark.parametrize("name", ["litellm", "langfuse", "promptfoo", "battles", "embedllm"])
def test_a_file_is_read_by_its_content_whatever_it_is_called(tmp_path, name):
    path = tmp_path / "stdin"
    path.write_bytes(SAMPLES[name].read_bytes())
    assert guess(path) == name
    assert cells(read(path)[0]) == cells(read(SAMPLES[name])[0])


def test_turns_without_text_do_not_hide_those_with_text(tmp_path):
    path = tmp_path / "log.jsonl"
    shared = {"model": "m", "score": 1}
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    tools = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}]
    records = [{"messages": tools, **shared}, {"messages": [{"role": "user", "content": [image]}], **shared}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    outcomes, skipped = read(path, name="litellm")
    assert (cells(outcomes), skipped) == ({("Hi", "m"): 1}, {"prompts without text": 1})


def test_a_spend_of_zero_is_a_price_that_litellm_did_not_know(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"model": "own", "score": 1, "messages": "Hi", "spend": 0.0}))
    assert cells(read(path, name="litellm")[0], "cost_usd") == {}


def test_langfuse_traces_that_name_a_model_too_are_no_generations(tmp_path):
    paths = blob(tmp_path, [score("t1", None, "quality", 0.25)])
    traces = tmp_path / "traces.jsonl"
    traces.write_text(
        json.dumps({"id": "t1", "project_id": "p", "input": "One", "metadata": {"model": "router"}}) + "\n"
    )
    assert cells(read(*paths, traces)[0]) == {("One", "gpt-4o"): 0.25}
    nested = json.loads(SAMPLES["langfuse"].read_text())
    for trace in nested["data"]:
        trace["metadata"] = {"model": "router"}
    path = tmp_path / "nested.json"
    path.write_text(json.dumps(nested))
    assert cells(read(path)[0]) == cells(read(SAMPLES["langfuse"])[0])


def test_langfuse_scores_in_a_trace_and_in_a_table_count_once(tmp_path):
    (tmp_path / "traces.json").write_bytes(SAMPLES["langfuse"].read_bytes())
    traces = json.loads(SAMPLES["langfuse"].read_text())["data"]
    scores = tmp_path / "scores.jsonl"
    scores.write_text(json.dumps(traces[1]["scores"][0]) + "\n")
    outcomes, _ = read(tmp_path / "traces.json", scores)
    assert cells(outcomes) == cells(read(SAMPLES["langfuse"])[0])
