"""Any change to a bundle's files: it loads and serves, or it is one bundle error. Never anything else."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.policy_files import policy_file
from litellm_erp.embedding.static import StaticEmbedder, StaticSettings, file_hash, quantise
from litellm_erp.errors import BundleError, EmbedderUnavailable
from tests.bundles import DIMENSION, write_bundle
from tests.crafted import edit, put_file, serve

MODELS = ("small", "org/mid", "big")
EXAMPLES = settings(max_examples=100, deadline=None)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from(
        [0, -0.0, 1, True, 1e-320, 1e15, 1e16, 1e300, 10**400, -(10**400), 2**63, float("nan"), float("inf")]
    ),
)
TEXTS = st.one_of(st.text(), st.sampled_from(["", "small", "ghost", "\0", "a\nb", "\ud800", "x" * 3000, "../x", "NaN"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
ARRAYS = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.lists(st.sampled_from([0, 1, 2, 3, DIMENSION, 7]), max_size=3),
    st.sampled_from(["f4", "f8", "f2", "i1", "i8", "?"]),
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 100.0]),
)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """A small bundle of every policy."""
    folder = tmp_path_factory.mktemp("wholes")
    rng = np.random.default_rng(0)
    found = {"erp": write_bundle(folder / "erp", MODELS)}
    tensors = {
        "pairwise": {
            "weights": rng.normal(size=(DIMENSION, 3)).astype(np.float32),
            "intercept": np.zeros(3, np.float32),
            "level": np.ones(1),
            "scale": np.ones(1),
        },
        "benchmark": {
            "rows": rng.integers(-127, 127, size=(8, DIMENSION)).astype(np.int8),
            "row_scale": np.full(8, 0.01, np.float32),
            "correct": rng.integers(-1, 2, size=(8, 3)).astype(np.int8),
            "prior": np.full(3, 0.5, np.float32),
            **{key: np.array([value]) for key, value in (("neighbours", 3.0), ("low", 0.0), ("high", 1.0))},
            "task_distance": np.array([0.1, 0.5]),
            "task_right": np.full((2, 3), 0.6),
            "bandwidth": np.array([0.1]),
        },
    }
    for policy, stored in tensors.items():
        path = found[policy] = write_bundle(folder / policy, MODELS)
        edit(path, lambda document, policy=policy: document.update(policy=policy, policy_files=[{}]))
        put_file(path, save(stored), "policy_files", 0, name=policy_file(policy))
    for path in found.values():
        serve(load_bundle(path))
    return found


def whole_or_refused(bundle):
    refusal = ""
    try:
        serve(load_bundle(bundle))
    except BundleError as e:
        refusal = str(e)
    assert not refusal or str(bundle) in refusal
    refusal.encode()


def places(value, here=()):
    """Where in a document something stands."""
    yield here
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*here, key))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from places(part, (*here, i))


def change(draw, document):
    """Something in it replaced, left out, or put in."""
    *path, last = draw.draw(st.sampled_from([place for place in places(document) if place]))
    holder = document
    for key in path:
        holder = holder[key]
    kind = draw.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if kind == "remove":
        del holder[last]
    elif kind == "add" and isinstance(holder, dict):
        holder[draw.draw(TEXTS)] = draw.draw(VALUES)
    elif kind == "add":
        holder.append(draw.draw(st.one_of(VALUES, st.just(holder[last]))))
    else:
        holder[last] = draw.draw(VALUES)


def copied(whole, folder):
    return Path(shutil.copytree(whole, Path(folder) / "bundle"))


@EXAMPLES
@given(draw=st.data())
def test_any_json_in_the_place_of_any_field(wholes, draw):
    with TemporaryDirectory() as folder:
        bundle = copied(wholes[draw.draw(st.sampled_from(sorted(wholes)))], folder)
        file = draw.draw(st.sampled_from(["manifest.json", "frontier.json"]))
        document = json.loads((bundle / file).read_text())
        for _ in range(draw.draw(st.integers(1, 3))):
            with suppress(KeyError, IndexError):
                change(draw, document)
        if file == "manifest.json":
            (bundle / file).write_text(json.dumps(document))
        else:
            put_file(bundle, json.dumps(document).encode(), "frontier")
        whole_or_refused(bundle)


def record_of(bundle, name):
    """Where the manifest keeps the record of a file."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    return next(p[:-1] for p in places(manifest) if p[-1:] == ("file",) and value_at(manifest, p) == name)


def value_at(document, path):
    for key in path:
        document = document[key]
    return document


