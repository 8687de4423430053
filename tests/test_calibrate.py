"""`erp-train calibrate` and `inspect --teams`: a goal, its λ, and what can be reached where it cannot."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.cli import cli
from litellm_erp.bundle.load import load_bundle
from litellm_erp.goals.goal import FORMS, MONEY
from litellm_erp.goals.request_goal import RequestGoal
from litellm_erp.goals.settings import team_settings
from litellm_erp.serving.team_view import cost_text


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def calibrated(bundle, *options, code=0):
    found, output = run("calibrate", bundle, *options, "--json")
    assert found == code, output
    return json.loads(output)


def test_a_budget_within_the_curve_is_met_exactly(planted_bundle):
    curve = load_bundle(planted_bundle).frontier
    target = 1000 * (curve.cost_L.min() + curve.cost_L.max()) / 2
    found = calibrated(planted_bundle, "--budget", target)
    assert found["expected"]["usd_per_1k_requests"] == pytest.approx(target)
    assert sum(found["expected"]["share"].values()) == pytest.approx(1)
    for interval, value in (("reward_ci", "reward"), ("cost_ci", "usd_per_1k_requests")):
        low, high = found["expected"][interval]
        assert low < found["expected"][value] < high


def test_the_cheapest_models_cost_is_a_budget_that_can_be_kept(planted_bundle):
    curve = load_bundle(planted_bundle).frontier
    found = calibrated(planted_bundle, "--budget", 1000 * np.nanmin(curve.single_cost_M))
    assert found["expected"]["reached"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_goal_means_the_same_wherever_it_is_stated(planted_bundle, form):
    stated = {form.name: 0.5} | ({"per": "day"} if form.windowed else {})
    goal = team_settings(stated, where="team").goal
    asked = RequestGoal.from_body(stated).goal
    assert asked == (None if form.windowed else goal)
    solved = form.solve(load_bundle(planted_bundle).frontier, 0.5)
    if form.option:
        found = calibrated(planted_bundle, form.option, 0.5, code=0 if solved.reached else 1)
        assert found["goal"] == {form.name: 0.5}
        assert found["expected"]["reward"] == pytest.approx(solved.reward)
    else:
        assert form.windowed
    assert form.money == (form.name in MONEY) == ("usd" in form.name)


def out_of_reach(bundle, tmp_path):
    """The bundle with a best single model that no mixture comes up to."""
    copied = shutil.copytree(bundle, tmp_path / "best-is-single")
    frontier = json.loads((copied / "frontier.json").read_text())
    frontier["single_models"]["big"]["reward"] = 2.0
    (copied / "frontier.json").write_text(json.dumps(frontier))
    manifest = json.loads((copied / "manifest.json").read_text())
    content = (copied / "frontier.json").read_bytes()
    manifest["frontier"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    return copied


@pytest.mark.parametrize("options", [("--budget", 1e-9), ("--budget", 0), ("--min-quality", 1)])
def test_a_target_that_cannot_be_reached_says_what_can_and_exits_1(planted_bundle, tmp_path, options):
    bundle = out_of_reach(planted_bundle, tmp_path) if "--min-quality" in options else planted_bundle
    found = calibrated(bundle, *options, code=1)
    assert not found["expected"]["reached"]
    assert "what can" in found["remedy"]
    code, output = run("calibrate", bundle, *options)
    assert (code, "what can" in output, "expected reward" in output) == (1, True, True)
    # Every figure of money has its unit, and a reward in units of reward has no second one.
    assert re.search(r"from\s\S+\sUSD\sper\s1,000\srequests", output)
    assert not output.split("expected reward")[1].splitlines()[0].endswith("reward")


def test_a_bundle_without_costs_keeps_no_budget_and_exits_1(planted_bundle, tmp_path):
    run("import", planted_bundle.parent / "outcomes.jsonl", "--out", tmp_path / "run")
    run("fit", tmp_path / "run", "--out", tmp_path / "bundle")
    found = calibrated(tmp_path / "bundle", "--budget", 1, code=1)
    assert "no cost is known" in found["remedy"]


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
    assert "USD per 1,000 requests" in text
    assert "everybody else: λ = 7" in text


def test_a_cost_is_told_with_its_unit():
    assert cost_text({"usd_per_1k_requests": 0.25}) == "0.25 USD per 1,000 requests"
    assert cost_text({"cost_per_1k": 8000.0}) == "a relative cost of 8000 per 1,000 requests"
    assert cost_text({"usd_per_1k_requests": None}) is None


def test_a_config_that_includes_itself_is_told_as_such(tmp_path):
    (tmp_path / "a.yaml").write_text("include: [b.yaml]\n")
    (tmp_path / "b.yaml").write_text("include: [a.yaml]\n")
    code, output = run("doctor", tmp_path / "a.yaml")
    assert (code, "a.yaml → b.yaml → a.yaml" in output) == (2, True)
