"""What current APIs refuse, and the shapes that their answers come in."""

from demo.stub.call import Call, Json

# Parameter, what is said of it, OpenAI's code.
Refused = tuple[str | None, str, str]


def refused(call: Call) -> Refused | None:
    """The first parameter that the model does not take; None where it takes the request."""
    body = {key: value for key, value in call.body.items() if value is not None}
    if call.mode.kind == "one_of_two" and {"temperature", "top_p"} <= body.keys():
        said = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        return None, said, "invalid_request_error"
    if call.mode.kind == "no_sampling":
        for name in ("temperature", "top_p", "top_k"):
            if name in body and (name != "temperature" or body[name] != 1):
                return None, f"`{name}` is deprecated for this model.", "invalid_request_error"
    if call.mode.kind == "no_effort":
        for name in ("reasoning_effort", "thinking"):
            if name in body:
                return name, f"Unrecognized request argument supplied: {name}", "invalid_request_error"
    if call.mode.kind == "reasoning":
        return _refused_by_reasoning(body)
    return None


def _refused_by_reasoning(body: Json) -> Refused | None:
    if "max_tokens" in body:
        said = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return "max_tokens", said, "unsupported_parameter"
    if body.get("temperature", 1) != 1:
        said = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. Only the "
            "default (1) value is supported."
        )
        return "temperature", said, "unsupported_value"
    if "top_p" in body:
        return "top_p", "Unsupported parameter: 'top_p' is not supported with this model.", "unsupported_parameter"
    return None


def choices(call: Call) -> list[Json]:
    """The choices of a chat completion, as the mode has them."""
    kind, message, finish = call.mode.kind, {"role": "assistant", "content": call.text}, "stop"
    if kind == "parts":
        thinking = {"type": "thinking", "thinking": "Let me think.", "text": "Let me think."}
        first, _, rest = call.text.partition(" ")
        message["content"] = [thinking, {"type": "text", "text": f"{first} "}, {"type": "text", "text": rest}]
    elif kind in ("null", "nulls"):
        message["content"] = None
    elif kind == "refusal":
        message |= {"content": None, "refusal": "I'm sorry, I can't help with that."}
    elif kind == "tools":
        called = {"id": f"call-{call.number}", "type": "function", "function": {"name": "search", "arguments": "{}"}}
        message |= {"content": None, "tool_calls": [called]}
        finish = "tool_calls"
    elif kind == "thought":
        message |= {"content": None, "reasoning_content": "Let me think."}
        finish = "length"
    elif kind == "cut":
        message["content"], finish = call.text[:6], "length"
    choice = {"message": message, "finish_reason": finish}
    count = max(1, call.n - 1) if kind == "fewer" else call.n
    made = [{"index": index} | choice for index in range(count)]
    return [*made, *made] if kind == "twice" else made
