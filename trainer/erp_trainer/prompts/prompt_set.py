"""IO. Prompt sets: what every pool model of a run is asked, one JSON object a line.

::

    {"prompt_id": "gsm-17", "prompt": "What is …", "category": "math", "split": "train", "reference": "42"}

``prompt`` is one user turn, or a list of chat messages. What has its default value is left out of the file.
Invariants: ids are unique, every prompt has text, and the file is replaced whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erp_trainer.files.atomic import atomic_file
from litellm_erp.choice.prompt import from_value
from litellm_erp.errors import PromptError

PROMPTS = "prompts.jsonl"
_OPTIONAL_TEXT = ("category", "split", "reference")


@dataclass(frozen=True)
class Prompt:
    """One prompt of a set.

    Attributes
    ----------
    prompt_id : unique in its set
    prompt : one user turn, or chat messages
    category : "" where there is none
    split : "train", "test", or another value that is kept and ignored
    reference : what a right answer is, for rewards that compare with one
    """

    prompt_id: str
    prompt: str | list[dict[str, Any]]
    category: str = ""
    split: str = "train"
    reference: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def cell(self) -> str:
        """The prompt as an outcomes table holds it: text, or the JSON of its messages."""
        return self.prompt if isinstance(self.prompt, str) else json.dumps(self.prompt, ensure_ascii=False)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The prompt as chat messages."""
        return [{"role": "user", "content": self.prompt}] if isinstance(self.prompt, str) else list(self.prompt)

    @property
    def digest(self) -> str:
        """16 hex digits of what is asked; a record of responses carries those of the prompt that they answer."""
        text = json.dumps(self.messages, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_asked_in(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of this id is of this text; an id may have had another before."""
        return bool(record.get("prompt", self.digest) == self.digest)

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        record: dict[str, Any] = {"prompt_id": self.prompt_id, "prompt": self.prompt}
        if self.category:
            record["category"] = self.category
        record["split"] = self.split
        if self.reference is not None:
            record["reference"] = self.reference
        if self.tags:
            record["tags"] = list(self.tags)
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any], *, where: str) -> Prompt:
        """Check and read one record; keys that are not a prompt's are ignored.

        Raises
        ------
        PromptError : names ``where`` and the key
        """
        prompt_id, prompt = record.get("prompt_id"), record.get("prompt")
        if not isinstance(prompt_id, str) or not prompt_id.strip():
            raise PromptError(f"{where}: prompt_id is {prompt_id!r}; expected text")
        prompt = messages_of(prompt) or prompt
        if not isinstance(prompt, (str, list)) or not from_value(prompt).text:
            raise PromptError(f"{where} (prompt_id {prompt_id!r}): no text in prompt; expected text or chat messages")
        tags = record.get("tags") or ()
        if not isinstance(tags, (list, tuple)):
            raise PromptError(f"{where} (prompt_id {prompt_id!r}): tags is {tags!r}; expected a list")
        stated = {key: record[key] for key in _OPTIONAL_TEXT if record.get(key) is not None}
        for key, value in stated.items():
            if not isinstance(value, str):
                raise PromptError(f"{where} (prompt_id {prompt_id!r}): {key} is {value!r}; expected text")
        return cls(prompt_id, prompt, tags=tuple(str(tag) for tag in tags), **stated)


def messages_of(value: object) -> list[dict[str, Any]] | None:
    """Chat messages, where ``value`` is a list of them or the JSON of one; else None.

    The rule of `litellm_erp.choice.prompt.from_value`, so that what is sampled is what is embedded.
    """
    if isinstance(value, str):
        if value.lstrip()[:1] != "[" or '"role"' not in value:
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
        return value
    return None


def prompt_id_of(prompt: str | list[dict[str, Any]]) -> str:
    """An id from the prompt's own text: the same text always has the same one."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return "p-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_prompt_set(path: Path | str) -> list[Prompt]:
    """Read a prompt set; ``path`` is the file, or the run folder that holds it.

    Raises
    ------
    PromptError : missing, empty, or a line that is no prompt; names file and line
    """
    path = Path(path)
    path = path / PROMPTS if path.is_dir() else path
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as e:
        raise PromptError(f"{path}: cannot be read ({e.strerror}); make it with `erp-train prompts`") from e
    prompts: list[Prompt] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as e:
            raise PromptError(f"{where}: not JSON ({e}); expected one JSON object a line") from e
        if not isinstance(record, dict):
            raise PromptError(f"{where}: a JSON {type(record).__name__}; expected one JSON object a line")
        prompt = Prompt.from_json(record, where=where)
        if prompt.prompt_id in seen:
            raise PromptError(f"{where}: prompt_id {prompt.prompt_id!r} a second time; ids must be unique")
        seen.add(prompt.prompt_id)
        prompts.append(prompt)
    if not prompts:
        raise PromptError(f"{path}: no prompts in the file; expected one JSON object a line")
    return prompts


def write_prompt_set(prompts: Sequence[Prompt], path: Path | str) -> Path:
    """Write a prompt set, whole or not at all; ``path`` is a .jsonl file, or a run folder. Returns the file.

    Raises
    ------
    PromptError : no prompts, or two with the same id
    """
    path = Path(path)
    path = path if path.suffix == ".jsonl" else path / PROMPTS
    ids = [prompt.prompt_id for prompt in prompts]
    if not ids or len(set(ids)) != len(ids):
        raise PromptError(f"{path}: {len(ids)} prompts with {len(set(ids))} different ids; expected unique ids")
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for prompt in prompts:
            line = json.dumps(prompt.to_json(), ensure_ascii=False, allow_nan=False)
            file.write(line.encode("utf-8", "surrogatepass") + b"\n")
    return path


def fingerprint(prompts: Sequence[Prompt]) -> str:
    """sha256 of a set, in hex; it changes with any prompt, its split or its place."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps(prompt.to_json(), sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()
