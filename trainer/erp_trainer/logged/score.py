"""IO. Logged answers scored by the reward models of a pool file, as feedback in the bundle's unit.

A share of the requests is drawn by a hash of seed, id and account, so that it has nothing to do with what was asked,
who served and what others say of the answer; a larger share holds a smaller one. What was scored before is on record
in the lines themselves and is not scored again. Lines are on disk after every chunk of about a quarter of a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.console import Progress
from erp_trainer.files.records import content_key, only_process
from erp_trainer.logged.files import Reading, lines, log_files
from erp_trainer.logged.log import Request
from erp_trainer.outcomes.read import LARGEST
from erp_trainer.pool.pool import RewardSpec
from erp_trainer.prompts.prompt_set import messages_of
from erp_trainer.rewards.base import Pair, RewardModel
from erp_trainer.rewards.combining import Normalisation, weighted
from erp_trainer.rewards.registry import load_reward_model
from erp_trainer.rewards.stage import NAN, TOO_LARGE, chunks
from litellm_erp.decision_log.record import Feedback, Record, parse_line, to_line
from litellm_erp.decision_log.writer import MOST_ANSWER_CHARS
from litellm_erp.errors import DecisionLogError, SettingsError

FILES = "scores"


@dataclass(frozen=True, slots=True)
class Sample:
    """Which requests are scored.

    Attributes
    ----------
    share : of all that can be, in (0, 1]
    group, team : of these alone; a group is needed where the log has several
    """

    share: float
    seed: int = 0
    group: str | None = None
    team: str | None = None

    def has(self, request: Request) -> bool:
        """Whether a request is in the share: by chance alone, and the same one every time."""
        text = "\0".join(("score", str(self.seed), request[0], request[1] or ""))
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.share * 2.0**64

    def asks_for(self, record: Record) -> bool:
        """Whether a request is of the group and the team asked about."""
        return self.group in (None, record.group) and self.team in (None, record.team)


@dataclass(frozen=True, slots=True)
class Scale:
    """A bundle's reward: the reward models that make it, and how they are brought together.

    Attributes
    ----------
    models : those with a weight
    key : 16 hex digits of models and normalisation; scores of one key compare
    checked : whether the bundle says what its reward models are, so that these are known to be the same
    """

    models: tuple[RewardModel, ...]
    normalisation: Mapping[str, Normalisation]
    unit: str
    key: str
    checked: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer to be scored."""

    request: Request
    served: str
    pairs: tuple[Pair, ...]


@dataclass
class _Census:
    """What a log has, found by reading it once.

    Attributes
    ----------
    first : when each request was, of several with one id the first, as for whoever reads feedback; why it cannot be
        scored; and whether its answer was cut
    wanted : those to be scored, by when they were
    """

    counts: Counter[str] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    first: dict[Request, tuple[float, str | None, bool]] = field(default_factory=dict)
    wanted: dict[Request, float] = field(default_factory=dict)
    scored: dict[Request, str | None] = field(default_factory=dict)


def scale_of(
    reward: Mapping[str, Any],
    where: Path,
    specs: Sequence[RewardSpec],
    source: Path,
    load: Callable[[RewardSpec], RewardModel] = load_reward_model,
) -> Scale:
    """The reward models of a pool file, on the scale that a bundle was fitted on.

    Parameters
    ----------
    reward : of the bundle's manifest
    where, source : the bundle and the pool file, for messages

    Raises
    ------
    SettingsError : they are others than the bundle's, one needs a reference answer, or nobody knows the scale
    """
    recorded = reward.get("identities")
    if not isinstance(recorded, Mapping):
        if len(specs) != 1:
            raise SettingsError(
                f"{source}: rewards: {where} was fitted on imported rewards and does not say how several reward models "
                "were combined; state the one that its rewards are from"
            )
        scales = {specs[0].name: Normalisation(0.0, 1.0, 1.0)}
    else:
        scales = _recorded_scales(reward, where)
    made = {spec.name: load(spec) for spec in specs}
    if missing := sorted(scales.keys() - made.keys()):
        raise SettingsError(
            f"{source}: rewards: {missing[0]} is missing, which {where} was fitted on; found {', '.join(made)}. "
            "Take the pool file that the bundle was made from"
        )
    models = tuple(made[name] for name in scales)
    for model in models:
        if isinstance(recorded, Mapping) and recorded.get(model.name) != model.identity():
            raise SettingsError(
                f"{model.where}: is another reward model, or has other options, than the one that {where} was fitted "
                "on; its rewards would not compare. Take the pool file that the bundle was made from, or fit it again"
            )
        if model.needs_reference:
            raise SettingsError(
                f"{model.where}: needs a right answer to compare with, and a logged request has none; logs of this "
                "bundle cannot be scored. Send feedback to /erp/feedback instead"
            )
    about = {
        "models": {model.name: model.identity() for model in models},
        "normalisation": {name: scale.to_json() for name, scale in scales.items()},
    }
    unit = str(reward.get("unit", "reward"))
    return Scale(models, scales, unit, content_key(about), isinstance(recorded, Mapping))


