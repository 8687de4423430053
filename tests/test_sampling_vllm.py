"""vLLM in a child process: its worker, with a stand-in for vLLM itself (tests/live has the real one)."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from erp_trainer.pool.pool import PoolModel, Sampling
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.sampling.base import derive_seed
from erp_trainer.sampling.stage import sample_parts, sample_pool_model
from erp_trainer.sampling.vllm_engine import VLLMEngine
from litellm_erp.errors import SamplingError, SettingsError

MODEL = PoolModel("small", "tiny", Sampling(k=3, max_tokens=9), engine="vllm")
STAND_INS = Path(__file__).parent / "stand_ins"


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))


def texts(run: Path) -> dict[str, list[str]]:
    return {r["prompt_id"]: [s["text"] for s in r["samples"]] for r in sample_parts(run, MODEL) if "samples" in r}


def test_every_prompt_gets_its_own_k_responses_in_whatever_order_they_are_finished(tmp_path, stand_in):
    prompts = [
        *(Prompt(f"q{i}", f"word{i}") for i in range(20)),
        Prompt("last", "wait a"),
        *(Prompt(f"p{i}", f"word{i}") for i in range(200)),
    ]
    assert sample_pool_model(tmp_path, prompts, MODEL).sampled == 221
    found = texts(tmp_path)
    assert found["p7"] == ["word7 0", "word7 1", "word7 2"]
    assert found["last"] == ["wait a 0", "wait a 1", "wait a 2"]


def test_a_record_names_engine_version_seed_and_counts(tmp_path, stand_in):
    sample_pool_model(tmp_path, [Prompt("p", "one two")], MODEL)
    (record,) = sample_parts(tmp_path, MODEL)
    assert (record["engine"], record["engine_version"]) == ("vllm", "vllm 0.0-echo")
    sampled = {"finish_reason": "stop", "input_tokens": 2, "output_tokens": 3, "seed": derive_seed(0, "p", 0)}
    assert sampled.items() <= record["samples"][0].items()


def test_what_does_not_fit_is_skipped_and_what_is_refused_is_counted(tmp_path, stand_in):
    prompts = [Prompt("long", "word " * 16), Prompt("bad", "refuse this"), Prompt("good", "word")]
    summary = sample_pool_model(tmp_path, prompts, MODEL)
    assert (summary.sampled, dict(summary.skipped), summary.failed) == (1, {"context": 1}, 1)
    assert summary.failures == ("bad: refused: ValueError: no such prompt",)


def test_a_child_that_dies_half_way_is_an_error_and_the_finished_work_is_kept(tmp_path, stand_in):
    prompts = [Prompt("a", "word"), Prompt("b", "please die"), Prompt("c", "wait word")]
    with pytest.raises(SamplingError, match=r"status 7: .*out of cheese.* 1 of 3 prompts are recorded; run the same"):
        sample_pool_model(tmp_path, prompts, MODEL)
    assert list(texts(tmp_path)) == ["a"]


def test_a_closed_engine_leaves_no_process_and_no_log(stand_in):
    engine = VLLMEngine(MODEL)
    child, log = engine._process.pid, Path(engine._log.name)
    engine.close()
    assert not log.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(child, 0)


def test_a_model_that_cannot_be_loaded_is_a_clear_error_that_names_the_log(tmp_path, stand_in):
    with pytest.raises(SamplingError, match=r"cannot load 'missing': OSError: no config\.json\. Its log is /"):
        VLLMEngine(PoolModel("small", "missing", Sampling(), engine="vllm"))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("ERP_VLLM_PYTHON", raising=False)
    with pytest.raises(SamplingError, match=r"vllm is not installed in .*litellm-erp\[vllm\].*ERP_VLLM_PYTHON"):
        VLLMEngine(MODEL)


def test_an_interpreter_that_is_not_there_is_a_wrong_setting(monkeypatch):
    monkeypatch.setenv("ERP_VLLM_PYTHON", "/no/such/python")
    with pytest.raises(SettingsError, match="ERP_VLLM_PYTHON: /no/such/python cannot be started"):
        VLLMEngine(MODEL)


@pytest.mark.parametrize("options", ["{", "[1]"])
def test_options_that_are_no_json_object_are_a_wrong_setting(monkeypatch, stand_in, options):
    monkeypatch.setenv("ERP_VLLM_OPTIONS", options)
    with pytest.raises(SettingsError, match="ERP_VLLM_OPTIONS"):
        VLLMEngine(MODEL)


def test_options_reach_vllm(tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("ERP_VLLM_OPTIONS", '{"max_model_len": 3}')
    assert dict(sample_pool_model(tmp_path, [Prompt("p", "one two three")], MODEL).skipped) == {"context": 1}
