"""Logs of UK AISI's Inspect: ``.eval`` files, and the same log as JSON.

Followed: log version 2, as inspect_ai's ``log/_log.py`` (commit 9f288f7) and ``log/_recorders/eval.py`` (10a6062)
write it. An ``.eval`` is a zip with ``header.json`` (``_journal/start.json`` while it runs) and, under ``samples/``,
one member per sample and epoch; members may be compressed with zstd. Grades are read as Inspect's own
``value_to_float`` reads them.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from erp_trainer.files.json_records import items_inside
from erp_trainer.outcomes.formats.base import Format, Reading, Row
from erp_trainer.outcomes.formats.records import apart, outcomes
from erp_trainer.outcomes.formats.values import (
    BadRecord,
    NoOutcome,
    chosen,
    cost,
    count,
    mapping,
    member,
    names,
    number,
    prompt_of,
    short,
)
from litellm_erp.errors import OutcomesError

_GRADES = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZSTD = 93
# A sample carries every event of its run; larger ones are no samples any more.
_LARGEST_MEMBER = 512 << 20
_ATTACHMENT = "attachment://"


@dataclass(frozen=True)
class _Log:
    """What all samples of a log share.

    Attributes
    ----------
    scorers : met so far, in any log
    """

    model: str
    task: str
    metric: str | None
    scorers: dict[str, None]

    def rows(self, sample: Mapping[str, Any], reading: Reading) -> Iterator[Row]:
        usage = mapping(mapping(sample.get("model_usage")).get(self.model))
        usage = usage or mapping(mapping(sample.get("output")).get("usage"))
        yield {
            "prompt_id": f"{self.task}/{member(sample, 'id')}",
            "prompt": _asked(sample),
            "model": self.model,
            "reward": _reward(sample, self.metric, self.scorers, reading),
            "category": self.task,
            "sample": int(number(sample.get("epoch", 1)) or 1) - 1,
            "input_tokens": _input_tokens(usage),
            "output_tokens": count(usage.get("output_tokens")),
            "cost_usd": cost(usage.get("total_cost")),
        }


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    """Rows of the samples of all logs; a sample that ended in an error has no outcome.

    Raises
    ------
    OutcomesError : a file is no log of Inspect, or a sample is malformed
    """
    return apart(_rows(paths, reading))


def _rows(paths: Sequence[Path], reading: Reading) -> Iterator[Row]:
    scorers: dict[str, None] = {}
    for path in paths:
        yield from _of_log(path, reading, scorers)
    # A task without the scorer that was asked for is judged by its own, as long as one has it.
    wanted = reading.metric
    if wanted is not None and not {wanted, wanted.partition("/")[0]} & scorers.keys():
        raise OutcomesError(f"{paths[0]}: no scorer {wanted!r}; found {names(scorers)}. Choose one with --metric NAME")


def _of_log(path: Path, reading: Reading, scorers: dict[str, None]) -> Iterator[Row]:
    try:
        header, samples = _zipped(path) if zipfile.is_zipfile(path) else _plain(path)
        yield from outcomes(path, samples, reading, _log(path, header, reading, scorers).rows)
    except (OSError, ValueError, RecursionError, KeyError, zipfile.BadZipFile, pa.ArrowException) as exc:
        if isinstance(exc, OutcomesError):
            raise
        raise OutcomesError(f"{path}: not a readable log of Inspect: {exc}. It may be truncated") from exc


def _log(path: Path, header: Mapping[str, Any], reading: Reading, scorers: dict[str, None]) -> _Log:
    about = mapping(header.get("eval"))
    model = reading.model or about.get("model")
    if not model:
        raise OutcomesError(f"{path}: the log names no model under eval.model. Name it with --model NAME")
    results = mapping(header.get("results")).get("scores")
    listed = [mapping(score) for score in results] if isinstance(results, list) else []
    ours = {str(score.get(key)) for score in listed for key in ("name", "scorer")}
    metric = reading.metric if not ours or {reading.metric, (reading.metric or "").partition("/")[0]} & ours else None
    return _Log(str(model), str(about.get("task") or "task").rpartition("/")[2], metric, scorers)


def _zipped(path: Path) -> tuple[Mapping[str, Any], Iterator[tuple[int, Mapping[str, Any]]]]:
    with zipfile.ZipFile(path) as archive:
        inside = archive.namelist()
        header = next((name for name in ("header.json", "_journal/start.json") if name in inside), None)
        if header is None:
            raise OutcomesError(f"{path}: no header.json inside; expected a log of Inspect")
        return mapping(_member(path, archive, header)), _samples(path)


def _samples(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with zipfile.ZipFile(path) as archive:
        # A sample that was written again has two members; the later one counts.
        inside = sorted({name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")})
        for index, name in enumerate(inside, start=1):
            yield index, mapping(_member(path, archive, name))


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    info = archive.getinfo(name)
    if info.file_size > _LARGEST_MEMBER:
        raise OutcomesError(f"{path}: {name} unpacks to {info.file_size >> 20} MiB; expected at most 512")
    if info.compress_type != _ZSTD:
        return json.loads(archive.read(info))
    # zipfile reads zstd from Python 3.14 on only.
    with path.open("rb") as handle:
        handle.seek(info.header_offset + 26)
        lengths = handle.read(4)
        handle.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        packed = handle.read(info.compress_size)
    return json.loads(pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read(info.file_size))


def _plain(path: Path) -> tuple[Mapping[str, Any], Iterator[tuple[int, Mapping[str, Any]]]]:
    header: dict[str, Any] = {}
    samples = items_inside(path, ("samples",), header)
    first = next(samples, None)
    if first is None:
        raise OutcomesError(f"{path}: no samples inside; expected a log of Inspect that was written with its samples")
    if "eval" not in header:
        raise OutcomesError(f"{path}: no 'eval' before the samples; expected a log as Inspect writes it")
    return header, itertools.chain([first], samples)


def _asked(sample: Mapping[str, Any]) -> str:
    """The sample's input with its choices, as every model of the task got it; long texts stand beside it."""
    attachments = mapping(sample.get("attachments"))

    def resolved(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(_ATTACHMENT):
            return attachments.get(value.removeprefix(_ATTACHMENT), value)
        if isinstance(value, list):
            return [resolved(item) for item in value]
        return {key: resolved(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    prompt = prompt_of(resolved(member(sample, "input")))
    choices = sample.get("choices")
    if not isinstance(choices, list) or not choices or prompt.startswith("[{"):
        return prompt
    return "\n".join([prompt, "", *(f"{chr(65 + i)}) {choice}" for i, choice in enumerate(choices))])


def _reward(sample: Mapping[str, Any], metric: str | None, scorers: dict[str, None], reading: Reading) -> float:
    scores = mapping(sample.get("scores")) or ({"score": sample["score"]} if sample.get("score") else {})
    if not scores:
        raise NoOutcome("samples that ended in an error" if sample.get("error") else "samples without a score")
    scorers.update(dict.fromkeys(scores))
    name, _, part = (metric or "").partition("/")
    if metric in scores:
        name, part = str(metric), ""
    if name and name not in scores:
        raise NoOutcome(f"samples without a score of {name}")
    # Scorers stand in the order in which the task names them, and the first is the task's own.
    name = name or next(iter(scores))
    value = mapping(scores[name]).get("value")
    if isinstance(value, Mapping):
        part = chosen(value, part or None, ())
        name, value = f"{name}/{part}", value[part]
        scores = {**scores, name: None}
    return _graded(value, reading.choose(scores, name, ()))


def _graded(value: Any, name: str) -> float:
    if isinstance(value, str) and value.strip().lower() in _GRADES:
        return _GRADES[value.strip().lower()]
    found = number(value)
    if found is None and (value is None or (isinstance(value, float) and value != value)):
        raise NoOutcome("samples without a score")
    if found is None:
        raise BadRecord(f"score {name} is {short(value)}; expected a number or one of C, I, P and N")
    return found


def _input_tokens(usage: Mapping[str, Any]) -> int | None:
    """All tokens of the input; some providers count those of a cache apart, and only the total holds them."""
    found, total, output = (count(usage.get(name)) for name in ("input_tokens", "total_tokens", "output_tokens"))
    cached = any(count(usage.get(f"input_tokens_cache_{kind}")) for kind in ("read", "write"))
    return total - output if cached and total and output and total - output > (found or 0) else found


def _holds_samples(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.startswith("samples/") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _matches(path: Path, head: bytes) -> bool:
    if head.startswith(b"PK\x03\x04"):
        return path.suffix.lower() == ".eval" or _holds_samples(path)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"{") and all(name in start for name in (b'"eval"', b'"task"', b'"model"', b'"run_id"'))


INSPECT = Format("inspect", "logs of Inspect: .eval, or the same as .json", _matches, read)
