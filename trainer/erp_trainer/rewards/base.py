"""What every kind of reward model is: pairs in, raw rewards out.

A kind is one class in one file, constructed from its `RewardSpec` and named in the registry. Construction checks
the options and reads configuration, never weights: a run whose responses are all scored needs no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from erp_trainer.pool.pool import RewardSpec
from litellm_erp.errors import SettingsError

Message = dict[str, Any]
Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, text or chat messages, one response to it, and the right answer where there is one."""

    prompt: str | list[Message]
    response: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A raw reward, NaN where the model gave none, and whether prompt or response had to be cut."""

    reward: float
    truncated: bool = False


class RewardModel(Protocol):
    """One reward model of a run.

    Attributes
    ----------
    name : of the spec
    needs_reference : pairs come with the reference answer, and prompts without one are skipped, and counted
    """

    name: str
    needs_reference: bool

    def identity(self) -> dict[str, Any]:
        """Everything that decides a reward, as JSON; part of the key under which rewards are kept."""
        ...

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        """Score pairs, in their order; ``advance`` is called with the number of pairs just done.

        Raises
        ------
        RewardError : no rewards for these pairs
        """
        ...

    def close(self) -> None:
        """Free memory and connections."""
        ...


class Options:
    """The options of one entry of ``rewards:``, read once each; what is left over is a mistake."""

    def __init__(self, spec: RewardSpec) -> None:
        self._left = dict(spec.options)
        self._known: list[str] = []
        self.where = f"rewards.{spec.name} ({spec.kind})"

    def done(self) -> None:
        """Raise `SettingsError` unless every option was read."""
        if self._left:
            unknown = min(map(str, self._left))
            raise SettingsError(f"{self.where}: unknown key {unknown!r}; expected {', '.join(sorted(self._known))}")

    def optional_text(self, key: str) -> str | None:
        """Text, or None where the key is missing."""
        found = self._take(key)
        if found is not None and (not isinstance(found, str) or not found):
            raise SettingsError(f"{self.where}: {key}: found {found!r}; expected text")
        return found

    def text(self, key: str) -> str:
        """Text that must be there."""
        found = self.optional_text(key)
        if found is None:
            raise SettingsError(f"{self.where}: {key}: missing; expected text")
        return found

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of some words."""
        found = self.optional_text(key) or default
        if found not in choices:
            raise SettingsError(f"{self.where}: {key}: found {found!r}; expected one of {', '.join(choices)}")
        return found

    def boolean(self, key: str, default: bool = False) -> bool:
        """True or false."""
        found = self._take(key)
        if found is not None and not isinstance(found, bool):
            raise SettingsError(f"{self.where}: {key}: found {found!r}; expected true or false")
        return default if found is None else found

    def optional_integer(self, key: str, low: int = 1) -> int | None:
        """A whole number of at least ``low``, or None where the key is missing."""
        found = self._take(key)
        if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < low):
            raise SettingsError(f"{self.where}: {key}: found {found!r}; expected a whole number from {low}")
        return found

    def _take(self, key: str) -> Any:
        self._known.append(key)
        return self._left.pop(key, None)
