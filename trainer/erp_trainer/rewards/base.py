"""What every kind of reward model is: pairs in, raw rewards out.

A kind is one class in one file, constructed from its `RewardSpec` and named in the registry. Construction checks
the options and reads configuration, never weights: a run whose responses are all scored needs no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from erp_trainer.pool.pool import RewardSpec
from litellm_erp.config_section import Section
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


class Options(Section):
    """The options of one entry of ``rewards:``, read by its kind; what no kind reads is a mistake."""

    def __init__(self, spec: RewardSpec) -> None:
        super().__init__(spec.options, f"rewards.{spec.name} ({spec.kind})", SettingsError)
        self._read: set[str] = set()

    def get(self, key: str, default: object = None) -> Any:
        """As of any section; and remember the key."""
        self._read.add(key)
        return super().get(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        """Text that must be there."""
        if self.get(key, default) is None:
            raise self.error(f"{self.at(key)}: missing; expected text")
        return super().text(key, default)

    def optional_integer(self, key: str, low: int = 1) -> int | None:
        """A whole number of at least ``low``, or None where the key is missing."""
        return None if self.get(key) is None else self.integer(key, low=low)

    def done(self) -> None:
        """Raise `SettingsError` unless every option was read."""
        if unknown := sorted(self.value.keys() - self._read):
            raise SettingsError(f"{self.where}: unknown key {unknown[0]!r}; expected {', '.join(sorted(self._read))}")
