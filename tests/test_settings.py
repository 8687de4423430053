"""erp_settings are whole, or one clear error."""

from pathlib import Path

import pytest

from litellm_erp.errors import SettingsError
from litellm_erp.goals import settings as settings_file

GROUP = {"bundle": "bundle"}


def parse(group=None, **top):
    document = {"groups": {"erp-auto": {**GROUP, **(group or {})}}, **top}
    return settings_file.parse(document, Path("/etc/litellm/config.yaml"))


def test_a_group_needs_only_a_bundle_and_paths_start_from_the_file():
    group = parse().groups["erp-auto"]
    assert group.bundle == Path("/etc/litellm/bundle")
    assert (group.goal.form, group.goal.value) == ("lambda", 0.0)
    assert (group.unknown, group.headers, group.safety) == ("last", "all", True)


def test_teams_have_goals_and_bounds_of_their_own():
    group = parse({"teams": {"research": {"lambda": 0, "allow_override": [0, 2]}, 42: {"min_quality": 0.9}}})
    team = group.groups["erp-auto"].teams["research"]
    assert team.override.clamp(99) == 2
    assert group.groups["erp-auto"].teams["42"].goal.form == "min_quality"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"bundel": "x"}, "erp-auto: unknown key 'bundel'"),
        ({"bundle": 3}, "erp-auto.bundle: found 3"),
        ({"policy": {"lambda": -1}}, "erp-auto.policy.lambda: found -1"),
        ({"policy": {"lambda": 1, "min_quality": 1}}, "erp-auto.policy: found lambda and min_quality"),
        ({"unknown": "middle"}, "erp-auto.unknown: found 'middle'"),
        ({"headers": True}, "erp-auto.headers: found True"),
        ({"safety": "yes"}, "erp-auto.safety: found 'yes'"),
        ({"teams": {"a": {"lambda": "cheap"}}}, r"erp-auto.teams.a.lambda: found 'cheap'"),
        ({"teams": {"a": {}}}, r"erp-auto.teams.a: found nothing"),
        ({"teams": ["a"]}, r"erp-auto.teams: found \['a'\]"),
        ({"allow_override": [2, 1]}, r"erp-auto.allow_override: found \[2, 1\]"),
        ({"embedder": {"timeout_ms": 0}}, r"erp-auto.embedder.timeout_ms: found 0"),
        (
            {"embedder": {"url": "http://e", "api_key": "sk-secret"}},
            r"erp-auto.embedder.api_key: expected a reference",
        ),
        (
            {"embedder": {"url": "http://e", "api_key": "os.environ/NOT_SET_ANYWHERE"}},
            "NOT_SET_ANYWHERE is not set",
        ),
        ({"embedder": {"api_key": "os.environ/EMBEDDING_KEY"}}, "state the url that it belongs to"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(group, message):
    with pytest.raises(SettingsError, match=message) as error:
        parse(group)
    assert "/etc/litellm/config.yaml" in str(error.value)
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize("value", [None, {}, [], "x", {"groups": {}}, {"groups": {"a": None}}, {"grups": {}}])
def test_settings_without_groups_are_refused(value):
    with pytest.raises(SettingsError, match="erp_settings"):
        settings_file.parse(value, Path("config.yaml"))


def test_a_config_without_erp_settings_is_not_ours(tmp_path):
    (tmp_path / "config.yaml").write_text("model_list: []\n")
    assert settings_file.load_settings(tmp_path / "config.yaml") is None


def test_settings_may_stand_in_a_file_of_their_own(tmp_path):
    (tmp_path / "erp.yaml").write_text("groups: {a: {bundle: b}}\n")
    assert list(settings_file.load_settings(tmp_path / "erp.yaml").groups) == ["a"]


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"a: !!python/object:os.system {}"])
def test_a_file_that_is_no_safe_yaml_is_refused(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"config\.yaml: not (YAML|UTF-8)"):
        settings_file.load_settings(tmp_path / "config.yaml")


def test_a_secret_is_read_from_the_environment_and_never_printed(monkeypatch):
    monkeypatch.setenv("EMBEDDING_KEY", "sk-secret")
    embedder = (
        parse({"embedder": {"url": "http://e", "api_key": "os.environ/EMBEDDING_KEY"}}).groups["erp-auto"].embedder
    )
    assert embedder.api_key == "sk-secret"
    assert "sk-secret" not in repr(embedder)
