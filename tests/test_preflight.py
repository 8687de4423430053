"""Five kinds of mistakes in a pool file: each ends ``run`` before a single sample is asked for."""

import json

import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.cli import cli
from tests import reward_models
from tests.test_rewards_server import VLLM, vllm  # noqa: F401  a fixture

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
UNUSED = "http://127.0.0.1:9"


def write_pool(folder, stub, rows=None, **changes):
    rows = rows or [{"prompt": f"What is {i} plus {i}?", "reference": str(2 * i)} for i in range(40)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = {name: {"model": name, "api_base": stub.api_base(name), "price": PRICE} for name in ("small", "big")}
    document = {
        "prompts": {"source": "questions.jsonl"},
        "sampling": {"k": 2, "max_tokens": 64},
        "models": models,
        "rewards": [{"kind": "exact-match"}],
        **changes,
    }
    (folder / "pool.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder / "pool.yaml"


def run(pool):
    result = CliRunner().invoke(cli, ["run", str(pool)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def assert_costs_nothing(stub, pool, said, codes=(1, 2)):
    result = run(pool)
    assert result.exit_code in codes, result.output
    assert said in result.stderr, result.stderr
    assert stub.requests() == []
    assert not list(pool.parent.glob("run/samples/*"))


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ({"kind": "exact-macth"}, "kind: found 'exact-macth'"),
        ({"kind": "exact-match", "ignore_case": True}, "unknown key 'ignore_case'"),
        ({"kind": "regex", "pattern": "("}, "no regular expression"),
        ({"kind": "callable", "callable": "no_such_module:score"}, "cannot be imported"),
    ],
)
def test_a_reward_that_is_none(tmp_path, stub, reward, said):
    assert_costs_nothing(stub, write_pool(tmp_path, stub, rewards=[reward]), said)


def test_weights_that_sum_to_zero(tmp_path, stub):
    rewards = [{"kind": "exact-match", "weight": 0}, {"kind": "regex", "pattern": "a", "weight": 0}]
    assert_costs_nothing(stub, write_pool(tmp_path, stub, rewards=rewards), "weights sum to zero")


@pytest.mark.parametrize("reward", [{"kind": "exact-match"}, {"kind": "regex", "pattern": "{reference}"}])
def test_a_verifier_without_references(tmp_path, stub, reward):
    rows = [{"prompt": f"What is {i} plus {i}?"} for i in range(40)]
    pool = write_pool(tmp_path, stub, rows, rewards=[reward])
    assert_costs_nothing(stub, pool, "needs a reference, and none of 40 prompts has one")


def test_prompts_without_a_reference_among_others_are_not_sampled(tmp_path, stub):
    rows = [{"prompt": f"What is {i} plus {i}?", "reference": "2"} for i in range(60)]
    rows += [{"prompt": f"Write a poem about {i}!"} for i in range(7)]
    result = run(write_pool(tmp_path, stub, rows, rewards=[{"kind": "exact-match"}]))
    assert "7 of 67 prompts have no reference" in result.stderr
    assert len(stub.requests()) == 2 * 60


def test_a_reward_model_that_is_not_there(tmp_path, stub):
    assert_costs_nothing(stub, write_pool(tmp_path, stub, rewards=[{"kind": "text-pair", "model": "./none"}]), "none")


def test_a_reward_model_whose_weights_are_damaged(tmp_path, stub):
    folder = reward_models.openassistant(tmp_path / "rm")
    (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:1000])
    pool = write_pool(tmp_path, stub, rewards=[{"kind": "text-pair", "model": "./rm"}])
    assert_costs_nothing(stub, pool, "./rm cannot be loaded")


def test_a_reward_server_that_is_away(tmp_path, stub):
    pool = write_pool(tmp_path, stub, rewards=[{"kind": "pooling-server", "model": "rm", "api_base": UNUSED}])
    assert_costs_nothing(stub, pool, "did not answer")


def test_a_reward_server_whose_rewards_are_not_raw(tmp_path, stub, vllm: VLLM):  # noqa: F811
    vllm.field = "activation"
    pool = write_pool(tmp_path, stub, rewards=[{"kind": "pooling-server", "model": "rm", "api_base": vllm.base}])
    assert_costs_nothing(stub, pool, "ignores use_activation")


@pytest.mark.parametrize("embedder", ["./no-such-folder", UNUSED])
def test_an_embedder_that_cannot_be_loaded(tmp_path, stub, embedder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_costs_nothing(stub, write_pool(tmp_path, stub, embedder=embedder), "embedder:")


@pytest.mark.parametrize("key", ["api_key", "api_base"])
def test_a_reference_to_an_environment_that_lacks_it_even_at_the_last_model(tmp_path, stub, key):
    models = {
        "small": {"model": "small", "api_base": stub.api_base("small"), "price": PRICE},
        "big": {"model": "big", "api_base": stub.api_base("big"), "price": PRICE, key: "os.environ/NO_SUCH_VARIABLE"},
    }
    assert_costs_nothing(stub, write_pool(tmp_path, stub, models=models), "NO_SUCH_VARIABLE is not set")


def test_a_key_of_a_reward_server(tmp_path, stub, vllm: VLLM):  # noqa: F811
    reward = {"kind": "pooling-server", "model": "rm", "api_base": vllm.base, "api_key": "os.environ/NO_SUCH_VARIABLE"}
    assert_costs_nothing(stub, write_pool(tmp_path, stub, rewards=[reward]), "NO_SUCH_VARIABLE is not set")


def test_a_key_that_litellm_looks_for_by_itself(tmp_path, stub, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    models = {
        "small": {"model": "small", "api_base": stub.api_base("small"), "price": PRICE},
        "claude": {"model": "anthropic/claude-sonnet-4-5", "engine": "litellm"},
    }
    assert_costs_nothing(stub, write_pool(tmp_path, stub, models=models), "ANTHROPIC_API_KEY is not set")


def test_a_run_that_is_scored_needs_its_reward_server_no_more(tmp_path, stub, vllm: VLLM):  # noqa: F811
    (tmp_path / "judge.py").write_text(
        "def score(pairs):\n    return [len(p.prompt) % 7 + len(p.response) for p in pairs]"
    )
    rewards = [
        {"kind": "callable", "callable": "judge:score"},
        {"kind": "pooling-server", "model": "rm", "api_base": vllm.base, "weight": 0},
    ]
    pool = write_pool(tmp_path, stub, rewards=rewards)
    assert run(pool).exit_code == 0
    pool.write_text(pool.read_text().replace(vllm.base, UNUSED))
    again = run(pool)
    assert again.exit_code == 0, again.output
