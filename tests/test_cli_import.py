"""`erp-train import`, and what every command inherits from the group."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from erp_trainer.cli import COMMANDS, LazyGroup, cli
from erp_trainer.outcomes.run import open_run
from litellm_erp.choice.cost import DEFAULT_OUTPUT_TOKENS

EXAMPLE = Path(__file__).parents[1] / "examples" / "llmrouter_example"
CSV = "prompt_id,prompt,a,b\n1,one,1,0\n2,two,0,1\n3,Two,1,\n4,four,0.5,1\n"
PRICES = "a: {relative_cost: 1}\nb: {relative_cost: 8}\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "prices.yaml").write_text(PRICES)
    path = tmp_path / "o.csv"
    path.write_text(CSV)
    return path


def run(*arguments: object):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def imported(table: Path, *extra: object):
    out, prices = table.parent / "run", table.parent / "prices.yaml"
    return run("import", table, "--out", out, "--wide", "--prices", prices, *extra)


def test_an_import_summarises_what_it_read(table):
    result = imported(table)
    assert result.exit_code == 0, result.output
    for part in ("7 outcomes: 4 prompts × 2 models", "train 2", "assigned, seed 0", "1 prompts repeat", "0.6250"):
        assert part in result.stdout
    assert "output tokens not recorded: 256 stands in" in result.stderr


def test_json_has_the_same_facts_and_nothing_else_on_stdout(table):
    summary = json.loads(imported(table, "--json", "--seed", 5, "--expected-output-tokens", 40).stdout)
    assert summary["models"]["b"] == {"mean_reward": 2 / 3, "prompts": 3, "samples": 3, "price": {"relative_cost": 8}}
    assert (summary["split_seed"], summary["expected_output_tokens"]) == (5, 40)
    assert summary["duplicates"] == {"prompts": 1, "test_in_train": 0}


def test_the_run_holds_the_outcomes_the_prices_and_the_options(table):
    imported(table, "--models", "a,b", "--expected-output-tokens", 40)
    stored = open_run(table.parent / "run")
    assert stored.outcomes().splits.count("test") == 2
    assert stored.prices()["b"].relative_cost == 8
    assert stored.manifest["expected_output_tokens"] == 40
    assert stored.manifest["options"]["models"] == ["a", "b"]


def test_an_unknown_price_is_told_and_not_zero(table):
    result = run("import", table, "--out", table.parent / "run", "--wide", "--json")
    assert json.loads(result.stdout)["unknown_prices"] == ["a", "b"]
    assert json.loads(result.stdout)["models"]["a"]["price"] is None
    assert "warning: no price for 'a'" in result.stderr


def test_missing_prices_are_written_as_a_template_that_is_never_overwritten(table):
    out, template = table.parent / "run", table.parent / "run.prices.yaml"
    result = run("import", table, "--out", out, "--wide", "--json")
    assert json.loads(result.stdout)["price_template"] == str(template)
    assert f"--prices {template}" in result.stderr
    template.write_text(template.read_text().replace("null", "0.5"))
    assert json.loads(run("import", table, "--out", out, "--wide", "--json").stdout)["unknown_prices"] == ["a", "b"]
    priced = json.loads(run("import", table, "--out", out, "--wide", "--json", "--prices", template).stdout)
    assert (priced["unknown_prices"], priced["price_template"]) == ([], None)


def test_test_prompts_that_occur_in_train_are_counted_and_kept(tmp_path):
    out = tmp_path / "run"
    options = ("--wide", "--prices", EXAMPLE / "prices.yaml", "--out", out, "--json")
    summary = json.loads(run("import", EXAMPLE / "outcomes.parquet", *options).stdout)
    assert summary["duplicates"]["test_in_train"] == 119
    assert any("119 of 500 test prompts also occur in train" in line for line in summary["warnings"])
    assert summary["splits"] == {"test": 500, "train": 5608}


def test_bad_input_is_one_red_line_exit_2_and_no_loss(table):
    imported(table)
    table.write_text(CSV.replace("0.5", "half"))
    result = imported(table)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {table}: row 4: column 'a' holds 'half'")
    assert open_run(table.parent / "run").outcomes().rewards_PM[3, 0] == 0.5


def test_errors_are_json_too(table):
    table.write_text("")
    error = json.loads(imported(table, "--json").stdout)["error"]
    assert error["type"] == "OutcomesError"
    assert str(table) in error["message"]


def test_bad_usage_is_exit_2_and_json_too(table):
    result = run("import", table, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["type"] == "UsageError"
    assert "Missing option '--out'" in result.stderr


@pytest.mark.parametrize("models", ["a,,b", "a,a", ""])
def test_a_malformed_model_list_is_bad_usage(table, models):
    assert imported(table, "--models", models).exit_code == 2


def test_help_lists_every_command_without_importing_any():
    code = (
        "import sys; from erp_trainer.cli import cli; cli(['--help'], standalone_mode=False); "
        "heavy = {'numpy', 'pyarrow', 'rich', 'litellm', 'yaml'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)


def test_a_missing_extra_names_what_to_install(table):
    code = (
        "import sys; sys.modules['pyarrow'] = None; from erp_trainer.cli import main; "
        f"sys.argv[1:] = ['import', {str(table)!r}, '--out', 'x']; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert 'pip install "litellm-erp[train]"' in result.stderr


def test_the_installed_script_imports_and_fails_like_the_group(table):
    script = Path(sys.executable).with_name("erp-train")
    command = [str(script), "import", str(table), "--out", str(table.parent / "run"), "--wide"]
    prices = ["--prices", str(table.parent / "prices.yaml")]
    assert subprocess.run([*command, *prices], capture_output=True, check=False).returncode == 0
    table.unlink()
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = f"error: {table}: does not exist; expected a .parquet, .csv or .jsonl file\n"
    assert (failed.returncode, failed.stderr) == (2, expected)


class Interrupted(LazyGroup):
    def get_command(self, ctx, cmd_name):
        @click.command()
        def command():
            raise KeyboardInterrupt

        return command


def test_an_interrupt_is_one_line_and_exit_130():
    result = CliRunner().invoke(Interrupted("erp-train"), ["import"])
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")
    assert result.stderr.count("\n") == 1


def test_the_default_of_expected_output_tokens_is_that_of_the_cost_model(table):
    assert json.loads(imported(table, "--json").stdout)["expected_output_tokens"] == DEFAULT_OUTPUT_TOKENS
