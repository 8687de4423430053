"""/responses, whole and streamed."""

import json
from typing import Any

from demo.stub.call import Call, Json


def response(call: Call, *, done: bool = True) -> Json:
    """The body of a response."""
    return {
        "id": f"resp-{call.id}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": _status(done),
        "model": call.body.get("model"),
        "output": [_message(call)] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(call) if done else None,
    }


def compacted(call: Call) -> Json:
    """The answer of /responses/compact."""
    return response(call) | {"object": "response.compaction"}


def response_events(call: Call) -> list[str]:
    """The events of a streamed response."""
    at: Json = {"item_id": f"msg-{call.id}", "output_index": 0, "content_index": 0}
    events: list[tuple[str, Json]] = [
        ("response.created", {"response": response(call, done=False)}),
        ("response.in_progress", {"response": response(call, done=False)}),
        ("response.output_item.added", {"output_index": 0, "item": _message(call, done=False)}),
        ("response.content_part.added", at | {"part": _part("")}),
        *(("response.output_text.delta", at | {"delta": piece}) for piece in call.pieces),
        ("response.output_text.done", at | {"text": call.text}),
        ("response.content_part.done", at | {"part": _part(call.text)}),
        ("response.output_item.done", {"output_index": 0, "item": _message(call)}),
        ("response.completed", {"response": response(call)}),
    ]
    return [
        f"event: {name}\ndata: {json.dumps({'type': name, 'sequence_number': number} | content)}\n\n"
        for number, (name, content) in enumerate(events)
    ]


def _message(call: Call, *, done: bool = True) -> Json:
    content = [_part(call.text)] if done else []
    return {"type": "message", "id": f"msg-{call.id}", "status": _status(done), "role": "assistant", "content": content}


def _status(done: bool) -> str:
    return "completed" if done else "in_progress"


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _usage(call: Call) -> Any:
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = call.usage(1, "input_tokens", "output_tokens")
    return usage if call.mode.usage else usage | details
