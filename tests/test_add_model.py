"""A model joins and leaves a bundle, and every other probe stays as it was, byte for byte."""

import json
import shutil

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from erp_trainer.bundles.grown_pool import record_audit
from erp_trainer.cli import cli
from erp_trainer.learning.selection import MIN_AUDIT, d_optimal, select
from litellm_erp.bundle.load import load_bundle
from tests.planted import planted_rows, write_outcomes

PRICES = {name: {"input_usd_per_mtok": p, "output_usd_per_mtok": p}
          for name, p in (("small", 0.1), ("mid", 0.5), ("big", 2.0))}  # fmt: skip


def run(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def imported(folder, rows, name):
    outcomes = write_outcomes(folder / f"{name}.jsonl", rows)
    (folder / "prices.yaml").write_text(yaml.safe_dump({n: PRICES[n] for n in {row["model"] for row in rows}}))
    result = run("import", outcomes, "--out", folder / name, "--prices", folder / "prices.yaml")
    assert result.exit_code == 0, result.output
    return folder / name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of two and of three models on the same prompts, and bundles fitted on them; read only."""
    folder = tmp_path_factory.mktemp("adding")
    rows = planted_rows()
    imported(folder, [row for row in rows if row["model"] != "mid"], "two")
    imported(folder, rows, "three")
    for name in ("two", "three"):
        assert run("fit", folder / name, "--out", folder / f"{name}-bundle").exit_code == 0
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made / "two-bundle", tmp_path / "bundle")


def contents(bundle):
    return {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}


def test_a_newcomer_has_the_penalty_and_the_memberships_of_the_pool(made, bundle):
    before = load_bundle(bundle)
    run("add-model", bundle, "--run", made / "three", "--model", "mid")
    after = load_bundle(bundle)
    assert {model.beta for model in after.manifest.models} == {before.manifest.models[0].beta}
    assert after.manifest.stack == before.manifest.stack
    assert after.manifest.tasks == before.manifest.tasks == (("arithmetic",), ("code",), ("poetry",))
    assert after.predictor.cells_FM.shape == (len(before.features.bias_F), 3)
    assert np.abs(after.predictor.cells_FM[:, after.models.index("mid")]).max() > 0.05


def test_nothing_but_the_newcomers_files_and_three_shared_ones_change(made, bundle):
    before = contents(bundle)
    assert run("add-model", bundle, "--run", made / "three", "--model", "mid").exit_code == 0
    after = contents(bundle)
    changed = {name for name in after if before.get(name) != after[name]}
    new = {name for name in changed if name not in before}
    assert changed - new == {"manifest.json", "frontier.json", "uncertainty.safetensors"}
    assert {name.partition("/")[0] for name in new} == {"probes", "stats"}
    assert set(before) <= set(after)


def test_a_newcomer_is_what_fitting_the_whole_pool_at_the_same_penalty_gives(made, tmp_path):
    bundle = tmp_path / "bundle"
    run("fit", made / "two", "--out", bundle, "--beta", 3)
    run("add-model", bundle, "--run", made / "three", "--model", "mid")
    added = load_bundle(bundle)
    run("fit", made / "three", "--out", tmp_path / "whole", "--beta", 3)
    whole = load_bundle(tmp_path / "whole")
    assert added.models == whole.models
    np.testing.assert_allclose(added.probes.weights_DM, whole.probes.weights_DM, atol=1e-5)
    np.testing.assert_allclose(added.mean_reward_M, whole.mean_reward_M)
    np.testing.assert_allclose(added.uncertainty.noise_M, whole.uncertainty.noise_M, rtol=1e-3)
    assert added.frontier.document["verdict"]["helps"]


def test_the_report_says_where_the_newcomer_wins_and_what_it_brings(made, bundle):
    report = json.loads(run("add-model", bundle, "--run", made / "three", "--model", "mid", "--json").stdout)
    assert report["r2"] > 0.5
    assert (report["place"], report["of"], report["audit"]) == (2, 3, None)
    assert report["wins"]["code"] > 0.9
    assert report["wins"]["poetry"] < 0.1
    assert report["gains"][0]["reward_after"] > report["gains"][0]["reward_before"] + 0.05


def test_evaluate_and_predict_work_on_the_result(made, bundle, tmp_path):
    run("add-model", bundle, "--run", made / "three", "--model", "mid")
    result = run("evaluate", made / "three", "--bundle", bundle, "--json")
    assert json.loads(result.stdout)["verdict"]["helps"]
    arguments = ("--prompts", made / "three.jsonl", "--out", tmp_path / "p.csv")
    assert run("predict", bundle, *arguments).exit_code == 0


def test_removing_a_model_undoes_adding_it(made, bundle):
    before = contents(bundle)
    run("add-model", bundle, "--run", made / "three", "--model", "mid")
    result = run("remove-model", bundle, "--run", made / "three", "--model", "mid", "--json")
    assert result.exit_code == 0, result.output
    after = contents(bundle)
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} <= {"manifest.json", "frontier.json"}
    assert json.loads(after["frontier.json"])["points"] == json.loads(before["frontier.json"])["points"]


def test_prompts_that_only_a_leaver_answered_leave_with_it(tmp_path):
    rows = planted_rows()
    prompts = list(dict.fromkeys(row["prompt_id"] for row in rows))
    alone = set(prompts[:60])
    run_folder = imported(tmp_path, [r for r in rows if (r["prompt_id"] in alone) <= (r["model"] == "mid")], "run")
    bundle = tmp_path / "bundle"
    assert run("fit", run_folder, "--out", bundle).exit_code == 0
    before = load_bundle(bundle).manifest.prompt_set["train"]
    result = run("remove-model", bundle, "--run", run_folder, "--model", "mid")
    assert result.exit_code == 0, result.output
    assert load_bundle(bundle).manifest.prompt_set["train"] < before
    assert run("evaluate", run_folder, "--bundle", bundle, "--no-rivals").exit_code == 0
    result = run("add-model", bundle, "--run", run_folder, "--model", "mid")
    assert result.exit_code == 0, result.output


def partial(folder, name, keep, audit):
    """A run in which ``mid`` has outcomes of some train prompts only, ``audit`` being the random ones."""
    rows = [row for row in planted_rows() if row["model"] != "mid" or row["prompt_id"] in keep]
    run_folder = imported(folder, rows, name)
    record_audit(run_folder, "mid", audit)
    return run_folder


@pytest.fixture(scope="module")
def train_ids():
    return {row["prompt_id"]: row["category"] for row in planted_rows() if row["split"] == "train"}


def test_chosen_prompts_do_not_bias_what_is_said_of_a_newcomer(made, bundle, train_ids, tmp_path):
    # Everything chosen is of the kind that it is best at, so its plain mean would be far too high.
    audit = np.random.default_rng(0).permutation(sorted(train_ids))[:24].tolist()
    chosen = [prompt_id for prompt_id, kind in train_ids.items() if kind == "code"]
    some = partial(tmp_path, "some", {*audit, *chosen}, audit)
    report = json.loads(run("add-model", bundle, "--run", some, "--model", "mid", "--json").stdout)
    assert report["audit"] == 24
    assert report["rows"] == len({*audit, *chosen})
    whole = load_bundle(made / "three-bundle")
    truth = whole.mean_reward_M[whole.models.index("mid")]
    assert abs(report["mean_reward"] - truth) < 0.08
    assert report["place"] == 2
    point, full = (load_bundle(b).frontier for b in (bundle, made / "three-bundle"))
    assert abs(point.reward_L[0] - full.reward_L[0]) < 0.1


def test_a_partly_asked_newcomer_leaves_the_other_probes_alone(bundle, train_ids, tmp_path):
    before = contents(bundle)
    audit = sorted(train_ids)[::3]
    run("add-model", bundle, "--run", partial(tmp_path, "some", set(audit), audit), "--model", "mid")
    after = contents(bundle)
    assert all(after[name] == before[name] for name in before if name.startswith(("probes/", "stats/", "embedder/")))
    assert load_bundle(bundle).frontier.document["audited"] == {"models": ["mid"], "prompts": len(audit)}


def test_too_small_an_audit_is_an_error_and_leaves_the_bundle(bundle, train_ids, tmp_path):
    before = contents(bundle)
    keep = sorted(train_ids)[:40]
    result = run("add-model", bundle, "--run", partial(tmp_path, "few", set(keep), keep[:5]), "--model", "mid")
    assert (result.exit_code, "more --prompts" in result.stderr) == (2, True)
    assert contents(bundle) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "three", "--model", "big"), "a probe of 'big' already"),
        (("--run", "two", "--model", "mid"), "no outcomes of pool model 'mid'"),
        (("--run", "other", "--model", "mid"), "train prompts are not those"),
        (("--run", "nowhere", "--model", "mid"), "no such run"),
        (("--model", "mid"), "--pool"),
        (("--run", "three", "--model", "mid", "--prompts", "30"), "--prompts goes with --pool"),
    ],
)
def test_bad_input_is_one_clear_error(made, bundle, tmp_path, arguments, said):
    imported(tmp_path, planted_rows(seed=5), "other")
    paths = {"three": made / "three", "two": made / "two", "other": tmp_path / "other"}
    result = run("add-model", bundle, *(paths.get(a, a) for a in arguments))
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(("remove", "said"), [(["mid"], "no probe of 'mid'"), (["small", "big"], "its only model")])
def test_a_model_that_is_not_there_or_the_last_cannot_be_removed(made, bundle, remove, said):
    for name in remove:
        result = run("remove-model", bundle, "--run", made / "two", "--model", name)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_selection_holds_as_many_as_asked_and_a_random_fifth():
    embeddings = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    found = select(embeddings, 200, 1.0)
    assert (len(found.chosen), len(found.audit)) == (160, 40)
    assert len({*found.chosen, *found.audit}) == 200
    assert len(select(embeddings, 30, 1.0).audit) == MIN_AUDIT
    assert set(select(embeddings, 100, 1.0).audit) <= set(found.audit)


def test_chosen_prompts_cover_directions_that_random_ones_miss():
    rng = np.random.default_rng(0)
    common, rare = rng.normal(size=(490, 4)) * [1, 1, 1, 0], np.tile([0, 0, 0, 1.0], (10, 1))
    embeddings = np.vstack([common, rare]).astype(np.float32)
    picked = d_optimal(embeddings, 5, 1.0, given=np.arange(20))
    assert (picked >= 490).any()
    assert len(set(picked) | set(range(20))) == 25


def test_a_few_prompts_are_all_random():
    unusual = np.vstack([np.zeros((995, 3)), 9 * np.eye(3), -9 * np.eye(3)[:2]]).astype(np.float32)
    few, more = (select(unusual, n, 1.0) for n in (25, 60))
    assert not {*few.chosen, *few.audit} & set(range(995, 1000))
    assert set(range(995, 1000)) <= {*more.chosen, *more.audit}
