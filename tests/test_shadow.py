"""Shadow on recorded outcomes through a real proxy: its log proves what the evaluation says, and nothing is changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import shadow

pytestmark = pytest.mark.proxy

POOL = ("gemma-2-9b-it", "llama-3.1-nemotron-51b-instruct")
# With two models that serve as often, 200 answers' worth of feedback need 400 requests.
PROMPTS, TRAIN, PLAIN = 420, 500, 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shadow")


@pytest.fixture(scope="module")
def world(folder: Path) -> shadow.World:
    return shadow.world(folder, PROMPTS, TRAIN, POOL)


@pytest.fixture(scope="module")
def went(world: shadow.World, folder: Path) -> tuple[shadow.Passed, shadow.Passed, dict[str, Any]]:
    return shadow.run(world, folder, PLAIN)


def test_the_log_of_a_shadow_proves_the_reward_and_the_saving_that_the_evaluation_found(
    world: shadow.World, went: tuple[shadow.Passed, shadow.Passed, dict[str, Any]]
) -> None:
    report = went[2]
    assert report["counts"]["feedback_joined"] == report["counts"]["kept"] == PROMPTS
    assert report["counts"]["modes"] == {"shadow": PROMPTS}
    found = shadow.compared(world, report)
    reward, low, high = found["reward"]["evaluated"]
    assert low <= found["reward"]["measured"][0] <= high
    assert low <= found["reward"]["predicted"][0] <= high
    assert found["reward"]["measured"][1] <= reward <= found["reward"]["measured"][2]
    _, least, most = found["saving"]["evaluated"]
    assert least <= found["saving"]["reported"][0] <= most
    assert least > 0


def test_a_shadow_sends_upstream_and_gives_its_clients_what_the_proxy_would_without_the_plugin(
    went: tuple[shadow.Passed, shadow.Passed, dict[str, Any]],
) -> None:
    with_us, without, _ = went
    assert {status for status, _ in with_us.answers} == {200}
    assert set(with_us.deployments) == {f"dep-{name}" for name in POOL}
    assert with_us.deployments == without.deployments
    assert with_us.upstream == without.upstream
    assert json.dumps(with_us.answers) == json.dumps(without.answers)