def _recorded_scales(reward: Mapping[str, Any], where: Path) -> dict[str, Normalisation]:
    try:
        found = {name: Normalisation(**of) for name, of in reward["normalisation"].items()}
        return {name: scale for name, scale in found.items() if scale.weight > 0}
    except (KeyError, TypeError, AttributeError):
        raise SettingsError(
            f"{where}: its manifest does not say how rewards were normalised; fit it again: erp-train fit"
        ) from None


def score_log(
    paths: Sequence[Path], scale: Scale, sample: Sample, progress: Progress, out: Path | None = None
) -> dict[str, Any]:
    """Score the share of a log's answers that has not been scored, and write it down as feedback.

    Parameters
    ----------
    paths : folders, files or patterns
    progress : `console.progress`, or like it
    out : the folder of the lines; None puts them beside the log

    Returns
    -------
    what was counted, scored and skipped, for JSON

    Raises
    ------
    DecisionLogError : no log, several groups, no request with texts, or scores by other reward models
    RewardError : a reward model failed; what was written before is kept
    """
    files = log_files(paths)
    folder = out or (paths[0] if paths[0].is_dir() else files[0].parent)
    where = ", ".join(map(str, paths))
    with _held(folder):
        if folder not in paths and list(folder.glob(f"{FILES}-*.jsonl")):
            files = log_files([*files, folder])
        census = _census(files, sample)
        _check(census, sample, scale, where)
        again = census.wanted.keys() & census.scored.keys()
        wanted = {request: seconds for request, seconds in census.wanted.items() if request not in again}
        with progress(len(wanted), "scoring") as advance:
            found = _scored(_answers(files, wanted, sample), scale, folder, advance)
    return {
        "log": [str(path) for path in paths],
        "share": sample.share,
        "seed": sample.seed,
        "unit": scale.unit,
        "by": scale.key,
        "checked": scale.checked,
        "normalisation": {name: each.to_json() for name, each in scale.normalisation.items()},
        **{name: census.counts[name] for name in (*_LEFT_OUT, "requests", "scorable", "in_share", "cut")},
        "scored_before": len(again),
        **found,
    }


# Why a request cannot be scored.
_LEFT_OUT = ("failed", "served_elsewhere", "without_prompt", "without_answer")


def _census(files: Sequence[Path], sample: Sample) -> _Census:
    found = _Census()
    for line in lines(files, Reading()):
        entry = _read(line)
        if isinstance(entry, Feedback) and entry.source == "score":
            found.scored.setdefault((entry.request_id, entry.account), entry.by)
        elif isinstance(entry, Record):
            found.groups.add(entry.group)
            request = entry.request_id, entry.account
            known = found.first.get(request)
            if sample.asks_for(entry) and (known is None or entry.time < known[0]):
                found.first[request] = entry.time, _why_not(entry), len(entry.answer or "") >= MOST_ANSWER_CHARS
    found.counts["requests"] = len(found.first)
    for request, (seconds, why, is_cut) in found.first.items():
        found.counts[why or "scorable"] += 1
        if why is None and sample.has(request):
            found.counts["in_share"] += 1
            found.counts["cut"] += is_cut
            found.wanted[request] = seconds
    return found


def _why_not(record: Record) -> str | None:
    """Why an answer cannot be scored; what its client got, cut at its own bound of tokens or empty, can."""
    if record.failed:
        return "failed"
    if record.served is None:
        return "served_elsewhere"
    if not record.prompt:
        return "without_prompt"
    return "without_answer" if record.answer is None else None


def _read(line: bytes) -> Record | Feedback | None:
    with contextlib.suppress(DecisionLogError):
        return parse_line(line)
    return None


