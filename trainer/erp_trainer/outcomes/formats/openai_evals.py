"""Record logs of OpenAI's evals (``oaieval``): events as JSON lines, after a line with the run's ``spec``.

Followed: ``evals/record.py`` of openai/evals (commit 0041458). The prompt of a sample is that of its first
``sampling`` event, because what follows may be a grader's; its reward comes from its ``match`` event, or from a
measure of its ``metrics`` event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import outcomes, records, worded_once
from erp_trainer.outcomes.formats.values import BadRecord, NoOutcome, count, mapping, member, prompt_of, reward
from litellm_erp.errors import OutcomesError

_KNOWN = ("correct", "accuracy", "score", "f1_score", "similarity", "metascore")


@dataclass
class _Sample:
    """What the events of a sample have said so far."""

    prompt: Any = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> None:
        data = mapping(event.get("data"))
        if event["type"] == "sampling" and self.prompt is None:
            self.prompt = data.get("prompt")
            self.usage = mapping(data.get("usage"))
        elif event["type"] in ("match", "metrics"):
            self.scores.update(data)


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """Rows of the samples of all runs, each at the end of its file, because events of samples stand interleaved.

    Raises
    ------
    OutcomesError : a file begins without a spec, or an event is malformed
    """
    return worded_once(row for path in paths for row in _of_run(path, reading))


def _of_run(path: Path, reading: Reading) -> Iterator[Row]:
    spec: Mapping[str, Any] = {}
    samples: dict[str, tuple[int, _Sample]] = {}
    for number, event in records(path, reading):
        spec = mapping(event.get("spec")) or spec
        if event.get("sample_id") is not None and event.get("type") in ("sampling", "match", "metrics"):
            samples.setdefault(str(event["sample_id"]), (number, _Sample()))[1].take(event)
    model = reading.model or _model(path, spec)
    listed = ((number, {"id": key, "sample": sample}) for key, (number, sample) in samples.items())
    shared = {"model": model, "category": str(spec.get("eval_name") or "") or None}
    yield from ({**row, **shared} for row in outcomes(path, listed, reading, _rows))


def _rows(record: Mapping[str, Any], reading: Reading) -> Iterator[Row]:
    sample = record["sample"]
    if not sample.scores:
        raise NoOutcome("samples without a match or metrics event")
    if sample.prompt is None:
        raise BadRecord(f"sample {record['id']!r} has no sampling event; expected one that holds its prompt")
    numbers = {k: v for k, v in sample.scores.items() if isinstance(v, (int, float))}
    if not numbers:
        raise BadRecord(f"sample {record['id']!r} has no measure that is a number")
    name = reading.choose(numbers, reading.metric, _KNOWN)
    yield {
        "prompt_id": record["id"],
        "prompt": prompt_of(sample.prompt),
        "reward": reward(numbers[name], name),
        "input_tokens": count(sample.usage.get("prompt_tokens")),
        "output_tokens": count(sample.usage.get("completion_tokens")),
    }


def _model(path: Path, spec: Mapping[str, Any]) -> str:
    if not spec:
        raise OutcomesError(f"{path}: no line with a spec; expected a record log of oaieval, as it wrote it")
    try:
        completion_fns = member(spec, "completion_fns")
    except BadRecord as exc:
        raise OutcomesError(f"{path}: the spec has {exc}. Name the model with --model NAME") from exc
    found = completion_fns[0] if isinstance(completion_fns, list) and completion_fns else completion_fns
    return str(found)


def _matches(path: Path, head: bytes) -> bool:
    first = head.partition(b"\n")[0]
    return first.lstrip().startswith(b'{"spec"') and b'"completion_fns"' in first


OPENAI_EVALS = Format("openai-evals", "record logs of oaieval", _matches, read)
