"""A LiteLLM proxy's config.yaml, read as LiteLLM reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litellm_erp.errors import SettingsError
from litellm_erp.section import read_yaml


def read_proxy_config(path: Path) -> dict[str, Any]:
    """The config with the files it includes merged into it: lists are joined, other keys are its own first.

    Raises
    ------
    SettingsError : a file that cannot be read, is not YAML, is not a map, or includes itself
    """
    return _read(path, ())


def _read(path: Path, included_by: tuple[Path, ...]) -> dict[str, Any]:
    if (own := path.resolve()) in included_by:
        chain = " → ".join(file.name for file in (*included_by[included_by.index(own) :], own))
        raise SettingsError(f"{path}: includes itself ({chain}); LiteLLM would never end reading it. Drop one include")
    document = read_yaml(path, SettingsError)
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: found {type(document).__name__}; expected a LiteLLM proxy config")
    for included in document.get("include") or ():
        for key, value in _read(path.parent / str(included), (*included_by, own)).items():
            if isinstance(value, list):
                document[key] = [*document.get(key, []), *value]
            else:
                document.setdefault(key, value)
    return document
