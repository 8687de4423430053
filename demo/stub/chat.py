"""/chat/completions and /completions, whole and streamed."""

import json

from demo.stub.call import Call, Json


def chat(call: Call) -> Json:
    """The body of a chat completion."""
    choice = {"message": {"role": "assistant", "content": call.text}, "finish_reason": "stop"}
    return _whole(call, "chat.completion", choice, call.n, charged=call.n)


def completion(call: Call) -> Json:
    """The body of a text completion: every prompt's choices."""
    choice = {"text": call.text, "logprobs": None, "finish_reason": "stop"}
    return _whole(call, "text_completion", choice, call.n * call.prompts, charged=call.answers)


def _whole(call: Call, kind: str, choice: Json, count: int, charged: int) -> Json:
    choices = [{"index": index} | choice for index in range(count)]
    return call.answer(kind, "chatcmpl", choices=choices, usage=call.usage(charged))


def chat_events(call: Call) -> list[str]:
    """The events of a streamed chat completion."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in call.pieces)]
    return _events(call, "chat.completion.chunk", [{"delta": delta} for delta in deltas], {"delta": {}})


def completion_events(call: Call) -> list[str]:
    """The events of a streamed text completion."""
    return _events(call, "text_completion", [{"text": piece} for piece in call.pieces], {"text": ""})


def _events(call: Call, kind: str, parts: list[Json], last: Json) -> list[str]:
    choices: list[Json] = [{"index": 0, "finish_reason": None} | part for part in parts]
    choices.append({"index": 0, "finish_reason": "stop"} | last)
    chunks = [call.answer(kind, "chatcmpl", choices=[choice]) for choice in choices]
    if (call.body.get("stream_options") or {}).get("include_usage"):
        chunks.append(call.answer(kind, "chatcmpl", choices=[], usage=call.usage(call.answers)))
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]
