"""A fit from sums over shards is the fit of the run."""

import json
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from erp_trainer.bundles.fit import FitSpec, fit_bundle
from erp_trainer.bundles.fit_shards import fit_from_shards, joined, outcomes_of_shard
from erp_trainer.cli import cli
from erp_trainer.outcomes.run import open_run
from litellm_erp.embedding import load_embedder

RNG = np.random.default_rng(5)
WORDS = ("sum", "proof", "poem", "loop", "verb", "graph")
load = partial(load_embedder, "static")


@pytest.fixture(scope="module", params=[False, True], ids=["without categories", "with categories"])
def run(tmp_path_factory, request):
    """300 prompts, three models, one of which missed some; categories come one after the other, and one is rare."""
    folder = tmp_path_factory.mktemp("shards")
    rows = []
    for p in range(300):
        task = "rare" if p in (11, 222) else ("prose", "verse", "", "code")[p // 45 % 4]
        text = f"{task} " + " ".join(RNG.choice(WORDS, 4)) + f" {p}"
        for m, model in enumerate(("a", "b", "c")):
            if not (model == "c" and p % 7 == 0):
                reward = 0.3 * float(("poem" in text) == (m == 0)) + (task == "code") * m + RNG.normal() * 0.5
                row = {"prompt_id": f"p{p}", "prompt": text, "model": model, "reward": reward}
                row |= {"category": task} if request.param else {}
                rows.append(row | {"split": "test" if p % 5 == 0 else "train", "output_tokens": 5 + m})
    (folder / "outcomes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["import", str(folder / "outcomes.jsonl"), "--out", str(folder / "run")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    return open_run(folder / "run")


def shards(path):
    """Pieces of 30 prompts."""
    table = pq.read_table(path)
    prompts = np.array([int(name[1:]) for name in table["prompt_id"].to_pylist()])
    for start in range(0, 300, 30):
        yield table.filter((prompts >= start) & (prompts < start + 30))


def test_the_shards_are_the_run(run):
    parts = [outcomes_of_shard(shard, ("a", "b", "c")) for shard in shards(run.outcomes_file())]
    whole, found = run.outcomes(), joined(parts)
    assert (len(parts), found.prompt_ids) == (10, whole.prompt_ids)
    np.testing.assert_array_equal(found.rewards_PM, whole.rewards_PM)


@pytest.mark.parametrize("preset", ["best", "paper"])
def test_a_fit_from_shards_is_the_fit_of_the_run(run, tmp_path, preset):
    whole = fit_bundle(run, load(), tmp_path / "whole", FitSpec(preset=preset))
    summed = fit_from_shards(run, load, tmp_path / "summed", FitSpec(preset=preset), shards=shards)
    np.testing.assert_allclose(summed.probes.weights_DM, whole.probes.weights_DM, atol=1e-6)
    np.testing.assert_allclose(summed.probes.intercept_M, whole.probes.intercept_M, atol=1e-6)
    assert summed.frontier.document == whole.frontier.document
    assert summed.manifest.prompt_set == whole.manifest.prompt_set
    assert [r.rows for r in summed.manifest.models] == [r.rows for r in whole.manifest.models]
    assert summed.manifest.stack == whole.manifest.stack
    assert (summed.features is None) == (whole.features is None) == (preset == "paper")
    if whole.features is not None:
        np.testing.assert_array_equal(summed.features.weights_DF, whole.features.weights_DF)
        np.testing.assert_allclose(summed.predictor.cells_FM, whole.predictor.cells_FM, atol=1e-6)


def test_what_is_chosen_on_a_sample_is_fitted_on_all_rows(run, tmp_path):
    whole = fit_bundle(run, load(), tmp_path / "whole", FitSpec(beta=7.0))
    summed = fit_from_shards(run, load, tmp_path / "summed", FitSpec(beta=7.0), shards=shards, sample=100)
    np.testing.assert_allclose(summed.probes.weights_DM, whole.probes.weights_DM, atol=1e-6)
    assert summed.manifest.prompt_set == whole.manifest.prompt_set
    assert summed.manifest.models[0].rows == 240
