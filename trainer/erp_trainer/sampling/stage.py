"""IO. One pool model, all prompts: what is missing is asked for, and recorded as it arrives.

A record is one line, appended when all K responses of a prompt are there::

    {"prompt_id": "gsm-17", "prompt": "9f2c…", "model": "small", "samples": [{"text": …, "finish_reason": "stop",
     "input_tokens": 31, "output_tokens": 84, "seed": 1734}, …], "engine": "server", "engine_version": "vllm 0.32.0",
     "sampling": {…}}
    {"prompt_id": "gsm-18", "prompt": "03ab…", "model": "small", "skipped": "context: …"}

A sample has ``adjusted`` where the provider refused parameters: ``{"top_p": null, "max_tokens":
"max_completion_tokens"}``. A record has ``missing`` where answers could not be used, and as many samples fewer.
``prompt`` is a hash of what was asked: a record counts only while its prompt's text is the same.
Invariants: a recorded prompt is never asked again; a prompt that failed is not recorded, so it is.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from erp_trainer.files.records import Parts
from erp_trainer.pool.pool import PoolModel
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.sampling.base import Engine, Failure, Response, SampleRequest, Skip
from erp_trainer.sampling.wire.answer import counted_tokens, text_of
from erp_trainer.sampling.wire.parameters import said
from litellm_erp.errors import RunError, SamplingError

_KEPT_FAILURES = 5
_UNUSABLE = "unusable"
# By the names of `pool.ENGINES`; an engine is imported when a pool model names it.
_ENGINES = {
    "server": "erp_trainer.sampling.server:ServerEngine",
    "litellm": "erp_trainer.sampling.litellm_engine:LiteLLMEngine",
    "vllm": "erp_trainer.sampling.vllm_engine:VLLMEngine",
    "transformers": "erp_trainer.sampling.transformers_engine:TransformersEngine",
    "ray": "erp_trainer.sampling.ray_engine:RayEngine",
}


@dataclass(slots=True)
class SampleSummary:
    """What a call left behind.

    Attributes
    ----------
    model : the pool model's name
    prompts : that were to be sampled
    sampled, skipped, empty : of these prompts, everything on record: with K responses; by kind of reason; and how many
        of the responses have no text
    resumed : prompts that were on record before
    missing : answers that could not be used (refusals, tool calls, no text), of prompts with other responses
    adjusted : parameters that the provider refuses, and the name that each is sent under; None where it is left out
    failed : prompts that are not on record; a further run asks them again
    failures : what the first few failed of
    input_tokens, output_tokens, seconds : of this call alone; a prompt's tokens count once, not K times
    """

    model: str
    prompts: int
    sampled: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    missing: int = 0
    adjusted: dict[str, str | None] = field(default_factory=dict)
    resumed: int = 0
    failed: int = 0
    failures: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {**asdict(self), "skipped": dict(sorted(self.skipped.items()))}

    def count(self, record: Mapping[str, Any]) -> None:
        """Count a record."""
        if "skipped" in record:
            self.skipped[record["skipped"].partition(":")[0]] += 1
        else:
            self.sampled += 1
            self.empty += sum(not sample["text"].strip() for sample in record["samples"])
            self.missing += record.get("missing", 0)
            for sample in record["samples"]:
                self.adjusted |= sample.get("adjusted", {})

    def remarks(self) -> list[str]:
        """What is worth a line on a terminal."""
        found = [f"{self.model}: the provider refuses parameters: {said(self.adjusted)}"] if self.adjusted else []
        if self.missing:
            found.append(f"{self.model}: {self.missing} answers could not be used and count as missing")
        return found

    def count_failure(self, request: SampleRequest, failure: Failure) -> None:
        """Count a prompt that is not on record."""
        self.failed += 1
        if len(self.failures) < _KEPT_FAILURES:
            self.failures += (f"{request.prompt_id}: {failure.reason}",)


class SampleParts(Parts):
    """Records of samples, read with suspicion: earlier versions recorded answers as they came.

    Content in parts becomes its text; a record with a sample that holds no text counts as ``unusable``, a reason to
    skip it like any other, and is asked again.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in super().__iter__():
            if not isinstance(record.get("prompt_id"), str):
                raise RunError(
                    f"{self.folder}: a record without 'prompt_id'; the samples were changed by something else. Move "
                    "the folder away and sample again"
                )
            yield record if "skipped" in record else _checked(record)


def sample_parts(run_dir: Path, model: PoolModel) -> SampleParts:
    """Where a pool model's samples are.

    The key is the model's identity and its sampling parameters. Where it is served and by which engine are not part of
    it: they do not change what is drawn from, a run may move from one to another half way, and every record names its
    own.
    """
    return SampleParts(run_dir / "samples", model.name, {**model.identity(), "sampling": model.sampling.to_json()})


