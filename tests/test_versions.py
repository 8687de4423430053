"""Which LiteLLM is asked for: the files that name versions agree, and compromised releases are never taken."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parent.parent


def _supported() -> Requirement:
    asked = [Requirement(line) for line in requires("litellm-erp") or []]
    return next(each for each in asked if each.name == "litellm" and each.marker is None)


def _found(path: str, pattern: str) -> str:
    match = re.search(pattern, (REPOSITORY / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert match, f"{path} no longer has {pattern}"
    return match[1]


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.107.0", "1.107.12"])
def test_a_compromised_litellm_is_refused(version: str) -> None:
    assert version not in _supported().specifier


@pytest.mark.parametrize("version", ["1.108.7", "1.110.2", "1.999.0", "2.0.1"])
def test_a_newer_litellm_is_not_shut_out(version: str) -> None:
    assert version in _supported().specifier


def test_the_oldest_that_is_tested_is_the_oldest_that_is_supported() -> None:
    oldest = _found("scripts/test_compat.sh", r"^oldest=(.+)$")
    assert f">={oldest}" in str(_supported().specifier)
    assert f"Supports LiteLLM {oldest} and later" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_the_litellm_that_is_developed_on() -> None:
    pinned = _found("constraints.txt", r"^litellm==(.+)$")
    assert pinned in _supported().specifier
    assert f"developed on {pinned}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
