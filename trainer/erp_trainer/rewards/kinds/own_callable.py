"""Kind ``callable``: the user's own Python function, named ``package.module:function``.

    def score(pairs: Sequence[Pair]) -> Sequence[float]: ...

gets pairs with ``prompt``, ``response`` and, with ``needs_reference: true``, ``reference``; it returns one raw reward
each, NaN where it has none. Responses to a prompt that are the same text come once.
The module is a file or package beside the pool file, as a script finds what lies beside it; else what is installed or
on PYTHONPATH. A folder that a module was found in stays on the path, last, for what the module imports later.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from erp_trainer.rewards.base import Advance, Pair, RewardModel, RewardOptions, Scored
from litellm_erp.errors import RewardError, SettingsError
from litellm_erp.shown import one_line


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
        function = getattr(_module(module, options.base.resolve()), name)
    except (Exception, SystemExit) as e:  # whatever a user's file raises
        raise SettingsError(
            f"{options.at('callable')}: {named} cannot be imported ({type(e).__name__}: {one_line(e)}); put its file "
            "beside the pool file, install its package, or put its folder in PYTHONPATH"
        ) from e
    if not callable(function):
        raise SettingsError(f"{options.at('callable')}: {named} is {type(function).__name__}; expected a function")
    made: Callable[[list[Pair]], Sequence[float]] = function
    return made


def _module(name: str, beside: Path) -> ModuleType:
    path = beside.joinpath(*name.split("."))
    found = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    top = name.partition(".")[0]
    if found is None or top in sys.stdlib_module_names:
        return importlib.import_module(name)
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None or Path(loaded).resolve() != found:
        # Another pool file's module of the same name, or an installed one.
        for other in [other for other in sys.modules if other == top or other.startswith(f"{top}.")]:
            del sys.modules[other]
    importlib.invalidate_caches()
    sys.path.insert(0, str(beside))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(beside))
    if str(beside) not in sys.path:
        sys.path.append(str(beside))
    return module


def _source(function: object) -> str | None:
    try:
        path = inspect.getsourcefile(inspect.unwrap(function))  # type: ignore[arg-type]
    except TypeError:  # built in, or an object of a class
        path = inspect.getsourcefile(type(function)) if type(function).__module__ != "builtins" else None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else None