def sample_pool_model(
    run_dir: Path,
    prompts: Sequence[Prompt],
    model: PoolModel,
    advance: Callable[[int], None] = lambda prompts: None,
    *,
    engine: Engine | None = None,
) -> SampleSummary:
    """Record K responses to every prompt.

    Parameters
    ----------
    advance : called with the number of prompts just done, those on record included
    engine : instead of the one that ``model.engine`` names; it is not closed

    Raises
    ------
    SettingsError, SamplingError : the model cannot be sampled, or no further; what is recorded stays
    RunError : the run folder cannot be read or written
    """
    parts = sample_parts(run_dir, model)
    summary = SampleSummary(model.name, len(prompts))
    wanted = {prompt.prompt_id: prompt for prompt in prompts}
    recorded = set()
    for record in parts:
        prompt = wanted.get(record["prompt_id"])
        if prompt is not None and prompt.is_asked_in(record) and not _is_unusable(record):
            recorded.add(prompt.prompt_id)
            summary.count(record)
    summary.resumed = len(recorded)
    advance(summary.resumed)
    missing = [prompt for prompt in prompts if prompt.prompt_id not in recorded]
    began = time.monotonic()
    if missing:
        opened = engine or open_engine(model)
        try:
            _sample(parts, model, missing, opened, summary, advance)
        except SamplingError as e:
            done = summary.sampled + sum(summary.skipped.values())
            raise SamplingError(
                f"{e}. {done} of {len(prompts)} prompts are recorded; run the same command again to continue"
            ) from e
        finally:
            if engine is None:
                opened.close()
    summary.seconds = time.monotonic() - began
    return summary


def is_sampled(run_dir: Path, prompts: Sequence[Prompt], model: PoolModel) -> bool:
    """Whether every prompt is on record."""
    missing = {prompt.prompt_id: prompt for prompt in prompts}
    for record in sample_parts(run_dir, model):
        prompt = missing.get(record["prompt_id"])
        if prompt is not None and prompt.is_asked_in(record) and not _is_unusable(record):
            del missing[prompt.prompt_id]
    return not missing


def open_engine(model: PoolModel) -> Engine:
    """The engine that a pool model names, ready to sample.

    Raises
    ------
    SettingsError : it lacks a setting
    SamplingError : the model cannot be sampled
    """
    module, _, name = _ENGINES[model.engine].partition(":")
    opened: Engine = getattr(importlib.import_module(module), name)(model.served())
    return opened


def messages_for(prompt: Prompt, model: PoolModel) -> list[dict[str, Any]]:
    """A prompt under a pool model's system prompt.

    A system message of the prompt's own follows in the same message: most chat templates take only one.
    """
    messages = prompt.messages
    if model.system_prompt is None:
        return messages
    system = {"role": "system", "content": model.system_prompt}
    if messages[0].get("role") == "system" and isinstance(messages[0].get("content"), str):
        own, *messages = messages
        system["content"] += "\n\n" + own["content"]
    return [system, *messages]


def _sample(
    parts: Parts,
    model: PoolModel,
    prompts: Sequence[Prompt],
    engine: Engine,
    summary: SampleSummary,
    advance: Callable[[int], None],
) -> None:
    try:
        writer = parts.writer()
    except OSError as e:
        raise RunError(f"{parts.folder}: cannot be written ({e.strerror}). Make room and run again") from e
    with writer, closing(engine.sample(_requests(prompts, model))) as results:
        for request, result in results:
            if isinstance(result, Failure):
                summary.count_failure(request, result)
            else:
                record = _record(request, result, model, engine)
                writer.append(record)
                summary.count(record)
            if isinstance(result, list):
                summary.input_tokens += result[0].input_tokens or 0
                summary.output_tokens += sum(response.output_tokens or 0 for response in result)
            advance(1)


def _requests(prompts: Sequence[Prompt], model: PoolModel) -> Iterator[SampleRequest]:
    # At temperature 0 all K would be the same response; it is asked for once, and vLLM refuses anything else.
    n = 1 if model.sampling.temperature == 0 else model.sampling.k
    for prompt in prompts:
        yield SampleRequest(prompt.prompt_id, messages_for(prompt, model), n, model.sampling, prompt.digest)


def _record(request: SampleRequest, result: list[Response] | Skip, model: PoolModel, engine: Engine) -> dict[str, Any]:
    key = {"prompt_id": request.prompt_id, "prompt": request.digest, "model": model.name}
    if isinstance(result, Skip):
        return {**key, "skipped": result.reason}
    samples = [_sample_of(response) for response in result]
    if request.n == 1 and len(samples) == 1:
        samples *= request.sampling.k
    missing = request.n - len(samples)
    return {
        **key,
        "samples": samples,
        **({"missing": missing} if missing > 0 else {}),
        "engine": engine.name,
        "engine_version": engine.version,
        "sampling": request.sampling.to_json(),
    }


def _sample_of(response: Response) -> dict[str, Any]:
    found = asdict(response)
    if not response.adjusted:
        del found["adjusted"]
    return found


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose samples are all text; else one that is skipped as unusable."""
    samples = record.get("samples")
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        return _unusable(record, "no samples")
    cleaned = [_cleaned(sample) for sample in samples]
    if any(sample["text"] is None for sample in cleaned):
        return _unusable(record, "a sample without text")
    return record | {"samples": cleaned}


def _cleaned(sample: dict[str, Any]) -> dict[str, Any]:
    counts = {name: counted_tokens(sample.get(name)) for name in ("input_tokens", "output_tokens")}
    return sample | {"text": text_of(sample.get("text"))} | counts


def _unusable(record: Mapping[str, Any], why: str) -> dict[str, Any]:
    key = {name: record[name] for name in ("prompt_id", "prompt", "model") if name in record}
    return {**key, "skipped": f"{_UNUSABLE}: {why}"}


def _is_unusable(record: Mapping[str, Any]) -> bool:
    return str(record.get("skipped", "")).startswith(_UNUSABLE)
