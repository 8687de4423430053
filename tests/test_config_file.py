"""A proxy config is read as LiteLLM reads it, within bounds, or is one clear error."""

import asyncio
import os
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from erp_trainer.pool.doctor import examine
from erp_trainer.pool.draft import draft
from litellm_erp.config_file import MAX_FILES, read_config
from litellm_erp.errors import ErpError, SettingsError
from litellm_erp.goals import settings as settings_file
from litellm_erp.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_NODES


def write(folder, **files):
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return folder / "config.yaml"


def as_litellm_reads(path):
    from litellm.proxy.proxy_server import ProxyConfig

    return asyncio.run(ProxyConfig()._get_config_from_file(str(path)))


INCLUDING = {
    "lists are joined, other keys replaced": {
        "config": {"include": ["a.yaml", "b.yaml"], "model_list": [1], "router_settings": {"x": 1}, "own": 1},
        "a": {"model_list": [2], "router_settings": {"y": 2}, "erp_settings": {"groups": 1}},
        "b": {"model_list": [3], "router_settings": {"z": 3}},
    },
    "includes include": {
        "config": {"include": ["sub/a.yaml"], "model_list": [1]},
        "sub__a": {"include": ["sub/b.yaml"], "model_list": [2]},
        "sub__b": {"model_list": [3], "only": {"here": True}},
    },
    "a file is included twice": {
        "config": {"include": ["a.yaml", "b.yaml"], "model_list": [1]},
        "a": {"include": ["c.yaml"], "model_list": [2]},
        "b": {"include": ["c.yaml"], "model_list": [3]},
        "c": {"model_list": [4], "late": 1},
    },
    "two files of one name": {
        "config": {"include": ["sub/a.yaml"]},
        "sub__a": {"include": ["b.yaml"]},
        "sub__b": {"which": "beside the one that names it"},
        "b": {"which": "beside the first"},
    },
    "an empty file": {"config": {"include": ["a.yaml"], "model_list": [1]}, "a": ""},
    "references stay": {"config": {"include": ["a.yaml"]}, "a": {"general_settings": {"master_key": "os.environ/KEY"}}},
    "nothing is included": {"config": {"include": [], "model_list": [1]}},
}


@pytest.mark.parametrize("case", INCLUDING)
def test_includes_are_merged_as_the_installed_litellm_merges_them(tmp_path, case):
    path = write(tmp_path, **INCLUDING[case])
    assert dict(read_config(path).document) == as_litellm_reads(path)


def test_older_and_newer_releases_differ_where_a_file_is_included_twice(tmp_path):
    path = write(tmp_path, **INCLUDING["a file is included twice"])
    assert read_config(path, once=True).document["model_list"] == [1, 2, 3, 4]
    assert read_config(path, once=False).document["model_list"] == [1, 2, 3, 4, 4]
    path = write(tmp_path, **INCLUDING["two files of one name"])
    assert read_config(path, once=True).document["which"] == "beside the one that names it"
    assert read_config(path, once=False).document["which"] == "beside the first"


def test_the_proxys_settings_are_those_of_the_included_file_with_paths_from_there(tmp_path):
    theirs = {"groups": {"erp-auto": {"bundle": "bundle"}}}
    own = {"groups": {"mine": {"bundle": "bundle"}}}
    path = write(tmp_path, config={"include": ["sub/erp.yaml"], "erp_settings": own}, sub__erp={"erp_settings": theirs})
    found = settings_file.load_settings(path)
    assert {name: group.bundle for name, group in found.groups.items()} == {"erp-auto": tmp_path / "sub" / "bundle"}


def test_a_mistake_in_an_included_file_names_that_file(tmp_path):
    path = write(tmp_path, config={"include": ["erp.yaml"]}, erp={"erp_settings": {"groups": {"a": {"bundel": 1}}}})
    with pytest.raises(SettingsError, match=r"erp\.yaml: erp_settings\.groups\.a: unknown key 'bundel'"):
        settings_file.load_settings(path)


