"""Sampling from the real thing: a vLLM server, and vLLM in a child process."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest

from demo.vllm_process import VLLMProcess, cpu_dtype
from erp_trainer.pool.pool import PoolModel, Sampling
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.sampling.stage import sample_parts, sample_pool_model
from erp_trainer.sampling.vllm_engine import VLLMEngine
from litellm_erp.errors import SamplingError
from tests.sampling_runs import keys, sample, start_sample, write_pool

pytestmark = pytest.mark.vllm

PROMPTS = [Prompt(f"p{i}", f"Write a sentence about the number {i}.") for i in range(12)]
LONG = Prompt("long", "word " * 2000)
OPTIONS = {
    "max_model_len": 1024,
    "enforce_eager": True,
    "dtype": cpu_dtype(),
    "enable_chunked_prefill": False,
    "block_size": 32,
}


@pytest.fixture
def served(vllm_server: VLLMProcess) -> PoolModel:
    return PoolModel("smol", "smollm2", Sampling(k=8, max_tokens=24), api_base=vllm_server.api_base)


@pytest.fixture
def in_process(vllm_python: Path, smollm2: Path, monkeypatch) -> PoolModel:
    monkeypatch.setenv("ERP_VLLM_PYTHON", str(vllm_python))
    monkeypatch.setenv("ERP_VLLM_OPTIONS", json.dumps(OPTIONS))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return PoolModel("smol", str(smollm2), Sampling(k=8, max_tokens=24), engine="vllm")


def gone(group: int, *, within_s: float) -> bool:
    """Whether every process of the group has ended."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def check_samples(run: Path, model: PoolModel) -> None:
    records = {record["prompt_id"]: record for record in sample_parts(run, model)}
    assert set(records) == {prompt.prompt_id for prompt in [*PROMPTS, LONG]}
    assert records.pop("long")["skipped"].startswith("context: ")
    for record in records.values():
        samples = record["samples"]
        assert len(samples) == 8
        assert len({s["text"] for s in samples}) > 1, "K samples at temperature 1 are not all the same"
        assert record["engine_version"].startswith("vllm 0.")
        assert {s["input_tokens"] for s in samples} == {samples[0]["input_tokens"]}
        for s in samples:
            assert (s["output_tokens"] == 24) if s["finish_reason"] == "length" else (0 < s["output_tokens"] <= 24)


def test_a_server_gives_k_samples_with_exact_counts_and_skips_what_is_too_long(tmp_path, served):
    summary = sample_pool_model(tmp_path, [*PROMPTS, LONG], served)
    assert (summary.sampled, dict(summary.skipped), summary.failed) == (12, {"context": 1}, 0)
    check_samples(tmp_path, served)


def test_through_litellm_the_same_server_gives_k_samples(tmp_path, served):
    model = dataclasses.replace(served, engine="litellm", model="hosted_vllm/smollm2")
    summary = sample_pool_model(tmp_path, [*PROMPTS, LONG], model)
    assert (summary.sampled, dict(summary.skipped), summary.failed) == (12, {"context": 1}, 0)


def test_vllm_in_a_child_process_gives_k_samples_and_leaves_no_process(tmp_path, served, in_process):
    engine = VLLMEngine(in_process)
    group = engine._process.pid
    summary = sample_pool_model(tmp_path, [*PROMPTS, LONG], in_process, engine=engine)
    assert (summary.sampled, dict(summary.skipped), summary.failed) == (12, {"context": 1}, 0)
    check_samples(tmp_path, in_process)
    assert greedy(tmp_path, in_process, engine) == greedy(tmp_path, served, None)
    engine.close()
    assert gone(group, within_s=0)


def greedy(folder: Path, model: PoolModel, engine: VLLMEngine | None) -> dict[str, list[str]]:
    """The first words at temperature 0, where a server and a child must agree."""
    model = dataclasses.replace(model, sampling=Sampling(k=2, max_tokens=8, temperature=0.0))
    sample_pool_model(folder / model.engine, PROMPTS[:4], model, engine=engine)
    records = sample_parts(folder / model.engine, model)
    return {record["prompt_id"]: record["samples"][0]["text"].split()[:3] for record in records}


def test_a_model_that_vllm_cannot_load_is_a_clear_error(tmp_path, in_process):
    with pytest.raises(SamplingError, match=r"vLLM cannot load '/nowhere'.*models\.smol\.model"):
        sample_pool_model(tmp_path, PROMPTS, dataclasses.replace(in_process, model="/nowhere"))


def test_a_child_whose_parent_was_killed_ends_by_itself(tmp_path, in_process):
    pool = write_pool(tmp_path, {"smol": {"model": in_process.model, "engine": "vllm"}}, 200, max_tokens=24)
    process = start_sample(pool)
    deadline = time.monotonic() + 900
    while not keys(pool) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    (group,) = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    before = keys(pool)
    process.kill()
    process.communicate()
    assert before
    assert gone(group, within_s=120)


def test_the_command_killed_half_way_continues_where_it_was(tmp_path, vllm_server):
    models = {"smol": {"model": "smollm2", "api_base": vllm_server.api_base}}
    pool = write_pool(tmp_path, models, 40, k=4, max_tokens=16)
    process = start_sample(pool)
    while not keys(pool) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = keys(pool)
    code, payload, _ = sample(pool)
    assert (code, payload["models"]["smol"]["failed"]) == (0, 0)
    assert payload["models"]["smol"]["resumed"] * 4 == len(before)
    assert keys(pool)[: len(before)] == before
    assert len(set(keys(pool))) == len(keys(pool)) == 40 * 4