@EXAMPLES
@given(draw=st.data())
def test_any_bytes_in_the_place_of_any_files(wholes, draw):
    with TemporaryDirectory() as folder:
        bundle = copied(wholes[draw.draw(st.sampled_from(sorted(wholes)))], folder)
        files = sorted(path for path in bundle.rglob("*") if path.is_file())
        file = draw.draw(st.sampled_from(files))
        content = bytearray(file.read_bytes())
        kind = draw.draw(st.sampled_from(["flip", "cut", "extend", "other", "swap", "remove", "folder"]))
        if kind == "flip":
            for _ in range(draw.draw(st.integers(1, 4))):
                content[draw.draw(st.integers(0, len(content) - 1))] ^= draw.draw(st.integers(1, 255))
        elif kind == "cut":
            del content[draw.draw(st.integers(0, len(content) - 1)) :]
        elif kind == "extend":
            content += draw.draw(st.binary(min_size=1, max_size=20))
        elif kind == "other":
            content = bytearray(draw.draw(st.binary(max_size=40)))
        elif kind == "swap":
            content = bytearray(draw.draw(st.sampled_from(files)).read_bytes())
        if kind in ("remove", "folder"):
            file.unlink()
            if kind == "folder":
                file.mkdir()
        elif file.name == "manifest.json" or draw.draw(st.booleans()):
            file.write_bytes(content)
        else:
            name = file.relative_to(bundle).as_posix()
            put_file(bundle, bytes(content), *record_of(bundle, name))
        whole_or_refused(bundle)


@EXAMPLES
@given(draw=st.data())
def test_any_array_in_the_place_of_any_other(wholes, draw):
    with TemporaryDirectory() as folder:
        bundle = copied(wholes[draw.draw(st.sampled_from(sorted(wholes)))], folder)
        file = draw.draw(st.sampled_from(sorted(bundle.rglob("*.safetensors"))))
        tensors = load(file.read_bytes())
        for key in draw.draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=2)):
            odd = draw.draw(
                st.one_of(ARRAYS, st.none(), st.sampled_from([1e15, -1e15, np.nan, 1e-300, np.inf, 0.0, 1e16]))
            )
            if odd is None:
                tensors.pop(key, None)
            elif key in tensors:
                tensors[key] = odd if isinstance(odd, np.ndarray) else np.full(tensors[key].shape, odd)
        put_file(bundle, save(tensors), *record_of(bundle, file.relative_to(bundle).as_posix()))
        whole_or_refused(bundle)


WORDS = ["[UNK]", "hello", "##s", "a", "."]
SETTINGS = {"shape": "bytes-1", "share_weight": 0.1, "length_weight": 0.1}


def write_embedder(folder, settings_, stored, words):
    vectors, vocabulary = save(stored), "\n".join(words).encode("utf-8", "surrogatepass")
    with suppress(TypeError, ValueError):  # settings that cannot be hashed are refused before the hash is
        found = file_hash(vectors, vocabulary, StaticSettings(**settings_))
        config = {"id": "tiny", "sha256": found, "settings": settings_}
        (folder / "embedder.json").write_text(json.dumps(config))
    (folder / "vectors.safetensors").write_bytes(vectors)
    (folder / "vocab.txt").write_bytes(vocabulary)


@EXAMPLES
@given(draw=st.data())
def test_any_static_embedder_embeds_or_is_refused(draw):
    stored = quantise(np.random.default_rng(0).normal(size=(len(WORDS), 4)).astype(np.float32))
    options, words = dict(SETTINGS), list(WORDS)
    kind = draw.draw(st.sampled_from(["settings", "array", "words", "config"]))
    if kind == "settings":
        options[draw.draw(st.sampled_from([*SETTINGS, "more"]))] = draw.draw(VALUES)
    elif kind == "array":
        key = draw.draw(st.sampled_from(["vectors", "scales"]))
        odd = draw.draw(st.one_of(ARRAYS, st.sampled_from([np.nan, np.inf, -1.0, 1e30, 1e-30, 0.0])))
        stored[key] = odd if isinstance(odd, np.ndarray) else np.full(stored[key].shape, odd, stored["scales"].dtype)
    elif kind == "words":
        words[draw.draw(st.integers(0, len(words) - 1))] = draw.draw(TEXTS)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_embedder(folder, options, stored, words)
        if kind == "config":
            (folder / "embedder.json").write_text(json.dumps(draw.draw(VALUES)))
        refusal = name
        try:
            vectors = StaticEmbedder(folder).embed(["", "hello a", "?", "模型 🙂", "\0", "x" * 5000])
            assert np.isfinite(vectors).all()
        except (BundleError, EmbedderUnavailable) as e:
            refusal = str(e)
        assert name in refusal
        refusal.encode()
