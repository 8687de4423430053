"""Results of evaluation harnesses, imported as they write them."""

import gzip
import json
import shutil
import tracemalloc
import zipfile

import pyarrow as pa
import pytest
from click.testing import CliRunner

from erp_trainer.cli import cli
from erp_trainer.outcomes.formats.registry import FORMATS
from erp_trainer.outcomes.importing import ImportOptions, found_files, import_outcomes
from erp_trainer.outcomes.run import open_run
from litellm_erp.errors import OutcomesError
from tests.foreign import FOLDER, SAMPLES, cells, guess, read

LLAMA, MINI = "meta-llama/Llama-3.1-8B", "openai/gpt-4o-mini"
SUM, DIFFERENCE = "Question: What is 2 + 3?\nAnswer:", "Question: What is 7 - 4?\nAnswer:"
GSM8K = [SAMPLES["lm-eval"], *(FOLDER / "lm_eval/gpt-4o-mini").glob("*")]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_known_by_its_content(name, tmp_path):
    assert guess(SAMPLES[name]) == name
    packed = tmp_path / f"{SAMPLES[name].name}.gz"
    packed.write_bytes(gzip.compress(SAMPLES[name].read_bytes()))
    assert guess(packed) == name


@pytest.mark.parametrize(
    "text", ["prompt_id,prompt,model,reward\n1,trace_id,a,1\n", '{"prompt": "winner", "model": "a"}']
)
def test_a_plain_table_is_no_foreign_format(tmp_path, text):
    for suffix in ("csv", "jsonl", "json", "parquet", "eval"):
        path = tmp_path / f"table.{suffix}"
        path.write_text(text)
        assert guess(path) is None


