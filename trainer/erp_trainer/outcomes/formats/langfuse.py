"""Exports of Langfuse: traces with their observations and scores, or observations and scores apart.

Followed: the objects of Langfuse's public API in versions 2 and 3 (``TraceWithFullDetails``, ``Observation``,
``Score``), which a trace's Download JSON holds too, and the tables of its blob storage export (``observations``,
``observations_v2``, ``scores``), whose names are the same in snake case. An outcome is a generation with a score of
its own, or the only generation of a trace that has one; scores that are categories are no rewards and are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import SAME_RECORD, listed, numbered, outcomes
from erp_trainer.outcomes.formats.values import (
    BadRecord,
    NoOutcome,
    cost,
    count,
    mapping,
    member,
    number,
    prompt_of,
    text_id,
)
from erp_trainer.prompts.conversation import decoded
from litellm_erp.errors import OutcomesError

_GENERATIONS = ("GENERATION", "generation")


@dataclass
class _Export:
    """What the files of an export have said so far, by the ids that tie it together.

    Attributes
    ----------
    generations : (trace, observation) to the row that only lacks a reward
    scores : (trace, observation) and name to values; the observation is "" for a score of the whole trace
    known_scores : ids and values of those taken in, because a trace and a table may both hold one
    """

    generations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    scores: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=lambda: defaultdict(dict))
    known_scores: set[tuple[str, float]] = field(default_factory=set)

    def take(self, record: Mapping[str, Any], reading: Reading) -> Iterator[Row]:
        """Take in one record of any table; yields nothing, because rewards may stand in a later file."""
        if isinstance(record.get("trace"), Mapping):
            record = {**record["trace"], **{name: record.get(name) for name in ("observations", "scores")}}
        if _is_score(record):
            self._score(record, _text(record, "traceId"), _text(record, "observationId"))
        elif not _list(record, "observations") and _is_call(record):
            self._observation(record, _text(record, "traceId") or _text(record, "id"), {}, reading)
        elif _text(record, "id"):
            self._trace(record, reading)
        else:
            raise BadRecord(f"neither a trace nor an observation nor a score; found {', '.join(list(record)[:12])}")
        yield from ()

    def rows(self, reading: Reading) -> Iterator[Row]:
        """The generations that have a score."""
        alone = Counter(trace for trace, _ in self.generations)
        measures = {name: None for scores in self.scores.values() for name in scores}
        if not measures:
            raise BadRecord("no score that is a number; expected some beside the observations. Export the scores too")
        name, skipped = reading.choose(measures, reading.metric, ()), reading.skipped
        del reading.rewards[name]
        for (trace, observation), row in self.generations.items():
            values = self.scores.get((trace, observation), {}).get(name)
            if values is None and (trace, "") in self.scores and alone[trace] > 1:
                skipped["generations of a trace that has several, and one score for all of them"] += 1
                continue
            values = values or self.scores.get((trace, ""), {}).get(name)
            if not values:
                skipped["generations without a score"] += 1
                continue
            reading.rewards[name] += 1
            yield {**row, "reward": sum(values) / len(values)}

    def _trace(self, trace: Mapping[str, Any], reading: Reading) -> None:
        key = str(trace["id"])
        for score in _scores(trace):
            self._score(score, key, _text(score, "observationId"))
        for observation in _list(trace, "observations"):
            self._observation(observation, key, trace, reading)

    def _score(self, score: Mapping[str, Any], trace: str, observation: str) -> None:
        value = number(score.get("value"))
        if value is None or _text(score, "dataType").upper() in ("CATEGORICAL", "TEXT", "CORRECTION"):
            return
        identity = (_text(score, "id"), value)
        if identity[0] and identity in self.known_scores:
            return
        self.known_scores.add(identity)
        self.scores[trace, observation].setdefault(str(member(score, "name")), []).append(value)

    def _observation(self, record: Mapping[str, Any], trace: str, around: Mapping[str, Any], reading: Reading) -> None:
        if (_text(record, "type") or "GENERATION") not in _GENERATIONS:
            return
        key = _text(record, "id")
        for score in _scores(record):
            self._score(score, trace, key)
        model = _model(record)
        if model is None:
            reading.skipped["generations that name no model"] += 1
            return
        try:
            asked = prompt_of(record.get("input") or around.get("input"))
        except NoOutcome as exc:
            reading.skipped[str(exc)] += 1
            return
        usage = mapping(_get(record, "usageDetails")) or mapping(record.get("usage"))
        costs = mapping(_get(record, "costDetails"))
        if (trace, key) in self.generations:
            reading.skipped[SAME_RECORD] += 1
        self.generations[trace, key] = {
            "prompt_id": text_id(asked),
            "prompt": asked,
            "model": str(model),
            "category": _text(record, "traceName") or _text(around, "name") or None,
            "input_tokens": count(usage.get("input") or _get(record, "promptTokens", "inputUsage")),
            "output_tokens": count(usage.get("output") or _get(record, "completionTokens", "outputUsage")),
            "cost_usd": cost(costs.get("total", _get(record, "calculatedTotalCost", "totalCost"))) or None,
        }


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """Rows of all files of an export together.

    Raises
    ------
    OutcomesError : a record is malformed, no file holds scores, or scores of several names and no ``--metric``
    """
    export = _Export()
    for path in paths:
        yield from outcomes(path, listed(path, reading), reading, export.take)
    try:
        yield from numbered(export.rows(reading))
    except BadRecord as exc:
        raise OutcomesError(f"{paths[0]}: {exc}") from exc


def _get(record: Mapping[str, Any], *names: str) -> Any:
    """What stands under the first of the names, in camel case or in snake case."""
    for name in names:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        for each in (name, snake):
            if record.get(each) not in (None, ""):
                return record[each]
    return None


def _text(record: Mapping[str, Any], name: str) -> str:
    found = _get(record, name)
    return "" if found is None else str(found)


def _list(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = decoded(record.get(name))
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _scores(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Scores inside a record: a list of them, or in exports of tables a map from names to values."""
    found = decoded(record.get("scores"))
    if not isinstance(found, Mapping):
        return _list(record, "scores")
    values = ((name, value if isinstance(value, list) else [value]) for name, value in found.items())
    return [{"name": name, "value": value} for name, listed_ in values for value in listed_]


def _is_call(record: Mapping[str, Any]) -> bool:
    """Whether a record is an observation, or a trace without any that has a model and a score of its own."""
    named = _get(record, "type", "model", "providedModelName") is not None
    return named or bool(_model(record) and _scores(record))


def _model(record: Mapping[str, Any]) -> Any:
    return _get(record, "model", "providedModelName") or mapping(record.get("metadata")).get("model")


def _is_score(record: Mapping[str, Any]) -> bool:
    valued = any(name in record for name in ("value", "stringValue", "string_value"))
    return valued and "name" in record and "input" not in record


def _matches(path: Path, head: bytes) -> bool:
    camel = b'"traceId"' in head and any(name in head for name in (b'"observations"', b'"GENERATION"', b'"dataType"'))
    snake = b"trace_id" in head and any(name in head for name in (b"provided_model_name", b"observation_id"))
    nested = all(name in head for name in (b'"observations"', b'"scores"', b'"type"'))
    return camel or nested or (snake and b"project_id" in head)


LANGFUSE = Format("langfuse", "Langfuse's traces, or its observations and scores", _matches, read)
