"""The routes of the proxy that ask a router for a deployment, each with bodies as its documentation has them. Pure."""

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

GROUP = "erp-auto"
TAGGED = "erp tagged ü"
ALIAS = "friendly"
DOOMED = "doomed"
MODELS = ("model-000", "model-001", "model-002")

# Replaced in the bytes, because each proxy hands out its own.
PREVIOUS = "@@previous-"
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _turns(rng: random.Random, text: str) -> list[Json]:
    turns: list[Json] = [{"role": "user", "content": text}]
    if rng.random() < 0.3:
        turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes?"}, *turns]
    if rng.random() < 0.25:
        turns[-1]["content"] = [{"type": "text", "text": text}]
    return turns


def _chat(rng: random.Random, text: str) -> Json:
    turns = _turns(rng, text)
    if rng.random() < 0.3:
        turns.insert(0, {"role": "system", "content": "Be brief."})
    if rng.random() < 0.1:
        turns[-1]["content"] = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": _PIXEL}}]
    if rng.random() < 0.1:
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        turns += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ]
    return {"messages": turns}


def _completion(rng: random.Random, text: str) -> Json:
    return {"prompt": rng.choice((text, text, text, [text, "and another"], [1, 2, 3], [[1, 2], [3]]))}


def _responses(rng: random.Random, text: str) -> Json:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"} | rng.choice(
        (
            {},
            {"id": _marked("encitem_", "litellm:model_id:dep-{};item_id:rs_1", rng)},
            {"encrypted_content": _wrapped(rng)},
        )
    )
    turn = {"role": "user", "content": [{"type": "input_text", "text": text}]}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    body: Json = {
        "input": rng.choice(
            (text, text, [turn], [{"role": "user", "content": text}], [reasoning, turn], [turn, output])
        )
    }
    if rng.random() < 0.3:
        body["instructions"] = "Be brief."
    if rng.random() < 0.3:
        body["previous_response_id"] = rng.choice(
            (
                *(f"{PREVIOUS}{i}" for i in range(len(MODELS))),
                _marked("resp_", "litellm:custom_llm_provider:openai;model_id:dep-{};response_id:resp_1", rng),
                *("resp_1", "resp_bm9uc2Vuc2U=", "x" * 3000),
            )
        )
    return body


def _marked(prefix: str, inside: str, rng: random.Random) -> str:
    return prefix + base64.b64encode(inside.format(rng.choice((*MODELS, "nobody"))).encode()).decode()


def _wrapped(rng: random.Random) -> str:
    return _marked("litellm_enc:", "model_id:dep-{}", rng) + ";gAAAA"


def _messages(rng: random.Random, text: str) -> Json:
    turns = _turns(rng, text)
    if rng.random() < 0.1:
        thought = {"type": "thinking", "thinking": "hm", "signature": rng.choice(("sig", _wrapped(rng)))}
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": [thought]}, *turns]
    if rng.random() < 0.15:
        turns[-1]["content"] = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    body: Json = {"messages": turns, "max_tokens": rng.choice((64, 512, 4096))}
    if rng.random() < 0.3:
        body["system"] = rng.choice(("Be brief.", [{"type": "text", "text": "Be brief."}]))
    return body


def _google(rng: random.Random, text: str) -> Json:
    body: Json = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    if rng.random() < 0.3:
        body["generationConfig"] = {"maxOutputTokens": rng.choice((16, 1024)), "temperature": 0.2}
    if rng.random() < 0.2:
        body["systemInstruction"] = {"parts": [{"text": "Be brief."}]}
    return body


@dataclass(frozen=True)
class Route:
    """A route: how often it is asked, what its body is beside the model, and where.

    Attributes
    ----------
    streams : whether a body may ask for a stream
    file : name and type of the file, where it takes a form
    """

    share: int
    body: Callable[[random.Random, str], Json]
    paths: tuple[str, ...]
    streams: bool = False
    file: tuple[str, str] | None = None


def _prompted(rng: random.Random, text: str) -> Json:
    return {"prompt": text[:1000]}


def _named(rng: random.Random, text: str) -> Json:
    return {"name": text[:50]}


ROUTES = {
    "chat": Route(
        24, _chat, ("/v1/chat/completions", "/chat/completions", "/openai/deployments/{model}/chat/completions"), True
    ),
    "completions": Route(
        14, _completion, ("/v1/completions", "/completions", "/engines/{model}/completions"), streams=True
    ),
    "responses": Route(18, _responses, ("/v1/responses", "/responses", "/openai/v1/responses"), streams=True),
    "responses compact": Route(3, _responses, ("/v1/responses/compact",)),
    "responses input_tokens": Route(2, _responses, ("/v1/responses/input_tokens",)),
    "messages": Route(14, _messages, ("/v1/messages",), streams=True),
    "messages count_tokens": Route(3, _messages, ("/v1/messages/count_tokens",)),
    "google": Route(9, _google, ("/v1beta/models/{model}:generateContent", "/models/{model}:generateContent")),
    "google stream": Route(6, _google, ("/v1beta/models/{model}:streamGenerateContent",)),
    "google countTokens": Route(2, _google, ("/v1beta/models/{model}:countTokens",)),
    "interactions": Route(3, lambda rng, text: {"input": text}, ("/v1beta/interactions",), streams=True),
    "token_counter": Route(
        2, lambda rng, text: rng.choice(({"prompt": text}, {"messages": _turns(rng, text)})), ("/utils/token_counter",)
    ),
    "embeddings": Route(
        7,
        lambda rng, text: {"input": rng.choice((text, text, [text, "b"], [1, 2, 3], [[1, 2], [3]]))},
        ("/v1/embeddings", "/engines/{model}/embeddings"),
    ),
    "moderations": Route(3, lambda rng, text: {"input": rng.choice((text, [text, "b"]))}, ("/v1/moderations",)),
    "rerank": Route(
        2, lambda rng, text: {"query": text, "documents": ["a", "b"], "top_n": 1}, ("/v1/rerank", "/v2/rerank")
    ),
    "images": Route(3, lambda rng, text: _prompted(rng, text) | {"size": "256x256"}, ("/v1/images/generations",)),
    "image edits": Route(2, _prompted, ("/v1/images/edits",), file=("image", "image/png")),
    "speech": Route(2, lambda rng, text: {"input": text[:1000], "voice": "alloy"}, ("/v1/audio/speech",)),
    "transcriptions": Route(2, _prompted, ("/v1/audio/transcriptions",), file=("file", "audio/wav")),
    "ocr": Route(1, lambda rng, text: {"document": {"type": "document_url", "document_url": _PIXEL}}, ("/v1/ocr",)),
    "videos": Route(1, lambda rng, text: _prompted(rng, text) | {"seconds": "4"}, ("/v1/videos",)),
    "containers": Route(1, _named, ("/v1/containers",)),
    "vector stores": Route(1, _named, ("/v1/vector_stores",)),
    "realtime secrets": Route(1, lambda rng, text: {"session": {"type": "realtime"}}, ("/v1/realtime/client_secrets",)),
}
