"""Bundles load whole or not at all, and are replaced whole or not at all."""

import json
import os

import numpy as np
import pytest

from erp_trainer.bundles.records import probe_file, write_file, write_json
from erp_trainer.bundles.write import save_bundle
from litellm_erp.bundle.load import load_bundle
from litellm_erp.choice.cost import Price
from litellm_erp.errors import BundleError, BundleNotFound, BundleTampered
from tests.bundles import DIMENSION, edit_manifest, replace_tensors, write_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def only_file(bundle, pattern):
    return next(bundle.glob(pattern))


def test_what_is_saved_is_what_is_loaded(bundle):
    loaded = load_bundle(bundle)
    assert loaded.models == ("small", "org/mid", "big")
    expected = np.arange(DIMENSION * 3, dtype=np.float32).reshape(DIMENSION, 3)
    np.testing.assert_array_equal(loaded.probes.weights_DM, expected)
    np.testing.assert_array_equal(loaded.output_tokens.predict(np.ones(DIMENSION, np.float32)), [256.0] * 3)


def test_the_same_probe_always_has_the_same_bytes(bundle, tmp_path):
    again = write_bundle(tmp_path / "again")
    for probe in bundle.glob("probes/*"):
        assert probe.read_bytes() == (again / "probes" / probe.name).read_bytes()


def test_probe_files_are_safe_names_that_do_not_collide():
    names = ["a/b", "a-b", "a b", "../../etc/passwd", "ü" * 300, ""]
    files = [probe_file(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(file.startswith("probes/") and ".." not in file and len(file) < 100 for file in files)


def test_a_missing_bundle_says_how_to_make_one(tmp_path):
    with pytest.raises(BundleNotFound, match=r"does not exist.*erp-train fit"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleNotFound, match=r"no manifest\.json"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("pattern", ["probes/small-*", "uncertainty.safetensors", "frontier.json"])
def test_a_truncated_file_is_called_truncated(bundle, pattern):
    file = only_file(bundle, pattern)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(BundleTampered, match=f"{file.name}.*truncated"):
        load_bundle(bundle)


@pytest.mark.parametrize("pattern", ["probes/big-*", "uncertainty.safetensors", "frontier.json"])
def test_a_file_with_other_bytes_is_not_the_recorded_one(bundle, pattern):
    file = only_file(bundle, pattern)
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleTampered, match=f"{file.name}.*sha256 differs"):
        load_bundle(bundle)


def test_a_missing_probe_is_named(bundle):
    file = only_file(bundle, "probes/small-*")
    file.unlink()
    with pytest.raises(BundleTampered, match=f"{file.name}.*cannot be read"):
        load_bundle(bundle)


def test_nan_in_a_probe_is_refused_even_with_a_matching_hash(bundle):
    weights = np.full(DIMENSION, np.nan, np.float32)
    replace_tensors(bundle, 0, weights=weights, intercept=np.zeros(1, np.float32))
    with pytest.raises(BundleError, match=r"small-.*weights contains NaN or inf"):
        load_bundle(bundle)


def test_a_probe_of_another_dimension_is_refused(bundle):
    replace_tensors(bundle, 1, weights=np.zeros(9, np.float32), intercept=np.zeros(1, np.float32))
    with pytest.raises(BundleError, match=rf"mid-.*shape \(9,\); expected \({DIMENSION},\)"):
        load_bundle(bundle)


def test_a_probe_of_integers_and_a_probe_without_weights_are_refused(bundle):
    replace_tensors(bundle, 0, weights=np.zeros(DIMENSION, np.int32), intercept=np.zeros(1, np.float32))
    with pytest.raises(BundleError, match="dtype int32"):
        load_bundle(bundle)
    replace_tensors(bundle, 0, intercept=np.zeros(1, np.float32))
    with pytest.raises(BundleError, match="no tensor 'weights'; found intercept"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema_version 99 is newer"),
        ({"schema_version": "1"}, "schema_version: found '1'; expected a finite number"),
        ({"policy": "magic"}, "policy: found 'magic'; expected one of"),
        ({"models": []}, "at least one"),
        ({"models": None}, "models: found nothing; expected a list"),
        ({"embedder": {}}, r"embedder\.kind"),
        ({"cost_kind": "euro"}, "cost_kind: found 'euro'"),
        ({"uncertainty": {"file": "../x", "sha256": "0", "bytes": 0}}, "leaves the bundle's folder"),
        ({"uncertainty": {"file": "/etc/passwd", "sha256": "0", "bytes": 0}}, "leaves the bundle's folder"),
        ({"expected_output_tokens": None}, "expected_output_tokens: found nothing"),
    ],
)
def test_a_manifest_that_is_not_right_names_the_key(bundle, changes, message):
    edit_manifest(bundle, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(bundle)


def test_a_frontier_whose_lambdas_do_not_ascend_is_refused(bundle):
    document = json.loads((bundle / "frontier.json").read_text())
    document["points"][0]["lambda"] = 3.0
    record = write_json(bundle, "frontier.json", document)
    edit_manifest(bundle, frontier={"file": record.file, "sha256": record.sha256, "bytes": record.bytes})
    with pytest.raises(BundleError, match="ascend from 0"):
        load_bundle(bundle)


def test_a_failed_write_leaves_the_old_bundle_and_no_litter(bundle):
    before = load_bundle(bundle).id
    with pytest.raises(FileNotFoundError), save_bundle(bundle) as folder:
        write_file(folder, "half", (folder / "nothing").read_bytes())
    assert load_bundle(bundle).id == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_new_bundle_replaces_the_old_one_as_a_whole(bundle):
    before = load_bundle(bundle).id
    write_bundle(bundle, models=("only",))
    after = load_bundle(bundle)
    assert after.models == ("only",)
    assert after.id != before
    assert sorted(path.name for path in bundle.parent.iterdir()) == [".bundle.previous", "bundle"]
    assert load_bundle(bundle.with_name(".bundle.previous")).id == before


def test_nothing_but_a_bundle_is_ever_overwritten(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    with pytest.raises(BundleError, match="not a bundle"):
        write_bundle(tmp_path / "home")
    assert os.listdir(tmp_path / "home") == ["thesis.tex"]  # noqa: PTH208


def test_a_deployments_own_price_replaces_the_bundles(bundle):
    table = load_bundle(bundle).prices({"big": Price(10.0, 10.0)})
    np.testing.assert_allclose(table.input_M, [1e-6, 1e-6, 1e-5])
