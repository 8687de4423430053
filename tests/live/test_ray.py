"""A Ray cluster of this machine: the vLLM processor, scores, vectors and fits are those of the local engines."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from demo.proxy_process import REPOSITORY
from demo.vllm_process import cpu_dtype
from erp_trainer.pool.pool import load
from erp_trainer.sampling.stage import sample_parts
from litellm_erp.bundle.load import load_bundle
from tests.sampling_runs import keys, write_pool

pytestmark = pytest.mark.ray

ENGINE = {"max_model_len": 512, "enforce_eager": True, "dtype": cpu_dtype(), "enable_chunked_prefill": False,
          "block_size": 32, "max_num_seqs": 32}  # fmt: skip
N_PROMPTS, K = 64, 4  # four tasks of the processor
WORDS = ("sum", "proof", "poem", "loop", "verb", "graph")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    paths = f"{REPOSITORY}:{REPOSITORY / 'trainer'}"
    return os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "ERP_VLLM_OPTIONS": json.dumps(ENGINE)}


@pytest.fixture(scope="module")
def cluster(vllm_python: Path, environment, tmp_path_factory) -> Iterator[str]:
    """The address of a head node that says it has eight processors: the engine's actor waits for more than two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short names
    log = tmp_path_factory.mktemp("ray") / "head.log"
    command = [vllm_python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=8",
               "--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}", "--include-dashboard=false",
               "--disable-usage-stats", f"--temp-dir={folder}", "--object-store-memory=200000000"]  # fmt: skip
    with log.open("w") as out:
        head = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        head.terminate()
        try:
            head.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def erp_train(vllm_python: Path, environment):
    """Start ``erp-train`` with the interpreter that has vLLM and Ray; it must be that of the cluster."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        code = "from erp_trainer.cli import main; main()"
        command = [str(vllm_python), "-c", code, *map(str, arguments), "--json"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def result(process: subprocess.Popen[str]) -> dict:
    stdout, stderr = process.communicate(timeout=3600)
    assert process.returncode == 0, stderr[-4000:]
    return json.loads(stdout)


def pool_file(folder: Path, smollm2: Path, cluster: str, n_prompts: int, **sampling) -> Path:
    pool = write_pool(folder, {"smol": {"model": str(smollm2), "engine": "vllm"}}, n_prompts, **sampling)
    document = yaml.safe_load(pool.read_text())
    document["rewards"] = [{"kind": "regex", "pattern": "[aeiou]{2}"}]
    document["ray"] = {"address": cluster, "workers": 1, "bundles": [{"CPU": 1}], "engine": ENGINE}
    pool.write_text(yaml.safe_dump(document))
    return pool


def test_killed_and_resumed_on_ray_has_the_keys_of_the_local_engine(erp_train, cluster, smollm2, tmp_path):
    pool = pool_file(tmp_path / "ray", smollm2, cluster, N_PROMPTS, k=K, max_tokens=8)
    process = erp_train("sample", pool, "--engine", "ray")
    end = time.monotonic() + 1800
    while not keys(pool) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    before = keys(pool)
    assert 0 < len(before) < N_PROMPTS * K
    payload = result(erp_train("sample", pool, "--engine", "ray"))["models"]["smol"]
    assert (payload["resumed"], payload["failed"]) == (len(before) // K, 0)
    assert keys(pool)[: len(before)] == before

    local = pool_file(tmp_path / "local", smollm2, cluster, N_PROMPTS, k=K, max_tokens=8)
    result(erp_train("sample", local))
    assert sorted(keys(pool)) == sorted(keys(local))
    folders = [sample_parts(loaded.run, loaded.models["smol"]).folder.name for loaded in (load(pool), load(local))]
    assert folders[0] == folders[1]

    scored = [result(erp_train("score", pool, *options)) for options in (("--engine", "ray"), ())]
    reused = [found["reward_models"]["regex"]["reused"] for found in scored]
    assert reused == [0, N_PROMPTS]


def test_a_fit_on_ray_is_the_local_fit(erp_train, cluster, tmp_path):
    rng = np.random.default_rng(3)
    rows = []
    for p in range(400):
        category = ("verse", "code", "")[p % 3]
        text = f"{category} " + " ".join(rng.choice(WORDS, 4)) + f" {p}"
        for m, model in enumerate("ab"):
            reward = 0.3 * float(("poem" in text) == (m == 0)) + (category == "code") * m + rng.normal() * 0.5
            rows.append({"prompt_id": f"p{p}", "prompt": text, "category": category, "model": model, "reward": reward})
    (tmp_path / "outcomes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    # Stated, because LiteLLM's list of prices is not in vLLM's environment.
    (tmp_path / "prices.yaml").write_text("a: {relative_cost: 1}\nb: {relative_cost: 2}\n")
    source = (tmp_path / "outcomes.jsonl", "--prices", tmp_path / "prices.yaml")
    result(erp_train("import", *source, "--out", tmp_path / "run"))
    on_ray = ("--engine", "ray", "--ray-address", cluster, "--ray-workers", "2")
    assert result(erp_train("embed", tmp_path / "run", *on_ray))["embedded"] == 400
    assert result(erp_train("embed", tmp_path / "run"))["embedded"] == 0
    result(erp_train("fit", tmp_path / "run", "--out", tmp_path / "on-ray", *on_ray))
    result(erp_train("fit", tmp_path / "run", "--out", tmp_path / "local"))
    found, local = load_bundle(tmp_path / "on-ray"), load_bundle(tmp_path / "local")
    np.testing.assert_allclose(found.probes.weights_DM, local.probes.weights_DM, atol=1e-6)
    np.testing.assert_allclose(found.probes.intercept_M, local.probes.intercept_M, atol=1e-6)
    assert found.manifest.stack == local.manifest.stack
    assert found.frontier.document == local.frontier.document


def test_without_a_cluster_there_is_one_clear_error(erp_train, smollm2, tmp_path):
    pool = pool_file(tmp_path, smollm2, "127.0.0.1:1", 2)
    process = erp_train("sample", pool, "--engine", "ray")
    _, stderr = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert "no Ray cluster can be reached at '127.0.0.1:1'" in stderr
