"""IO. Where prompts come from: open-perfectblend, a file, any hub data set, a LiteLLM request log.

The ``prompts`` section of pool.yaml is one of::

    prompts: {source: open-perfectblend, per_category: 1000, seed: 0}   # path: a local copy of the data set
    prompts: {source: questions.csv, column: question, category_column: topic, reference_column: answer}
    prompts: {dataset: org/name, split: train, column: prompt, revision: main}
    prompts: {source: litellm-log, path: spend_logs.jsonl, limit: 2000}

Common keys: ``limit`` (that many at random), ``per_category``, ``seed``. Prompts without a split get a seeded
half-and-half one, stratified by category, near-duplicates on one side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erp_trainer.files.atomic import atomic_file
from erp_trainer.prompts.duplicates import near_duplicate_groups, split_in_half
from erp_trainer.prompts.prompt_set import PROMPTS, Prompt, fingerprint, messages_of, read_prompt_set, write_prompt_set
from litellm_erp.config_section import Section
from litellm_erp.errors import PromptError

PERFECTBLEND = "open-perfectblend"
PERFECTBLEND_DATASET = "mlabonne/open-perfectblend"
LITELLM_LOG = "litellm-log"

# The data set's `source` column, without the organisation, to the four categories of arXiv 2603.20217, section 2.3.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "chat": ("ultrachat_200k", "lmsys-arena-human-preference-55k-sharegpt", "ultrafeedback_binarized"),
    "instruction following": ("AutoIF-instruct-61k",),
    "math": ("MetaMathQA", "orca-math-word-problems-200k", "UltraInteract_sft"),
    "code": ("evol-codealpaca-v1", "UltraInteract_sft"),
}
# open-perfectblend has the columns `conversations` and `source` only: UltraInteract_sft's `task` (Coding, Math_CoT,
# Math_PoT, Logic) is gone. Its instructions open with fixed words per task, which tell its rows apart: both math tasks
# hold the first text below, coding tasks start with the second, and what has neither (logic) belongs to no category.
_MATH_WORDS = "Solve the following math problem step-by-step"
_CODE_WORDS = "Write Python code to solve the task"

_KEYS = {
    "source",
    "path",
    "dataset",
    "split",
    "revision",
    "column",
    "category_column",
    "reference_column",
    "per_category",
    "limit",
    "seed",
}  # fmt: skip


@dataclass(frozen=True)
class SourceSpec:
    """The ``prompts`` section, checked.

    Attributes
    ----------
    kind : "open-perfectblend", "litellm-log", "file" or "dataset"
    location : the file, folder or hub data set
    split : of the hub data set
    per_category, limit : how many to draw; None takes all
    """

    kind: str
    location: str
    split: str = "train"
    revision: str | None = None
    column: str = "prompt"
    category_column: str = "category"
    reference_column: str = "reference"
    per_category: int | None = None
    limit: int | None = None
    seed: int = 0

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any], base: Path) -> SourceSpec:
        """Read the section; paths are relative to ``base``.

        Raises
        ------
        PromptError : unknown key, or none or several sources; names the key
        """
        section = Section(value, "prompts:", PromptError, _KEYS)
        source, dataset, path = (section.optional_text(key) for key in ("source", "dataset", "path"))
        if (source is None) == (dataset is None):
            raise PromptError("prompts: expected either source (open-perfectblend, litellm-log, a file) or dataset")
        names = ("column", "category_column", "reference_column", "split", "revision")
        options: dict[str, Any] = {key: found for key in names if (found := section.optional_text(key)) is not None}
        for key, low in (("per_category", 1), ("limit", 1), ("seed", 0)):
            if value.get(key) is not None:
                options[key] = section.integer(key, low, low=low)
        if dataset is not None:
            local = base / (path or dataset)
            return cls("dataset", str(local) if local.exists() else dataset, **options)
        if source == PERFECTBLEND:
            options.setdefault("per_category", 1000)
            return cls(PERFECTBLEND, str(base / path) if path else PERFECTBLEND_DATASET, **options)
        if source == LITELLM_LOG:
            if path is None:
                raise PromptError("prompts: litellm-log needs path, the exported file")
            return cls(LITELLM_LOG, str(base / path), **options)
        return cls("file", str(base / str(source)), **options)


@dataclass(frozen=True)
class Gathered:
    """Prompts of a source, and what became of the rest of its rows.

    Attributes
    ----------
    counts : rows read, without_text, repeated (the same prompt again), uncategorised, prompts, near_duplicates
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
    rng = np.random.default_rng(spec.seed)
    if spec.kind == PERFECTBLEND:
        prompts = _perfectblend(spec, counts, rng)
    else:
        rows = {LITELLM_LOG: _log_rows, "file": _file_rows, "dataset": _dataset_rows}[spec.kind](spec)
        prompts = _drawn(list(_distinct(rows, spec.location, counts)), spec, rng)
    if not prompts:
        raise PromptError(f"{spec.location}: no prompt found in {counts['rows']} rows; {_explained(counts)}")
    prompts = _split(prompts, spec.seed, counts)
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
    spec = SourceSpec.from_mapping(section, base)
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


