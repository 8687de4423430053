"""Bundles made wrong on purpose: one clear error that names the file, nothing read that is larger than it may be."""

import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from erp_trainer.bundles.records import write_tensors
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.manifest import MAX_DIMENSION, MAX_MODELS, MAX_NAME
from litellm_erp.embedding.static import MODEL_DIR, StaticEmbedder
from litellm_erp.errors import BundleError, EmbedderMismatch, EmbedderUnavailable
from tests.bundles import DIMENSION, edit_manifest, write_bundle
from tests.crafted import edit, edit_frontier, put_file, serve

HUGE = 10**400
HASH = "0" * 64
DEEP = b"[" * 100_000


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def refused(bundle, said=None):
    """It is not loaded, and the error is one short line that names a file and can be printed anywhere."""
    with pytest.raises(BundleError, match=said) as caught:
        load_bundle(bundle)
    message = str(caught.value)
    assert str(bundle) in message
    assert message.isprintable()
    assert len(message) < 1500
    message.encode()


def set_model(key, value):
    return lambda document: document["models"][0].update({key: value})


def set_file(key, value):
    return lambda document: document["models"][0]["probe"].update({key: value})


def set_embedder(key, value):
    return lambda document: document["embedder"].update({key: value})


def test_the_bundle_that_is_broken_here_serves_when_it_is_not(bundle):
    serve(load_bundle(bundle))


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\r\nx-injected: 1", "nul\0", "\x1b[31mred", "tab\t", "\x7f", "\x85", "a\u2028b", "x" * (MAX_NAME + 1),
     "", " \n", 7, True, None, ["a"], {"a": 1}],
)  # fmt: skip
def test_a_name_that_cannot_stand_in_a_header_or_a_log_line_is_refused(bundle, name):
    edit(bundle, set_model("name", name))
    refused(bundle, "name")


@pytest.mark.parametrize("name", ["模型-big", "🙂", "a b", "naïve/café", "m" * MAX_NAME, "🏳️‍🌈"])
def test_any_other_name_is_a_name(tmp_path, name):
    serve(load_bundle(write_bundle(tmp_path / "bundle", ("small", name))))


@pytest.mark.parametrize("escape", ['"\\ud800"', '"\\udfff tail"', '"a\\udc80"'])
@pytest.mark.parametrize("file", ["manifest.json", "frontier.json"])
def test_half_a_surrogate_is_no_text(bundle, file, escape):
    text = (bundle / file).read_text().replace('"small"', escape)
    (bundle / file).write_text(text)
    if file == "frontier.json":
        put_file(bundle, text.encode(), "frontier")
    refused(bundle, "surrogate")


@pytest.mark.parametrize(
    "content",
    [DEEP, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900, b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}',
     b'{"a": 1, "a": 2}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": ' + b"9" * 400 + b"}", "{}".encode("utf-16"),
     b"\xef\xbb\xbf{}", b"\x00", b""],
)  # fmt: skip
def test_json_of_other_than_plain_values_is_refused(bundle, content):
    put_file(bundle, content, "frontier")
    refused(bundle, r"frontier\.json")
    (bundle / "manifest.json").write_bytes(content)
    refused(bundle, r"manifest\.json")


