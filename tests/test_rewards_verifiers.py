"""Rewards without a model: verifiers, and the user's own function."""

import importlib
from pathlib import Path

import pytest

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Pair, RewardModel
from erp_trainer.rewards.registry import KINDS, load_reward_model
from litellm_erp.errors import RewardError, SettingsError
from tests.reward_models import spec


def reward(kind: str, response: str, reference: str | None, **options: object) -> float:
    (scored,) = load_reward_model(spec(kind, **options)).score([Pair("q", response, reference)], lambda n: None)
    return scored.reward


@pytest.mark.parametrize(
    ("response", "reference", "expected"),
    [("Paris", "paris", 1), (" New\n York ", "new york", 1), ("Paris.", "Paris", 0), ("", "Paris", 0), ("", "", 1)],
)
def test_exact_match_ignores_case_and_white_space(response: str, reference: str, expected: float) -> None:
    assert reward("exact-match", response, reference) == expected


@pytest.mark.parametrize(
    ("response", "expected"), [("7 × 8 = 54 #### 54\nNo: #### 56", 1), ("#### 56\n#### 54", 0), ("56", 0)]
)
def test_exact_match_takes_the_last_answer_that_extract_finds(response: str, expected: float) -> None:
    assert reward("exact-match", response, "56", extract=r"####\s*(\S+)") == expected


@pytest.mark.parametrize(("response", "expected"), [("Answer: 3.5", 1), ("Answer: 3x5", 0), ("3.5", 0)])
def test_regex_takes_the_reference_literally(response: str, expected: float) -> None:
    assert reward("regex", response, "3.5", pattern=r"(?i)answer:\s*{reference}") == expected


def test_a_regex_without_a_reference_checks_a_format() -> None:
    model = load_reward_model(spec("regex", pattern=r"^\{.*\}$"))
    assert not model.needs_reference
    assert reward("regex", "{}", None, pattern=r"^\{.*\}$") == 1


OWN = """
def length(pairs):
    return [len(pair.response) for pair in pairs]

def short(pairs):
    return [0.0]

def broken(pairs):
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_rewards.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_users_own_function_scores() -> None:
    assert reward("callable", "four", None, callable="my_own_rewards:length") == 4


@pytest.mark.parametrize(
    ("named", "message"), [("short", "returned 1 rewards for 2 pairs"), ("broken", "raised ZeroDivisionError")]
)
def test_what_the_users_function_does_wrong_is_said(named: str, message: str) -> None:
    model = load_reward_model(spec("callable", callable=f"my_own_rewards:{named}"))
    with pytest.raises(RewardError, match=message):
        model.score([Pair("q", "a"), Pair("q", "b")], lambda n: None)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("my_own_rewards.length", "expected package.module:function"),
        ("my_own_rewards:missing", "cannot be imported"),
        ("no_such_module:score", "install its package, or put its folder in PYTHONPATH"),
        ("my_own_rewards:OWN", "cannot be imported"),
    ],
)
def test_a_function_that_is_not_there_is_named(named: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_reward_model(spec("callable", callable=named))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("exact", {}, "kind: found 'exact'; expected one of text-pair"),
        ("regex", {}, "pattern: missing"),
        ("regex", {"pattern": "("}, "no regular expression"),
        ("exact-match", {"ignorecase": True}, "unknown key 'ignorecase'; expected extract"),
        ("text-pair", {"model": "/no/such/folder"}, "cannot be read"),
        ("chat-template", {"model": "m", "max_tokens": 0}, "max_tokens: found 0"),
        ("internlm", {"via": "magic"}, "via: found 'magic'; expected vllm or remote-code"),
        ("pooling-server", {"model": "m", "api_base": "http://x", "api_key": "sk-1"}, "expected a reference"),
    ],
)
def test_every_mistake_in_the_pool_file_is_named(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_reward_model(spec(kind, **options))


def test_every_kind_of_the_registry_can_be_imported() -> None:
    from importlib import import_module

    for place in KINDS.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))


def beside(folder: Path, **options: object) -> RewardModel:
    return load_reward_model(RewardSpec("callable", "own", 1.0, options, folder))


def test_a_function_is_found_beside_the_pool_file_and_so_is_what_it_imports(tmp_path: Path) -> None:
    for name, worth in (("first", 1), ("second", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"worth_of_{name}.py").write_text(f"WORTH = {worth}")
        (tmp_path / name / "own_judge.py").write_text(
            f"def score(pairs):\n    import worth_of_{name}\n    return [worth_of_{name}.WORTH for _ in pairs]\n"
        )
    found = [
        beside(tmp_path / name, callable="own_judge:score").score([Pair("q", "a")], lambda n: None)[0].reward
        for name in ("first", "second")
    ]
    assert found == [1.0, 2.0], "each pool file has its own"


def test_a_package_beside_the_pool_file_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "own_judges").mkdir()
    (tmp_path / "own_judges" / "__init__.py").touch()
    (tmp_path / "own_judges" / "length.py").write_text(
        "def score(pairs):\n    return [len(p.response) for p in pairs]\n"
    )
    model = beside(tmp_path, callable="own_judges.length:score")
    assert model.score([Pair("q", "abc")], lambda n: None)[0].reward == 3.0


@pytest.mark.parametrize("text", ["def score(", "1 / 0", "raise SystemExit(3)", "import no_such_thing"])
def test_a_file_that_cannot_be_imported_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken_judge.py").write_text(text)
    with pytest.raises(SettingsError, match="broken_judge:score cannot be imported"):
        beside(tmp_path, callable="broken_judge:score")


def test_a_file_named_as_a_module_of_python_does_not_take_its_place(tmp_path: Path) -> None:
    (tmp_path / "textwrap.py").write_text("def dedent(pairs):\n    raise ValueError\n")
    beside(tmp_path, callable="textwrap:dedent")
    assert importlib.import_module("textwrap").dedent("  a") == "a"