def test_every_format_has_a_sample_and_stands_in_the_documentation():
    assert {each.name for each in FORMATS} == set(SAMPLES)
    page = (FOLDER.parents[1] / "docs/import.md").read_text()
    assert all(f"| `{name}` |" in page for name in SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_foreign_file_becomes_a_run_in_one_command(name, tmp_path):
    outcomes, _ = read(SAMPLES[name])
    prices = tmp_path / "prices.yaml"
    prices.write_text("".join(f'"{model}": {{relative_cost: 1}}\n' for model in outcomes.models))
    command = ["import", str(SAMPLES[name]), "--out", str(tmp_path / "run"), "--prices", str(prices)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert cells(open_run(tmp_path / "run").outcomes()) == cells(outcomes)


def test_lm_eval_takes_models_from_results_and_folders_and_one_filter():
    outcomes, skipped = read(*GSM8K)
    assert cells(outcomes) == {(SUM, LLAMA): 0, (DIFFERENCE, LLAMA): 1, (SUM, MINI): 1, (DIFFERENCE, MINI): 1}
    assert (outcomes.categories, outcomes.prompt_ids) == (("gsm8k",) * 2, ("gsm8k/0", "gsm8k/1"))
    assert sum(skipped.values()) == 4


def test_a_folder_of_lm_eval_is_one_pool(tmp_path):
    with found_files([str(FOLDER / "lm_eval")]) as files:
        imported = import_outcomes(files, ImportOptions())
    assert (imported.format, imported.outcomes.models) == ("lm-eval", (LLAMA, MINI))
    assert imported.outcomes.n_samples_PM.sum() == 6
    assert set(imported.outcomes.categories) == {"gsm8k", "arc_easy"}


def test_lm_eval_takes_the_filter_and_the_measure_that_are_asked_for():
    outcomes, _ = read(*GSM8K, metric="exact_match,flexible-extract")
    assert cells(outcomes)[SUM, LLAMA] == 1
    arc = next(SAMPLES["lm-eval"].parent.glob("samples_arc*"))
    sky, blood = "Question: What colour is the sky?\nAnswer:", "Question: What colour is blood?\nAnswer:"
    assert cells(read(arc)[0]) == {(sky, LLAMA): 1, (blood, LLAMA): 0}
    assert cells(read(arc, metric="acc_norm", model="m")[0]) == {(sky, "m"): 0, (blood, "m"): 1}
    with pytest.raises(OutcomesError, match=r"samples_arc.*: no measure 'bleu'; found acc, acc_norm\. Choose"):
        read(arc, metric="bleu")
    with pytest.raises(OutcomesError, match="no filter 'loose'; found none"):
        read(arc, metric="acc,loose")


def test_lm_eval_tasks_without_the_measure_or_filter_asked_for_take_their_own():
    arc = next(SAMPLES["lm-eval"].parent.glob("samples_arc*"))
    outcomes, _ = read(arc, SAMPLES["lm-eval"], metric="acc_norm,flexible-extract")
    assert outcomes.rewards_PM[:, 0].tolist() == [0, 1, 1, 1]


def test_lm_eval_reads_earlier_files_and_asks_for_a_model_that_nothing_names(tmp_path):
    path = tmp_path / "samples_boolq.jsonl"
    path.write_text(
        json.dumps({"doc_id": 3, "doc": {}, "arguments": [["Is it?", " yes"], ["Is it?", " no"]], "acc": True})
    )
    with pytest.raises(OutcomesError, match="Name it with --model NAME"):
        read(path)
    assert cells(read(path, model="m")[0]) == {("Is it?", "m"): 1}
    (tmp_path / "results.json").write_text(
        '{"config": {"model_args": "pretrained=org/base,peft=org/tuned,dtype=auto"}}'
    )
    assert cells(read(path)[0]) == {("Is it?", "org/tuned"): 1}


def test_lm_eval_counts_only_the_latest_run_of_a_task(tmp_path):
    folder = tmp_path / "org__m"
    folder.mkdir()
    text = SAMPLES["lm-eval"].read_text()
    (folder / "samples_gsm8k_2024-01-01T00-00-00.000001.jsonl").write_text(text)
    (folder / "samples_gsm8k_2025-01-01T00-00-00.000001.jsonl").write_text(
        text.replace('"exact_match": 0.0', '"exact_match": 1.0')
    )
    outcomes, skipped = read(*folder.glob("*"))
    assert cells(outcomes) == {(SUM, "org/m"): 1, (DIFFERENCE, "org/m"): 1}
    assert skipped["files of earlier runs of a task"] == 1


INSPECT = {
    ("What is 1+1?", "openai/gpt-4o"): 0.5,
    ("Sum up the report.", "openai/gpt-4o"): 0.75,
    ("Which is a prime?\n\nA) 4\nB) 5", "openai/gpt-4o"): 0,
}


def zipped(path, log, compress=zipfile.ZIP_DEFLATED):
    header = {name: value for name, value in log.items() if name != "samples"}
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log["eval"], "plan": {}}))
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps(header))
    return path


