"""From a table on disk to a bundle, its predictions, its evaluation and the doctor's opinion."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.cli import cli
from litellm_erp import litellm_releases as releases
from litellm_erp.bundle.load import load_bundle
from tests.planted import planted_rows, write_outcomes

REPOSITORY = Path(__file__).parent.parent


def run(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_outcomes(folder / "outcomes.jsonl", planted_rows())
    prices = {name: {"input_usd_per_mtok": p, "output_usd_per_mtok": p} for name, p in
              (("small", 0.1), ("mid", 0.5), ("big", 2.0))}  # fmt: skip
    (folder / "prices.yaml").write_text(yaml.safe_dump(prices))
    imported = run("import", folder / "outcomes.jsonl", "--prices", folder / "prices.yaml", "--out", folder / "run")
    assert imported.exit_code == 0, imported.output
    result = run("fit", folder / "run", "--out", folder / "bundle", "--json")
    assert result.exit_code == 0, result.output
    return folder


def test_a_fitted_bundle_loads_and_names_every_model(fitted):
    assert set(load_bundle(fitted / "bundle").models) == {"small", "mid", "big"}


def test_a_second_fit_writes_the_same_probes_byte_for_byte(fitted):
    run("fit", fitted / "run", "--out", fitted / "again")
    for probe in (fitted / "bundle" / "probes").iterdir():
        assert probe.read_bytes() == (fitted / "again" / "probes" / probe.name).read_bytes()


def test_predictions_rank_every_model_for_every_prompt(fitted):
    out = fitted / "predictions.csv"
    result = run("predict", fitted / "bundle", "--prompts", fitted / "outcomes.jsonl", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["prompt_id", "model", "expected_reward", "std_error", "expected_cost_usd", "utility",
                             "rank", "reason"]  # fmt: skip
    first = [row for row in rows if row["prompt_id"] == rows[0]["prompt_id"]]
    assert [row["rank"] for row in first] == ["1", "2", "3"]
    utilities = [float(row["utility"]) for row in first]
    assert utilities == sorted(utilities, reverse=True)


def test_a_high_lambda_predicts_the_cheapest_model_everywhere(fitted):
    arguments = ["--prompts", fitted / "outcomes.jsonl", "--out", fitted / "p.parquet", "--lambda", 1e6, "--json"]
    share = json.loads(run("predict", fitted / "bundle", *arguments).stdout)["share"]
    assert share == {"small": 1.0}


def test_evaluation_prints_every_baseline_and_leaves_the_bundle_alone(fitted):
    before = load_bundle(fitted / "bundle").id
    result = run("evaluate", fitted / "run", "--bundle", fitted / "bundle", "--json")
    policies = json.loads(result.stdout)["policies"]
    baselines = {"best single model", "random", "oracle λ=0", "single: big", "per-category best λ=0"}
    assert baselines | {"erp λ=0"} <= set(policies)
    assert set(policies["erp λ=0"]) >= {"lambda", "reward", "reward_ci", "cost_usd", "regret", "share"}
    assert policies["oracle λ=0"]["regret"] == 0
    assert policies["erp λ=0"]["reward"] > policies["best single model"]["reward"]
    assert load_bundle(fitted / "bundle").id == before


def test_inspect_shows_the_verdict_and_refuses_a_damaged_bundle(fitted):
    shown = run("inspect", fitted / "bundle").stdout
    assert "Routing helps" in shown
    assert "On training prompts, out of fold" in shown
    assert re.search(r"every \d+\w\w λ of \d+; --json has all", shown)
    # The verdict keeps to the terminal's width.
    assert max(map(len, shown[shown.index("Routing helps") :].splitlines())) <= 110
    run("fit", fitted / "run", "--out", fitted / "damaged")
    (fitted / "damaged" / "embedder" / "vocab.txt").write_text("x")
    result = run("inspect", fitted / "damaged")
    assert result.exit_code == 2
    assert "vocab.txt" in result.stderr


def test_the_paper_preset_has_no_safety(fitted):
    run("fit", fitted / "run", "--out", fitted / "paper", "--preset", "paper")
    manifest = load_bundle(fitted / "paper").manifest
    assert (manifest.safety, {model.beta for model in manifest.models}) == (False, {1.0})


def doctor(folder, config):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = run("doctor", folder / "config.yaml", "--json")
    return result.exit_code, json.loads(result.stdout)


def healthy(folder):
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "model": "openai/x", "api_key": "x"}
    return {
        "model_list": [
            {"model_name": n, "litellm_params": dict(entry), "model_info": {"max_input_tokens": 8192}}
            for n in ("small", "mid", "big")
        ],
        "litellm_settings": {"callbacks": ["litellm_erp.proxy.erp_router"]},
        "general_settings": {"master_key": "sk-of-this-test"},
        "router_settings": {
            "optional_pre_call_checks": ["responses_api_deployment_check"],
            "routing_groups": [{"group_name": "auto", "models": ["small", "mid", "big"],
                                "routing_strategy": "simple-shuffle"}],
        },
        "erp_settings": {"groups": {"auto": {"bundle": str(folder / "bundle"), "teams": {"a": {"lambda": 2}}}}},
    }  # fmt: skip


def test_the_doctor_finds_nothing_wrong_with_a_healthy_config(fitted):
    code, report = doctor(fitted, healthy(fitted))
    assert (code, report["findings"]) == (0, [])
    assert report["groups"]["auto"]["teams"] == {"a": {"lambda": 2}}


def test_the_doctor_finds_every_mistake_at_once(fitted, monkeypatch):
    # From 1.110 on, LiteLLM asks callbacks under every strategy.
    monkeypatch.setattr(releases, "installed", lambda: "1.108.7")
    config = healthy(fitted)
    config["litellm_settings"] = {}
    config["model_list"][0]["model_name"] = "tiny"
    config["router_settings"]["routing_groups"][0]["models"] = ["tiny", "mid", "big"]
    config["router_settings"]["routing_strategy"] = "usage-based-routing"
    config["erp_settings"]["groups"]["lonely"] = {"bundle": str(fitted / "bundle")}
    code, report = doctor(fitted, config)
    text = "\n".join(finding["text"] for finding in report["findings"])
    assert code == 1
    for said in (
        "callbacks",
        "never asks callbacks",
        "without a deployment: small",
        "without a probe in the bundle: tiny",
        "'lonely': is in no routing group",
    ):
        assert said in text


def test_the_doctor_warns_where_lambda_can_do_nothing(fitted):
    run("import", fitted / "outcomes.jsonl", "--out", fitted / "unpriced")
    run("fit", fitted / "unpriced", "--out", fitted / "unpriced-bundle")
    config = healthy(fitted)
    config["erp_settings"]["groups"]["auto"]["bundle"] = str(fitted / "unpriced-bundle")
    for entry in config["model_list"]:
        entry["litellm_params"] = {"model": "openai/x"}
    code, report = doctor(fitted, config)
    assert code == 0
    assert any("every price is zero or unknown" in finding["text"] for finding in report["findings"])


def test_the_doctor_lists_every_bad_setting(fitted):
    config = healthy(fitted)
    config["erp_settings"] = {"groups": {"auto": {"bundle": "b", "policy": {"lambda": -1}, "headers": "loud",
                                                  "teams": {"a": {"lambda": 1, "min_quality": 1}}}}}  # fmt: skip
    code, report = doctor(fitted, config)
    text = "\n".join(finding["text"] for finding in report["findings"])
    assert code == 1
    assert all(key in text for key in ("policy.lambda", "headers", "teams.a"))


def test_the_shipped_config_has_nothing_wrong_but_the_bundle_the_demo_makes(monkeypatch):
    for variable in re.findall(r"os\.environ/(\w+)", (REPOSITORY / "proxy_config.yaml").read_text()):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/v1")
    report = json.loads(run("doctor", REPOSITORY / "proxy_config.yaml", "--json").stdout)
    wrong = [f["text"] for f in report["findings"] if f["level"] != "info"]
    assert [text for text in wrong if "build/demo/bundle" not in text] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "nowhere", "--out", "b"), "nowhere"),
        (("inspect", "nowhere"), "does not exist"),
        (("doctor", "nowhere.yaml"), "nowhere.yaml"),
        (("fit", "nowhere"), "--out"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        *(("fit", "run", "--out", "no", "--beta", beta) for beta in ("nan", "inf", "0", "-1", "1e-320", "1e300")),
        ("fit", "run", "--out", "no", "--seed", "-1"),
        ("import", "outcomes.jsonl", "--out", "no", "--seed", "-1"),
        ("evaluate", "run", "--bundle", "bundle", "--seed", "-1"),
        *(("evaluate", "run", "--bundle", "bundle", "--lambda", lambda_) for lambda_ in ("nan", "inf", "-1")),
        *(("predict", "bundle", "--prompts", "outcomes.jsonl", "--out", "no", "--lambda", x) for x in ("nan", "inf")),
    ],
    ids=" ".join,
)
def test_a_number_out_of_bounds_is_bad_usage_and_writes_nothing(fitted, monkeypatch, options):
    monkeypatch.chdir(fitted)
    result = run(*options)
    assert result.exit_code == 2
    assert f"Invalid value for '{options[-2]}'" in result.stderr
    assert not (fitted / "no").exists()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_rewards_of_any_scale_that_an_import_takes_are_fitted(tmp_path):
    rows = [row | {"reward": row["reward"] * 1e12} for row in planted_rows(120)]
    outcomes = write_outcomes(tmp_path / "outcomes.jsonl", rows)
    assert run("import", outcomes, "--out", tmp_path / "run").exit_code == 0
    result = run("fit", tmp_path / "run", "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    assert load_bundle(tmp_path / "bundle").uncertainty.noise_M.max() > 1e20


@pytest.mark.parametrize("options", [(), ("--beta", "1e-6"), ("--preset", "paper"), ("--policy", "pairwise")])
def test_rewards_as_far_apart_as_an_import_takes_them_are_fitted(tmp_path, options):
    rows = [row | {"reward": 9e14 if row["reward"] > 0.7 else -9e14} for row in planted_rows(120)]
    outcomes = write_outcomes(tmp_path / "outcomes.jsonl", rows)
    assert run("import", outcomes, "--out", tmp_path / "run").exit_code == 0
    result = run("fit", tmp_path / "run", "--out", tmp_path / "bundle", *options)
    assert result.exit_code == 0, result.output
    assert run("predict", tmp_path / "bundle", "--prompts", outcomes, "--out", tmp_path / "p.csv").exit_code == 0


def test_a_bundle_of_five_hundred_models_stays_below_thirty_megabytes(tmp_path):
    """Told from what forty more models add to one of twenty."""
    rng = np.random.default_rng(0)
    sizes = []
    for n in (20, 60):
        lines = [",".join(["prompt_id", "prompt", "category", *(f"some-provider/model-{m:03d}" for m in range(n))])]
        lines += [
            f"p{p},prompt {p % 7} of {p},c{p % 14}," + ",".join(f"{x:.2f}" for x in rng.random(n)) for p in range(200)
        ]
        (tmp_path / "wide.csv").write_text("\n".join(lines))
        assert run("import", tmp_path / "wide.csv", "--wide", "--out", tmp_path / "run").exit_code == 0
        assert run("fit", tmp_path / "run", "--out", tmp_path / "bundle").exit_code == 0
        sizes.append(sum(file.stat().st_size for file in (tmp_path / "bundle").rglob("*") if file.is_file()))
    per_model = (sizes[1] - sizes[0]) / 40
    assert sizes[1] + 440 * per_model < 30e6
