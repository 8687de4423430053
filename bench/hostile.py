"""Requests for every route of the proxy that asks a router for a deployment: as documented, and as clients send them.

Pure: a seed and a number in, bytes out. Each request starts as a valid one; most then get some optional fields, and
about half are bent: a number that is none, a value of another type somewhere in the body, text that no encoding knows,
bytes that are no JSON. No URL in them leaves this machine.
"""

import base64
import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bench.bending import LIMITS, bend, broken, odd_headers, written

Json = dict[str, Any]

GROUP = "erp-auto"
TAGGED = "erp tagged ü"
ALIAS = "friendly"
DOOMED = "doomed"
MODELS = ("model-000", "model-001", "model-002")
# May use two of the three, and all of the tagged group.
LIMITED_KEY = "sk-limited"
KEYS: dict[str, Json] = {
    "sk-free": {},
    "sk-cheap": {},
    "sk-budget": {},
    LIMITED_KEY: {"models": [GROUP, ALIAS, TAGGED, *MODELS[1:], *(f"{TAGGED}.{name}" for name in MODELS)]},
}

# By route: its paths, and its share.
ROUTES: dict[str, tuple[tuple[str, ...], int]] = {
    "chat": (
        ("/v1/chat/completions", "/chat/completions", "/openai/deployments/{model}/chat/completions"),
        24,
    ),
    "completions": (("/v1/completions", "/completions", "/engines/{model}/completions"), 14),
    "responses": (("/v1/responses", "/responses", "/openai/v1/responses"), 18),
    "responses compact": (("/v1/responses/compact",), 3),
    "responses input_tokens": (("/v1/responses/input_tokens",), 2),
    "messages": (("/v1/messages",), 14),
    "messages count_tokens": (("/v1/messages/count_tokens",), 3),
    "google": (("/v1beta/models/{model}:generateContent", "/models/{model}:generateContent"), 9),
    "google stream": (("/v1beta/models/{model}:streamGenerateContent",), 6),
    "google countTokens": (("/v1beta/models/{model}:countTokens",), 2),
    "interactions": (("/v1beta/interactions",), 3),
    "token_counter": (("/utils/token_counter",), 2),
    "embeddings": (("/v1/embeddings", "/engines/{model}/embeddings"), 7),
    "moderations": (("/v1/moderations",), 3),
    "rerank": (("/v1/rerank", "/v2/rerank"), 2),
    "images": (("/v1/images/generations",), 3),
    "image edits": (("/v1/images/edits",), 2),
    "speech": (("/v1/audio/speech",), 2),
    "transcriptions": (("/v1/audio/transcriptions",), 2),
    "ocr": (("/v1/ocr",), 1),
    "videos": (("/v1/videos",), 1),
    "containers": (("/v1/containers",), 1),
    "vector stores": (("/v1/vector_stores",), 1),
    "realtime secrets": (("/v1/realtime/client_secrets",), 1),
}
MULTIPART = ("image edits", "transcriptions")
STREAMED = ("chat", "completions", "responses", "messages", "interactions")

# Replaced in the bytes, because each proxy hands out its own.
_PREVIOUS = "@@previous-"
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_TOOL = {"name": "weather", "description": "of a town", "parameters": {"type": "object", "properties": {}}}
_WORDS = (
    "sum",
    "the roots",
    "of a tree",
    "that parses",
    "poems",
    "in German",
    "and",
    "proves why",
    "模型",
    "ünï",
    "😀",
)


@dataclass(frozen=True)
class Sent:
    """One request.

    Attributes
    ----------
    bent : whether anything in it is not as the route's documentation has it
    """

    number: int
    route: str
    path: str
    key: str
    body: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)
    bent: bool = False

    def content(self, previous: Sequence[str]) -> bytes:
        """The body with ids of responses that the proxy it is sent to handed out before."""
        body = self.body
        for i, response_id in enumerate(previous):
            body = body.replace(f"{_PREVIOUS}{i}".encode(), response_id.encode())
        return body


