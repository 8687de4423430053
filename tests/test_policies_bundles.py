"""Bundles of other policies than ERP: whole on disk, refused when damaged, and told apart by every command."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from erp_trainer.bundles.records import write_file
from erp_trainer.bundles.write import save_bundle
from erp_trainer.cli import cli
from erp_trainer.commands.fit import command as fit_command
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.policy_files import PREDICTORS, policy_file, tensors_of
from litellm_erp.bundle.stored.benchmark import NeighbourPredictor, Trust
from litellm_erp.errors import BundleError, BundleTampered
from litellm_erp.goals.goal import Goal
from litellm_erp.goals.solve import solve
from tests.pools import RIVALS

by_policy = pytest.mark.parametrize("policy", RIVALS)
STORED = ("benchmark", "pairwise")


def erp_train(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def copied(bundle, to):
    with save_bundle(to) as folder:
        for path in bundle.rglob("*"):
            if path.is_file():
                write_file(folder, str(path.relative_to(bundle)), path.read_bytes())
    return to


def altered(bundle, policy, **tensors):
    """Other tensors in the policy's file, with a manifest that agrees."""
    path, manifest = bundle / policy_file(policy), bundle / "manifest.json"
    save_file({**load_file(path), **tensors}, path)
    record = write_file(bundle, policy_file(policy), path.read_bytes())
    document = json.loads(manifest.read_text())
    document["policy_files"] = [{"file": record.file, "sha256": record.sha256, "bytes": record.bytes}]
    manifest.write_text(json.dumps(document))
    return bundle


def test_the_command_line_offers_every_policy_that_serves():
    option = next(parameter for parameter in fit_command.params if parameter.name == "policy")
    assert tuple(option.type.choices) == tuple(PREDICTORS)


@by_policy
def test_a_bundle_names_its_policy_and_options_and_has_no_safety(rival_bundles, policy):
    manifest = load_bundle(rival_bundles[policy]).manifest
    assert (manifest.policy, manifest.safety) == (policy, False)
    assert {"zooter": "tau", "benchmark": "neighbours", "pairwise": "scale"}[policy] in manifest.policy_options
    assert [record.file for record in manifest.policy_files] == ([policy_file(policy)] if policy in STORED else [])


@by_policy
def test_budgets_and_floors_are_solved_on_a_frontier_of_its_own(rival_bundles, policy):
    frontier = load_bundle(rival_bundles[policy]).frontier
    assert len(frontier.lambda_L) > 5
    assert frontier.cost_L[-1] < frontier.cost_L[0]
    assert solve(Goal("budget_usd_per_1k_requests", 0.3), frontier).reached
    assert solve(Goal("min_quality", 0.9), frontier).reached


@by_policy
def test_predict_and_evaluate_work_as_on_an_erp_bundle(rival_bundles, planted_bundle, tmp_path, policy):
    prompts = planted_bundle.parent / "outcomes.jsonl"
    found = erp_train("predict", rival_bundles[policy], "--prompts", prompts, "--out", tmp_path / "p.csv", "--json")
    assert found.exit_code == 0, found.output
    assert all(0.2 < share < 0.5 for share in json.loads(found.stdout)["share"].values())
    found = erp_train("evaluate", planted_bundle.parent / "run", "--bundle", rival_bundles[policy], "--json")
    assert found.exit_code == 0, found.output
    policies = json.loads(found.stdout)["policies"]
    assert policies[f"{policy} λ=0"]["reward"] > policies["best single model"]["reward"]


@by_policy
def test_a_model_cannot_be_added_or_removed_and_the_error_says_to_refit(rival_bundles, planted_bundle, policy):
    found = erp_train("remove-model", rival_bundles[policy], "--run", planted_bundle.parent / "run", "--model", "mid")
    assert found.exit_code == 2, found.output
    assert f"found policy {policy}" in found.output
    assert "fit RUN" in found.output.replace("\n", " ")


@pytest.mark.parametrize("option", [("--preset", "paper"), ("--beta", "3")])
def test_options_of_erp_are_refused_for_other_policies(planted_bundle, tmp_path, option):
    run = planted_bundle.parent / "run"
    found = erp_train("fit", run, "--out", tmp_path / "b", "--policy", "zooter", *option)
    assert found.exit_code == 2
    assert "are erp's" in found.output


def test_a_second_fit_writes_the_same_bytes(rival_bundles, planted_bundle, tmp_path):
    for policy in STORED:
        assert (
            erp_train("fit", planted_bundle.parent / "run", "--out", tmp_path / policy, "--policy", policy).exit_code
            == 0
        )
        name = policy_file(policy)
        assert (tmp_path / policy / name).read_bytes() == (rival_bundles[policy] / name).read_bytes()


@pytest.mark.parametrize("policy", STORED)
def test_a_damaged_missing_or_unnamed_policy_file_is_refused(rival_bundles, tmp_path, policy):
    bundle = copied(rival_bundles[policy], tmp_path / "b")
    file = bundle / policy_file(policy)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(BundleTampered, match="truncated"):
        load_bundle(bundle)
    file.write_bytes(whole[:-1] + b"\x07")
    with pytest.raises(BundleTampered, match="sha256"):
        load_bundle(bundle)
    document = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**document, "policy_files": []}))
    with pytest.raises(BundleError, match="in the manifest"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("policy", "tensors", "named"),
    [
        ("pairwise", {"weights": np.zeros((2, 3), np.float32)}, "weights has shape"),
        ("pairwise", {"intercept": np.array([np.nan, 0, 0], np.float32)}, "NaN"),
        ("pairwise", {"scale": np.array([-1.0])}, "scale"),
        ("benchmark", {"rows": np.zeros((120, 320), np.float32)}, "int8"),
        ("benchmark", {"row_scale": np.ones(3, np.float32)}, "row_scale has shape"),
        ("benchmark", {"neighbours": np.array([0.0])}, "at least 1"),
        ("benchmark", {"correct": np.full((120, 3), 5, np.int8)}, "1, 0 and -1"),
        ("benchmark", {"task_distance": np.zeros(0, np.float32), "bandwidth": np.ones(1)}, "tasks"),
    ],
)
def test_tensors_that_are_not_as_they_must_be_are_refused_by_name(rival_bundles, tmp_path, policy, tensors, named):
    bundle = altered(copied(rival_bundles[policy], tmp_path / "b"), policy, **tensors)
    with pytest.raises(BundleError, match=named):
        load_bundle(bundle)


def test_neighbours_are_stored_in_a_quarter_of_the_space_and_predict_the_same(rival_bundles, tmp_path):
    loaded = load_bundle(rival_bundles["benchmark"])
    kept = loaded.predictor
    assert isinstance(kept, NeighbourPredictor)
    trust = Trust(np.array([0.1, 0.3], np.float32), np.full((2, 3), 0.7, np.float32), 0.1)
    rows = kept.rows_ND + np.random.default_rng(0).normal(0, 1e-4, kept.rows_ND.shape).astype(np.float32)
    predictor = replace(kept, rows_ND=rows, trust=trust)
    bundle = altered(copied(rival_bundles["benchmark"], tmp_path / "b"), "benchmark", **tensors_of(predictor))
    again = load_bundle(bundle).predictor
    assert isinstance(again, NeighbourPredictor)
    assert np.abs(again.rows_ND - rows).max() < 0.5 / 127
    np.testing.assert_array_equal(again.correct_NM, kept.correct_NM)
    np.testing.assert_allclose(again.predict(rows), predictor.predict(rows), atol=0.2)
    assert again.trust is not None
