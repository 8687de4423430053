"""PURE. Lines of the decision log, version 1: written by the proxy, read by whoever wants to know what came of it.

A line is a JSON object. A *decision* is written when a request ends; a *feedback* whenever it comes, before or after:
it belongs to the decision with the same ``request_id`` and, where it names one, the same ``account``.
docs/decision-log.md says what every key means. Keys that are not known are ignored, and so are kinds of lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args

from litellm_erp.errors import DecisionLogError
from litellm_erp.shown import is_finite_number, shown

VERSION = 1
MOST_ID_CHARS = 200
# Larger numbers are mistakes, and their squares would not be finite.
LARGEST = 1e15
MOST_LINE_CHARS = 2_000_000
Mode = Literal["route", "shadow", "percent"]
Arm = Literal["route", "baseline"]
Source = Literal["api", "litellm", "score"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was expected of one pool model; None where it was not known.

    Attributes
    ----------
    expected_reward : reward units, after safety
    std_error : reward units, of one answer's reward against the prediction; it holds the noise of the answer too
    expected_cost_usd : USD
    """

    expected_reward: float | None = None
    std_error: float | None = None
    expected_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One request: what was decided, what served, and what it cost.

    Attributes
    ----------
    time : when it ended, seconds since 1970
    request_id : ``x-litellm-call-id``; a client may choose it, so it is unique only with ``account``
    account : whose request it is: ``team:<id>``, ``alias:<name>`` or ``key:<hash>``; None where nobody says
    team : how people call the team
    arm : ``route`` where the decision was to serve, ``baseline`` where LiteLLM's own order or the baseline model was
    lambda_ : reward units per cost unit, ``lambda`` in the file
    chosen : the pool model that was decided for; "" where nothing was decided
    served : the pool model that answered; None where none of the group did
    propensity : probability of each pool model to serve first, given all that is logged; None where not known
    propensity_unknown : why not
    cost_usd : of the answer, None where not known
    latency_s : from the first pick to the end of the answer
    followed : whether what answered was what the mode meant to answer
    prompt, answer : only where the operator asks for them
    """

    kind: ClassVar[str] = "decision"

    time: float
    request_id: str
    group: str
    mode: Mode = "route"
    arm: Arm = "route"
    account: str | None = None
    team: str | None = None
    bundle: str = ""
    lambda_: float | None = None
    reason: str = ""
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    chosen: str = ""
    served: str | None = None
    propensity: Mapping[str, float] | None = None
    propensity_unknown: str | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    failed: bool = False
    followed: bool = True
    prompt: str | None = None
    answer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's object."""
        found: dict[str, Any] = {"v": VERSION, "kind": self.kind}
        for name in self.__slots__:
            found["lambda" if name == "lambda_" else name] = getattr(self, name)
        found["candidates"] = {
            model: {key: getattr(of, key) for key in of.__slots__} for model, of in self.candidates.items()
        }
        found["propensity"] = None if self.propensity is None else dict(self.propensity)
        for optional in ("propensity_unknown", "prompt", "answer"):
            if found[optional] is None:
                del found[optional]
        return found


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says an answer was worth.

    Attributes
    ----------
    time : when it came, seconds since 1970
    reward : in the bundle's reward unit
    account : who says so, as in :class:`Record`; it counts only for requests of the same account. None, for a source
        that may speak of any request
    by : which reward models, and on what scale, where these are what says so; scores of one ``by`` compare
    """

    kind: ClassVar[str] = "feedback"

    time: float
    request_id: str
    reward: float
    source: Source = "api"
    account: str | None = None
    by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's object."""
        found = {"v": VERSION, "kind": self.kind} | {name: getattr(self, name) for name in self.__slots__}
        for optional in ("account", "by"):
            if found[optional] is None:
                del found[optional]
        return found

    def is_of(self, record: Record) -> bool:
        """Whether it may be believed of a request."""
        return self.request_id == record.request_id and self.account in (None, record.account)


def to_line(entry: Record | Feedback) -> str:
    """One line with its end. Numbers that are none are written as null, and all else than ASCII is escaped."""
    try:
        return json.dumps(entry.to_json(), allow_nan=False, separators=(",", ":")) + "\n"
    except ValueError:
        return json.dumps(_without_nan(entry.to_json()), allow_nan=False, separators=(",", ":")) + "\n"


def parse_line(line: str | bytes) -> Record | Feedback | None:
    """Read one line.

    Returns
    -------
    None for an empty line and for a kind of line that later versions may add

    Raises
    ------
    DecisionLogError : it is torn (as the last line of a file may be, after a crash) or breaks the contract; the message
        says how, and quotes nothing of a prompt
    """
    if not line.strip():
        return None
    if len(line) > MOST_LINE_CHARS:
        raise DecisionLogError(f"a line of {len(line)} characters; expected at most {MOST_LINE_CHARS}")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise DecisionLogError("a line is no JSON: torn by a crash, or not of a decision log; leave it out") from None
    if not isinstance(found, dict) or found.get("v") != VERSION or isinstance(found.get("v"), bool):
        version = found.get("v") if isinstance(found, dict) else found
        raise DecisionLogError(f"a line's version v is {shown(version)}; expected {VERSION}")
    entry = _Entry(found)
    kind = found.get("kind")
    if kind == Record.kind:
        return _record(entry)
    return _feedback(entry) if kind == Feedback.kind else None


