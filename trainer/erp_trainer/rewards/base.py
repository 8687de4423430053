"""What every kind of reward model is: pairs in, raw rewards out.

A kind is one subclass of `RewardModel` in one file, constructed from its `RewardSpec` and named in the registry.
Construction checks the options and reads configuration, never weights: a run whose responses are all scored needs no
more than that.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.conversation import Message
from litellm_erp.config_section import Section
from litellm_erp.errors import SettingsError

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


class RewardOptions(Section):
    """The options of one entry of ``rewards:``, read by its kind; what no kind reads is a mistake."""

    def __init__(self, spec: RewardSpec) -> None:
        super().__init__(spec.options, f"rewards.{spec.name} ({spec.kind})", SettingsError)
        self.base = spec.base
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


class RewardModel(ABC):
    """One reward model of a run; what it is told stands in its `RewardOptions`.

    Attributes
    ----------
    name : of the spec
    where : how messages call it
    needs_reference : pairs come with the reference answer, and prompts without one are skipped, and counted
    """

    needs_reference = False

    def __init__(self, spec: RewardSpec) -> None:
        self.name, self.kind = spec.name, spec.kind
        options = RewardOptions(spec)
        self.where = options.where
        self.read(options)
        options.done()

    @abstractmethod
    def read(self, options: RewardOptions) -> None:
        """The kind's own options.

        Raises
        ------
        SettingsError : one that is wrong
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that decides a reward, as JSON; part of the key under which rewards are kept."""

    @abstractmethod
    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        """Score pairs, in their order; ``advance`` is called with the number of pairs just done.

        Raises
        ------
        RewardError : no rewards for these pairs
        """

    def check(self) -> None:  # noqa: B027  most can do nothing but score
        """Find out, before responses are paid for, whether it will score: its weights load, its server answers.

        Raises
        ------
        SettingsError, RewardError : it will not
        """

    def close(self) -> None:  # noqa: B027  most have nothing to free
        """Free memory and connections."""


class Verifier(RewardModel):
    """A kind that says right or wrong: 1 or 0."""

    @abstractmethod
    def is_right(self, pair: Pair) -> bool:
        """What it says of one response."""

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        scored = [Scored(float(self.is_right(pair))) for pair in pairs]
        advance(len(pairs))
        return scored


def compiled(pattern: str, options: RewardOptions, key: str) -> re.Pattern[str]:
    """A regular expression of the pool file.

    Raises
    ------
    SettingsError : not one
    """
    try:
        return re.compile(pattern)
    except re.error as e:
        raise SettingsError(f"{options.at(key)}: found {pattern!r}, which is no regular expression ({e})") from e
