"""A request log of LiteLLM: an export of its spend logs, as JSON or JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from erp_trainer.prompts.conversation import decoded, texts
from erp_trainer.prompts.source import Row, SourceSpec
from litellm_erp.errors import PromptError


def rows(spec: SourceSpec) -> Iterator[Row]:
    """User text of each logged request: no system prompt, no answer, no name, no key.

    The turns of a conversation become one, because that is the text a request is embedded by.
    """
    for record in _records(Path(spec.location)):
        yield {"prompt": "\n\n".join(_user_texts(record))}


def _records(path: Path) -> Iterator[Row]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise PromptError(f"{path}: cannot be read ({e}); expected a JSON or JSONL export of spend logs") from e
    try:
        loaded: Any = json.loads(content)
    except ValueError:
        # Not splitlines(): text inside JSON may hold U+2028.
        loaded = [_line(path, n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
    if isinstance(loaded, Mapping):
        loaded = next((value for value in loaded.values() if _are_requests(value)), [loaded])
    for number, record in enumerate(loaded, start=1):
        if not isinstance(record, Mapping):
            raise PromptError(f"{path}: record {number} is a {type(record).__name__}; expected a JSON object")
        yield record


def _are_requests(value: Any) -> bool:
    """Whether ``value`` is the list of requests inside an export such as ``{"data": [...], "total": 3}``."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "role" not in v for v in value)


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as e:
        raise PromptError(f"{path}: line {number} is not JSON ({e}); expected one request a line") from e


def _user_texts(record: Mapping[str, Any]) -> list[str]:
    body = decoded(record.get("proxy_server_request"))
    if isinstance(body, Mapping) and isinstance(body.get("body"), Mapping):
        body = body["body"]
    for request in (record, body if isinstance(body, Mapping) else {}):
        for key in ("messages", "input", "prompt"):
            found = decoded(request.get(key))
            turns = [{"role": "user", "content": found}] if isinstance(found, str) else found
            found_texts = [
                text
                for turn in (turns if isinstance(turns, list) else [])
                if isinstance(turn, Mapping) and turn.get("role") == "user"
                for text in texts(turn.get("content"))
            ]
            if found_texts:
                return found_texts
    return []
