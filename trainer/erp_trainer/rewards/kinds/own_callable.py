"""Kind ``callable``: the user's own Python function, named ``package.module:function``.

    def score(pairs: Sequence[Pair]) -> Sequence[float]: ...

gets pairs with ``prompt``, ``response`` and, with ``needs_reference: true``, ``reference``; it returns one raw reward
each, NaN where it has none. Responses to a prompt that are the same text come once.
The module is imported by its name, from what is installed or on PYTHONPATH; nothing is added to the path.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.rewards.base import Advance, Pair, RewardModel, RewardOptions, Scored
from litellm_erp.errors import RewardError, SettingsError


class OwnCallable(RewardModel):
    """Calls the function; options ``callable``, ``version`` (change it to score again), ``needs_reference``."""

    def read(self, options: RewardOptions) -> None:
        self._named = options.text("callable")
        self._version = options.optional_text("version")
        self.needs_reference = options.boolean("needs_reference", False)
        self._function = _imported(self._named, options)

    def identity(self) -> dict[str, Any]:
        """With the hash of the file that the function is in."""
        source = _source(self._function)
        return {"kind": "callable", "callable": self._named, "version": self._version, "source": source}

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        try:
            rewards = [float(reward) for reward in self._function(list(pairs))]
        except Exception as e:  # whatever a user's code raises
            raise RewardError(f"{self.where}: {self._named} raised {type(e).__name__}: {e}") from e
        if len(rewards) != len(pairs):
            raise RewardError(
                f"{self.where}: {self._named} returned {len(rewards)} rewards for {len(pairs)} pairs; expected one each"
            )
        advance(len(pairs))
        return [Scored(reward) for reward in rewards]


def _imported(named: str, options: RewardOptions) -> Callable[[list[Pair]], Sequence[float]]:
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise options.wrong("callable", named, "package.module:function")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise SettingsError(
            f"{options.at('callable')}: {named} cannot be imported ({e}); install its package, or put its folder in "
            "PYTHONPATH"
        ) from e
    if not callable(function):
        raise SettingsError(f"{options.at('callable')}: {named} is {type(function).__name__}; expected a function")
    made: Callable[[list[Pair]], Sequence[float]] = function
    return made


def _source(function: object) -> str | None:
    try:
        path = inspect.getsourcefile(inspect.unwrap(function))  # type: ignore[arg-type]
    except TypeError:  # built in, or an object of a class
        path = inspect.getsourcefile(type(function)) if type(function).__module__ != "builtins" else None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else None
