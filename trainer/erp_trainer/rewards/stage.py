"""IO. The stage that scores samples: every reward model of the pool file over every response of a run.

::

    RUN/scores/<reward>-<key>/part-0001.jsonl
      {"prompt_id", "model", "inputs", "rewards": [K raw rewards], "truncated": n}
      {"prompt_id", "model", "inputs", "skipped": "nan reward"}

There is one folder per reward model and pool model; its key covers the reward model's identity and the samples' key.
``inputs`` is a hash of prompt, responses and reference: a record counts only while they are the same, and where there
are several the last one counts.

Invariants: responses are scored in chunks of about a quarter of a minute, and a chunk's records are on disk before the
next one begins, so an error or an interrupt loses a chunk and nothing else. Responses to a prompt that are the same
text are scored once and have the same reward.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from erp_trainer.console import Progress
from erp_trainer.files.records import Parts, PartWriter
from erp_trainer.outcomes.read import LARGEST
from erp_trainer.pool.pool import RewardSpec
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.rewards.base import Pair, RewardModel, Scored
from erp_trainer.rewards.combining import Key
from erp_trainer.rewards.registry import load_reward_model
from litellm_erp.errors import RunError

SCORES = "scores"
NAN, NO_REFERENCE, NOT_SAMPLED = "nan reward", "no reference", "not sampled"
TOO_LARGE = f"reward larger than {LARGEST:g}"
_FIRST_CHUNK, _LARGEST_CHUNK = 64, 8192
_CHUNK_S = 15.0


@dataclass(slots=True)
class RewardSummary:
    """What one reward model did, counted over the whole run, earlier processes included.

    Attributes
    ----------
    prompts : (prompt, pool model) pairs with rewards
    responses : rewards
    reused : (prompt, pool model) pairs that an earlier process had scored
    truncated : responses of which something was cut to fit the context
    empty : empty responses; they are outcomes, and scored
    skipped : (prompt, pool model) pairs without rewards, by reason
    """

    prompts: int = 0
    responses: int = 0
    reused: int = 0
    truncated: int = 0
    empty: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What the stage found and did.

    Attributes
    ----------
    by_reward : counts, by reward model
    scores : raw rewards, by reward model, by (prompt_id, pool model): shape (K,)
    identities : of the reward models, for the manifest
    """

    by_reward: dict[str, RewardSummary]
    scores: dict[str, dict[Key, np.ndarray]]
    identities: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Task:
    """The responses of one pool model to one prompt; a pair for each that differs."""

    prompt_id: str
    model: str
    responses: tuple[str, ...]
    pairs: tuple[Pair, ...]
    inputs: str

    @property
    def key(self) -> Key:
        return self.prompt_id, self.model


def score_run(
    run: Path,
    prompts: Sequence[Prompt],
    sample_parts: Mapping[str, Parts],
    reward_specs: Sequence[RewardSpec],
    progress: Progress,
    load: Callable[[RewardSpec], RewardModel] = load_reward_model,
) -> ScoreSummary:
    """Score whatever has been sampled and not been scored.

    Parameters
    ----------
    prompts : samples of other prompts are left alone
    sample_parts : records of the sampling stage, by pool model
    progress : `console.progress`, or like it
    load : makes a reward model of its spec; one that scores on a cluster, for example

    Raises
    ------
    SettingsError : a reward model that cannot be one; before anything is scored where its configuration shows it
    RewardError : a reward model failed; what was recorded before is kept
    RunError : the disk is full, or a record is damaged
    """
    models = [load(spec) for spec in reward_specs]
    summary = ScoreSummary({}, {}, {})
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    for model in models:
        summary.identities[model.name] = model.identity()
        stage = _Stage(model, run / SCORES, by_id, sample_parts)
        try:
            with progress(stage.pending(), f"scoring by {model.name}") as advance:
                stage.score(advance)
        finally:
            model.close()
        summary.by_reward[model.name] = stage.summary
        summary.scores[model.name] = stage.scores
    return summary