class _Entry:
    """One line's object: typed access, with errors that name the key."""

    def __init__(self, found: Mapping[str, Any], where: str = "") -> None:
        self._found = found
        self._where = where

    def wrong(self, key: str, expected: str) -> DecisionLogError:
        return DecisionLogError(
            f"{self._where}{shown(key)[1:-1]}: found {shown(self._found.get(key))}; expected {expected}"
        )

    def number(self, key: str, low: float = -math.inf) -> float:
        found = self.optional(key, low)
        if found is None:
            raise self.wrong(key, "a finite number")
        return found

    def optional(self, key: str, low: float = -math.inf) -> float | None:
        found = self._found.get(key)
        if found is None:
            return None
        if not is_finite_number(found) or not low <= found <= LARGEST or found < -LARGEST:
            bounds = "" if low == -math.inf else f" of at least {low:g}"
            raise self.wrong(key, f"a finite number{bounds}, at most {LARGEST:g} in size")
        return float(found)

    def text(self, key: str, default: str | None = None) -> str:
        found = self._found.get(key, default)
        if not isinstance(found, str):
            raise self.wrong(key, "text")
        return found

    def optional_text(self, key: str) -> str | None:
        return None if self._found.get(key) is None else self.text(key)

    def id(self) -> str:
        found = self.text("request_id")
        if not 0 < len(found) <= MOST_ID_CHARS:
            raise self.wrong("request_id", f"1 to {MOST_ID_CHARS} characters")
        return found

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        found = self.text(key, default)
        if found not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return found

    def flag(self, key: str, default: bool) -> bool:
        found = self._found.get(key, default)
        if not isinstance(found, bool):
            raise self.wrong(key, "true or false")
        return found

    def map(self, key: str) -> dict[str, Any] | None:
        found = self._found.get(key)
        if found is not None and not isinstance(found, dict):
            raise self.wrong(key, "a map by pool model")
        return found


def _record(entry: _Entry) -> Record:
    return Record(
        time=entry.number("time", 0.0),
        request_id=entry.id(),
        group=entry.text("group"),
        mode=cast(Mode, entry.choice("mode", get_args(Mode), "route")),
        arm=cast(Arm, entry.choice("arm", get_args(Arm), "route")),
        account=entry.optional_text("account"),
        team=entry.optional_text("team"),
        bundle=entry.text("bundle", ""),
        lambda_=entry.optional("lambda", 0.0),
        reason=entry.text("reason", ""),
        candidates={model: _candidate(model, of) for model, of in (entry.map("candidates") or {}).items()},
        chosen=entry.text("chosen", ""),
        served=entry.optional_text("served"),
        propensity=_propensity(entry),
        propensity_unknown=entry.optional_text("propensity_unknown"),
        input_tokens=entry.optional("input_tokens", 0.0),
        output_tokens=entry.optional("output_tokens", 0.0),
        cost_usd=entry.optional("cost_usd", 0.0),
        latency_s=entry.optional("latency_s", 0.0),
        failed=entry.flag("failed", False),
        followed=entry.flag("followed", True),
        prompt=entry.optional_text("prompt"),
        answer=entry.optional_text("answer"),
    )


def _candidate(model: str, found: object) -> Candidate:
    if not isinstance(found, dict) or not model:
        raise DecisionLogError(f"candidates.{shown(model)}: found {shown(found)}; expected a map")
    of = _Entry(found, f"candidates.{shown(model)}.")
    return Candidate(
        of.optional("expected_reward"), of.optional("std_error", 0.0), of.optional("expected_cost_usd", 0.0)
    )


def _propensity(entry: _Entry) -> dict[str, float] | None:
    found = entry.map("propensity")
    if found is None:
        return None
    shares = _Entry(found, "propensity.")
    read = {model: shares.number(model, 0.0) for model in found}
    if "" in found or abs(math.fsum(read.values()) - 1.0) > 1e-6:
        raise entry.wrong("propensity", "probabilities by pool model that sum to 1")
    return read


def _feedback(entry: _Entry) -> Feedback:
    return Feedback(
        time=entry.number("time", 0.0),
        request_id=entry.id(),
        reward=entry.number("reward"),
        source=cast(Source, entry.choice("source", get_args(Source), "api")),
        account=entry.optional_text("account"),
        by=entry.optional_text("by"),
    )


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nan(of) for key, of in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
