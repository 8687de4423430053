"""Run folders are complete or not there, and nothing is lost when an import goes wrong."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from erp_trainer.outcomes.run import create_run, open_run
from erp_trainer.outcomes.table import OutcomesTable
from litellm_erp.choice.cost import Price
from litellm_erp.errors import RunError

PRICES = {"a": Price(0.1, 0.2), "b": Price()}


def outcomes(prompts: tuple[str, ...] = ("x", "y"), reward: float = 1.0) -> OutcomesTable:
    shape = (len(prompts), 2)
    blank = np.full(shape, np.nan)
    return OutcomesTable(
        prompt_ids=tuple(f"p{i}" for i in range(shape[0])),
        prompts=prompts,
        models=("a", "b"),
        rewards_PM=np.full(shape, reward),
        n_samples_PM=np.ones(shape, dtype=np.int64),
        reward_std_PM=blank,
        output_tokens_PM=blank,
        input_tokens_PM=blank,
        cost_usd_PM=blank,
        categories=("",) * shape[0],
        tags=((),) * shape[0],
        splits=("train",) * shape[0],
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.csv"
    path.write_text("whatever was read")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_gives_back_what_was_put_in(tmp_path, source):
    create_run(tmp_path / "run", outcomes(), PRICES, source=source, split_seed=4, expected_output_tokens=99)
    run = open_run(tmp_path / "run")
    assert (run.outcomes().prompts, run.prices()) == (("x", "y"), PRICES)
    assert (run.manifest["split_seed"], run.manifest["expected_output_tokens"]) == (4, 99)
    assert run.manifest["source"]["file"] == "source.csv"
    assert run.manifest["counts"] == {"prompts": 2, "models": 2, "outcomes": 4, "splits": {"train": 2}}


def test_importing_again_replaces_the_run_and_leaves_nothing_beside_it(tmp_path, source):
    for reward in (1.0, 2.0):
        create_run(tmp_path / "run", outcomes(reward=reward), PRICES, source=source)
    assert open_run(tmp_path / "run").outcomes().rewards_PM[0, 0] == 2.0
    assert names(tmp_path) == ["run", "source.csv"]


def test_a_failed_import_leaves_the_old_run_and_nothing_beside_it(tmp_path, source):
    create_run(tmp_path / "run", outcomes(reward=1.0), PRICES, source=source)
    with pytest.raises(KeyError):
        create_run(tmp_path / "run", outcomes(reward=2.0), {"a": Price()}, source=source)
    assert open_run(tmp_path / "run").outcomes().rewards_PM[0, 0] == 1.0
    assert names(tmp_path) == ["run", "source.csv"]


def test_a_swap_cut_in_half_is_undone(tmp_path, source):
    create_run(tmp_path / "run", outcomes(), PRICES, source=source)
    (tmp_path / "run").rename(tmp_path / ".run.previous")
    assert open_run(tmp_path / "run").outcomes().models == ("a", "b")


def test_a_folder_that_is_no_run_is_never_touched(tmp_path, source):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(RunError, match="not empty and not a run"):
        create_run(tmp_path / "thesis", outcomes(), PRICES, source=source)
    assert names(tmp_path / "thesis") == ["chapter.tex"]


def test_a_file_in_the_way_is_an_error(tmp_path, source):
    with pytest.raises(RunError, match="is a file"):
        create_run(source, outcomes(), PRICES, source=source)


def test_a_missing_run_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="erp-train import"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "run.json is missing"),
        ("{", "not readable JSON"),
        ("[]", "not the manifest of a run"),
        ('{"kind": "erp-run", "schema": 99, "files": {}}', "Upgrade"),
    ],
)
def test_an_unusable_manifest_is_one_clear_error(tmp_path, content, named):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=named):
        open_run(tmp_path)


@pytest.mark.parametrize("name", ["outcomes.parquet", "prices.json"])
def test_a_file_changed_after_the_import_is_named(tmp_path, source, name):
    run = create_run(tmp_path / "run", outcomes(), PRICES, source=source)
    with (run.path / name).open("ab") as handle:
        handle.write(b" ")
    with pytest.raises(RunError, match=f"{name}: changed after the import"):
        _ = (run.outcomes(), run.prices())
    (run.path / name).unlink()
    with pytest.raises(RunError, match=f"{name}: missing"):
        _ = (run.outcomes(), run.prices())


@pytest.fixture
def run(tmp_path, source):
    return create_run(tmp_path / "run", outcomes(), PRICES, source=source)


def must_not_run() -> np.ndarray:
    raise AssertionError("computed although it was cached")


@pytest.mark.parametrize(
    "array", [np.eye(3, dtype=np.float32), np.arange(4)[::2], np.zeros((0, 5)), np.asfortranarray(np.ones((2, 3)))]
)
def test_a_cached_array_is_computed_once(run, array):
    for make in (lambda: array, must_not_run):
        found = run.cached_array("key", make)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"\x01", lambda b: b""])
def test_a_corrupt_cache_file_is_computed_again_with_a_warning(run, caplog, damage):
    run.cached_array("key", lambda: np.zeros(3))
    [path] = (run.path / "cache").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(run.cached_array("key", lambda: np.ones(3)), np.ones(3))
    assert path.name in caplog.text
    np.testing.assert_array_equal(run.cached_array("key", must_not_run), np.ones(3))


def test_a_new_import_keeps_the_cache_only_if_the_prompts_are_the_same(tmp_path, source, run):
    run.cached_array("key", lambda: np.zeros(3))
    same = create_run(run.path, outcomes(reward=5.0), PRICES, source=source)
    np.testing.assert_array_equal(same.cached_array("key", must_not_run), np.zeros(3))
    other = create_run(run.path, outcomes(("x", "z")), PRICES, source=source)
    np.testing.assert_array_equal(other.cached_array("key", lambda: np.ones(3)), np.ones(3))


def test_the_manifest_is_plain_json_without_surprises(run):
    manifest = json.loads((run.path / "run.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["tool"]["name"] == "litellm-erp"
    assert set(manifest["files"]) == {"outcomes.parquet", "prices.json"}


def test_a_linked_run_folder_is_followed(tmp_path, source, run):
    link = tmp_path / "link"
    link.symlink_to(run.path)
    create_run(link, dataclasses.replace(outcomes(), splits=("test", "test")), PRICES, source=source)
    assert link.is_symlink()
    assert open_run(run.path).outcomes().splits == ("test", "test")
