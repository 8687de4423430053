"""Maps that people write, in files and in metadata: typed access, with errors that name the key."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from litellm_erp.errors import ErpError
from litellm_erp.shown import is_finite_number, shown

_LISTED = 40


class Section:
    """One map of a file that somebody wrote.

    Parameters
    ----------
    value : what the file has there
    where : file and key, for messages; a file's own top level ends in a colon
    error : the class of error to raise
    keys : the only keys allowed; None allows any
    remedy : what to do, where every mistake in the file has the same remedy

    Raises
    ------
    the error : not a map, or an unknown key
    """

    def __init__(
        self,
        value: object,
        where: str,
        error: type[ErpError],
        keys: Collection[str] | None = None,
        *,
        remedy: str = "",
    ) -> None:
        self.where = where
        self.error = error
        self._remedy = remedy
        if not isinstance(value, Mapping):
            raise self.wrong(None, value, "a map")
        self.value: Mapping[str, Any] = {str(key): entry for key, entry in value.items()}
        unknown = [] if keys is None else sorted(key for key in self.value if key not in keys)
        if unknown:
            raise self.error(
                f"{where.rstrip(':')}: unknown key {shown(unknown[0])}; expected {_some(sorted(keys or ()))}{remedy}"
            )

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    def wrong(self, key: str | None, found: object, expected: str) -> ErpError:
        """The error for one key: what was found, what was expected."""
        where = self.where.rstrip(":") if key is None else self.at(key)
        what = "nothing" if found is None else shown(found)
        return self.error(f"{where}: found {what}; expected {expected}{self._remedy}")

    def at(self, key: str) -> str:
        """How messages call the place of a key."""
        return f"{self.where} {key}" if self.where.endswith(":") else f"{self.where}.{key}"

    def get(self, key: str, default: object = None) -> Any:
        """Whatever is there; an explicit null counts as absent."""
        found = self.value.get(key)
        return default if found is None else found

    def section(
        self, key: str, keys: Collection[str] | None = None, default: Mapping[str, Any] | None = None
    ) -> Section:
        """The map under a key."""
        return Section(self.get(key, default), self.at(key), self.error, keys, remedy=self._remedy)

    def list(self, key: str) -> list[Any]:
        """The list under a key."""
        found = self.get(key)
        if not isinstance(found, list):
            raise self.wrong(key, found, "a list")
        return found

    def optional_text(self, key: str) -> str | None:
        """Text that may be absent, but not empty."""
        found = self.get(key)
        if found is not None and (not isinstance(found, str) or not found):
            raise self.wrong(key, found, "text")
        return found

    def text(self, key: str, default: str | None = None) -> str:
        """Text that must be there, or have a default."""
        found = self.optional_text(key) or default
        if found is None:
            raise self.wrong(key, None, "text")
        return found

    def path(self, key: str, start: Path) -> Path | None:
        """A path that may be absent; a relative one starts from a folder, and ``~`` is somebody's home."""
        found = self.optional_text(key)
        if found is None:
            return None
        try:
            if "\0" not in found:
                return start / Path(found).expanduser()
        except RuntimeError:  # nobody of that name
            pass
        raise self.wrong(key, found, "a path")

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        """One of some words."""
        found = self.get(key, default)
        if not isinstance(found, str) or found not in choices:
            raise self.wrong(key, found, f"one of {_some(choices)}")
        return found

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        found = self.get(key, default)
        if not isinstance(found, bool):
            raise self.wrong(key, found, "true or false")
        return found

    def number(
        self, key: str, default: float | None = None, *, low: float = -math.inf, high: float = math.inf
    ) -> float:
        """A finite number within bounds."""
        found = self.get(key, default)
        if not is_finite_number(found):
            raise self.wrong(key, found, "a finite number")
        if not low <= found <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"a number from {low:g} to {high:g}"
            raise self.wrong(key, found, bounds)
        return float(found)

    def optional_number(self, key: str, *, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A finite number within bounds that may be absent."""
        return None if self.get(key) is None else self.number(key, low=low, high=high)

    def integer(self, key: str, default: int | None = None, *, low: float = -math.inf, high: float = math.inf) -> int:
        """A whole number within bounds."""
        found = self.number(key, default, low=low, high=high)
        if found != int(found):
            raise self.wrong(key, found, "a whole number")
        return int(found)


def _some(words: Collection[str]) -> str:
    """Words for a message; a pool may have thousands of models."""
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(list(words)[:_LISTED]) + more