def prompt_id_of(prompt: str | list[dict[str, Any]]) -> str:
    """An id from the prompt's own text: the same text always has the same one."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return "p-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def first_user_turn(conversation: object) -> str | None:
    """Text of the first user turn of a conversation of ``{from, value}`` or ``{role, content}``; None without one."""
    for turn in conversation if isinstance(conversation, list) else []:
        if not isinstance(turn, Mapping):
            continue
        if turn.get("from") in ("human", "user"):
            value = turn.get("value")
            return value if isinstance(value, str) and value.strip() else None
        if turn.get("role") == "user":
            return "\n\n".join(_texts(turn.get("content"))) or None
    return None


def category_of(source: str, text: str, task: str | None = None) -> str | None:
    """Category of an open-perfectblend row; None where it belongs to none.

    Parameters
    ----------
    source : the row's ``source``, with or without the organisation
    text : its first user turn
    task : UltraInteract's own task name, where a copy of the data set kept it
    """
    name = source.rpartition("/")[2]
    found = [category for category, sources in CATEGORIES.items() if name in sources]
    if len(found) < 2:
        return found[0] if found else None
    if task is not None:
        return "code" if task == "Coding" else "math" if task.startswith("Math") else None
    if _MATH_WORDS in text:
        return "math"
    return "code" if text.lstrip().startswith(_CODE_WORDS) else None


def _perfectblend(spec: SourceSpec, counts: dict[str, int], rng: np.random.Generator) -> list[Prompt]:
    """Draw rows of each category at random until it has enough different prompts."""
    table = _load_dataset(spec)
    _require(table, ("conversations", "source"), spec)
    has_task = "task" in table.column_names
    sources = np.array([str(name).rpartition("/")[2] for name in table["source"]])
    counts["rows"] = len(sources)
    prompts: list[Prompt] = []
    seen: set[str] = set()
    neither: set[int] = set()
    for category, names in CATEGORIES.items():
        taken = 0
        for index in rng.permutation(np.flatnonzero(np.isin(sources, names))).tolist():
            if taken == spec.per_category:
                break
            row = table[index]
            text = first_user_turn(row["conversations"])
            if text is None:
                counts["without_text"] += 1
                continue
            found = category_of(sources[index], text, row["task"] if has_task else None)
            if found != category:
                # A mixed source: the row is another category's, or none's.
                neither.update([index] if found is None else [])
                continue
            same = " ".join(text.split()).casefold()
            if same in seen:
                counts["repeated"] += 1
                continue
            seen.add(same)
            prompts.append(Prompt(prompt_id_of(text), text, category, "", tags=(sources[index],)))
            taken += 1
    counts["uncategorised"] = len(neither)
    return prompts


def _file_rows(spec: SourceSpec) -> Iterator[Mapping[str, Any]]:
    from erp_trainer.files.arrow import read_table

    names = {
        "prompt_id": "prompt_id",
        "prompt": spec.column,
        "category": spec.category_column,
        "reference": spec.reference_column,
        "split": "split",
        "tags": "tags",
    }
    path = Path(spec.location)
    # References are often numbers; as text they would be refused.
    text = [column for name, column in names.items() if name != "reference"]
    table = read_table(path, wanted=lambda name: name in names.values(), text=text)
    if spec.column not in table.columns:
        raise PromptError(f"{path}: no column {spec.column!r}; found {', '.join(table.names)}. Name it with column")
    cells = {name: table.columns[column].to_pylist() for name, column in names.items() if column in table.columns}
    for row in range(table.n_rows):
        yield {name: column[row] for name, column in cells.items()}


def _dataset_rows(spec: SourceSpec) -> Iterator[Mapping[str, Any]]:
    table = _load_dataset(spec)
    _require(table, (spec.column,), spec)
    names = {"prompt": spec.column, "category": spec.category_column, "reference": spec.reference_column}
    present = {name: column for name, column in names.items() if column in table.column_names}
    for row in table.select_columns(list(present.values())):
        yield {name: row[column] for name, column in present.items()}


def _log_rows(spec: SourceSpec) -> Iterator[Mapping[str, Any]]:
    """User text of each logged request: no system prompt, no answer, no name, no key.

    The turns of a conversation become one, because that is the text a request is embedded by.
    """
    for record in _log_records(Path(spec.location)):
        yield {"prompt": "\n\n".join(_user_texts(record))}


def _log_records(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise PromptError(f"{path}: cannot be read ({e}); expected a JSON or JSONL export of spend logs") from e
    try:
        loaded: Any = json.loads(content)
    except ValueError:
        # Not splitlines(): text inside JSON may hold U+2028.
        loaded = [_log_line(path, n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
    if isinstance(loaded, Mapping):
        loaded = next((value for value in loaded.values() if _is_records(value)), [loaded])
    for number, record in enumerate(loaded, start=1):
        if not isinstance(record, Mapping):
            raise PromptError(f"{path}: record {number} is a {type(record).__name__}; expected a JSON object")
        yield record


def _is_records(value: Any) -> bool:
    """Whether ``value`` is the list of requests inside an export such as ``{"data": [...], "total": 3}``."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "role" not in v for v in value)


