"""How many labels there can be, and what becomes of a metric that cannot be kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from litellm_erp.goals.tenant import Tenant
from litellm_erp.metrics.teams import TeamLabels


def team(number: int) -> Tenant:
    return Tenant(team_id=f"t{number}", team_alias=f"Team {number}")


def test_teams_beyond_the_limit_share_a_label_and_those_of_the_settings_keep_theirs() -> None:
    labels = TeamLabels(most=3)
    labels.configure(["t9", "Team 8"])
    assert [labels.of(team(n)) for n in (1, 2, 3, 9, 8, 1)] == ["t1", "other", "other", "t9", "t8", "t1"]
    assert labels.of(Tenant()) == ""


def test_an_alias_takes_no_other_teams_label() -> None:
    labels = TeamLabels(most=2)
    assert [labels.of(Tenant(team_id="a")), labels.of(Tenant(team_alias="b"))] == ["a", "b"]
    assert labels.of(Tenant(team_id="c", team_alias="a")) == "other"


def test_more_teams_in_the_settings_than_the_limit_are_cut_too() -> None:
    labels = TeamLabels(most=2)
    labels.configure(f"t{n}" for n in range(5))
    assert [labels.of(team(n)) for n in range(5)] == ["t0", "t1", "other", "other", "other"]


SWAP = """
from litellm_erp.metrics.recorder import Metrics, metrics
verdict = {"best_single": "big", "savings": {"1": {"mean": 0.5, "low": 0.4, "high": 0.6}}, "gain": None}
for bundle in ("one", "two", "one", "three"):
    metrics.loaded("g", bundle, None, verdict)
metrics.decision("g", "", "m", "made up by nobody", 0.1)
metrics.failed("nowhere")
metrics.answered("g", "", "m", usd=1.0, expected_usd=None, best_single_usd=-1.0, expected_reward=-2.0)
metrics.answered("g", "", "m", usd=1.0, expected_usd=None, best_single_usd=None, expected_reward=3.0)
Metrics().decision("g", "", "m", "routed", 0.1)  # a second registration is not kept, and harms nobody
from prometheus_client import CollectorRegistry, REGISTRY, generate_latest, multiprocess
registry = REGISTRY
if DIRECTORY:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def told(folder: Path | None) -> str:
    """What a fresh process exposes after a few events."""
    env = dict(os.environ) | ({} if folder is None else {"PROMETHEUS_MULTIPROC_DIR": str(folder)})
    code = f"DIRECTORY = {str(folder or '')!r}\n{SWAP}"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("several_workers", [False, True])
def test_only_the_bundle_that_serves_is_at_one(tmp_path: Path, several_workers: bool) -> None:
    lines = told(tmp_path if several_workers else None).splitlines()
    loaded = [line for line in lines if line.startswith("erp_bundle_loaded{")]
    assert [line for line in loaded if line.endswith(" 1.0")] == [
        'erp_bundle_loaded{best_single="big",bundle="three",group="g"} 1.0'
    ] or loaded == ['erp_bundle_loaded{best_single="big",bundle="three",group="g"} 1.0']
    assert len(loaded) == (3 if several_workers else 1)


@pytest.mark.parametrize("several_workers", [False, True])
def test_labels_are_of_closed_lists_and_amounts_have_signs(tmp_path: Path, several_workers: bool) -> None:
    text = told(tmp_path if several_workers else None)
    assert "made up" not in text
    assert 'reason="other"' in text
    assert "nowhere" not in text
    sums = {line.split('sign="')[1].split('"')[0]: line for line in text.splitlines() if "expected_reward_sum" in line}
    assert sums["plus"].endswith(" 3.0")
    assert sums["minus"].endswith(" 2.0")


def test_a_full_or_lost_folder_for_several_workers_fails_nothing(tmp_path: Path) -> None:
    code = """
import os, shutil
from litellm_erp.metrics.recorder import metrics
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
metrics.decision("g", "", "m", "routed", 0.1)
metrics.loaded("g", "one", None, {})
metrics.loaded("g", "two", None, {})
print("on")
"""
    env = dict(os.environ) | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "workers")}
    (tmp_path / "workers").mkdir()
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"
