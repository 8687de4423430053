"""/chat/completions and /completions, whole and streamed."""

import json

from demo.stub.call import Call, Json
from demo.stub.odd import choices


def chat(call: Call) -> Json:
    """The body of a chat completion."""
    return call.answer("chat.completion", "chatcmpl", choices=choices(call), usage=call.usage(call.n))


def completion(call: Call) -> Json:
    """The body of a text completion: every prompt's choices."""
    choice = {"text": call.text, "logprobs": None, "finish_reason": "stop"}
    made = [{"index": index} | choice for index in range(call.n * call.prompts)]
    return call.answer("text_completion", "chatcmpl", choices=made, usage=call.usage(call.answers))


def chat_events(call: Call) -> list[str]:
    """The events of a streamed chat completion."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in call.pieces)]
    return _events(call, "chat.completion.chunk", [{"delta": delta} for delta in deltas], {"delta": {}})


def completion_events(call: Call) -> list[str]:
    """The events of a streamed text completion."""
    return _events(call, "text_completion", [{"text": piece} for piece in call.pieces], {"text": ""})


def _events(call: Call, kind: str, parts: list[Json], last: Json) -> list[str]:
    made: list[Json] = [{"index": 0, "finish_reason": None} | part for part in parts]
    made.append({"index": 0, "finish_reason": "stop"} | last)
    chunks = [call.answer(kind, "chatcmpl", choices=[choice]) for choice in made]
    if (call.body.get("stream_options") or {}).get("include_usage"):
        chunks.append(call.answer(kind, "chatcmpl", choices=[], usage=call.usage(call.answers)))
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]
