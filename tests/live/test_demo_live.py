"""The live demo on one small model: sampling, bundle, proxy, and a newcomer under traffic."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demo.proxy_process import REPOSITORY
from litellm_erp.bundle.load import load_bundle

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, vllm_python: Path, smollm2: Path) -> Path:
    folder = tmp_path_factory.mktemp("live") / "demo"
    command = [sys.executable, "-m", "demo.live", "--one-model", "--per-kind", "9", "--k", "2", "--out", str(folder)]
    named = {"ERP_VLLM_PYTHON": str(vllm_python), "ERP_SMALL_MODELS": str(smollm2.parent)}
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | named, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def test_the_other_probes_keep_their_bytes(summary: dict[str, Any]) -> None:
    before, after = summary["probes_before"], summary["probes_after"]
    assert len(before) == 2
    assert before.items() < after.items()
    assert len(after) == 3


def test_the_proxy_picked_the_new_bundle_up_and_no_request_failed(out: Path, summary: dict[str, Any]) -> None:
    replies = json.loads((out / "replies.json").read_text(encoding="utf-8"))
    assert summary["requests_meanwhile"] > 0
    assert not [reply for when in replies.values() for reply in when if reply["error"]]
    assert {reply["bundle"] for reply in replies["after"]} == {summary["added"]["id"]}
    assert summary["added"]["id"] not in {reply["bundle"] for reply in replies["before"]}
    assert load_bundle(out / "bundle").models == ("examples", "plain", "terse")


def test_what_the_headers_say_is_what_the_table_counts(out: Path, summary: dict[str, Any]) -> None:
    replies = json.loads((out / "replies.json").read_text(encoding="utf-8"))["after"]
    (routed,) = [row for row in summary["policies"] if row["name"] == "routed, with the newcomer"]
    named = [reply["model"] for reply in replies]
    assert routed["share"] == pytest.approx([named.count(m) / len(named) for m in ("plain", "terse", "examples")])
    assert routed["answered"] == pytest.approx(sum(reply["right"] for reply in replies) / len(replies))
