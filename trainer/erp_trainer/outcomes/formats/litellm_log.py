"""LiteLLM's own logs, where requests carry a score: spend logs, and the standard logging payload of callbacks.

Followed: ``SpendLogsPayload`` and ``StandardLoggingPayload`` of LiteLLM 1.99 to 1.108, exported as JSON, JSONL or
CSV. LiteLLM itself scores nothing, so a score is looked for where users can put one: beside the record's own fields,
in its ``metadata``, and in ``spend_logs_metadata`` and ``requester_metadata`` inside; as ``scores`` (a map, or a list
of name and value) or as a number under a usual name or the one that ``--metric`` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import listed, numbered, outcomes
from erp_trainer.outcomes.formats.values import (
    NoOutcome,
    cost,
    count,
    mapping,
    member,
    number,
    prompt_of,
    reward,
    text_id,
)
from erp_trainer.prompts.conversation import decoded

_KNOWN = ("score", "reward", "rating", "quality", "correct", "accuracy")


def rows(record: Mapping[str, Any], reading: Reading) -> Iterator[Row]:
    """The outcome of one request that has a score."""
    record = mapping(record.get("standard_logging_object")) or record
    if str(record.get("status", "success")) == "failure":
        raise NoOutcome("requests that failed")
    scores = _scores(record, reading.metric)
    if not scores:
        raise NoOutcome("requests without a score")
    if reading.metric is not None and reading.metric not in scores:
        raise NoOutcome(f"requests without a score called {reading.metric}")
    name = reading.choose(scores, reading.metric, _KNOWN)
    asked = _asked(record)
    # An answer out of a cache cost nothing, and its model would have.
    paid = None if str(record.get("cache_hit")).lower() == "true" else record.get("response_cost", record.get("spend"))
    yield {
        "prompt_id": text_id(asked),
        "prompt": asked,
        "model": str(member(record, "model")),
        "reward": reward(scores[name], name),
        "category": next((p["category"] for p in _places(record) if isinstance(p.get("category"), str)), None),
        "input_tokens": count(record.get("prompt_tokens")),
        "output_tokens": count(record.get("completion_tokens")),
        "cost_usd": cost(paid) or None,  # LiteLLM writes 0 for a model whose price it does not know
    }


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """Rows of all logs; a prompt that a model was asked again is another sample.

    Raises
    ------
    OutcomesError : a file cannot be read, or a record is malformed
    """
    return numbered(row for path in paths for row in outcomes(path, listed(path, reading), reading, rows))


def _places(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metadata = mapping(record.get("metadata"))
    inside = (mapping(metadata.get(name)) for name in ("spend_logs_metadata", "requester_metadata"))
    return [record, metadata, *inside]


def _scores(record: Mapping[str, Any], metric: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in _places(record):
        stated = decoded(place.get("scores"))
        if isinstance(stated, list):
            stated = {str(mapping(s).get("name")): mapping(s).get("value", mapping(s).get("score")) for s in stated}
        candidates = {**{name: place.get(name) for name in (*_KNOWN, metric) if name}, **mapping(stated)}
        for name, value in candidates.items():
            if number(value) is not None:
                found.setdefault(name, value)
    return found


def _asked(record: Mapping[str, Any]) -> str:
    body = mapping(record.get("proxy_server_request"))
    body = mapping(body.get("body")) or body
    for place in (record, body):
        for name in ("messages", "input", "prompt"):
            found = decoded(place.get(name))
            if found not in (None, "", [], {}):
                return prompt_of(found)
    raise NoOutcome("requests whose prompt was not logged; set store_prompts_in_spend_logs before logging")


def _matches(path: Path, head: bytes) -> bool:
    usual = all(name in head for name in (b"call_type", b"completion_tokens", b"model_group"))
    return usual and any(name in head for name in (b"spend", b"response_cost"))


LITELLM = Format("litellm", "LiteLLM's spend logs or logging payloads, with scores", _matches, read)
