"""PURE. The parameters by which several pool models are one deployment: how much it is to think and to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm_erp.errors import ErpError
from litellm_erp.shown import shown

LIMITS = ("max_tokens", "max_completion_tokens")
PARAMETERS = ("reasoning_effort", "thinking", *LIMITS)
ARMS_KEY = "erp_arms"
_THINKING = ("type", "budget_tokens")
_KINDS = ("enabled", "disabled", "adaptive")
_LONGEST_WORD = 64
_MOST_TOKENS = 10**9
_MOST_ARMS = 64


def checked(value: object, where: str, error: type[ErpError]) -> dict[str, Any]:
    """The parameters of one arm.

    Raises
    ------
    error : no map, another key than ``PARAMETERS``, or a value that cannot be one; names the key
    """
    if not isinstance(value, Mapping):
        raise error(f"{where}: found {shown(value)}; expected a map of {', '.join(PARAMETERS)}")
    for key, entry in value.items():
        if key not in PARAMETERS:
            raise error(f"{where}: unknown parameter {shown(key)}; expected {', '.join(PARAMETERS)}")
        if key == "reasoning_effort":
            if not isinstance(entry, str) or not 0 < len(entry) <= _LONGEST_WORD or not entry.isprintable():
                raise error(f"{where}.{key}: found {shown(entry)}; expected a word such as low, medium or high")
        elif key == "thinking":
            _check_thinking(entry, f"{where}.{key}", error)
        elif not _is_tokens(entry):
            raise error(f"{where}.{key}: found {shown(entry)}; expected a whole number of tokens, at least 1")
    if all(key in value for key in LIMITS):
        raise error(f"{where}: both {' and '.join(LIMITS)}; keep one")
    limit, budget = limit_of(value), (value.get("thinking") or {}).get("budget_tokens")
    if limit is not None and budget is not None and limit <= budget:
        raise error(f"{where}: a limit of {limit} tokens leaves none beside a budget of {budget} for thinking")
    return {str(key): dict(entry) if isinstance(entry, Mapping) else entry for key, entry in value.items()}


def arms_of(info: Mapping[str, Any], where: str, error: type[ErpError]) -> dict[str, dict[str, Any]]:
    """Pool model to parameters, as a deployment's ``model_info`` states them; empty where it states none.

    Raises
    ------
    error : ``erp_arms`` is no such map, or stands beside ``erp_model``
    """
    stated = info.get(ARMS_KEY)
    if stated is None:
        return {}
    where = f"{where}.{ARMS_KEY}"
    if not isinstance(stated, Mapping) or not 0 < len(stated) <= _MOST_ARMS:
        raise error(f"{where}: found {shown(stated)}; expected a map of 1 to {_MOST_ARMS} pool models to parameters")
    if info.get("erp_model"):
        raise error(f"{where}: erp_model is stated too; keep one of them")
    arms: dict[str, dict[str, Any]] = {}
    for name, parameters in stated.items():
        if not isinstance(name, str) or not name:
            raise error(f"{where}: found a pool model called {shown(name)}; expected text")
        arms[name] = checked({} if parameters is None else parameters, f"{where}.{name}", error)
    if twins := [name for name in arms if any(other != name and same(arms[other], arms[name]) for other in arms)]:
        raise error(f"{where}: {', '.join(twins)} have the same parameters, and would be the same model")
    return arms


def limit_of(parameters: Mapping[str, Any]) -> int | None:
    """The most tokens that an answer may have; None without a limit."""
    return next((parameters[name] for name in LIMITS if name in parameters), None)


def effort_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What of the parameters says how much to think."""
    return {name: value for name, value in parameters.items() if name not in LIMITS}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two say the same; a limit counts under either name."""
    return effort_of(one) == effort_of(other) and limit_of(one) == limit_of(other)


def told(parameters: Mapping[str, Any]) -> str:
    """For people: ``reasoning_effort low, max_tokens 200``; ``no parameters`` where there are none."""
    said = []
    for name, value in parameters.items():
        words = [str(value.get(key)) for key in _THINKING if key in value] if isinstance(value, Mapping) else [value]
        said.append(" ".join([name, *map(str, words)]))
    return ", ".join(said) or "no parameters"


def _check_thinking(value: object, where: str, error: type[ErpError]) -> None:
    expected = "a map such as {type: enabled, budget_tokens: 32000}"
    if not isinstance(value, Mapping) or set(value) - set(_THINKING) or value.get("type") not in _KINDS:
        raise error(f"{where}: found {shown(value)}; expected {expected}, its type one of {', '.join(_KINDS)}")
    if "budget_tokens" in value and not _is_tokens(value["budget_tokens"]):
        raise error(f"{where}.budget_tokens: found {shown(value['budget_tokens'])}; expected tokens, at least 1")
    if value["type"] == "enabled" and "budget_tokens" not in value:
        raise error(f"{where}: enabled without budget_tokens; expected {expected}")


def _is_tokens(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_TOKENS
