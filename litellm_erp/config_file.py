"""IO. A LiteLLM proxy's config.yaml as LiteLLM reads it, with its includes, and what it leaves to the environment.

An included file's lists are appended; of any other key the included value counts, and of several the last one. Paths
start from the folder of the file that names them, or from that of the first config.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litellm_erp import litellm_releases as releases
from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError
from litellm_erp.shown import shown
from litellm_erp.yaml_file import read_document

MAX_FILES = 100
# What stands before the name of an environment variable whose value is meant.
REFERENCE = "os.environ/"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config with its includes merged.

    Attributes
    ----------
    path : the first file, as it was given
    document : what LiteLLM takes the config to be
    origins : top-level key to the file whose value counts; of a list, the last that added to it
    repeated : keys that stand twice in one map, with file and line
    """

    path: Path
    document: Mapping[str, Any]
    origins: Mapping[str, Path]
    repeated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    content: Mapping[Any, Any]
    includes: tuple[Path, ...]
    repeated: tuple[str, ...]


def is_reference(value: object) -> bool:
    """Whether a value stands in the environment."""
    return isinstance(value, str) and value.startswith(REFERENCE) and "\0" not in value


def secret_reference(entry: Section, key: str, example: str) -> str | None:
    """The reference under a key that may be absent; secrets stand in the environment, as everywhere in such a config.

    Raises
    ------
    the section's error : the secret itself, or anything else that is no reference
    """
    found = entry.optional_text(key)
    if found is not None and not is_reference(found):
        # What was found may be the secret.
        what = key.rsplit("_", 1)[-1]
        raise entry.error(f"{entry.at(key)}: expected a reference such as {REFERENCE}{example}, not the {what} itself")
    return found


def from_environment(reference: str, where: str) -> str:
    """What a reference stands for.

    Raises
    ------
    SettingsError : there is no such variable; names it and ``where``
    """
    name = reference.removeprefix(REFERENCE)
    if name not in os.environ:
        raise SettingsError(f"{where}: environment variable {name} is not set")
    return os.environ[name]


def read_config(path: Path, *, once: bool | None = None) -> ConfigFile:
    """Read a config and what it includes.

    Parameters
    ----------
    once : merge a file that is included twice once, and look for nested files beside who names them; None does as the
        installed LiteLLM does (`releases.includes_once`)

    Raises
    ------
    SettingsError : a file that is missing, cannot be read within bounds, is not YAML or not a map; an include that is
        not a list of paths, or that leads back to itself; names the file
    """
    once = releases.includes_once() if once is None else once
    first = _absolute(path)
    files = {first: _read(path, first, once)}
    pending = deque([first])
    while pending:
        for location in files[pending.popleft()].includes:
            if location not in files:
                _refuse_too_many(path, len(files) + 1)
                files[location] = _read(location, first, once)
                pending.append(location)
    _refuse_circles(first, files, (), set())
    return _merged(first, files, once)


def _read(path: Path, first: Path, once: bool) -> _File:
    """One file, its includes as absolute paths."""
    found = read_document(path, SettingsError)
    # LiteLLM takes an empty file that is included for an empty map, and an empty config for a mistake.
    content = found.value if _absolute(path) == first else found.value or {}
    if not isinstance(content, Mapping):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise SettingsError(f"{path}: found {kind}; expected a map, as in a LiteLLM proxy config")
    if odd := [key for key in content if not isinstance(key, str)]:
        raise SettingsError(f"{path}: found the key {odd[0]!r}; expected text")
    listed = content.get("include", [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) and entry for entry in listed):
        raise SettingsError(f"{path}: include is no list of paths; expected one such as [models.yaml]")
    includes = tuple(_locate(entry, path, first, once) for entry in listed)
    return _File(path, content, includes, tuple(f"{path}: {key}" for key in found.repeated))


def _locate(entry: str, declared_in: Path, first: Path, once: bool) -> Path:
    folders = [declared_in.parent, first.parent] if once else [first.parent]
    places = [_absolute(folder / entry) for folder in folders]
    for place in places:
        if "\0" not in entry and place.exists():
            return place
    raise SettingsError(
        f"{declared_in}: includes {entry!r}, and {shown(str(places[0]))} does not exist; correct the path or take it "
        "out of include"
    )


def _absolute(path: Path) -> Path:
    # Not resolved: beside a link, as in a mounted ConfigMap, lie other files than beside what it leads to.
    return Path(os.path.normpath(path.absolute()))


def _refuse_too_many(path: Path, count: int) -> None:
    if count > MAX_FILES:
        raise SettingsError(f"{path}: includes more than {MAX_FILES} files; expected fewer, join some of them")


def _refuse_circles(location: Path, files: Mapping[Path, _File], above: tuple[Path, ...], clear: set[Path]) -> None:
    if location in clear:
        return
    if location in above:
        circle = (*above[above.index(location) :], location)
        chain = " → ".join(place.name for place in circle)
        raise SettingsError(
            f"{files[location].path}: includes itself ({chain}); some releases of LiteLLM never end reading that. Drop "
            "one include"
        )
    for include in files[location].includes:
        _refuse_circles(include, files, (*above, location), clear)
    clear.add(location)


def _merged(first: Path, files: Mapping[Path, _File], once: bool) -> ConfigFile:
    document: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    pending, seen, count = deque([first]), set[Path](), 0
    while pending:
        location = pending.popleft()
        if once and location in seen:
            continue
        seen.add(location)
        count += 1
        _refuse_too_many(files[first].path, count)
        file = files[location]
        for key, value in file.content.items():
            if key == "include":
                continue
            own = document.get(key)
            document[key] = [*own, *value] if isinstance(own, list) and isinstance(value, list) else value
            origins[key] = file.path
        pending.extend(file.includes)
    repeated = tuple(line for file in files.values() for line in file.repeated)
    return ConfigFile(files[first].path, document, origins, repeated)
