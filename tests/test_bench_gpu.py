"""``python -m bench.gpu`` at tiny sizes on a processor: every part gives its figures, and none loses another's."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.__main__ import main
from bench.gpu.parts import PARTS
from demo.proxy_process import REPOSITORY

# One of each kind of part: the others differ in their sizes, which are tiny here.
REWARD_MODELS = ("deberta", "internlm")
EMBEDDERS = ("minilm",)
DECODERS = ("decoder-2b",)
CHOSEN = (*REWARD_MODELS, *EMBEDDERS, *DECODERS)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the terminal showed, and the JSON."""
    found = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [sys.executable, "-m", "bench.gpu", "--tiny", "--device", "cpu", "--json", str(found), "--minutes", "20"]
    command += ["--only", *CHOSEN]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(found.read_text(encoding="utf-8"))


def facts(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["rows"] if row.get("fact", "").startswith(name))


def test_every_part_is_measured_beside_a_plain_loop(ran: tuple[str, dict[str, Any]]) -> None:
    _, found = ran
    assert set(found["parts"]) == set(CHOSEN) < set(PARTS)
    for result in found["parts"].values():
        ways = [row["way"] for row in result["rows"] if "per_s" in row]
        assert any(way.startswith("ours") for way in ways)
        assert any(way.startswith("plain loop") for way in ways)
        speeds = [row["tokens_per_s"] for row in result["rows"] if "per_s" in row]
        assert min(speeds) > 0


@pytest.mark.parametrize("name", REWARD_MODELS)
def test_rewards_are_the_plain_loops_and_survive_out_of_memory(ran: tuple[str, dict[str, Any]], name: str) -> None:
    result = ran[1]["parts"][name]
    short = facts(result, "bfloat16 against float32")
    assert 0 < short["largest_difference"] < short["spread_of_rewards"]
    assert short["correlation"] > 0.98
    assert facts(result, "the same rewards")["largest_difference"] < short["spread_of_rewards"]
    survived = facts(result, "out of memory, planted")
    assert survived["halvings"] > 0
    assert survived["batch_tokens_after"] < survived["batch_tokens_before"]
    assert survived["largest_difference"] < short["spread_of_rewards"]


@pytest.mark.parametrize("name", EMBEDDERS)
def test_vectors_are_the_plain_loops(ran: tuple[str, dict[str, Any]], name: str) -> None:
    assert facts(ran[1]["parts"][name], "the same vectors")["least_cosine"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_out_of_memory_answers_every_prompt_in_smaller_batches(ran: Any, name: str) -> None:
    survived = facts(ran[1]["parts"][name], "out of memory, planted")
    assert survived["batch_tokens_after"] < survived["batch_tokens_before"]
    assert survived["tokens"] > 0


def test_the_table_names_the_device_and_what_was_not_measured(ran: tuple[str, dict[str, Any]]) -> None:
    shown, found = ran
    assert "no GPU" in shown.splitlines()[1]
    assert "TINY" in shown
    assert "a stand-in's" in shown
    for row in found["parts"]["deberta"]["rows"]:
        assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_a_part_that_fails_or_is_slow_loses_nothing_of_the_others(tmp_path: Path, capsys: Any) -> None:
    nothing = tmp_path / "no-internlm"
    nothing.mkdir()
    asked = ["--tiny", "--device", "cpu", "--only", "internlm", "minilm", "--internlm", str(nothing)]
    assert main([*asked, "--json", str(tmp_path / "found.json")]) == 1
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert parts["internlm"]["error"]
    assert parts["minilm"]["error"] is None
    assert main(["--tiny", "--device", "cpu", "--only", "minilm", "--minutes", "0.18"]) == 1
    assert "not done after its 1 s" in capsys.readouterr().out


def test_without_a_gpu_real_sizes_are_refused_in_one_line(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "")
    assert main(["--device", "cpu"]) == 1
    assert "--tiny" in capsys.readouterr().err