@pytest.mark.parametrize(
    "change",
    [
        *[set_model(key, value) for key in ("rows", "beta", "mean_reward", "r2", "constant_cost_usd")
          for value in (HUGE, -HUGE, True, "1", [1], 1e300)],
        *[set_model(key, -1) for key in ("rows", "beta", "constant_cost_usd")],
        *[set_model("price", value) for value in (HUGE, [], {"input_usd_per_mtok": -1}, {"output_usd_per_mtok": HUGE},
                                                   {"relative_cost": True}, {"relative_cost": 1e300}, {"euro": 1})],
        *[set_model("r2_by_category", value) for value in ([], {"a": "b"}, {"a": HUGE}, {"a": True})],
        *[set_model("stats", value) for value in (None, {}, [1], [{"file": "../x", "sha256": HASH, "bytes": 1}])],
        *[set_file("file", value) for value in ("../a", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "a\0b",
                                                "a\nb", "", "x" * 600, "\x1b", 1, None)],
        *[set_file("bytes", value) for value in (-1, HUGE, True, 1.5, "1", None, 1 << 40)],
        *[set_file("sha256", value) for value in ("", "0", "Z" * 64, 1, None, "\n" * 64)],
        *[set_embedder("dimension", value) for value in (0, -1, HUGE, 1 << 40, MAX_DIMENSION + 1, 6.5, True, "6")],
        *[set_embedder("max_bytes", value) for value in (0, HUGE, True, None)],
        *[set_embedder("max_tokens", value) for value in (0, HUGE, True, "1")],
        *[set_embedder("id", value) for value in ("a\nb", "\0", 1, None)],
        lambda document: document.update(embedder_files=[{"file": "embedder/a", "sha256": HASH, "bytes": 1}]),
        lambda document: document.update(schema_version=0),
        lambda document: document.update(schema_version=HUGE),
        lambda document: document.update(schema_version=True),
        lambda document: document.update(expected_output_tokens=HUGE),
        lambda document: document.update(expected_output_tokens=1e300),
        lambda document: document.update(safety="yes"),
        lambda document: document.update(preset="a\nb"),
        lambda document: document.update(models=document["models"] * 2),
        lambda document: document.update(models=[document["models"][0]] * (MAX_MODELS + 1)),
        lambda document: document.update(models=[[]]),
        lambda document: [document],
    ],
)  # fmt: skip
def test_a_manifest_with_an_impossible_field_is_refused(bundle, change):
    edit(bundle, change)
    refused(bundle)


def test_a_missing_field_of_the_manifest_is_refused(bundle):
    whole = json.loads((bundle / "manifest.json").read_text())
    optional = {"policy_files", "policy_options", "tasks"}
    for key in set(whole) - optional:
        (bundle / "manifest.json").write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        refused(bundle, key)


def set_point(key, value):
    return lambda document: document["points"][0].update({key: value})


def set_verdict(key, value):
    return lambda document: document["verdict"].update({key: value})


def set_single(key, value):
    return lambda document: document["single_models"]["small"].update({key: value})


def second_point(lambda_):
    return lambda document: document["points"].append({**document["points"][0], "lambda": lambda_})


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("verdict"),
        lambda document: document.pop("points"),
        lambda document: document.pop("single_models"),
        *[lambda document, value=value: document.update(verdict=value) for value in (None, [], "helps", 1, {})],
        *[set_verdict(*pair) for pair in (("helps", 1), ("helps", None), ("text", 7), ("text", "a\nb"),
                                          ("text", "\x1b[2J"), ("text", "x" * 20_000), ("best_single", "ghost"),
                                          ("best_single", ["small"]),
                                          ("best_single", {"small": 1}))],
        *[lambda document, value=value: document.update(points=value) for value in ([], {}, None, [1], [[]], "x")],
        *[set_point("lambda", value) for value in (-1, 1, HUGE, True, None, "0", [0])],
        *[second_point(lambda_) for lambda_ in (0.0, -1.0, None, HUGE, 1e300, "1", True)],
        *[set_point("reward", value) for value in (None, HUGE, "1", True, 1e300)],
        *[set_point("cost_usd", value) for value in (-1e-9, HUGE, "1", True, 1e300)],
        *[set_point("shrinkage", value) for value in (-0.1, 1.1, None, HUGE, "1", True)],
        *[set_point("share", value) for value in (None, [], {"ghost": 1.0}, {"small": -0.1}, {"small": 2},
                                                  {"small": "1"}, {"small": None}, {"small": HUGE},
                                                  {"small": True}, {"small": {}})],
        *[set_point(key, value) for key in ("reward_se", "cost_se") for value in (-1, HUGE, "1", [], True)],
        *[set_single("reward", value) for value in (None, HUGE, "1", [], True)],
        *[set_single("cost_usd", value) for value in (-1, HUGE, "1", [], True)],
        lambda document: document["single_models"].pop("small"),
        lambda document: document["single_models"].update(ghost={"reward": 1.0, "cost_usd": None}),
        lambda document: document["single_models"].update(small=None),
        lambda document: document.update(points=[{**document["points"][0], "lambda": i} for i in range(10_001)]),
        lambda document: [document],
        lambda document: "frontier",
    ],
)  # fmt: skip
def test_a_frontier_that_could_not_serve_is_refused(bundle, change):
    def changed(document):
        found = change(document)
        return found if isinstance(found, (list, str)) and found in ([document], "frontier") else document

    edit_frontier(bundle, changed)
    refused(bundle, r"frontier\.json")


