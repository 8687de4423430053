"""What init writes loads, and holds no secret that the config held."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.cli import cli
from erp_trainer.pool import pool

REPOSITORY = Path(__file__).parent.parent
CONFIG = {
    "model_list": [
        {"model_name": "local", "litellm_params": {
            "model": "hosted_vllm/org/weights", "api_base": "http://10.0.0.1:8000/v1", "api_key": "sk-literal-1",
            "input_cost_per_token": "2e-7", "output_cost_per_token": 4.0e-7}},
        {"model_name": "local", "litellm_params": {"model": "hosted_vllm/org/weights", "api_base": "http://10.0.0.2/v1"}},
        {"model_name": "gpt", "litellm_params": {"model": "gpt-4o-mini", "api_key": "os.environ/OPENAI_API_KEY"}},
        {"model_name": "own", "litellm_params": {
            "model": "openai/own", "api_base": "http://u:sk-literal-2@host/v1", "extra_headers": {"k": "sk-literal-3"}},
         "model_info": {"erp_model": "yes: 'quoted'"}},
        {"model_name": "embedder", "litellm_params": {"model": "text-embedding-3-small"}},
        {"model_name": "*", "litellm_params": {"model": "openai/*"}},
    ],
    "general_settings": {"master_key": "sk-literal-4"},
    "router_settings": {"routing_groups": [{"group_name": "auto", "models": ["gpt", "embedder"]}]},
}  # fmt: skip


def init(folder, config, *arguments):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ["init", str(folder / "config.yaml"), "--out", str(folder / "pool.yaml"), "--json", *arguments]
    return CliRunner().invoke(cli, arguments)


@pytest.fixture
def written(tmp_path):
    result = init(tmp_path, CONFIG)
    assert result.exit_code == 0, result.stderr
    return tmp_path / "pool.yaml", json.loads(result.stdout)


def test_the_file_loads_with_endpoints_and_prices(written):
    models = pool.load(written[0]).models
    assert set(models) == {"local", "gpt", "yes: 'quoted'"}
    local, gpt = models["local"], models["gpt"]
    assert (local.engine, local.model, local.api_base) == ("server", "org/weights", "http://10.0.0.1:8000/v1")
    assert (local.price.input_usd_per_mtok, local.price.output_usd_per_mtok) == (0.2, 0.4)
    assert (gpt.engine, gpt.model, gpt.price.known) == ("litellm", "gpt-4o-mini", True)


def test_no_secret_of_the_config_is_in_the_file_or_in_what_is_printed(written):
    path, payload = written
    assert "sk-literal" not in path.read_text() + json.dumps(payload)
    models = pool.load(path).models
    assert (models["local"].api_key, models["gpt"].api_key) == ("os.environ/LOCAL_API_KEY", "os.environ/OPENAI_API_KEY")
    assert models["yes: 'quoted'"].api_base == "os.environ/YES_QUOTED_API_BASE"


def test_what_cannot_be_sampled_is_left_out_and_named(written):
    assert set(written[1]["left_out"]) == {"embedder", "*"}
    assert written[1]["unknown_prices"] == ["yes: 'quoted'"]


def test_a_group_keeps_to_its_members(tmp_path):
    assert json.loads(init(tmp_path, CONFIG, "--group", "auto").stdout)["models"] == ["gpt"]


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    (tmp_path / "pool.yaml").write_text("mine")
    refused = init(tmp_path, CONFIG)
    assert (refused.exit_code, (tmp_path / "pool.yaml").read_text()) == (2, "mine")
    assert init(tmp_path, CONFIG, "--force").exit_code == 0


def test_the_shipped_proxy_config_gives_a_pool_of_all_its_models(tmp_path):
    result = CliRunner().invoke(cli, ["init", str(REPOSITORY / "proxy_config.yaml"), "--out", str(tmp_path / "p.yaml")])
    assert result.exit_code == 0, result.stderr
    assert len(pool.load(tmp_path / "p.yaml").models) == 9


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        ({"model_list": []}, (), "no chat model"),
        ([1], (), "LiteLLM proxy config"),
        (CONFIG, ("--group", "other"), "no routing group 'other'; found auto"),
    ],
)
def test_a_config_without_models_is_one_clear_error(tmp_path, config, arguments, said):
    result = init(tmp_path, config, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "pool.yaml").exists()


def test_the_draft_runs_offline_and_marks_the_two_lines_that_need_a_hub(tmp_path, stub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    priced = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": stub.api_base(name)} | priced}
        for name in ("small", "big")
    ]
    assert init(tmp_path, {"model_list": models}).exit_code == 0
    text = (tmp_path / "pool.yaml").read_text()
    assert text.count("# HUB: ") == 2
    assert all(f"#   {line}" in text for line in ("prompts: {source: open-perfectblend", "- {kind: text-pair"))
    # So that the stub's answers have a number to compare.
    (tmp_path / "pool.yaml").write_text(text.replace("k: 32", "k: 1").replace('"(-?[0-9]+)"', '"(big|[0-9]+)"'))
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps(row | ({"reference": "big"} if i % 2 else {})) + "\n" for i, row in enumerate(rows))
    )
    result = CliRunner().invoke(cli, ["run", str(tmp_path / "pool.yaml")])
    assert result.exit_code == 0, result.output


def test_a_prompt_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("mine")
    result = init(tmp_path, CONFIG)
    assert json.loads(result.stdout)["made_prompts"] is False
    assert (tmp_path / "prompts.jsonl").read_text() == "mine"


def test_a_deployment_that_stands_for_several_models_becomes_as_many(tmp_path):
    arms = {
        "big-low": {"reasoning_effort": "low"},
        "big-deep": {"thinking": {"type": "enabled", "budget_tokens": 4000}},
        "big-short": {"max_tokens": 200},
        "big": {},
    }
    big = {"model_name": "b", "litellm_params": {"model": "openai/big", "api_base": "http://h/v1", "max_tokens": 900}}
    low = {"model_name": "low", "litellm_params": {"model": "o3", "reasoning_effort": "low", "max_tokens": "many"}}
    low2 = {"model_name": "low2", "litellm_params": {"model": "o3", "reasoning_effort": "low"}}
    result = init(tmp_path, {"model_list": [big | {"model_info": {"erp_arms": arms}}, low, low2]})
    assert result.exit_code == 0, result.output
    models = pool.load(tmp_path / "pool.yaml").models
    assert {name: dict(models[name].parameters) for name in arms} == arms
    assert {models[name].model for name in arms} == {"big"}
    assert (models["big-low"].sampling.max_tokens, models["big-short"].sampling.max_tokens) == (None, 200)
    assert (models["low"].parameters, models["low2"].parameters) == ({}, {"reasoning_effort": "low"})
    assert models["low2"].price == models["low"].price


def test_arms_that_cannot_be_are_one_error(tmp_path):
    big = {
        "model_name": "b",
        "litellm_params": {"model": "openai/big"},
        "model_info": {"erp_arms": {"a": {"top_k": 1}}},
    }
    result = init(tmp_path, {"model_list": [big]})
    assert (result.exit_code, "unknown parameter 'top_k'" in result.stderr) == (2, True)
