"""Foreign files that are damaged or only half of their format: one clear error, or an import, never anything else."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_trainer.outcomes.formats.records import SAME_RECORD
from erp_trainer.outcomes.formats.registry import FORMATS
from erp_trainer.outcomes.importing import ImportOptions, import_outcomes
from litellm_erp.errors import OutcomesError
from tests.foreign import SAMPLES, cells, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
JSON_SAMPLES = {name: path for name, path in SAMPLES.items() if path.suffix in (".json", ".jsonl")}


def places(value, path=()):
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(value, place, put):
    """A copy with another value at a place; ``...`` takes it out."""
    value = json.loads(json.dumps(value))
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if put is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = put
    return value


def assert_clear(path, name):
    """The file is imported, or refused in one line that names it."""
    said = None
    try:
        read(path, name=name, model="m")
    except OutcomesError as exc:
        said = str(exc)
    assert said is None or (path.name in said and "\n" not in said)


@pytest.mark.parametrize("name", JSON_SAMPLES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_imported_or_one_clear_error(name, tmp_path, data):
    source = JSON_SAMPLES[name]
    lined = source.suffix == ".jsonl"
    text = source.read_text()
    content = [json.loads(line) for line in text.splitlines()] if lined else json.loads(text)
    place = data.draw(st.sampled_from(sorted(places(content), key=str)))
    content = changed(content, place, data.draw(JSON | st.just(...)))
    path = tmp_path / source.name
    path.write_text("".join(json.dumps(record) + "\n" for record in content) if lined else json.dumps(content))
    assert_clear(path, name)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), junk=st.binary(max_size=12))
def test_any_bytes_are_imported_or_one_clear_error(name, tmp_path, cut, junk):
    content = SAMPLES[name].read_bytes()
    at = int(cut * len(content))
    path = tmp_path / SAMPLES[name].name
    path.write_bytes(content[:at] + junk + content[at + len(junk) :] if junk else content[:at])
    assert_clear(path, name)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=40, deadline=None)
@given(head=st.binary(max_size=200))
def test_a_guess_never_raises(name, head):
    format_ = next(each for each in FORMATS if each.name == name)
    for start in (head, SAMPLES[name].read_bytes()[:100] + head):
        assert format_.matches(SAMPLES[name].with_name(f"missing{SAMPLES[name].suffix}"), start) in (True, False)


MALFORMED = {
    "lm-eval": (
        '{"doc_id": 0, "filter": "none", "arguments": [["q", ""]]}',
        ["record 1", "no measure", "doc_id, filter"],
    ),
    "openai-evals": ('{"sample_id": "1", "type": "match", "data": {"correct": true}}', ["no line with a spec"]),
    "battles": (
        '{"model_a": "a", "model_b": "b", "winner": "left", "prompt": "x"}',
        ["record 1", "'left'", "model_a, model_b"],
    ),
    "litellm": ('{"score": 1, "messages": "Hi"}', ["record 1", "no 'model'", "score, messages"]),
    "promptfoo": ('{"results": {"version": 3}}', ["no results inside"]),
    "inspect": ('{"version": 2, "eval": {"model": "m"}}', ["no samples inside"]),
    "routerbench": ('{"sample_id": "1", "prompt": "x"}', ["record 1", "|total_cost"]),
    "langfuse": ('{"x": 1}', ["record 1", "neither a trace"]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_record_that_lacks_something_says_what_was_expected(tmp_path, name):
    text, parts = MALFORMED[name]
    path = tmp_path / ("file.json" if name in ("promptfoo", "inspect") else "file.jsonl")
    path.write_text(text + "\n")
    with pytest.raises(OutcomesError) as caught:
        read(path, name=name, model=None if name == "openai-evals" else "m")
    for part in (path.name, *parts):
        assert part in str(caught.value)


def test_malformed_records_can_be_left_out_and_are_reported(tmp_path):
    path = tmp_path / "battles.jsonl"
    bad = '{"model_a": "a", "model_b": "b", "winner": "left", "prompt": "x"}\nnot json\n'
    path.write_text(bad + SAMPLES["battles"].read_text())
    imported = import_outcomes([path], ImportOptions(skip_bad_rows=True))
    assert cells(imported.outcomes) == cells(read(SAMPLES["battles"])[0])
    assert (imported.format, imported.left_out) == ("battles", {"malformed rows": 2})


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_and_its_copy_are_the_file_and_the_copy_is_said(name, tmp_path):
    source = SAMPLES[name]
    copies = [tmp_path / folder / source.name for folder in ("a", "b")]
    for copy in copies:
        copy.parent.mkdir()
        copy.write_bytes(source.read_bytes())
    once, left_out = read(copies[0], name=name, model="m")
    twice, left_out_twice = read(*copies, name=name, model="m")
    assert cells(twice) == cells(once)
    assert cells(twice, "n_samples") == cells(once, "n_samples")
    # EmbedLLM's own rule, the best label of an answer, says of no label that it was read before.
    assert (SAME_RECORD in left_out_twice) == (name != "embedllm")
    assert SAME_RECORD not in left_out


def vote(**more):
    return {"prompt": "Hi", "model_a": "a", "model_b": "b", "winner": "model_a", **more}


def wins(tmp_path, *files, form="jsonl"):
    """How many battles of a on "Hi" count, and how many sides were left out."""
    paths = [tmp_path / f"votes{number}.{form}" for number in range(len(files))]
    for path, votes in zip(paths, files, strict=True):
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(votes), path)
        else:
            path.write_text("".join(json.dumps(each) + "\n" for each in votes))
    outcomes, left_out = read(*paths, name="battles")
    return cells(outcomes, "n_samples")["Hi", "a"], left_out.get(SAME_RECORD, 0)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_what_tells_two_records_apart_need_not_be_what_is_read_of_them(tmp_path, form):
    assert wins(tmp_path, [vote(tstamp=1)], [vote(tstamp=2)], form=form) == (2, 0)
    assert wins(tmp_path, [vote(tstamp=1)], [vote(tstamp=1), vote(tstamp=2)], form=form) == (2, 2)


def test_votes_that_are_alike_in_one_file_count_each_unless_they_have_an_id(tmp_path):
    assert wins(tmp_path, [vote(), vote()]) == (2, 0)
    assert wins(tmp_path, [vote(), vote()], [vote(), vote(), vote()]) == (3, 4)
    assert wins(tmp_path, [vote(question_id="q"), vote(question_id="q")]) == (1, 2)