class _Stage:
    """One reward model over one run."""

    def __init__(
        self, model: RewardModel, folder: Path, prompts: Mapping[str, Prompt], sample_parts: Mapping[str, Parts]
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._samples = sample_parts
        self.summary = RewardSummary()
        self.scores: dict[Key, np.ndarray] = {}
        identity = model.identity()
        self._parts = {
            name: Parts(folder, model.name, {"reward": identity, "samples": samples.key})
            for name, samples in sample_parts.items()
        }
        self._recorded = {
            name: {str(record["prompt_id"]): record for record in parts} for name, parts in self._parts.items()
        }

    def pending(self) -> int:
        """How many pairs are still to be scored; what is not is counted."""
        pending = 0
        for task in self._tasks(count=True):
            record = self._record(task)
            if record is None:
                pending += len(task.pairs)
            else:
                self.summary.reused += 1
                self._note(task, record)
        return pending

    def score(self, advance: Callable[[int], None]) -> None:
        """Score what is pending, a chunk at a time."""
        pending = (task for task in self._tasks() if self._record(task) is None)
        with ExitStack() as stack:
            writers = {name: stack.enter_context(parts.writer()) for name, parts in self._parts.items()}
            for chunk, took in chunks(pending):
                began = time.monotonic()
                scored = self._model.score([pair for task in chunk for pair in task.pairs], advance)
                self._write(chunk, scored, writers)
                took(time.monotonic() - began)

    def _write(self, chunk: Sequence[_Task], scored: Sequence[Scored], writers: Mapping[str, PartWriter]) -> None:
        remaining = iter(scored)
        for task in chunk:
            by_text = {pair.response: next(remaining) for pair in task.pairs}
            own = [by_text[text] for text in task.responses]
            record: dict[str, Any] = {"prompt_id": task.prompt_id, "model": task.model, "inputs": task.inputs}
            if all(abs(s.reward) <= LARGEST for s in own):
                record |= {"rewards": [s.reward for s in own], "truncated": sum(s.truncated for s in own)}
            else:
                record["skipped"] = NAN if any(math.isnan(s.reward) for s in own) else TOO_LARGE
            writers[task.model].append(record)
            self._note(task, record)

    def _note(self, task: _Task, record: Mapping[str, Any]) -> None:
        self.summary.empty += sum(not text.strip() for text in task.responses)
        if "skipped" in record:
            self.summary.skipped[str(record["skipped"])] += 1
            return
        self.summary.prompts += 1
        self.summary.responses += len(task.responses)
        self.summary.truncated += int(record["truncated"])
        self.scores[task.key] = np.asarray(record["rewards"], dtype=np.float64)

    def _record(self, task: _Task) -> dict[str, Any] | None:
        record = self._recorded[task.model].get(task.prompt_id)
        return record if record is not None and record.get("inputs") == task.inputs else None

    def _tasks(self, count: bool = False) -> Iterator[_Task]:
        for model, samples in self._samples.items():
            for record in _last_of_each(samples, self._prompts):
                prompt = self._prompts[record["prompt_id"]]
                reason = _reason_to_skip(record, prompt, self._model.needs_reference)
                if reason is None:
                    yield _task(record, prompt, model, self._model.needs_reference)
                elif count:
                    self.summary.skipped[reason] += 1


def _reason_to_skip(record: Mapping[str, Any], prompt: Prompt, needs_reference: bool) -> str | None:
    if "skipped" in record or not record.get("samples"):
        return NOT_SAMPLED
    return NO_REFERENCE if needs_reference and prompt.reference is None else None


def _task(record: Mapping[str, Any], prompt: Prompt, model: str, needs_reference: bool) -> _Task:
    reference = prompt.reference if needs_reference else None
    texts = [_clean(sample["text"]) for sample in record["samples"]]
    inputs = json.dumps([prompt.prompt, reference, texts], ensure_ascii=True)
    return _Task(
        prompt.prompt_id,
        model,
        tuple(texts),
        tuple(Pair(prompt.prompt, text, reference) for text in dict.fromkeys(texts)),
        hashlib.sha256(inputs.encode()).hexdigest()[:16],
    )


def _last_of_each(samples: Parts, prompts: Mapping[str, Prompt]) -> Iterator[dict[str, Any]]:
    """The last record of every prompt as it is now, without holding all of them."""

    def counts(record: Mapping[str, Any]) -> bool:
        prompt = prompts.get(record["prompt_id"])
        return prompt is not None and prompt.is_asked_in(record)

    try:
        last = {record["prompt_id"]: i for i, record in enumerate(samples) if counts(record)}
        yield from (record for i, record in enumerate(samples) if last.get(record["prompt_id"]) == i)
    except KeyError as e:
        raise RunError(f"{samples.folder}: a record without {e}; the samples were changed by something else") from e


def _clean(text: Any) -> str:
    """Text without lone surrogates, which no tokenizer takes."""
    return str(text or "").encode("utf-8", "replace").decode("utf-8")


class HasPairs(Protocol):
    """What is scored in chunks."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """To be scored together."""


_Scorable = TypeVar("_Scorable", bound=HasPairs)


def chunks(tasks: Iterable[_Scorable]) -> Iterator[tuple[list[_Scorable], Callable[[float], None]]]:
    """Chunks of some responses; told how long a chunk took, the next one takes about ``_CHUNK_S``."""
    size = _FIRST_CHUNK
    chunk: list[_Scorable] = []
    seconds: list[float] = []
    held = 0
    for task in tasks:
        chunk.append(task)
        held += len(task.pairs)
        if held >= size:
            yield chunk, seconds.append
            size = _next_size(size, seconds.pop() if seconds else _CHUNK_S)
            chunk, held = [], 0
    if chunk:
        yield chunk, seconds.append


def _next_size(size: int, seconds: float) -> int:
    """At most doubled: what comes next may be longer."""
    return max(1, min(2 * size, int(size * _CHUNK_S / max(seconds, 1e-3)), _LARGEST_CHUNK))
