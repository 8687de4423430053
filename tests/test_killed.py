"""Every stage killed with -9 at ten random moments: it ends with what an unbroken run has, and nothing was rewritten.

Processes are forked from a server that has imported everything, so that a kill falls into the work and not into
Python's start. Sampling alone is in tests/test_sampling_resume.py. A process that ends before its kill does not count:
its product is compared, and the next one begins anew.
"""

import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from demo.proxy_process import StubProcess
from erp_trainer.cli import cli
from litellm_erp.bundle.load import load_bundle
from tests.planted import BEST, planted_rows, prompt_of, write_outcomes

KILLS = 10
MODELS = ("small", "big", "mid")
KINDS = tuple(BEST)
PROMPTS, K = 120, 2
RECORDED = ("run/samples/*/part-*.jsonl", "run/scores/*/part-*.jsonl")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["tests.test_killed", "erp_trainer.pipeline", "erp_trainer.commands.run", "httpx", "scipy"]
)


def worth(pairs):
    """A reward model that takes its time."""
    time.sleep(4e-3 * len(pairs))
    return [1.0 if BEST[pair.reference] == pair.response.split()[-1] else 0.1 for pair in pairs]


def command(*arguments: str) -> None:
    """What a forked process runs."""
    cli(list(arguments), prog_name="erp-train")


@dataclass(frozen=True)
class Stage:
    """A command on a folder, and what it leaves.

    Attributes
    ----------
    product : what it is all for, in a form that compares
    grows : patterns of the files that are only appended to
    always : fails where something is not as it must be even after a kill
    """

    arguments: Callable[[Path], list[str]]
    product: Callable[[Path], object]
    grows: tuple[str, ...] = ()
    always: Callable[[Path], object] = str


def run(folder: Path, arguments: list[str], within_s: float = 300.0) -> int | None:
    """The exit code, negative for a signal: it is killed after a while."""
    process = FORKS.Process(target=command, args=arguments)
    process.start()
    process.join(within_s)
    process.kill()
    process.join()
    return process.exitcode


def whole_lines(folder: Path, patterns: tuple[str, ...]) -> dict[Path, bytes]:
    """Everything recorded, without lines that were cut."""
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    return {path: path.read_bytes().rpartition(b"\n")[0] for path in paths}


def check(stage: Stage, start: Path, tmp_path: Path, seed: int) -> None:
    """Run it unbroken; kill it ten times elsewhere; compare."""
    unbroken, broken, rng = tmp_path / "unbroken", tmp_path / "broken", random.Random(seed)
    shutil.copytree(start, unbroken)
    shutil.copytree(start, broken)
    began = time.monotonic()
    assert run(unbroken, stage.arguments(unbroken)) == 0
    longest_s = (time.monotonic() - began) / (4 if stage.grows else 1)
    kills, before = 0, {}
    while kills < KILLS:
        code = run(broken, stage.arguments(broken), rng.uniform(0, longest_s))
        assert code in (-9, 0)
        stage.always(broken)
        after = whole_lines(broken, stage.grows)
        assert all(after[path].startswith(lines) for path, lines in before.items())
        kills, before = kills + (code == -9), after
        if code == 0:
            assert stage.product(broken) == stage.product(unbroken)
            shutil.rmtree(broken)
            shutil.copytree(start, broken)
            before = {}
    assert run(broken, stage.arguments(broken)) == 0
    assert stage.product(broken) == stage.product(unbroken)
    after = whole_lines(broken, stage.grows)
    assert all(after[path].startswith(lines) for path, lines in before.items())


@pytest.fixture(scope="module", autouse=True)
def forks() -> None:
    """The first process waits for the imports."""
    assert run(Path(), ["--version"]) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """A stub that takes its time, so that kills fall into the sampling."""
    with StubProcess(MODELS, log_path=tmp_path_factory.mktemp("stub") / "stub.log") as process:
        for model in MODELS:
            process.set_mode(model, "slow:0.1")
        yield process