WRONG = {
    "missing": ({"config": {"include": ["none.yaml"]}}, r"config\.yaml: includes 'none\.yaml', and .* does not"),
    "no list": ({"config": {"include": "a.yaml"}, "a": {}}, "include is no list of paths"),
    "null": ({"config": {"include": None}}, "include is no list of paths"),
    "not a path": ({"config": {"include": [3]}}, "include is no list of paths"),
    "NUL in a path": ({"config": {"include": ["a\0b"]}}, "does not exist"),
    "a folder": ({"config": {"include": ["sub"]}, "sub__x": {}}, "not a regular file"),
    "itself": ({"config": {"include": ["config.yaml"]}}, "config.yaml → config.yaml"),
    "a circle": ({"config": {"include": ["a.yaml"]}, "a": {"include": ["b.yaml"]}, "b": {"include": ["a.yaml"]}},
                 "a.yaml → b.yaml → a.yaml"),
    "a list": ({"config": {"include": ["a.yaml"]}, "a": [1]}, r"a\.yaml: found a list; expected a map"),
    "text": ({"config": "just text"}, "found a str; expected a map"),
    "empty": ({"config": ""}, "found nothing; expected a map"),
    "a number as key": ({"config": {1: 2}}, "found the key 1; expected text"),
    "an alias in itself": ({"config": "a: &a [*a]"}, "an alias that contains itself, line 1"),
    "aliases of aliases": ({"config": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))}, "with its aliases written out"),
    "merge keys": ({"config": "a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60))}, "with its aliases written out"),
    "deep": ({"config": "a: " + "[" * (MAX_DEPTH + 5)}, f"nested more than {MAX_DEPTH} deep"),
    "deep by aliases": ({"config": "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH + 5))}, "nested more than"),
    "many": ({"config": "a: [" + "1," * (MAX_NODES + 5) + "]"}, f"more than {MAX_NODES:,} values"),
    "a number in base 60": ({"config": "a: " + "1:" * 100_000 + "1"}, "a number of 200,001 characters"),
    "a day that is none": ({"config": "a: 2001-99-99"}, "a value that is not of its type, line 1"),
    "a tag": ({"config": "a: !!bool perhaps"}, "a value that is not of its type, line 1"),
    "code": ({"config": "a: !!python/object/apply:os.system [true]"}, "could not determine a constructor"),
    "half a character": ({"config": 'a: "\\ud800"'}, "half of a surrogate pair"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_is_one_clear_error_of_every_reader(tmp_path, case):
    files, said = WRONG[case]
    path = write(tmp_path, **files)
    for reader in (read_config,) if case == "many" else (read_config, settings_file.load_settings, examine, draft):
        with pytest.raises(SettingsError, match=said):
            reader(path)


def test_too_many_includes_are_refused_however_they_come_about(tmp_path):
    many = {f"f{i}": "" for i in range(MAX_FILES)}
    with pytest.raises(SettingsError, match=f"more than {MAX_FILES} files"):
        read_config(write(tmp_path, config={"include": [f"{name}.yaml" for name in many]}, **many))
    doubling = {f"d{i}": {"include": [f"d{i + 1}.yaml"] * 2} for i in range(30)} | {"d30": ""}
    path = write(tmp_path, config={"include": ["d0.yaml"]}, **doubling)
    with pytest.raises(SettingsError, match=f"more than {MAX_FILES} files"):
        read_config(path, once=False)
    assert read_config(path, once=True).document == {}


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "sparse", "large"])
def test_what_is_no_small_file_is_refused_before_it_is_read(tmp_path, kind):
    path = tmp_path / "config.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(3 * 2**30 if kind == "sparse" else MAX_BYTES + 1)
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(SettingsError, match=r"not a regular file|bytes; expected at most"):
        settings_file.load_settings(path)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 2**20
    assert time.monotonic() - started < 5


def test_a_message_never_quotes_the_file(tmp_path):
    path = write(tmp_path, config="general_settings:\n  master_key: sk-secret: [\n  other: 'sk-secret\n")
    with pytest.raises(SettingsError, match=r"not YAML \(.*line 2") as error:
        read_config(path)
    assert "sk-secret" not in str(error.value)


def test_keys_that_stand_twice_are_named(tmp_path):
    path = write(tmp_path, config="router_settings: {a: 1}\nmodel_list: []\nrouter_settings: {b: 1}\n")
    assert read_config(path).repeated == (f"{path}: router_settings (line 3)",)
    assert read_config(path).document["router_settings"] == {"b": 1}


_KEYS = st.sampled_from(
    ["include", "erp_settings", "model_list", "groups", "bundle", "policy", "teams", "lambda", "budget_usd", "per",
     "timezone", "allow_override", "embedder", "redis", "url", "router_settings", "routing_groups", "litellm_params",
     "model", "model_name", "erp-auto", "general_settings", "litellm_settings", "callbacks"]
) | st.text(max_size=4)  # fmt: skip
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates() | st.binary(max_size=3)
    | st.sampled_from(["~nobody/x", "a\0b", "os.environ/X", "../..", "1e999", 10**400, "config.yaml", "day"])
)  # fmt: skip
_DOCUMENTS = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.integers(), inner, max_size=4)
)
_SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "erp_settings": st.fixed_dictionaries({"groups": st.dictionaries(_KEYS, _DOCUMENTS, max_size=2)}) | _DOCUMENTS,
        "model_list": st.lists(
            st.fixed_dictionaries({"model_name": _SCALARS, "litellm_params": _DOCUMENTS}) | _DOCUMENTS, max_size=2
        )
        | _DOCUMENTS,
        "router_settings": _DOCUMENTS,
        "include": _DOCUMENTS,
    },
)


def assert_a_value_or_one_error(path):
    for reader in (settings_file.load_settings, examine, draft):
        error = None
        try:
            reader(path)
        except ErpError as e:
            error = str(e)
        assert error is None or 0 < len(error) < 4000


@settings(max_examples=100, deadline=None)
@given(document=_SHAPED | _DOCUMENTS)
def test_every_reader_gives_a_value_or_one_error_for_any_document(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("any") / "config.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8", errors="replace")
    assert_a_value_or_one_error(path)


@settings(max_examples=100, deadline=None)
@given(
    content=st.binary(max_size=60) | st.text(alphabet="{}[]:,&*!<|>-?'\"ab01\n \t%@.#~_", max_size=40).map(str.encode)
)
def test_every_reader_gives_a_value_or_one_error_for_any_bytes(tmp_path_factory, content):
    path: Path = tmp_path_factory.mktemp("any") / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert_a_value_or_one_error(path)
