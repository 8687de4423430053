"""A request log of LiteLLM: an export of its spend logs, as JSON or JSONL, also compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from erp_trainer.files.json_records import json_records
from erp_trainer.prompts.conversation import decoded, texts
from erp_trainer.prompts.source import Row, SourceSpec
from litellm_erp.errors import OutcomesError, PromptError


def rows(spec: SourceSpec) -> Iterator[Row]:
    """User text of each logged request: no system prompt, no answer, no name, no key.

    The turns of a conversation become one, because that is the text a request is embedded by.
    """
    for record in _records(Path(spec.location)):
        yield {"prompt": "\n\n".join(_user_texts(record))}


def _records(path: Path) -> Iterator[Row]:
    try:
        yield from (record for _, record in json_records(path, unwrap=True))
    except OutcomesError as e:
        what = str(e).removeprefix(f"{path}: ")
        raise PromptError(f"{path}: cannot be read ({what}); expected a JSON or JSONL export of spend logs") from e


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