def write_pool(folder: Path, server: StubProcess, models: tuple[str, ...]) -> Path:
    folder.mkdir(exist_ok=True)
    rows = (
        {"prompt_id": f"p{i}", "prompt": f"{prompt_of(KINDS[i % 3], i)} ({i})", "reference": KINDS[i % 3]}
        for i in range(PROMPTS)
    )
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    document = {
        "prompts": {"source": "questions.jsonl"},
        "sampling": {"k": K, "max_tokens": 64},
        "models": {m: {"model": m, "api_base": server.api_base(m), "price": price} for m in models},
        "rewards": [{"kind": "callable", "callable": "tests.test_killed:worth", "needs_reference": True}],
    }
    (folder / f"pool-of-{len(models)}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def records(folder: Path, stage: str) -> list[tuple[str, str, str]]:
    """(part's folder, prompt, model) of everything on record, in order; never twice."""
    found = [
        (part.parent.name, record["prompt_id"], record["model"])
        for part in sorted(folder.glob(f"run/{stage}/*/part-*.jsonl"))
        for line in part.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
        for record in [json.loads(line)]
    ]
    assert len(set(found)) == len(found), "something is on record twice"
    return sorted(found)


def probes(folder: Path) -> dict[str, bytes]:
    """The bundle's probes; it must load."""
    assert load_bundle(folder / "bundle").models
    return {path.name: path.read_bytes() for path in (folder / "bundle" / "probes").iterdir()}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory, server) -> Path:
    folder = write_pool(tmp_path_factory.mktemp("sampled") / "start", server, MODELS[:2])
    for stage in ("prompts", "sample"):
        assert run(folder, [stage, str(folder / "pool-of-2.yaml")]) == 0
    return folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """A run of recorded outcomes, and a bundle of other probes."""
    folder = tmp_path_factory.mktemp("imported") / "start"
    folder.mkdir()
    write_outcomes(folder / "outcomes.jsonl", planted_rows())
    assert run(folder, ["import", str(folder / "outcomes.jsonl"), "--out", str(folder / "run")]) == 0
    assert run(folder, ["fit", str(folder / "run"), "--out", str(folder / "bundle"), "--preset", "paper"]) == 0
    shutil.rmtree(folder / "run" / "cache")
    return folder


def test_prompts(tmp_path, server):
    stage = Stage(
        lambda folder: ["prompts", str(folder / "pool-of-2.yaml")],
        lambda folder: (folder / "run" / "prompts.jsonl").read_bytes(),
    )
    check(stage, write_pool(tmp_path / "start", server, MODELS[:2]), tmp_path, 1)


def test_score(tmp_path, sampled):
    stage = Stage(
        lambda folder: ["score", str(folder / "pool-of-2.yaml")], lambda folder: records(folder, "scores"), RECORDED
    )
    check(stage, sampled, tmp_path, 2)


def test_embed(tmp_path, imported):
    stage = Stage(
        lambda folder: ["embed", str(folder / "run")],
        lambda folder: {path.name: path.read_bytes() for path in (folder / "run" / "cache").glob("*.safetensors")},
    )
    check(stage, imported, tmp_path, 3)


def test_fit(tmp_path, imported):
    stage = Stage(lambda folder: ["fit", str(folder / "run"), "--out", str(folder / "bundle")], probes, always=probes)
    check(stage, imported, tmp_path, 4)


def test_a_whole_run_and_a_newcomer(tmp_path, server):
    start = write_pool(tmp_path / "start", server, MODELS[:2])
    whole = Stage(
        lambda folder: ["run", str(folder / "pool-of-2.yaml")],
        lambda folder: (records(folder, "samples"), records(folder, "scores"), probes(folder)),
        RECORDED,
    )
    (tmp_path / "whole").mkdir()
    check(whole, start, tmp_path / "whole", 5)
    made = write_pool(tmp_path / "whole" / "broken", server, MODELS)
    before = probes(made)
    adding = Stage(
        lambda folder: [
            "add-model",
            str(folder / "bundle"),
            "--pool",
            str(folder / "pool-of-3.yaml"),
            "--model",
            "mid",
        ],
        whole.product,
        RECORDED,
        always=lambda folder: before.items() <= probes(folder).items() or pytest.fail("a probe changed"),
    )
    (tmp_path / "added").mkdir()
    check(adding, made, tmp_path / "added", 6)