def request(seed: int, number: int, *, limited: bool = True) -> Sent:
    """The request of a seed and number.

    Parameters
    ----------
    limited : whether it may come with the key of an allow list
    """
    # A text as the seed, so that neighbours have nothing in common.
    rng = random.Random(f"{seed}/{number}")
    route = rng.choices(list(ROUTES), [share for _, share in ROUTES.values()])[0]
    model = _model(rng)
    path = rng.choices(ROUTES[route][0], [4, *[1] * (len(ROUTES[route][0]) - 1)])[0]
    key = rng.choice([key for key in KEYS if limited or key != LIMITED_KEY])
    headers: dict[str, bytes] = {"content-type": b"application/json"}
    body: Any = {"model": model} | _BODIES[route](rng, _text(rng, number))
    if route in STREAMED and rng.random() < 0.35:
        body["stream"] = True
    if rng.random() < 0.6:
        _add_options(rng, route, body)
    if key == LIMITED_KEY or "responses" in route:
        # It would leave out what the allow list has left in, or what an id is bound to: refused, as it should be.
        body.pop("_excluded_deployment_ids", None)
    if str(body.get("previous_response_id", "")).startswith(_PREVIOUS):
        # An id belongs to whom it was given.
        key = "sk-free"
    bent = rng.random() < 0.5
    # Tries and times are bounded here, and vectors are no larger than they are.
    optional = sorted(_options(rng).keys() - {"num_retries", "timeout", "dimensions"})
    if bent:
        for _ in range(rng.choice((1, 1, 2, 3))):
            body = bend(rng, body, optional)
    if rng.random() < 0.15:
        headers |= odd_headers(rng)
    path = path.format(model=quote(model, safe=","))
    if route in MULTIPART:
        raw, headers["content-type"] = _multipart(route, body)
    else:
        raw = written(rng, body)
    if bent and rng.random() < 0.08:
        raw = broken(rng, raw)
    return Sent(number, route, path, key, raw, headers, bent)


def _model(rng: random.Random) -> str:
    names = {
        GROUP: 62,
        TAGGED: 12,
        ALIAS: 8,
        DOOMED: 3,
        rng.choice(MODELS): 3,
        f"dep-{rng.choice(MODELS)}": 3,
        f"{GROUP},{rng.choice(MODELS)}": 3,
        f"{ALIAS}, {TAGGED}": 1,
        f" {GROUP}": 1,
        "nobody": 1,
    }
    return rng.choices(list(names), list(names.values()))[0]


def _text(rng: random.Random, number: int) -> str:
    words = rng.choices((2, 8, 40, 400, 3000, 130_000), (30, 40, 20, 6, 3, 0.8))[0]
    # The number keeps caches from answering one request with another's answer.
    return f"{number} " + " ".join(rng.choices(_WORDS, k=words))


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
                *(f"{_PREVIOUS}{i}" for i in range(len(MODELS))),
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


_BODIES: dict[str, Callable[[random.Random, str], Json]] = {
    "chat": _chat,
    "completions": _completion,
    "responses": _responses,
    "responses compact": _responses,
    "responses input_tokens": _responses,
    "messages": _messages,
    "messages count_tokens": _messages,
    "google": _google,
    "google stream": _google,
    "google countTokens": _google,
    "interactions": lambda rng, text: {"input": text},
    "token_counter": lambda rng, text: rng.choice(({"prompt": text}, {"messages": _turns(rng, text)})),
    "embeddings": lambda rng, text: {"input": rng.choice((text, text, [text, "b"], [1, 2, 3], [[1, 2], [3]]))},
    "moderations": lambda rng, text: {"input": rng.choice((text, [text, "b"]))},
    "rerank": lambda rng, text: {"query": text, "documents": ["a", "b"], "top_n": 1},
    "images": lambda rng, text: {"prompt": text[:1000], "size": "256x256"},
    "image edits": lambda rng, text: {"prompt": text[:1000]},
    "speech": lambda rng, text: {"input": text[:1000], "voice": "alloy"},
    "transcriptions": lambda rng, text: {"prompt": text[:1000]},
    "ocr": lambda rng, text: {"document": {"type": "document_url", "document_url": _PIXEL}},
    "videos": lambda rng, text: {"prompt": text[:1000], "seconds": "4"},
    "containers": lambda rng, text: {"name": text[:50]},
    "vector stores": lambda rng, text: {"name": text[:50]},
    "realtime secrets": lambda rng, text: {"session": {"type": "realtime"}},
}


