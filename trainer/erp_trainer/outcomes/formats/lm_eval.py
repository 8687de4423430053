"""Samples of EleutherAI's lm-evaluation-harness: ``samples_TASK_DATE.jsonl``, one file per model and task.

Followed: 0.4, as ``evaluator.py`` and ``loggers/evaluation_tracker.py`` (commit 034ab03) write them. A record holds
``doc_id``, ``arguments`` (a list of lists in earlier files, ``{"gen_args_0": {"arg_0": …}}`` in later), ``filter``
and one key for each of its ``metrics``. With several filters a document has one record for each; the reward is that
of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import outcomes, records, worded_once
from erp_trainer.outcomes.formats.values import (
    BadRecord,
    NoOutcome,
    mapping,
    member,
    names,
    number,
    prompt_of,
    reward,
)
from litellm_erp.errors import OutcomesError

_FILE = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl", re.IGNORECASE)
# Larger is better in all of them; a task that has several is judged by the first.
_KNOWN = (
    "acc",
    "exact_match",
    "acc_norm",
    "pass@1",
    "prompt_level_strict_acc",
    "f1",
    "mc2",
    "math_verify",
    "rougeL",
    "rouge1",
    "bleu",
)
# The argument that names the model, in the order in which the harness itself looks.
_MODEL_ARGUMENTS = ("peft", "delta", "pretrained", "model", "path", "engine")
_LARGEST_RESULTS = 64 << 20
_NO_MEASURE = (
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
)  # fmt: skip


@dataclass
class _Asked:
    """The measure and the filter that were asked for, and what the files had; a task without them takes its own.

    Attributes
    ----------
    measures, filters : met so far, in any file
    documents : hash of each document met so far, in any file
    """

    metric: str | None
    filter: str | None
    measures: dict[str, None] = field(default_factory=dict)
    filters: dict[str, None] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)

    def check(self, path: Path) -> None:
        """Raise `OutcomesError` where no file had what was asked for."""
        for what, wanted, found in (("measure", self.metric, self.measures), ("filter", self.filter, self.filters)):
            if wanted is not None and wanted not in found:
                raise OutcomesError(
                    f"{path}: no {what} {wanted!r}; found {names(found)}. Choose with --metric MEASURE[,FILTER]"
                )


@dataclass
class _File:
    """What all records of a file share; the filter is the first one met where the file lacks the one asked for."""

    model: str
    task: str
    asked: _Asked
    filter: str | None

    def rows(self, record: Mapping[str, Any], reading: Reading) -> Iterator[Row]:
        if self.filter is None:
            self.filter = str(record.get("filter", "none"))
        if str(record.get("filter", "none")) != self.filter:
            raise NoOutcome(f"answers under another filter than {self.filter}, which --metric MEASURE,FILTER chooses")
        scores = _scores(record)
        self.asked.measures.update(dict.fromkeys(scores))
        name = reading.choose(scores, self.asked.metric if self.asked.metric in scores else None, _KNOWN)
        yield {
            "prompt_id": self._prompt_id(record),
            "prompt": prompt_of(_asked(member(record, "arguments"))),
            "model": self.model,
            "reward": reward(scores[name], name),
            "category": self.task,
        }

    def _prompt_id(self, record: Mapping[str, Any]) -> str:
        """The document's id, and its hash too where another version of the task has another one under that id."""
        key = f"{self.task}/{member(record, 'doc_id')}"
        found = str(record.get("doc_hash") or "")
        return key if self.asked.documents.setdefault(key, found) == found else f"{key}#{found[:8]}"


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """Rows of the samples of all models; a prompt that another model's template words otherwise keeps its first text.

    Raises
    ------
    OutcomesError : a record is malformed, or nothing says which model answered
    """
    return worded_once(_rows(_latest(paths, reading), reading))


def _rows(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    metric, _, wanted = (reading.metric or "").partition(",")
    asked = _Asked(metric or None, wanted or None)
    for path in paths:
        filter_ = asked.filter if _has_filter(path, reading, asked) else None
        file = _File(_model(path, reading), _task(path), asked, filter_)
        yield from outcomes(path, records(path, reading), reading, file.rows)
    asked.check(paths[0])


def _has_filter(path: Path, reading: Reading, asked: _Asked) -> bool:
    """Whether a file has records of the filter that was asked for; those of one filter stand together."""
    for _, record in records(path, reading) if asked.filter is not None else ():
        asked.filters[str(record.get("filter", "none"))] = None
        if asked.filter in asked.filters:
            return True
    return False


def _latest(paths: Sequence[Path], reading: Reading) -> list[Path]:
    """The files of samples; of several runs of a task in one folder only the latest, as the harness itself does."""
    latest: dict[tuple[Path, str], Path] = {}
    for path in sorted(path for path in paths if not _is_results(path)):
        key = (path.parent, _task(path))
        if key in latest:
            reading.skipped["files of earlier runs of a task"] += 1
        latest[key] = path
    return list(latest.values())


def _is_results(path: Path) -> bool:
    return path.name.startswith("results_") and path.suffix == ".json"


def _task(path: Path) -> str:
    found = _FILE.match(path.name)
    return found["task"] if found else path.name.partition(".")[0].removeprefix("samples_")


def _model(path: Path, reading: Reading) -> str:
    """The model of a file: as told, as the results file beside it says, or as its folder is called."""
    if reading.model:
        return reading.model
    found = _FILE.match(path.name)
    date = found["date"] if found else None
    for results in [path.with_name(f"results_{date}.json")] if date else sorted(path.parent.glob("results*.json")):
        if stated := _model_of_results(results):
            return stated
    folder = path.resolve().parent.name
    if "__" in folder or date:
        return folder.replace("__", "/")
    raise OutcomesError(
        f"{path}: nothing says which model answered; expected results_DATE.json beside it, or a folder named after the "
        "model. Name it with --model NAME"
    )


def _model_of_results(path: Path) -> str | None:
    try:
        if path.stat().st_size > _LARGEST_RESULTS:
            return None
        results = mapping(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None
    if results.get("model_name"):
        return str(results["model_name"])
    arguments = mapping(results.get("config")).get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    stated = mapping(arguments)
    return next((str(stated[name]) for name in _MODEL_ARGUMENTS if stated.get(name)), None)


def _scores(record: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of a record; before 0.4.4 no list says which of its keys they are."""
    listed = record.get("metrics")
    if isinstance(listed, list):
        found = {name: record[name] for name in listed if isinstance(name, str) and name in record}
    else:
        found = {k: value for k, value in record.items() if k not in _NO_MEASURE and number(value) is not None}
    if not found:
        raise BadRecord(f"no measure; found {names(record)}, expected one of {names(_KNOWN)}")
    return found


def _asked(arguments: Any) -> Any:
    """The context of a document's first request: what the model was given, with its examples."""
    while True:
        if isinstance(arguments, Mapping) and "role" not in arguments and arguments:
            arguments = arguments.get("arg_0", next(iter(arguments.values())))
        elif isinstance(arguments, list) and arguments and not mapping(arguments[0]).get("role"):
            # With a chat API the context is its messages, as JSON, in a list of one.
            arguments = arguments[0]
        else:
            return arguments


def _matches(path: Path, head: bytes) -> bool:
    start = head[:65536]
    return _FILE.match(path.name) is not None and b'"doc_id"' in start and start.lstrip().startswith(b"{")


LM_EVAL = Format("lm-eval", "samples_*.jsonl of lm-evaluation-harness, one file per model and task", _matches, read)