def as_zstd(path):
    """The same archive with members compressed by zstd, as newer versions of Inspect write them."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, pa.compress(content, codec="zstd", asbytes=True))
    stored = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        central = archive.start_dir
    for info in infos:
        size = len(members[info.filename]).to_bytes(4, "little")
        stored[info.header_offset + 8 : info.header_offset + 10] = (93).to_bytes(2, "little")
        stored[info.header_offset + 22 : info.header_offset + 26] = size
        central = stored.index(b"PK\x01\x02", central)
        stored[central + 10 : central + 12] = (93).to_bytes(2, "little")
        stored[central + 24 : central + 28] = size
        central += 4
    path.write_bytes(stored)
    return path


@pytest.mark.parametrize("form", ["json", "log.eval", "stdin", "zstd"])
def test_inspect_grades_epochs_and_usage(tmp_path, form):
    path = SAMPLES["inspect"]
    if form != "json":
        path = zipped(tmp_path / form, json.loads(path.read_text()))
        path = as_zstd(path) if form == "zstd" else path
    outcomes, skipped = read(path)
    assert cells(outcomes) == INSPECT
    assert list(cells(outcomes, "n_samples").values()) == [2, 2, 1]
    assert set(cells(outcomes, "output_tokens").values()) == {5}
    assert skipped == {"samples that ended in an error": 1}
    assert outcomes.categories == ("arith",) * 3


def test_inspect_takes_the_scorer_that_is_asked_for():
    assert set(cells(read(SAMPLES["inspect"], metric="length")[0]).values()) == {0.25}
    with pytest.raises(OutcomesError, match=r"inspect.json: no scorer 'bleu'; found match, length\."):
        read(SAMPLES["inspect"], metric="bleu")


def test_inspect_tasks_without_the_scorer_asked_for_are_judged_by_their_own(tmp_path):
    log = json.loads(SAMPLES["inspect"].read_text())
    log["results"]["scores"] = [{"name": "match", "scorer": "match"}, {"name": "length", "scorer": "length"}]
    first = zipped(tmp_path / "1.eval", log)
    log["eval"]["task"], log["results"]["scores"] = "other", [{"name": "choice", "scorer": "choice"}]
    log["samples"] = [{**log["samples"][0], "scores": {"choice": {"value": "C"}}}]
    outcomes, skipped = read(first, zipped(tmp_path / "2.eval", log), metric="length")
    assert outcomes.rewards_PM[:, 0].tolist() == [0.25, 0.25, 0.25, 1]
    assert skipped == {"samples that ended in an error": 1}


def test_inspect_parts_of_a_score_are_chosen_by_name(tmp_path):
    log = json.loads(SAMPLES["inspect"].read_text())
    for sample in log["samples"]:
        sample["scores"] = {"judge": {"value": {"style": 0.25, "truth": "C"}}}
    path = zipped(tmp_path / "log.eval", log)
    with pytest.raises(OutcomesError, match=r"several measures: style, truth; expected one. Choose it with --metric"):
        read(path)
    assert set(cells(read(path, metric="judge/truth")[0]).values()) == {1}


def test_inspect_samples_that_share_an_id_by_chance_stay_apart(tmp_path):
    log = json.loads(SAMPLES["inspect"].read_text())
    first = zipped(tmp_path / "1.eval", log)
    log["eval"]["model"] = "other"
    log["samples"] = [{**log["samples"][0], "input": "What is 2+2?"}]
    outcomes, _ = read(first, zipped(tmp_path / "2.eval", log))
    assert cells(outcomes) == {**INSPECT, ("What is 2+2?", "other"): 1}


@pytest.mark.parametrize("damage", ["cut", "no header", "no sample"])
def test_a_damaged_inspect_log_is_one_clear_error(tmp_path, damage):
    path = zipped(tmp_path / "log.eval", json.loads(SAMPLES["inspect"].read_text()))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme" if damage == "no header" else "header.json", "{}")
    with pytest.raises(OutcomesError, match=r"log\.eval"):
        read(path, name="inspect")


CAPITAL, RIVER = "Name a capital.", "Name a river."
CLAUDE, GPT = "anthropic:messages:claude", "openai:gpt-4o-mini"


def test_promptfoo_scores_costs_and_repeats():
    outcomes, skipped = read(SAMPLES["promptfoo"])
    assert cells(outcomes) == {(CAPITAL, GPT): 1, (CAPITAL, CLAUDE): 0.5, (RIVER, GPT): 0.5}
    # The second answer came out of promptfoo's cache: it has neither a cost nor tokens.
    assert set(cells(outcomes, "cost_usd").values()) == {0.002}
    assert set(cells(outcomes, "input_tokens").values()) == {11}
    assert cells(outcomes, "n_samples")[RIVER, GPT] == 2
    assert skipped == {"tests at which the provider failed": 1}
    assert outcomes.categories == ("facts", "facts")


@pytest.mark.parametrize(("metric", "reward"), [("tone", 0.25), ("success", 0.0)])
def test_promptfoo_takes_a_named_score(metric, reward):
    assert cells(read(SAMPLES["promptfoo"], metric=metric)[0])[CAPITAL, CLAUDE] == reward


def test_promptfoo_reads_the_older_summary_and_results_one_a_line(tmp_path):
    sea = '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a sea."}]'
    older = FOLDER / "promptfoo_v2.json"
    assert guess(older) == "promptfoo"
    outcomes, skipped = read(older)
    assert cells(outcomes) == {(sea, "openai:gpt-4"): 1, (sea, "ollama:llama3"): 0}
    assert cells(outcomes, "cost_usd") == {(sea, "openai:gpt-4"): 0.01}
    assert sum(skipped.values()) == 1
    lines = tmp_path / "results.jsonl"
    results = json.loads(SAMPLES["promptfoo"].read_text())["results"]["results"]
    lines.write_text("".join(json.dumps(result) + "\n" for result in results))
    assert guess(lines) == "promptfoo"
    assert cells(read(lines)[0]) == cells(read(SAMPLES["promptfoo"])[0])


def test_openai_evals_tie_events_of_a_sample_together():
    faust = '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who wrote Faust?"}]'
    outcomes, skipped = read(SAMPLES["openai-evals"])
    assert cells(outcomes) == {(faust, "gpt-3.5-turbo"): 1, ("Capital of Peru? ", "gpt-3.5-turbo"): 0}
    assert cells(outcomes, "output_tokens") == {(faust, "gpt-3.5-turbo"): 3}
    assert outcomes.categories == ("facts.dev.v0",) * 2
    assert sum(skipped.values()) == 1


def test_openai_evals_of_several_models_share_prompts_and_choose_a_measure(tmp_path):
    first = tmp_path / "first.jsonl"
    shutil.copy(SAMPLES["openai-evals"], first)
    second = tmp_path / "second.jsonl"
    text = first.read_text().replace('["gpt-3.5-turbo", "gpt-4"]', '["gpt-4"]').replace("Capital of Peru? ", "Peru?")
    text = text.replace(
        '"type": "match", "data": {"correct": false', '"type": "metrics", "data": {"bleu": 7, "score": 0.5'
    )
    second.write_text(text)
    outcomes, _ = read(first, second)
    assert outcomes.models == ("gpt-3.5-turbo", "gpt-4")
    assert outcomes.rewards_PM.tolist() == [[1, 1], [0, 0.5]]
    with pytest.raises(OutcomesError, match=r"first\.jsonl: record \d+: no measure 'bleu'; found correct"):
        read(first, metric="bleu")


def test_a_large_summary_is_read_one_result_at_a_time(tmp_path):
    path = tmp_path / "results.json"
    content = json.loads(SAMPLES["promptfoo"].read_text())
    first = content["results"]["results"][0]
    first["response"]["output"] = "é" * 5000
    content["results"]["results"] = [{**first, "prompt": {"raw": f"Question {i}"}} for i in range(2000)]
    path.write_text(json.dumps(content, ensure_ascii=False))
    tracemalloc.start()
    outcomes, _ = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(outcomes.prompts) == 2000
    assert peak < path.stat().st_size


def test_the_summary_says_which_measure_became_the_reward_and_which_could_have(tmp_path):
    result = CliRunner().invoke(cli, ["import", str(FOLDER / "lm_eval"), "--out", str(tmp_path / "run")])
    assert "rewards are exact_match 4, acc 2 (rows); also found, for --metric: acc_norm" in result.stdout


def test_what_is_wrong_with_a_record_names_its_own_file_and_its_place_there(tmp_path):
    source = SAMPLES["lm-eval"]
    good, bad = (tmp_path / model / source.name for model in ("org__a", "org__b"))
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    for path, reward in ((good, 1.0), (bad, 1e300)):
        path.parent.mkdir()
        changed = [*lines[:-1], {**lines[-1], "exact_match": reward}]
        path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    with pytest.raises(OutcomesError) as refused:
        read(good, bad, name="lm-eval", metric=f"exact_match,{lines[-1]['filter']}")
    assert str(refused.value).startswith(f"{bad}: row {len(lines)} ")


def test_a_summary_of_promptfoo_that_has_only_its_table_is_read(tmp_path):
    output = {"pass": True, "score": 0.5, "text": "4", "prompt": "2+2?", "cost": 0.001}
    table = {
        "head": {"prompts": [{"raw": "{{q}}", "provider": "a"}, {"raw": "{{q}}", "provider": "b"}], "vars": ["q"]},
        "body": [{"outputs": [output, {**output, "pass": False, "score": 0.0}], "vars": ["2+2?"], "test": {}}],
    }
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"version": 2, "results": {"table": table, "stats": {}}}))
    outcomes, _ = read(path, name="promptfoo")
    assert cells(outcomes) == {("2+2?", "a"): 0.5, ("2+2?", "b"): 0.0}
