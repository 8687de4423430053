"""Commands that run out of space, by way of a limit on the size of a file: one clear error, the finished work kept."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from erp_trainer.pool.pool import load
from erp_trainer.sampling.stage import sample_parts
from tests.planted import planted_rows, write_outcomes
from tests.sampling_runs import write_pool

LIMIT = 8192


def start(*arguments: object, limit: int | None = LIMIT) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", "from erp_trainer.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False, timeout=300)


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert "Make room and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_outcomes(tmp_path_factory.mktemp("planted") / "outcomes.jsonl", planted_rows(samples=1))


def test_an_import_leaves_nothing_half_written(tmp_path, outcomes):
    check(start("import", outcomes, "--out", tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == []
    assert start("import", outcomes, "--out", tmp_path / "run", limit=None).returncode == 0


def test_a_fit_leaves_the_old_bundle_as_it_was(tmp_path, outcomes):
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    start("import", outcomes, "--out", run, limit=None)
    assert start("fit", run, "--out", bundle, limit=None).returncode == 0
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    check(start("fit", run, "--out", bundle))
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_scoring_keeps_what_it_scored(tmp_path):
    pool = write_pool(tmp_path, {"small": {"model": "small", "api_base": "http://127.0.0.1:1/v1"}}, 400)
    text = pool.read_text().replace("kind: exact", "kind: regex\n  pattern: answer")
    pool.write_text(text)

    with sample_parts(tmp_path / "run", load(pool).models["small"]).writer() as writer:
        for i in range(400):
            writer.append(
                {"prompt_id": f"p{i}", "model": "small", "samples": [{"text": "answer"}, {"text": f"no {i}"}]}
            )
    check(start("score", pool))
    kept = scores(tmp_path)
    assert 0 < len(kept) < 400
    assert start("score", pool, limit=None).returncode == 0
    assert scores(tmp_path)[: len(kept)] == kept
    assert len({record["prompt_id"] for record in scores(tmp_path)}) == len(scores(tmp_path)) == 400


def scores(folder: Path) -> list[dict[str, object]]:
    """Records of the one reward model and pool model."""
    (stage,) = (folder / "run" / "scores").iterdir()
    lines = [line for part in sorted(stage.glob("part-*.jsonl")) for line in part.read_bytes().splitlines(True)]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]