def _options(rng: random.Random) -> Json:
    deployments = [f"dep-{name}" for name in MODELS]
    return {
        **{name: rng.choice((1, 16, 900)) for name in LIMITS},
        "n": rng.choice((1, 2, 3, 200)),
        "best_of": rng.choice((1, 2)),
        "temperature": rng.choice((0, 0.7, 2)),
        "top_p": 0.9,
        "user": "someone",
        "seed": rng.randrange(1000),
        "stop": rng.choice((".", [".", "\n"])),
        "tools": [rng.choice((_TOOL, {"type": "function", "function": _TOOL}, {"type": "function"} | _TOOL))],
        "tool_choice": rng.choice(("auto", "none", {"type": "auto"})),
        "response_format": rng.choice(
            (
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            )
        ),
        "stream_options": {"include_usage": True},
        "metadata": rng.choice(
            (
                {"tags": ["a"]},
                {"tags": ["b"]},
                {"tags": ["nowhere"]},
                {"erp": {"lambda": 0.5}},
                {"erp": "0.5"},
                {"k": "v"},
                {"previous_models": [1]},
            )
        ),
        "litellm_metadata": rng.choice(
            ({"tags": ["a"]}, {"erp": {"min_quality": 0.9}}, {"litellm_erp": {"model": "x"}})
        ),
        "tags": rng.choice((["a"], ["b", "a"])),
        "cache": rng.choice(
            ({"use-cache": True}, {"use-cache": True, "ttl": 60, "namespace": "own"}, {"no-cache": True})
        ),
        "caching": True,
        "store": False,
        "reasoning_effort": "low",
        "logprobs": True,
        "parallel_tool_calls": False,
        "_target_order": rng.choice((1, 3)),
        "_excluded_deployment_ids": rng.sample(deployments, rng.choice((1, 2))),
        "_retry_skipped_deployment_ids": [rng.choice(deployments)],
        "model_info": {"id": deployments[0]},
        "fallbacks": rng.choice(([MODELS[1]], [{"model": GROUP}], [ALIAS])),
        "num_retries": rng.choice((0, 1)),
        "timeout": rng.choice((30, "30")),
        "mock_response": "a mock",
        "mock_testing_fallbacks": True,
        "disable_fallbacks": True,
        "specific_deployment": True,
        "enable_tag_filtering": rng.choice((True, False)),
        "allowed_model_region": "eu",
        "drop_params": True,
        "extra_body": {"a": 1},
        "encoding_format": rng.choice(("float", "base64")),
        "dimensions": rng.choice((8, 64)),
        "fastest_response": True,
        "erp": {"lambda": 3},
        "unheard_of": {"a": [1, 2]},
    }


def _add_options(rng: random.Random, route: str, body: Json) -> None:
    options = _options(rng)
    for name in rng.sample(sorted(options), rng.choice((1, 1, 2, 3))):
        # A conflict of two of them is what a validator looks for; one at a time gets further.
        # A copy, because a bend may go into it.
        body.setdefault(name, copy.deepcopy(options[name]))


def _multipart(route: str, body: Json) -> tuple[bytes, bytes]:
    boundary = b"differential-boundary"
    name, kind = ("image", "image/png") if route == "image edits" else ("file", "audio/wav")
    parts = [
        _form(f'name="{quote(str(key))}"', value if isinstance(value, str) else json.dumps(value))
        for key, value in body.items()
    ]
    parts.append(_form(f'name="{name}"; filename="a.bin"\r\ncontent-type: {kind}', "RIFFdata"))
    lines = b"".join(b"--" + boundary + b"\r\n" + part.encode("utf-8", "surrogatepass") + b"\r\n" for part in parts)
    return lines + b"--" + boundary + b"--\r\n", b"multipart/form-data; boundary=" + boundary


def _form(disposition: str, value: str) -> str:
    return f"content-disposition: form-data; {disposition}\r\n\r\n{value}"
