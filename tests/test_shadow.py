"""Shadow on recorded outcomes through a real proxy: its log proves what the evaluation says, and nothing is changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import shadow

pytestmark = pytest.mark.proxy

POOL = ("gemma-2-9b-it", "llama-3.1-nemotron-51b-instruct")
# With two models that serve as often, 200 answers' worth of feedback need 400 requests.
PROMPTS, TRAIN, PLAIN, LAMBDA = 420, 500, 120, 0.45


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shadow")


@pytest.fixture(scope="module")
def world(folder: Path) -> shadow.World:
    return shadow.world(folder, PROMPTS, TRAIN, POOL, LAMBDA)


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
    for what, said in (("reward", "measured"), ("saving", "reported")):
        _, low, high = found[what]["evaluated"]
        assert low <= found[what][said][0] <= high, (what, said)
    # And the other way round: what all models would have earned on these prompts is on record.
    reward, *_ = found["reward"]["evaluated"]
    assert found["reward"]["measured"][1] <= reward <= found["reward"]["measured"][2]


def test_a_shadow_sends_upstream_and_gives_its_clients_what_the_proxy_would_without_the_plugin(
    went: tuple[shadow.Passed, shadow.Passed, dict[str, Any]],
) -> None:
    with_us, without, _ = went
    assert {status for status, _ in with_us.answers} == {200}
    assert set(with_us.deployments) == {f"dep-{name}" for name in POOL}
    assert with_us.deployments == without.deployments
    assert with_us.upstream == without.upstream
    assert json.dumps(with_us.answers) == json.dumps(without.answers)
