"""`erp-train calibrate` and `inspect --teams`: a goal, its λ, and what can be reached where it cannot."""

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.cli import cli
from litellm_erp import bundle as bundles


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def calibrated(bundle, *options):
    code, output = run("calibrate", bundle, *options, "--json")
    assert code == 0, output
    return json.loads(output)


def test_a_budget_within_the_curve_is_met_exactly(planted_bundle):
    curve = bundles.load(planted_bundle).frontier
    target = 1000 * (curve.cost_L.min() + curve.cost_L.max()) / 2
    found = calibrated(planted_bundle, "--budget", target)
    assert found["expected"]["usd_per_1k_requests"] == pytest.approx(target)
    assert sum(found["expected"]["share"].values()) == pytest.approx(1)
    for interval, value in (("reward_ci", "reward"), ("cost_ci", "usd_per_1k_requests")):
        low, high = found["expected"][interval]
        assert low < found["expected"][value] < high


def test_the_cheapest_models_cost_is_a_budget_that_can_be_kept(planted_bundle):
    curve = bundles.load(planted_bundle).frontier
    found = calibrated(planted_bundle, "--budget", 1000 * np.nanmin(curve.single_cost_M))
    assert found["expected"]["reached"]


def test_a_target_that_cannot_be_reached_says_what_can(planted_bundle):
    found = calibrated(planted_bundle, "--budget", 1e-9)
    assert not found["expected"]["reached"]
    assert "what can" in found["remedy"]


def test_a_floor_costs_no_more_than_a_higher_one(planted_bundle):
    costs = [calibrated(planted_bundle, "--min-quality", q)["expected"]["usd_per_1k_requests"] for q in (0, 0.5, 0.9)]
    assert costs == sorted(costs)


def test_the_curve_is_drawn_with_the_goal_on_it(planted_bundle):
    code, output = run("calibrate", planted_bundle, "--lambda", 0.5)
    assert code == 0
    assert sum("X" in line and "│" in line for line in output.splitlines()) == 1


@pytest.mark.parametrize("options", [(), ("--budget", 1, "--lambda", 1), ("--lambda", -1), ("--min-quality", 2),
                                     ("--budget", "nan")])  # fmt: skip
def test_bad_usage_is_told_as_such(planted_bundle, options):
    assert run("calibrate", planted_bundle, *options)[0] == 2


def test_teams_are_shown_with_their_lambda_and_why(planted_bundle, tmp_path):
    teams = {"research": {"lambda": 0, "allow_override": [0, 2]}, "support": {"min_quality": 0.5}}
    groups = {"auto": {"bundle": str(planted_bundle), "policy": {"lambda": 7}, "teams": teams}}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"erp_settings": {"groups": groups}}))
    code, output = run("inspect", "--teams", config, "--json")
    views = {view["team"]: view for view in json.loads(output)["groups"]["auto"]["teams"]}
    assert code == 0
    assert (views["research"]["lambda"], views[None]["source"]) == ({"lambda": 0.0}, "group")
    text = run("inspect", "--teams", config)[1]
    assert "within λ from 0 to 2" in text
    assert "everybody else: λ = 7" in text


def test_a_config_that_includes_itself_is_told_as_such(tmp_path):
    (tmp_path / "a.yaml").write_text("include: [b.yaml]\n")
    (tmp_path / "b.yaml").write_text("include: [a.yaml]\n")
    code, output = run("doctor", tmp_path / "a.yaml")
    assert (code, "a.yaml → b.yaml → a.yaml" in output) == (2, True)
