"""What is served is fitted on every prompt; what is chosen, and every figure, stays that of train."""

import shutil

import numpy as np
import pytest

from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.load import load_bundle
from tests.planted import planted_rows
from tests.test_add_model import imported, run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of two and of three models on the same prompts, and bundles of them; read only."""
    folder = tmp_path_factory.mktemp("refit")
    rows = planted_rows()
    imported(folder, [row for row in rows if row["model"] != "mid"], "two")
    imported(folder, rows, "three")
    assert run("fit", folder / "two", "--out", folder / "two-train").exit_code == 0
    assert run("fit", folder / "two", "--out", folder / "two-all", "--refit-all").exit_code == 0
    return folder


def test_the_choices_and_the_figures_are_those_of_train_and_the_fit_is_of_all_rows(made):
    train, everything = load_bundle(made / "two-train"), load_bundle(made / "two-all")
    assert everything.frontier.document == train.frontier.document
    assert everything.manifest.stack == train.manifest.stack
    assert [m.r2 for m in everything.manifest.models] == [m.r2 for m in train.manifest.models]
    outcomes = open_run(made / "two").outcomes()
    assert {m.rows for m in everything.manifest.models} == {len(outcomes.prompt_ids)}
    np.testing.assert_allclose(everything.mean_reward_M, np.nanmean(outcomes.rewards_PM, axis=0))
    assert np.abs(everything.probes.weights_DM - train.probes.weights_DM).max() > 0


def test_the_manifest_and_inspect_say_so(made):
    prompts = load_bundle(made / "two-all").manifest.prompt_set
    assert prompts["refitted"]
    assert prompts["fitted"] == prompts["train"] + prompts["test"]
    assert f"fitted on all {prompts['fitted']}" in run("inspect", made / "two-all").output
    assert "fitted on all" not in run("inspect", made / "two-train").output


def test_fit_says_that_few_prompts_are_best_all_served_from(made, tmp_path):
    plain = run("fit", made / "two", "--out", tmp_path / "bundle")
    assert "prompts were kept for testing" in plain.output
    assert "kept for testing" not in run("fit", made / "two", "--out", tmp_path / "bundle", "--refit-all").output


def test_it_cannot_be_measured_on_prompts_that_it_was_fitted_on(made):
    result = run("evaluate", made / "two", "--bundle", made / "two-all")
    assert result.exit_code != 0
    assert "--refit-all" in result.output


def test_a_newcomer_joins_on_all_rows_and_is_reported_on_train(made, tmp_path):
    bundle = shutil.copytree(made / "two-all", tmp_path / "bundle")
    result = run("add-model", bundle, "--run", made / "three", "--model", "mid")
    assert result.exit_code == 0, result.output
    grown = load_bundle(bundle)
    assert grown.manifest.prompt_set == load_bundle(made / "two-all").manifest.prompt_set
    assert {m.rows for m in grown.manifest.models} == {grown.manifest.prompt_set["fitted"]}
    # On train, as if nothing had been fitted again: the frontier's single models are those of the train rows.
    outcomes = open_run(made / "three").outcomes().split("train")
    singles = grown.frontier.document["single_models"]
    for m, name in enumerate(outcomes.models):
        assert singles[name]["reward"] == pytest.approx(outcomes.rewards_PM[:, m].mean())
    assert run("remove-model", bundle, "--run", made / "three", "--model", "mid").exit_code == 0
    assert load_bundle(bundle).models == load_bundle(made / "two-all").models


@pytest.mark.parametrize("options", [("--policy", "zooter"), ("--engine", "ray")])
def test_what_cannot_be_refitted_is_refused(made, tmp_path, options):
    result = run("fit", made / "two", "--out", tmp_path / "bundle", "--refit-all", *options)
    assert result.exit_code == 2
    assert not (tmp_path / "bundle").exists()