def tensors(**changes):
    return {"weights": np.zeros(DIMENSION, np.float32), "intercept": np.zeros(1, np.float32), **changes}


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        *[save(tensors(**{key: value})) for key in ("weights", "intercept") for value in (
            np.array(1.0, np.float32), np.zeros((0,), np.float32), np.zeros((1, DIMENSION), np.float32),
            np.zeros(DIMENSION, np.int64), np.zeros(DIMENSION, np.float16), np.zeros(DIMENSION, bool),
            np.full(DIMENSION, np.nan, np.float32), np.full(DIMENSION, -np.inf), np.full(DIMENSION, 1e300))],
        save(tensors(output_tokens_weights=np.zeros(DIMENSION, np.float32))),
        save(tensors(output_tokens_weights=np.array(0.0), output_tokens_intercept=np.array(0.0))),
        header('{"weights":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'),
        header('{"weights":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}'),
        header('{"weights":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
        header('{"weights":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}', b"\0" * 4),
        header('{"weights":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}', b"\0" * 4),
        header('{"weights":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"\0" * 4),
        header('{"weights":' + "[" * 5000), header("null"), header('{"__metadata__":{"a":1}}'), header("\ud7ff" * 9),
        header('{"a\\n\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
        struct.pack("<Q", 1 << 62), struct.pack("<Q", 100_000) + b" " * 200, b"", b"\0" * 7, b"\0" * 8, b"\xff" * 64,
    ],
)  # fmt: skip
def test_a_probe_file_of_other_than_two_small_arrays_is_refused(bundle, content):
    put_file(bundle, content, "models", 0, "probe")
    refused(bundle, "probes/small")


@pytest.mark.parametrize("key", ["mean", "whiten", "noise", "slope", "base"])
def test_an_uncertainty_that_is_not_right_is_refused(bundle, key):
    good = {
        "mean": np.zeros(DIMENSION), "whiten": np.eye(DIMENSION), "noise": np.ones(3), "slope": np.ones(3),
        "base": np.ones(1),
    }  # fmt: skip
    nan, huge, whole = np.full_like(good[key], np.nan), np.full_like(good[key], -1e300), good[key].astype(np.int32)
    for wrong in (None, np.array(1.0), np.zeros((2, 2, 2)), nan, huge, whole):
        document = {k: v for k, v in {**good, key: wrong}.items() if v is not None}
        put_file(bundle, save(document), "uncertainty")
        refused(bundle, "uncertainty")


@pytest.mark.parametrize("key", ["weights", "bias", "sizes", "entropy", "unusual"])
def test_features_that_are_not_right_are_refused(bundle, key):
    good = {
        "weights": np.zeros((DIMENSION, 5)), "bias": np.zeros(5), "sizes": np.array([2.0, 3.0]),
        "entropy": np.linspace(0.0, 0.6, 7), "unusual": np.array([0.1]),
    }  # fmt: skip
    edit_manifest(bundle, stack=[0.5, 0.25, 0.25])
    put_features(bundle, good)
    refused(bundle, "no tensor 'memberships'")
    nan, huge, whole = np.full_like(good[key], np.nan), np.full_like(good[key], -1e300), good[key].astype(np.int32)
    for wrong in (None, np.array(1.0), np.zeros((2, 2, 2)), nan, huge, whole, good[key][..., :-1]):
        put_features(bundle, {k: v for k, v in {**good, key: wrong}.items() if v is not None})
        refused(bundle, "features")


@pytest.mark.parametrize(
    ("sizes", "unusual", "entropy", "stack"),
    [([2.5, 2.5], 0.1, [0.0], [1, 1, 1]), ([0.0, 5.0], 0.1, [0.0], [1, 1, 1]), ([5.0], 0.1, [0.0], [1, 1, 1]),
     ([2.0, 3.0], 1.5, [0.0], [1, 1, 1]), ([2.0, 3.0], 0.1, [0.5, 0.4], [1, 1, 1]),
     ([2.0, 3.0], 0.1, [0.0], [1, -1, 1]),
     ([2.0, 3.0], 0.1, [0.0], []), ([2.0, 3.0], 0.1, [0.0], [1] * 100), ([2.0, 3.0], 0.1, [0.0], ["1", 1, 1])],
)  # fmt: skip
def test_features_that_do_not_agree_with_the_manifest_are_refused(bundle, sizes, unusual, entropy, stack):
    edit_manifest(bundle, stack=stack)
    put_features(bundle, {
        "weights": np.zeros((DIMENSION, 5)), "bias": np.zeros(5), "sizes": np.array(sizes),
        "entropy": np.array(entropy), "unusual": np.array([unusual]),
    })  # fmt: skip
    refused(bundle, "features|stack")


def put_features(bundle, tensors):
    record = write_tensors(bundle, "features.safetensors", tensors)
    edit_manifest(bundle, features={"file": record.file, "sha256": record.sha256, "bytes": record.bytes})


def test_links_out_of_the_folder_are_refused_and_links_within_it_are_files(bundle, tmp_path):
    probe = next(bundle.glob("probes/small-*"))
    (tmp_path / "elsewhere").write_bytes(probe.read_bytes())
    probe.rename(bundle / "kept")
    probe.symlink_to("../kept")
    serve(load_bundle(bundle))
    probe.unlink()
    probe.symlink_to(tmp_path / "elsewhere")
    refused(bundle, "leads out of")
    probe.unlink()
    probe.symlink_to(probe.name)
    refused(bundle, "probes/small")
    (bundle / "manifest.json").rename(tmp_path / "manifest.json")
    (bundle / "manifest.json").symlink_to(tmp_path / "manifest.json")
    refused(bundle, "leads out of")


PLACES = ("manifest.json", "frontier.json", "uncertainty.safetensors", "probes/small-81db8ebb.safetensors")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "zero", "sparse"])
def test_what_is_no_regular_file_of_its_size_is_refused_in_little_memory_and_at_once(bundle, place, kind):
    file = bundle / place
    size = file.stat().st_size
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "sparse":
        with file.open("wb") as handle:
            handle.truncate(3_000_000_000)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    else:
        try:
            os.mknod(file, 0o600 | 0o020000, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")
    done = in_little_memory(bundle)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert str(file) in done.stderr
    assert size < 10_000


@pytest.mark.parametrize("place", ["frontier", "uncertainty"])
def test_a_size_that_the_manifest_itself_claims_is_not_believed(bundle, place):
    edit(bundle, lambda document: document[place].update(bytes=900_000_000))
    with (bundle / json.loads((bundle / "manifest.json").read_text())[place]["file"]).open("r+b") as file:
        file.truncate(900_000_000)
    done = in_little_memory(bundle)
    assert "a file of its kind has at most" in done.stderr, done.stderr


def test_a_large_pool_and_dimension_that_are_only_claimed_cost_no_memory(bundle):
    edit_manifest(bundle, models=[])
    edit(bundle, lambda document: document["embedder"].update(dimension=MAX_DIMENSION))
    done = in_little_memory(bundle)
    assert "models" in done.stderr


def in_little_memory(bundle):
    """Load it with half a gigabyte more than an interpreter that has imported everything, and ten seconds."""
    script = (
        "import resource, sys\n"
        "from litellm_erp.bundle.load import load_bundle\n"
        "from litellm_erp.errors import BundleError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)\n"
        "try:\n    load_bundle(sys.argv[1]); print('loaded')\n"
        "except BundleError as e:\n    print(e, file=sys.stderr)\n"
        # Not getrusage, whose peak a process inherits from the one that made it.
        "status = open('/proc/self/status').read()\n"
        "peak = int(status.split('VmHWM:')[1].split()[0]) >> 10\n"
        "assert peak < 300, f'{peak} MB'\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(bundle)], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "half a surrogate \udcff", "/dev/null", "/proc/self/mem", ""])
def test_a_path_that_cannot_be_one_is_a_bundle_error(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        load_bundle(path)


@pytest.mark.parametrize("name", ["embedder.json", "vectors.safetensors", "vocab.txt"])
@pytest.mark.parametrize("kind", ["pipe", "sparse", "zero", "folder", "deep", "empty"])
def test_a_static_embedder_of_odd_files_is_refused_in_little_memory_and_at_once(tmp_path, name, kind):
    folder = shutil.copytree(MODEL_DIR, tmp_path / "embedder")
    file = folder / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "sparse":
        with file.open("wb") as handle:
            handle.truncate(3_000_000_000)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(DEEP if kind == "deep" else b"")
    with pytest.raises((EmbedderUnavailable, EmbedderMismatch), match="static embedder in"):
        StaticEmbedder(folder)


def test_a_stack_of_memberships_without_features_is_refused(bundle):
    edit_manifest(bundle, features=None, stack=[0.5, 0.5, 1.0])
    refused(bundle, "no features")
