"""IO. Where prompts come from: open-perfectblend, a file, any hub data set, a LiteLLM request log.

The ``prompts`` section of pool.yaml is one of::

    prompts: {source: open-perfectblend, per_category: 1000, seed: 0}   # path: a local copy of the data set
    prompts: {source: questions.csv, column: question, category_column: topic, reference_column: answer}
    prompts: {dataset: org/name, split: train, column: prompt, revision: main}
    prompts: {source: litellm-log, path: spend_logs.jsonl, limit: 2000}

Common keys: ``limit`` (that many at random), ``per_category``, ``seed``, ``test_share``. Prompts without a split get
a seeded one, half and half or by that share, stratified by category, near-duplicates on one side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.files.atomic import atomic_file
from erp_trainer.prompts import hub_dataset, litellm_log, perfectblend, table_file
from erp_trainer.prompts.conversation import decoded, first_user_turn
from erp_trainer.prompts.duplicates import near_duplicate_groups, split_by_share
from erp_trainer.prompts.placeholders import CUT, placeholder
from erp_trainer.prompts.prompt_set import (
    PROMPTS,
    Prompt,
    fingerprint,
    messages_of,
    prompt_id_of,
    read_prompt_set,
    write_prompt_set,
)
from erp_trainer.prompts.source import Row, Source, SourceSpec
from litellm_erp.config_section import Section
from litellm_erp.errors import PromptError

_COLUMNS = ("column", "category_column", "reference_column", "split", "revision")
_LEAST = {"per_category": 1, "limit": 1, "seed": 0}
_KEYS = {"source", "path", "dataset", "test_share", *_COLUMNS, *_LEAST}


def source_spec(value: Mapping[str, Any], base: Path) -> SourceSpec:
    """Read the ``prompts`` section; paths are relative to ``base``.

    Raises
    ------
    PromptError : unknown key, or none or several sources; names the key
    """
    section = Section(value, "prompts:", PromptError, _KEYS)
    name, dataset, path = (section.optional_text(key) for key in ("source", "dataset", "path"))
    if (name is None) == (dataset is None):
        raise PromptError("prompts: expected either source (open-perfectblend, litellm-log, a file) or dataset")
    options: dict[str, Any] = {key: found for key in _COLUMNS if (found := section.optional_text(key)) is not None}
    options |= {key: section.integer(key, low=low) for key, low in _LEAST.items() if section.get(key) is not None}
    if section.get("test_share") is not None:
        options["test_share"] = section.number("test_share", low=0.0, high=1.0)
        if not 0.0 < options["test_share"] < 1.0:
            raise section.wrong("test_share", options["test_share"], "a number between 0 and 1, such as 0.2")
    if dataset is not None:
        local = base / (path or dataset)
        return SourceSpec("dataset", str(local) if local.exists() else dataset, **options)
    if name is None or name not in SOURCES or name in ("file", "dataset"):
        return SourceSpec("file", str(base / str(name)), **options)
    location = str(base / path) if path else SOURCES[name].location
    if location is None:
        raise PromptError(f"prompts: {name} needs path, the exported file")
    return SourceSpec(name, location, **{**SOURCES[name].defaults, **options})


@dataclass(frozen=True)
class Gathered:
    """Prompts of a source, and what became of the rest of its rows.

    Attributes
    ----------
    counts : rows read, without_text, cut_by_the_log and placeholders (where there are such rows; see `placeholder`),
        repeated (the same prompt again), uncategorised, prompts, near_duplicates
        (prompts that resemble an earlier one), leaking (test prompts that resemble a train prompt)
    """

    prompts: list[Prompt]
    counts: dict[str, int]


def gather(spec: SourceSpec) -> Gathered:
    """Read a source, draw what is asked for, and split it.

    Raises
    ------
    PromptError : the source cannot be read, or has no usable prompt
    OutcomesError : a local table that cannot be read; names file and row
    """
    counts = {"rows": 0, "without_text": 0, "repeated": 0, "uncategorised": 0}
    prompts = SOURCES[spec.kind].draw(spec, counts, np.random.default_rng(spec.seed))
    if not prompts:
        explained = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in counts.items() if key != "rows")
        raise PromptError(f"{spec.location}: no prompt found in {counts['rows']} rows; {explained}")
    prompts = _split(prompts, spec, counts)
    return Gathered(prompts, counts | {"prompts": len(prompts)})


def prepare(run: Path, section: Mapping[str, Any], base: Path, *, force: bool = False) -> Gathered:
    """Write a run's prompts, or read those it already has.

    Parameters
    ----------
    section : the ``prompts`` section of pool.yaml
    base : where its relative paths start
    force : gather again and replace what is there; samples of a prompt whose text changes count no more

    Returns
    -------
    Gathered ; ``counts`` as they were when the prompts were written

    Raises
    ------
    PromptError : as `gather`; or the run has prompts that were made from another section
    """
    spec = source_spec(section, base)
    record = run / "prompts.json"
    if (run / PROMPTS).exists() and not force:
        prompts = read_prompt_set(run)
        made = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {"section": dict(section)}
        if made["section"] != dict(section):
            raise PromptError(
                f"{run / PROMPTS}: made from {json.dumps(made['section'])}, and {json.dumps(dict(section))} is asked "
                "for now. Name another run folder, or make them again with `erp-train prompts --force`"
            )
        return Gathered(prompts, made.get("counts") or {"prompts": len(prompts)})
    gathered = gather(spec)
    made = {"section": dict(section), "counts": gathered.counts, "sha256": fingerprint(gathered.prompts)}
    write_prompt_set(gathered.prompts, run)
    with atomic_file(record) as temporary:
        temporary.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return gathered


def _distinct(rows: Iterable[Row], where: str, counts: dict[str, int]) -> Iterator[Prompt]:
    """Prompts of rows, each id once."""
    seen: dict[str, str] = {}
    for row in rows:
        counts["rows"] += 1
        prompt = _prompt_of(row.get("prompt"))
        if prompt is None:
            counts["without_text"] += 1
            continue
        reason = placeholder(prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False))
        if reason is not None:
            key = "cut_by_the_log" if reason == CUT else "placeholders"
            counts[key] = counts.get(key, 0) + 1
            continue
        prompt_id = row.get("prompt_id") or prompt_id_of(prompt)
        reference = row.get("reference")
        made = Prompt.from_json(
            {
                "prompt_id": prompt_id,
                "prompt": prompt,
                "category": "" if row.get("category") is None else str(row["category"]),
                "split": row.get("split") or "",
                "reference": None if reference is None else _plain(reference),
                "tags": _tags(row.get("tags")),
            },
            where=f"{where}: row {counts['rows']}",
        )
        if prompt_id in seen:
            if seen[prompt_id] != made.cell:
                raise PromptError(
                    f"{where}: row {counts['rows']}: prompt_id {prompt_id!r} has another text than before; "
                    "give different prompts different ids"
                )
            counts["repeated"] += 1
            continue
        seen[prompt_id] = made.cell
        yield made


def _prompt_of(value: Any) -> str | list[dict[str, Any]] | None:
    """A cell as a prompt: text as it is; of a finished conversation the first user turn."""
    value = decoded(value) if isinstance(value, str) and ('"role"' in value or '"from"' in value) else value
    if isinstance(value, str):
        return value if value.strip() else None
    messages = messages_of(value)
    if messages is not None and messages[-1].get("role") == "user":
        return messages
    return first_user_turn(value)


def _plain(reference: Any) -> str:
    whole = isinstance(reference, float) and reference.is_integer()
    return str(int(reference) if whole else reference)


def _tags(cell: Any) -> list[str]:
    if not isinstance(cell, str):
        return [str(tag) for tag in cell or [] if tag is not None]
    found = decoded(cell)
    return [str(tag) for tag in found] if isinstance(found, list) else [t.strip() for t in cell.split(",") if t.strip()]


def _drawn(prompts: list[Prompt], spec: SourceSpec, rng: np.random.Generator) -> list[Prompt]:
    """``per_category`` and then ``limit`` prompts at random, in the order of the source."""
    kept = np.arange(len(prompts))
    if spec.per_category is not None:
        categories = np.array([prompt.category for prompt in prompts])
        kept = np.concatenate(
            [rng.permutation(np.flatnonzero(categories == name))[: spec.per_category] for name in np.unique(categories)]
        )
    if spec.limit is not None:
        kept = rng.permutation(kept)[: spec.limit]
    return [prompts[index] for index in np.sort(kept)]


def _split(prompts: Sequence[Prompt], spec: SourceSpec, counts: dict[str, int]) -> list[Prompt]:
    groups = near_duplicate_groups([prompt.cell for prompt in prompts])
    counts["near_duplicates"] = len(prompts) - int(np.unique(groups).size)
    if not any(prompt.split for prompt in prompts):
        splits = split_by_share(groups, [prompt.category for prompt in prompts], spec.seed, spec.test_share)
        prompts = [replace(prompt, split=split) for prompt, split in zip(prompts, splits, strict=True)]
    train = {int(group) for group, prompt in zip(groups, prompts, strict=True) if prompt.split == "train"}
    counts["leaking"] = sum(p.split == "test" and int(g) in train for g, p in zip(groups, prompts, strict=True))
    return list(prompts)


def _whole(rows: Callable[[SourceSpec], Iterable[Row]]) -> Source:
    """A source that is read whole, and then drawn from."""
    return Source(lambda spec, counts, rng: _drawn(list(_distinct(rows(spec), spec.location, counts)), spec, rng))


# By the name that `source` states; what is none of them is the path of a file.
SOURCES = {
    "open-perfectblend": Source(perfectblend.draw, perfectblend.DATASET, {"per_category": 1000}),
    "litellm-log": _whole(litellm_log.rows),
    "file": _whole(table_file.rows),
    "dataset": _whole(hub_dataset.rows),
}
