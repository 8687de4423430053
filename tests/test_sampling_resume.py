"""`erp-train sample` as a process: killed, interrupted, started twice, out of space."""

import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.proxy_process import StubProcess, free_port
from erp_trainer.pool.pool import load
from erp_trainer.sampling.stage import sample_parts
from tests.sampling_runs import keys, sample, start_sample, write_pool

MODELS = ("small", "big")
PROMPTS = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProcess]:
    with StubProcess(MODELS, log_path=tmp_path_factory.mktemp("stub") / "stub.log") as process:
        yield process


@pytest.fixture(autouse=True)
def well(server):
    server.reset()


def pool_file(folder: Path, server: StubProcess, n_prompts: int = PROMPTS) -> Path:
    return write_pool(folder, {m: {"model": m, "api_base": server.api_base(m)} for m in MODELS}, n_prompts)


def recorded_bytes(run: Path) -> dict[Path, bytes]:
    """The whole lines of every part."""
    return {path: path.read_bytes().rpartition(b"\n")[0] for path in run.glob("samples/*/part-*.jsonl")}


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what} after 120 s"
        time.sleep(0.005)


def wait_until_it_samples(process: subprocess.Popen[str], server: StubProcess) -> None:
    asked = len(server.requests())
    wait_until(lambda: process.poll() is not None or len(server.requests()) > asked, "nothing was asked")


def test_killed_at_ten_random_moments_it_ends_with_what_an_unbroken_run_has(tmp_path, server):
    unbroken = pool_file(tmp_path / "unbroken", server)
    assert sample(unbroken)[0] == 0
    for model in MODELS:
        server.set_mode(model, "slow:0.3")
    broken, rng, before = pool_file(tmp_path / "broken", server), random.Random(0), {}
    for _ in range(10):
        process = start_sample(broken)
        wait_until_it_samples(process, server)
        time.sleep(rng.uniform(0, 0.6))
        assert process.poll() is None, "it ended before it was killed; give it more prompts"
        process.kill()
        process.communicate()
        after = recorded_bytes(tmp_path / "broken" / "run")
        assert all(after[path].startswith(lines) for path, lines in before.items())
        before = after
    assert 0 < len(keys(broken)) < 2 * PROMPTS * 3
    server.reset()
    code, payload, _ = sample(broken)
    assert (code, payload["models"]["big"]["failed"]) == (0, 0)
    assert all(recorded_bytes(tmp_path / "broken" / "run")[path].startswith(lines) for path, lines in before.items())
    assert len(keys(broken)) == len(set(keys(broken)))
    assert set(keys(broken)) == set(keys(unbroken)) == {
        (f"p{i}", model, s) for i in range(PROMPTS) for model in MODELS for s in range(3)
    }  # fmt: skip


def test_a_line_that_a_crash_cut_is_asked_again_and_left_as_it_is(tmp_path, server):
    pool = pool_file(tmp_path, server, 5)
    sample(pool)
    (part, _) = recorded_bytes(tmp_path / "run")
    whole = part.read_bytes()
    part.write_bytes(whole[:-20])
    assert sample(pool)[0] == 0
    assert len(keys(pool)) == len(set(keys(pool))) == 2 * 5 * 3
    assert part.read_bytes() == whole[:-20]


def test_what_is_finished_is_not_asked_again(tmp_path, server):
    pool = pool_file(tmp_path, server, 5)
    sample(pool)
    server.reset()
    code, payload, _ = sample(pool)
    assert (code, payload["models"]["small"]["resumed"], server.requests()) == (0, 5, [])


def test_a_second_process_on_the_same_run_is_refused(tmp_path, server):
    pool = pool_file(tmp_path, server)
    server.set_mode("small", "slow:0.5")
    first = start_sample(pool)
    wait_until_it_samples(first, server)
    code, payload, _ = sample(pool)
    assert code == 2
    assert f"in use by process {first.pid}" in payload["error"]["message"]
    first.kill()
    first.communicate()


def test_ctrl_c_ends_it_at_once_and_loses_nothing(tmp_path, server):
    pool = pool_file(tmp_path, server)
    server.set_mode("small", "slow:0.1")
    process = start_sample(pool)
    wait_until(lambda: keys(pool), "nothing was recorded")
    server.set_mode("small", "hang")
    time.sleep(0.3)
    before = keys(pool)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again to continue" in stderr
    assert keys(pool)[: len(before)] == before


def test_a_model_that_cannot_be_sampled_does_not_keep_the_others_from_it(tmp_path, server):
    models = {
        "gone": {"model": "gone", "api_base": f"http://127.0.0.1:{free_port()}/v1"},
        "keyless": {"model": "small", "api_base": server.api_base("small"), "api_key": "os.environ/NOBODY_SET_THIS"},
        "small": {"model": "small", "api_base": server.api_base("small")},
    }
    pool = write_pool(tmp_path, models, 4)
    code, payload, stderr = sample(pool)
    assert code == 1
    assert payload["models"]["small"]["sampled"] == 4
    assert "cannot be reached" in payload["errors"]["gone"]
    assert "NOBODY_SET_THIS is not set" in payload["errors"]["keyless"]
    assert "Traceback" not in stderr


def test_one_model_can_be_asked_for_and_an_unknown_one_is_bad_usage(tmp_path, server):
    pool = pool_file(tmp_path, server, 4)
    assert list(sample(pool, "--model", "big")[1]["models"]) == ["big"]
    code, payload, _ = sample(pool, "--model", "huge")
    assert (code, payload["error"]["message"]) == (2, f"Invalid value for --model: 'huge'; {pool} has small, big")


def test_a_disk_without_space_is_a_clear_error_and_the_finished_work_is_kept(tmp_path, server):
    pool = pool_file(tmp_path, server, 60)
    arguments = [
        sys.executable,
        "-c",
        "from erp_trainer.cli import main; main()",
        "sample",
        str(pool),
        "--model",
        "small",
    ]

    def no_file_above_8_kib() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    full = subprocess.run(arguments, preexec_fn=no_file_above_8_kib, capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert "what was recorded before is kept. Make room and run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    kept = keys(pool)
    assert 0 < len(kept) < 60 * 3
    assert sample(pool, "--model", "small")[0] == 0
    assert keys(pool)[: len(kept)] == kept
    assert len(set(keys(pool))) == len(keys(pool)) == 60 * 3


def test_the_summary_counts_skips_of_earlier_runs(tmp_path, server):
    pool = pool_file(tmp_path, server, 5)
    server.set_mode("small", "context:1")
    sample(pool)
    code, payload, _ = sample(pool)
    assert (code, payload["models"]["small"]["skipped"]) == (0, {"context": 5})
    assert next(iter(sample_parts(load(pool).run, load(pool).models["small"])))["skipped"].startswith("context: ")