def _check(census: _Census, sample: Sample, scale: Scale, where: str) -> None:
    counts = census.counts
    if sample.group is None and len(census.groups) > 1:
        raise DecisionLogError(
            f"{where}: has decisions of the groups {', '.join(sorted(census.groups))}; say which with --group"
        )
    if not counts["requests"]:
        raise DecisionLogError(f"{where}: holds no decision of what was asked for; expected a decision log")
    if not counts["scorable"]:
        raise DecisionLogError(
            f"{where}: none of {counts['requests']:,} requests can be scored: {counts['without_prompt']:,} without "
            f"their prompt's text, {counts['without_answer']:,} without their answer's, {counts['failed']:,} failed, "
            f"{counts['served_elsewhere']:,} not answered by the group. Keep texts from now on, in erp_settings: "
            "decision_log: {prompts: true, answers: true, redact: …}"
        )
    others = Counter(by for by in census.scored.values() if by not in (None, scale.key))
    if others:
        raise DecisionLogError(
            f"{where}: holds {others.total():,} scores of other reward models, or of another normalisation, than "
            f"these; the two would not compare. Move its files {FILES}-*.jsonl elsewhere and run it again"
        )


def _scored(answers: Iterator[_Answer], scale: Scale, folder: Path, advance: Callable[[int], None]) -> dict[str, Any]:
    skipped: Counter[str] = Counter()
    rewards: dict[str, list[float]] = {}
    truncated = 0
    stem = f"{FILES}-{int(time.time() * 1000)}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
    with ExitStack() as stack:
        for model in scale.models:
            stack.callback(model.close)
        for chunk, took in chunks(answers):
            began = time.monotonic()
            pairs = [pair for answer in chunk for pair in answer.pairs]
            raw = {model.name: model.score(pairs, lambda steps: None) for model in scale.models}
            truncated += sum(any(raw[name][i].truncated for name in raw) for i in range(len(chunk)))
            kept, missing = _combined(chunk, {name: [s.reward for s in of] for name, of in raw.items()}, scale)
            skipped += missing
            _append(folder / stem, kept)
            for answer, entry in kept:
                rewards.setdefault(answer.served, []).append(entry.reward)
            advance(len(chunk))
            took(time.monotonic() - began)
    return {
        "scored": sum(map(len, rewards.values())),
        "truncated": truncated,
        "skipped": dict(skipped),
        "models": {
            model: {"scored": len(of), "mean_reward": float(np.mean(of))} for model, of in sorted(rewards.items())
        },
        "file": str(folder / stem) if rewards else None,
    }


def _answers(files: Sequence[Path], wanted: Mapping[Request, float], sample: Sample) -> Iterator[_Answer]:
    """Each wanted request's prompt and answer, as they stand in the files; only a chunk's are held."""
    left = dict(wanted)
    for line in lines(files, Reading()) if left else ():
        found = _read(line)
        if not isinstance(found, Record) or not sample.asks_for(found):
            continue
        request = found.request_id, found.account
        if left.get(request) == found.time:
            del left[request]
            prompt, answer = _clean(found.prompt or ""), _clean(found.answer or "")
            yield _Answer(request, found.served or "", (Pair(messages_of(prompt) or prompt, answer),))


def _combined(
    chunk: Sequence[_Answer], raw: Mapping[str, Sequence[float]], scale: Scale
) -> tuple[list[tuple[_Answer, Feedback]], Counter[str]]:
    """Feedback on the bundle's scale for those that every reward model gave a reward, and why others have none."""
    skipped: Counter[str] = Counter()
    kept = []
    for i, answer in enumerate(chunk):
        mine = {name: rewards[i] for name, rewards in raw.items()}
        if not all(abs(reward) <= LARGEST for reward in mine.values()):
            skipped[NAN if any(math.isnan(reward) for reward in mine.values()) else TOO_LARGE] += 1
            continue
        key = ("", "")
        made = weighted({name: {key: np.array([each])} for name, each in mine.items()}, scale.normalisation)[key]
        reward, (request_id, account) = float(made[0]), answer.request
        if not abs(reward) <= LARGEST:
            skipped[TOO_LARGE] += 1
            continue
        kept.append((answer, Feedback(time.time(), request_id, reward, "score", account, scale.key)))
    return kept, skipped


def _append(path: Path, kept: Sequence[tuple[_Answer, Feedback]]) -> None:
    """Write lines, readable by their owner alone; they are on disk when it returns."""
    if not kept:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write("".join(to_line(entry) for _, entry in kept).encode("ascii"))
            file.flush()
            os.fdatasync(file.fileno())
    except OSError as e:
        raise DecisionLogError(
            f"{path}: cannot be written ({e.strerror}); what was scored before is kept. Make room and run it again"
        ) from e


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(only_process(folder))
        except OSError as e:
            raise DecisionLogError(
                f"{folder}: cannot be written ({e.strerror}); name another folder for the scores with --out"
            ) from e
        yield


def _clean(text: str) -> str:
    """Text without lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