def _log_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as e:
        raise PromptError(f"{path}: line {number} is not JSON ({e}); expected one request a line") from e


def _user_texts(record: Mapping[str, Any]) -> list[str]:
    body = _decoded(record.get("proxy_server_request"))
    if isinstance(body, Mapping) and isinstance(body.get("body"), Mapping):
        body = body["body"]
    for request in (record, body if isinstance(body, Mapping) else {}):
        for key in ("messages", "input", "prompt"):
            found = _decoded(request.get(key))
            turns = [{"role": "user", "content": found}] if isinstance(found, str) else found
            texts = [
                text
                for turn in (turns if isinstance(turns, list) else [])
                if isinstance(turn, Mapping) and turn.get("role") == "user"
                for text in _texts(turn.get("content"))
            ]
            if texts:
                return texts
    return []


def _decoded(value: Any) -> Any:
    """Spend logs hold JSON as text."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _texts(content: Any) -> list[str]:
    parts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return [text for text in texts if isinstance(text, str) and text.strip()]


def _distinct(rows: Iterable[Mapping[str, Any]], where: str, counts: dict[str, int]) -> Iterator[Prompt]:
    """Prompts of rows, each id once."""
    seen: dict[str, str] = {}
    for row in rows:
        counts["rows"] += 1
        prompt = _prompt_of(row.get("prompt"))
        if prompt is None:
            counts["without_text"] += 1
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
    value = _decoded(value) if isinstance(value, str) and ('"role"' in value or '"from"' in value) else value
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
    found = _decoded(cell)
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


def _split(prompts: Sequence[Prompt], seed: int, counts: dict[str, int]) -> list[Prompt]:
    groups = near_duplicate_groups([prompt.cell for prompt in prompts])
    counts["near_duplicates"] = len(prompts) - int(np.unique(groups).size)
    if not any(prompt.split for prompt in prompts):
        splits = split_in_half(groups, [prompt.category for prompt in prompts], seed)
        prompts = [replace(prompt, split=split) for prompt, split in zip(prompts, splits, strict=True)]
    train = {int(group) for group, prompt in zip(groups, prompts, strict=True) if prompt.split == "train"}
    counts["leaking"] = sum(p.split == "test" and int(g) in train for g, p in zip(groups, prompts, strict=True))
    return list(prompts)


def _load_dataset(spec: SourceSpec) -> Any:
    """A `datasets.Dataset`: saved with ``save_to_disk``, a folder of files, or from the hub."""
    import datasets

    folder = Path(spec.location)
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
            return loaded[spec.split] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(spec.location, split=spec.split, revision=spec.revision)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        raise PromptError(
            f"data set {spec.location} (split {spec.split}) cannot be loaded: {' '.join(str(e).split())[:300]}. "
            "Without a way to the hub, state path: a local copy"
        ) from e


def _require(table: Any, columns: Sequence[str], spec: SourceSpec) -> None:
    for name in columns:
        if name not in table.column_names:
            raise PromptError(f"data set {spec.location}: no column {name!r}; found {', '.join(table.column_names)}")


def _explained(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in counts.items() if key != "rows")
