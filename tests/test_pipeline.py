"""One command from a pool file to a bundle, against a real server, and again after it was stopped."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.cli import cli
from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.load import load_bundle
from tests.planted import BEST, prompt_of
from tests.pools import wait_until

MODELS = ("small", "mid", "big")
KINDS = tuple(BEST)
# What each model earns on every prompt of a kind, so that routing has something to learn.
WORTH = {(kind, model): 0.9 if BEST[kind] == model else 0.3 for kind in KINDS for model in MODELS}


def worth(pairs):
    """A reward model of our own: ``callable: tests.test_pipeline:worth``. The reference is the kind of prompt."""
    return [WORTH[pair.reference, pair.response.split()[-1]] + 1e-3 * (len(str(pair.prompt)) % 7) for pair in pairs]


def run(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write_pool(folder, stub, models=("small", "big"), prompts=90, **changes):
    rows = [
        {"prompt_id": f"p{i}", "prompt": f"{prompt_of(KINDS[i % 3], i)} ({i})", "category": KINDS[i % 3],
         "reference": KINDS[i % 3]}
        for i in range(prompts)
    ]  # fmt: skip
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "run": "run",
        "bundle": "bundle",
        "prompts": {"source": "questions.jsonl"},
        "sampling": {"k": 2, "max_tokens": 64},
        "models": {
            name: {
                "model": name,
                "api_base": stub.api_base(name),
                "price": {"input_usd_per_mtok": price, "output_usd_per_mtok": price},
            }
            for name, price in zip(MODELS, (0.1, 0.5, 2.0), strict=True)
            if name in models
        },
        "rewards": [{"kind": "callable", "callable": "tests.test_pipeline:worth", "needs_reference": True}],
        **changes,
    }
    (folder / "pool.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder / "pool.yaml"


@pytest.fixture
def pool(tmp_path, stub):
    return write_pool(tmp_path, stub)


def test_a_pool_file_becomes_a_bundle_that_routes(pool, stub, tmp_path):
    result = run("run", pool, "--json")
    assert result.exit_code == 0, result.output
    payload = json.loads(result.stdout)
    assert payload["models"]["big"] == {
        "prompts": 90, "samples": 180, "skipped": {}, "unscored": 0, "truncated": payload["models"]["big"]["truncated"],
        "empty": 0, "input_tokens": payload["models"]["big"]["input_tokens"],
        "output_tokens": payload["models"]["big"]["output_tokens"], "failed": 0,
    }  # fmt: skip
    assert payload["models"]["big"]["output_tokens"] > 0
    assert payload["verdict"]["helps"]
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.models == ("big", "small")
    assert loaded.manifest.reward["samples_per_prompt"] == 2
    assert loaded.manifest.reward["unit"] == "raw reward"
    outcomes = open_run(tmp_path / "run").outcomes()
    assert np.isfinite(outcomes.output_tokens_PM).all()
    assert set(outcomes.splits) == {"train", "test"}
    assert run("evaluate", tmp_path / "run", "--bundle", tmp_path / "bundle").exit_code == 0


def test_running_again_asks_for_nothing_and_gives_the_same_probes(pool, stub, tmp_path):
    run("run", pool)
    asked, before = len(stub.requests()), load_bundle(tmp_path / "bundle")
    again = run("run", pool, "--json")
    assert len(stub.requests()) == asked
    assert sum(reward["reused"] for reward in json.loads(again.stdout)["rewards"].values()) == 180
    np.testing.assert_array_equal(load_bundle(tmp_path / "bundle").probes.weights_DM, before.probes.weights_DM)


def test_a_prompt_that_got_another_text_is_sampled_and_scored_anew(pool, stub, tmp_path):
    run("run", pool)
    rows = (tmp_path / "questions.jsonl").read_text().splitlines()
    rows[0] = json.dumps(json.loads(rows[0]) | {"prompt": "another question altogether"})
    (tmp_path / "questions.jsonl").write_text("\n".join(rows))
    assert run("prompts", pool, "--force").exit_code == 0
    stub.reset()
    again = json.loads(run("run", pool, "--json").stdout)
    assert (len(stub.requests()), again["rewards"]["callable"]["reused"]) == (2, 178)
    assert open_run(tmp_path / "run").outcomes().prompts[0] == "another question altogether"


def test_a_run_that_is_interrupted_exits_130_and_is_continued(tmp_path, stub):
    pool = write_pool(tmp_path, stub, prompts=60)
    stub.set_mode("big", "slow:1")
    command = [sys.executable, "-c", "from erp_trainer.cli import main; main()", "run", str(pool)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)

    def recorded():
        return [path for path in tmp_path.glob("run/samples/big-*/part-*.jsonl") if path.stat().st_size]

    wait_until(lambda: process.poll() is not None or recorded())
    stub.set_mode("big", "hang")
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    assert "run the same command again" in process.stderr.read().decode()
    stub.set_mode("big", "ok")
    result = run("run", pool, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"]["big"]["prompts"] == 60
    assert len(recorded()) == 2


def test_a_model_that_is_down_is_named_and_the_others_are_sampled(tmp_path, stub):
    pool = write_pool(tmp_path, stub, prompts=30)
    document = yaml.safe_load(pool.read_text())
    document["models"]["small"]["api_base"] = "http://127.0.0.1:9/v1"
    pool.write_text(yaml.safe_dump(document, sort_keys=False))
    result = run("run", pool)
    assert (result.exit_code, "small" in result.stderr, "1 of 2 models are sampled" in result.stderr) == (1, True, True)
    assert not (tmp_path / "run" / "run.json").exists()


def sometimes(pairs):
    """NaN for some prompts."""
    return [float("nan") if "(7)" in str(pair.prompt) else len(str(pair.prompt)) % 5 for pair in pairs]


def test_whatever_was_left_out_is_counted_in_the_final_summary(tmp_path, stub):
    own = [{"kind": "callable", "callable": "tests.test_pipeline:sometimes"}]
    pool = write_pool(tmp_path, stub, prompts=60, rewards=own)
    with (tmp_path / "questions.jsonl").open("a") as questions:
        questions.write(json.dumps({"prompt_id": "long", "prompt": "word " * 2000}) + "\n")
    stub.set_mode("big", "context:1000")
    stub.set_mode("small", "empty")
    done = run("run", pool)
    assert done.exit_code == 0, done.output
    assert "skipped, context: 1" in done.stdout
    found = json.loads(run("run", pool, "--json").stdout)
    assert found["models"]["big"] | {"skipped": {"context": 1}, "unscored": 1, "prompts": 59} == found["models"]["big"]
    assert found["models"]["small"]["empty"] == found["models"]["small"]["samples"] == 2 * 60
    assert found["rewards"]["callable"]["skipped"] == {"nan reward": 2, "not sampled": 1}


def test_two_reward_models_are_combined_and_the_manifest_says_how(tmp_path, stub):
    rewards = [
        {"kind": "callable", "callable": "tests.test_pipeline:worth", "needs_reference": True, "weight": 3},
        {"kind": "regex", "name": "short", "pattern": "big", "weight": 1},
    ]
    assert run("run", write_pool(tmp_path, stub, prompts=45, rewards=rewards)).exit_code == 0
    reward = load_bundle(tmp_path / "bundle").manifest.reward
    assert reward["unit"].startswith("standard deviations")
    assert reward["normalisation"]["short"]["weight"] == 0.25


def test_a_url_may_stand_in_the_environment_as_in_a_litellm_config(tmp_path, stub, monkeypatch):
    pool = write_pool(tmp_path, stub, prompts=45)
    pool.write_text(pool.read_text().replace(stub.api_base("big"), "os.environ/BIG_API_BASE"))
    refused = run("run", pool)
    assert (refused.exit_code, "BIG_API_BASE is not set" in refused.stderr) == (2, True)
    monkeypatch.setenv("BIG_API_BASE", stub.api_base("big"))
    assert run("run", pool).exit_code == 0


def test_a_pool_file_that_cannot_be_used_is_one_clear_error(tmp_path, stub):
    pool = write_pool(tmp_path, stub, rewards=[{"kind": "guess"}])
    assert (run("run", pool).exit_code, run("run", tmp_path / "none.yaml").exit_code) == (2, 2)


def test_embed_fills_the_cache_that_fit_reads(pool, tmp_path):
    run("run", pool)
    assert json.loads(run("embed", tmp_path / "run", "--json").stdout)["embedded"] == 0
    for path in (tmp_path / "run" / "cache").iterdir():
        path.unlink()
    assert json.loads(run("embed", tmp_path / "run", "--json").stdout)["embedded"] == 90


def test_a_newcomer_is_sampled_scored_and_added_without_touching_the_others(pool, stub, tmp_path):
    run("run", pool)
    before = {p.name: p.read_bytes() for p in (tmp_path / "bundle" / "probes").iterdir()}
    stub.reset()
    result = run("add-model", tmp_path / "bundle", "--pool", write_pool(tmp_path, stub, MODELS), "--model", "mid",
                 "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert {request["model"] for request in stub.requests()} == {"mid"}
    report = json.loads(result.stdout)
    assert report["wins"]["code"] > 0.8
    after = {p.name: p.read_bytes() for p in (tmp_path / "bundle" / "probes").iterdir()}
    assert before.items() < after.items()
    assert run("evaluate", tmp_path / "run", "--bundle", tmp_path / "bundle").exit_code == 0


def test_a_newcomer_can_be_asked_some_prompts_only(pool, stub, tmp_path):
    run("run", pool)
    stub.reset()
    arguments = ("--pool", write_pool(tmp_path, stub, MODELS), "--model", "mid", "--prompts", 30, "--json")
    result = run("add-model", tmp_path / "bundle", *arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["rows"], report["audit"]) == (30, 20)
    assert abs(report["mean_reward"] - 0.5) < 0.15
    outcomes = open_run(tmp_path / "run").outcomes()
    assert outcomes.models == ("big", "mid", "small")
    assert int((outcomes.n_samples_PM[:, 1] > 0).sum()) == 30


def test_a_newcomer_scored_by_other_reward_models_is_refused(pool, stub, tmp_path):
    run("run", pool)
    other = write_pool(tmp_path, stub, MODELS, rewards=[{"kind": "regex", "pattern": "mid"}])
    result = run("add-model", tmp_path / "bundle", "--pool", other, "--model", "mid")
    assert (result.exit_code, "would not compare" in result.stderr) == (2, True)
    assert load_bundle(tmp_path / "bundle").models == ("big", "small")


def test_a_model_that_the_pool_file_lacks_or_the_bundle_has_is_refused_before_sampling(pool, stub, tmp_path):
    run("run", pool)
    stub.reset()
    for name in ("nobody", "big"):
        assert run("add-model", tmp_path / "bundle", "--pool", pool, "--model", name).exit_code == 2
    assert stub.requests() == []
