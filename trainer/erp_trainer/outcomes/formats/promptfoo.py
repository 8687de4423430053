"""Results of promptfoo: ``promptfoo eval -o results.json`` or ``.jsonl``, and ``promptfoo export eval``.

Followed: ``src/types/index.ts`` (commit 0011eb0), ``EvaluateSummaryV2`` and ``V3``: ``{"results": {"version": …,
"results": […]}}``, the inner object alone, or one result a line. A prompt is what was sent, its variables filled in.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from erp_trainer.files.json_records import items_inside, json_records
from erp_trainer.files.opening import first_bytes
from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import numbered, outcomes
from erp_trainer.outcomes.formats.values import (
    BadRecord,
    NoOutcome,
    cost,
    count,
    mapping,
    member,
    prompt_of,
    reward,
    short,
    text_id,
)
from litellm_erp.errors import OutcomesError

# ResultFailureReason.ERROR: the provider failed. A failed assertion is 1, and an outcome.
_PROVIDER_FAILED = 2
# The first key of a whole summary; a file that begins with another one holds one result a line.
_SUMMARY = re.compile(rb'\W*\{\s*"(evalId|results|version|timestamp|prompts|stats|config|table|shareableUrl)"')


def rows(result: Mapping[str, Any], reading: Reading) -> Iterator[Row]:
    """The outcome of one test at one provider; a call that failed has none."""
    if _failed(result):
        raise NoOutcome("tests at which the provider failed")
    asked = prompt_of(mapping(member(result, "prompt")).get("raw") or result["prompt"])
    response, usage = mapping(result.get("response")), mapping(result.get("tokenUsage"))
    usage = usage if count(usage.get("prompt")) else mapping(response.get("tokenUsage"))
    row: dict[str, Any] = {
        "prompt_id": text_id(asked),
        "prompt": asked,
        "model": _provider(member(result, "provider")),
        "reward": _reward(result, reading),
        "input_tokens": count(usage.get("prompt")),
        "output_tokens": count(usage.get("completion")),
    }
    if not response.get("cached"):  # an answer out of promptfoo's cache cost nothing, and its model did not
        row["cost_usd"] = cost(result["cost"] if result.get("cost") is not None else response.get("cost")) or None
    if category := _category(result):
        row["category"] = category
    yield row


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """Rows of all files; a test that was repeated is several samples.

    Raises
    ------
    OutcomesError : a file holds no results, or a result is malformed
    """
    return numbered(row for path in paths for row in outcomes(path, _results(path, reading), reading, rows))


def _results(path: Path, reading: Reading) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not _SUMMARY.match(first_bytes(path, 256)):
        yield from json_records(path, on_bad=reading.on_bad)
        return
    around: dict[str, Any] = {}
    found = items_inside(path, ("results", "results"), around)
    first = next(found, None)
    if first is None and not isinstance(around.get("results"), Mapping):
        found = items_inside(path, ("results",), around)
        first = next(found, None)
    if first is None:
        # Before results were listed there was only the table that promptfoo shows.
        found = _of_table(path)
        first = next(found, None)
    if first is None:
        raise OutcomesError(f"{path}: no results inside; expected what `promptfoo eval -o results.json` writes")
    yield from itertools.chain([first], found)


def _of_table(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The outputs of a summary's table as results: one row a test, one output for each prompt at each provider."""
    for outer in (("results", "table"), ("table",)):
        heads = [head for _, head in items_inside(path, (*outer, "head", "prompts"), {})]
        for number, row in items_inside(path, (*outer, "body"), {}):
            outputs = row.get("outputs")
            for i, output in enumerate(outputs if isinstance(outputs, list) else ()):
                head = mapping(heads[i]) if i < len(heads) else {}
                found = mapping(output)
                yield (
                    number,
                    {
                        "success": found.get("pass"),
                        **found,
                        "prompt": {"raw": found.get("prompt") or head.get("raw")},
                        "provider": found.get("provider") or head.get("provider"),
                        "testCase": row.get("test"),
                    },
                )


def _failed(result: Mapping[str, Any]) -> bool:
    if result.get("failureReason") is not None:
        return bool(result["failureReason"] == _PROVIDER_FAILED)
    # Before 0.100 only the lack of a grading tells a call that failed from an assertion that did.
    return bool(result.get("error")) and not result.get("gradingResult")


def _provider(provider: Any) -> str:
    found = provider if isinstance(provider, str) else mapping(provider).get("label") or mapping(provider).get("id")
    if not isinstance(found, str) or not found:
        raise BadRecord(f"provider is {short(provider)}; expected its id")
    return found


def _reward(result: Mapping[str, Any], reading: Reading) -> float:
    metric, named = reading.metric, mapping(result.get("namedScores"))
    if metric is not None and metric not in ("score", "success"):
        return reward(named[reading.choose({**named, "score": None, "success": None}, metric, ())], metric)
    name = metric or ("score" if result.get("score") is not None else "success")
    value = reward(member(result, name), name)
    reading.choose({"score": None, "success": None, **named}, name, ())
    return value


def _category(result: Mapping[str, Any]) -> str | None:
    test = mapping(result.get("testCase"))
    for found in (test.get("metadata"), result.get("metadata"), result.get("vars")):
        category = mapping(found).get("category")
        if isinstance(category, str) and category.strip():
            return category
    return None


def _matches(path: Path, head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"{") or path.suffix.lower() == ".eval":
        return False
    result = all(name in start for name in (b'"promptIdx"', b'"testIdx"', b'"provider"'))
    summary = all(name in start for name in (b'"results"', b'"vars"', b'"provider"', b'"prompt"'))
    wrapped = start[1:64].lstrip().startswith(b'"evalId"') and b'"results"' in start
    return result or wrapped or (summary and any(name in start for name in (b'"evalId"', b'"version"')))


PROMPTFOO = Format("promptfoo", "results of promptfoo eval, .json or .jsonl", _matches, read)
