"""A stand-in for the pool: an OpenAI-compatible upstream that answers from rules instead of weights.

``python -m demo.stub --port 9911 --models small,mid,big`` serves one base URL per model,
``http://127.0.0.1:9911/<model>/v1``. Invariants:

* The path prefix decides who answers; every answer says ``answer from <model>``.
* Prompt tokens are ``ceil(characters / 4)`` of the text sent. Completion tokens are the recorded ones
  where given, else drawn from a hash of (seed, prompt, model): the same request costs the same on every
  run and in every order. ``max_tokens`` caps both.
* Every request is in the log before it is answered, in order of arrival, failures too.
* An answer's ``id`` ends in the ``id`` of its record, so that a client can tell which request was its own.
* It listens on loopback only.

It speaks just enough HTTP/1.1 over asyncio streams to answer keep-alive clients, because a web
framework in its place would be what a benchmark of the proxy measures.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

Json = dict[str, Any]

EMBEDDING_DIMENSION = 64
MIN_COMPLETION_TOKENS, MAX_COMPLETION_TOKENS = 64, 448
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Server Error",
}
_STATUS_MODES = {
    "401": (401, "wants another key", "invalid_api_key"),
    "404": (404, "is not here", "model_not_found"),
    "429": (429, "is set to refuse", "rate_limit_exceeded"),
    "500": (500, "is set to fail", "server_error"),
}
_PLAIN_MODES = ("ok", *_STATUS_MODES, "hang", "close", "refuse_n", "one_choice", "empty", "wrong_shape", "nan")
_NUMBER_MODES = ("slow", "context", "fail", "drip")
# What an upstream may say it has used instead of what it has.
_ODD_USAGE: dict[str, Any] = {"negative": -1000, "huge": 10**400, "nan": math.nan, "text": "many", "missing": None}


# As OpenAI's.
_MOST_CHOICES = 128


def _whole(value: object) -> int:
    """A number of answers as lenient servers read it, ``"3"`` and 3.0 too; 1 where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 1
    try:
        return max(1, min(int(value), _MOST_CHOICES + 1))
    except (ValueError, OverflowError):
        return 1


def _prompts(body: Json) -> int:
    """Prompts of a request: /completions takes lists of texts, or of lists of tokens."""
    prompt = body.get("prompt")
    listed = [item for item in prompt if isinstance(item, (str, list))] if isinstance(prompt, list) else []
    return max(1, len(listed))


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Mode:
    """How one model behaves; see :meth:`parse` for the names."""

    kind: str = "ok"
    amount: float = 0.0
    usage: str = ""

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """Read a mode.

        ``ok``; ``401``, ``404``, ``429``, ``500``: that status; ``hang``: never answers; ``close``: drops the
        connection; ``refuse_n``: a 400 for ``n`` above 1; ``one_choice``: ignores ``n``; ``empty``: answers nothing;
        ``slow:S``: answers after S seconds; ``drip:S``: streams one word a token, one every S seconds, and is charged
        for those alone that it sent; ``usage:KIND``: says it has used what no answer can: ``negative``,
        ``huge``, ``nan``, ``text``, ``missing``; ``context:N``: OpenAI's context_length_exceeded above N prompt
        tokens; ``fail:N``: the next N requests get a 500; and for embeddings ``wrong_shape`` (one
        dimension missing) and ``nan``.

        Raises
        ------
        ValueError : not one of these
        """
        kind, _, amount = text.removeprefix("embed_").partition(":")
        if kind == "usage" and amount in _ODD_USAGE:
            return cls(kind, usage=amount)
        if (kind in _PLAIN_MODES and not amount) or (kind in _NUMBER_MODES and amount):
            return cls(kind, float(amount or 0))
        raise ValueError(
            f"unknown mode {text!r}: one of {', '.join(_PLAIN_MODES)}, or slow:S, drip:S, usage:KIND, context:N, fail:N"
        )


@dataclass(frozen=True)
class Call:
    """One model request, as far as the stub understands it; ``number`` counts them."""

    number: int
    model: str
    route: str
    body: Json
    prompt: str
    prompt_tokens: int
    completion_tokens: int
    n: int = 1
    best_of: int = 1
    prompts: int = 1
    empty: bool = False
    drips: bool = False
    usage: str = ""

    @property
    def id(self) -> str:
        return f"{self.number}-{zlib.crc32(self.prompt.encode(errors='replace')):08x}-{self.model}"

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def answers(self) -> int:
        """How many answers it is charged for."""
        return self.prompts * max(self.n, self.best_of)

    @property
    def text(self) -> str:
        said = "" if self.empty else f"answer from {self.model}"
        # LiteLLM ends a stream that says the same a hundred times.
        return said + "".join(f" {i}" for i in range(self.completion_tokens - 3)) if self.drips else said


@dataclass(frozen=True)
class Reply:
    """A status and either one JSON body or the events of a stream; status 0 answers nothing.

    ``every_s`` is between two events, and their tokens are then counted in ``record`` as they are sent.
    """

    status: int
    body: Json = field(default_factory=dict)
    events: Sequence[str] | None = None
    every_s: float | None = None
    record: Json = field(default_factory=dict)


class Stub:
    """The upstream; ``async with Stub(["small", "big"]) as stub`` serves at ``stub.port``.

    Parameters
    ----------
    models : the path prefixes that are served
    port : 0 takes a free one
    log_path : JSONL file that gets every record, flushed
    recorded : completion tokens by (prompt, model), in place of the drawn ones
    seed : of the drawn completion tokens
    """

    def __init__(
        self,
        models: Iterable[str],
        *,
        port: int = 0,
        log_path: Path | None = None,
        recorded: Mapping[tuple[str, str], int] | None = None,
        seed: int = 0,
    ) -> None:
        self.models = tuple(models)
        self.port = port
        self.records: list[Json] = []
        self.modes: dict[str, Mode] = {}
        self._log_path = log_path
        self._log_file: TextIO | None = None
        self._recorded = recorded or {}
        self._seed = seed
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Stub":
        if self._log_path is not None:
            self._log_file = self._log_path.open("a", encoding="utf-8")
        self._server = await asyncio.start_server(self._serve_connection, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._log_file is not None:
            self._log_file.close()

    def set_mode(self, model: str, mode: str) -> None:
        """Switch a model's behaviour from the next request on; ValueError names what is unknown."""
        if model not in self.models:
            raise ValueError(f"unknown model {model!r}: this stub serves {', '.join(self.models)}")
        self.modes[model] = Mode.parse(mode)

    def reset(self) -> None:
        """Forget every record and mode; the log file keeps what it has."""
        self.records.clear()
        self.modes.clear()

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A client that goes away, mid-request or while it is kept hanging, is not an error here.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    method, path, body = await _read_request(reader)
                    try:
                        reply = await self._reply(method, path, body)
                    except (ValueError, TypeError, AttributeError, RecursionError):
                        # As an API would say of fields that it cannot read.
                        reply = _error(400, "the request has a field of the wrong form", "invalid_request_error")
                    if reply.status == 0:
                        break
                    if reply.every_s is not None:
                        await _drip(reply, writer)
                        continue
                    writer.write(_encode(reply))
                    await writer.drain()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _reply(self, method: str, path: str, body: Json) -> Reply:
        admin = self._admin(method, path, body)
        if admin is not None:
            return admin
        model, _, route = unquote(path).strip("/").partition("/v1/")
        if model not in self.models or (route not in _ROUTES and route != "models"):
            return _error(404, f"no such path {path}", "not_found")
        if route == "models":
            return Reply(200, {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "stub"}]})
        return await self._answer(self._call(model, route, body))

    def _admin(self, method: str, path: str, body: Json) -> Reply | None:
        if path == "/health":
            return Reply(200, {"status": "ok", "models": list(self.models)})
        if path == "/_log":
            return Reply(200, {"requests": self.records})
        if path == "/_reset" and method == "POST":
            self.reset()
            return Reply(200, {"status": "ok"})
        if path == "/_mode" and method == "POST":
            try:
                self.set_mode(str(body.get("model")), str(body.get("mode")))
            except ValueError as error:
                return _error(400, str(error), "bad_mode")
            return Reply(200, {"status": "ok"})
        return None

    def _call(self, model: str, route: str, body: Json) -> Call:
        prompt = prompt_text(body)
        drawn = self._recorded.get((prompt, model)) or draw_completion_tokens(prompt, model, self._seed)
        limits = (body.get(key) for key in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
        tokens = 0 if route == "embeddings" else min([drawn, *(limit for limit in limits if _is_limit(limit))])
        mode = self.modes.get(model, Mode())
        several = mode.kind != "one_choice" and route in ("chat/completions", "completions")
        return Call(
            len(self.records) + 1,
            model,
            route,
            body,
            prompt,
            count_tokens(prompt) + _token_ids(body.get("prompt")),
            tokens,
            _whole(body.get("n")) if several else 1,
            _whole(body.get("best_of")) if several and route == "completions" else 1,
            _prompts(body) if route == "completions" else 1,
            empty=mode.kind == "empty",
            drips=mode.kind == "drip" and bool(body.get("stream")),
            usage=mode.usage,
        )

    async def _answer(self, call: Call) -> Reply:
        mode = self.modes.get(call.model, Mode())
        failure = self._failure(call, mode)
        record = self._record(call, 200 if failure is None else failure.status)
        if mode.kind == "slow":
            await asyncio.sleep(mode.amount)
        if mode.kind == "hang":
            await asyncio.Event().wait()
        if failure is not None:
            return failure
        if call.route == "embeddings":
            return Reply(200, _embeddings(call, mode))
        plain, stream = _ROUTES[call.route]
        if call.drips:
            record["completion_tokens"] = 0
            return Reply(200, events=stream(call), every_s=mode.amount, record=record)
        return Reply(200, events=stream(call)) if call.stream else Reply(200, plain(call))

    def _failure(self, call: Call, mode: Mode) -> Reply | None:
        if mode.kind == "fail" and mode.amount >= 1:
            self.modes[call.model] = Mode("fail", mode.amount - 1)
            return _error(500, f"{call.model} is set to fail", "server_error")
        if mode.kind in _STATUS_MODES:
            status, said, code = _STATUS_MODES[mode.kind]
            return _error(status, f"{call.model} {said}", code)
        if max(call.n, call.best_of) > _MOST_CHOICES:
            return _error(400, f"n must be at most {_MOST_CHOICES}", "invalid_request_error")
        if mode.kind == "refuse_n" and call.n > 1:
            return _error(400, "n must be 1 for this model", "invalid_request_error")
        if mode.kind in ("hang", "close"):
            return Reply(0)
        if mode.kind == "context" and call.prompt_tokens > mode.amount:
            said = (
                f"This model's maximum context length is {int(mode.amount)} tokens. However, your messages "
                f"resulted in {call.prompt_tokens} tokens. Please reduce the length of the messages."
            )
            return _error(400, said, "context_length_exceeded")
        return None

    def _record(self, call: Call, status: int) -> Json:
        record = {
            "n": call.number,
            "id": call.id,
            "model": call.model,
            "body_model": call.body.get("model"),
            "user": call.body.get("user"),
            "stream": call.stream,
            "route": call.route,
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens if status == 200 else 0,
            "status": status,
            "seed": call.body.get("seed"),
            "choices": call.n,
            "answers": call.answers,
            "keys": sorted(call.body),
        }
        self.records.append(record)
        if self._log_file is not None:
            self._log_file.write(json.dumps(record) + "\n")
            self._log_file.flush()
        return record


def prompt_text(body: Json) -> str:
    """All the text a request sends: instructions, messages, ``input`` or ``prompt``."""
    sent = [body.get(key) for key in ("instructions", "messages", "input", "prompt")]
    return "\n".join(text for part in sent if part for text in _texts(part))


def count_tokens(text: str) -> int:
    """``ceil(characters / 4)``, the stub's tokenizer."""
    return math.ceil(len(text) / 4)


def draw_completion_tokens(prompt: str, model: str, seed: int = 0) -> int:
    """How long a model's answer to a prompt is: uniform over 64..448, the same on every call."""
    digest = hashlib.sha256(f"{seed}\0{model}\0{prompt}".encode(errors="replace")).digest()
    span = MAX_COMPLETION_TOKENS - MIN_COMPLETION_TOKENS + 1
    return MIN_COMPLETION_TOKENS + int.from_bytes(digest[:8], "big") % span


def embed(text: str, dimension: int = EMBEDDING_DIMENSION) -> npt.NDArray[np.float32]:
    """A hashed bag of words: texts that share words are near each other.

    Returns
    -------
    shape (dimension,), float32, L2-normalised
    """
    vector = np.zeros(dimension, dtype=np.float32)
    for word in text.lower().split() or [""]:
        code = zlib.crc32(word.encode(errors="replace"))
        vector[code % dimension] += 1.0 if code & 0x8000_0000 else -1.0
    norm = float(np.linalg.norm(vector))
    if norm == 0.0:
        vector[0] = norm = 1.0
    return (vector / norm).astype(np.float32)


def _texts(part: Any) -> list[str]:
    """The strings in a message list, a content list or a plain string, depth first."""
    if isinstance(part, str):
        return [part]
    if isinstance(part, list):
        return [text for item in part for text in _texts(item)]
    if isinstance(part, dict):
        return _texts(part.get("text") or part.get("content") or [])
    return []


def _token_ids(prompt: object) -> int:
    """Tokens that a prompt states by number."""
    if not isinstance(prompt, list):
        return 0
    return sum(1 if isinstance(item, int) else _token_ids(item) for item in prompt)


def _usage(call: Call, n: int = 1) -> Json | None:
    if call.usage:
        odd = _ODD_USAGE[call.usage]
        return odd and {"prompt_tokens": odd, "completion_tokens": odd, "total_tokens": odd}
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens * n,
        "total_tokens": call.prompt_tokens + call.completion_tokens * n,
    }


def _responses_usage(call: Call) -> Json | None:
    if call.usage:
        odd = _ODD_USAGE[call.usage]
        return odd and {"input_tokens": odd, "output_tokens": odd, "total_tokens": odd}
    return {
        "input_tokens": call.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": call.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": call.prompt_tokens + call.completion_tokens,
    }


def _chat(call: Call) -> Json:
    choice = {"message": {"role": "assistant", "content": call.text}, "finish_reason": "stop"}
    choices = [{"index": index} | choice for index in range(call.n)]
    return _envelope(call, "chat.completion") | {"choices": choices, "usage": _usage(call, call.n)}


def _completion(call: Call) -> Json:
    choice = {"text": call.text, "logprobs": None, "finish_reason": "stop"}
    choices = [{"index": index} | choice for index in range(call.n * call.prompts)]
    return _envelope(call, "text_completion") | {"choices": choices, "usage": _usage(call, call.answers)}


def _chat_events(call: Call) -> list[str]:
    deltas: list[Json] = [
        {"role": "assistant", "content": ""},
        *({"content": piece} for piece in _pieces(call)),
        {},
    ]
    choices = [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"} for delta in deltas]
    return _choice_events(call, "chat.completion.chunk", choices)


def _completion_events(call: Call) -> list[str]:
    choices = [{"index": 0, "text": piece, "finish_reason": None} for piece in _pieces(call)]
    choices.append({"index": 0, "text": "", "finish_reason": "stop"})
    return _choice_events(call, "text_completion", choices)


def _choice_events(call: Call, kind: str, choices: list[Json]) -> list[str]:
    chunks = [_envelope(call, kind) | {"choices": [choice]} for choice in choices]
    if (call.body.get("stream_options") or {}).get("include_usage"):
        chunks.append(_envelope(call, kind) | {"choices": [], "usage": _usage(call, call.answers)})
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]


def _response(call: Call, *, done: bool = True) -> Json:
    return {
        "id": _identifier(call, "resp"),
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed" if done else "in_progress",
        "model": call.body.get("model"),
        "output": [_message(call)] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _responses_usage(call) if done else None,
    }


def _message(call: Call, *, done: bool = True) -> Json:
    return {
        "type": "message",
        "id": _identifier(call, "msg"),
        "status": "completed" if done else "in_progress",
        "role": "assistant",
        "content": [_part(call.text)] if done else [],
    }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _response_events(call: Call) -> list[str]:
    at: Json = {"item_id": _identifier(call, "msg"), "output_index": 0, "content_index": 0}
    events: list[tuple[str, Json]] = [
        ("response.created", {"response": _response(call, done=False)}),
        ("response.in_progress", {"response": _response(call, done=False)}),
        ("response.output_item.added", {"output_index": 0, "item": _message(call, done=False)}),
        ("response.content_part.added", at | {"part": _part("")}),
        *(("response.output_text.delta", at | {"delta": piece}) for piece in _pieces(call)),
        ("response.output_text.done", at | {"text": call.text}),
        ("response.content_part.done", at | {"part": _part(call.text)}),
        ("response.output_item.done", {"output_index": 0, "item": _message(call)}),
        ("response.completed", {"response": _response(call)}),
    ]
    return [
        f"event: {name}\ndata: {json.dumps({'type': name, 'sequence_number': number} | content)}\n\n"
        for number, (name, content) in enumerate(events)
    ]


def _embeddings(call: Call, mode: Mode) -> Json:
    sent = call.body.get("input")
    texts = [str(text) for text in sent] if isinstance(sent, list) else [str(sent)]
    dimension = int(call.body.get("dimensions") or EMBEDDING_DIMENSION) - (mode.kind == "wrong_shape")
    vectors = [embed(text, dimension) for text in texts]
    if mode.kind == "nan":
        vectors = [np.full_like(vector, np.nan) for vector in vectors]
    as_base64 = call.body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": call.prompt_tokens, "total_tokens": call.prompt_tokens}
    return {"object": "list", "model": call.body.get("model"), "data": data, "usage": usage}


def _compacted(call: Call) -> Json:
    return _response(call) | {"object": "response.compaction"}


def _moderation(call: Call) -> Json:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return {"id": _identifier(call, "modr"), "model": call.body.get("model"), "results": [result]}


_ROUTES: dict[str, tuple[Callable[[Call], Json], Callable[[Call], list[str]]]] = {
    "chat/completions": (_chat, _chat_events),
    "completions": (_completion, _completion_events),
    "responses": (_response, _response_events),
    "embeddings": (lambda call: {}, lambda call: []),
    "responses/compact": (_compacted, lambda call: []),
    "images/generations": (lambda call: {"created": 1_700_000_000, "data": [{"b64_json": "AAAA"}]}, lambda call: []),
    "moderations": (_moderation, lambda call: []),
    "audio/transcriptions": (lambda call: {"text": call.text}, lambda call: []),
}


def _envelope(call: Call, kind: str) -> Json:
    return {
        "id": _identifier(call, "chatcmpl"),
        "object": kind,
        "created": 1_700_000_000,
        "model": call.body.get("model"),
    }


def _identifier(call: Call, prefix: str) -> str:
    return f"{prefix}-{call.id}"


def _pieces(call: Call) -> list[str]:
    """The answer in the pieces it is streamed in, one per word."""
    first, *others = call.text.split(" ")
    return [first, *(" " + word for word in others)]


def _error(status: int, message: str, code: str) -> Reply:
    return Reply(status, {"error": {"message": message, "type": code, "param": None, "code": code}})


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, Json]:
    """One HTTP/1.1 request: method, path without its query, JSON body; IncompleteReadError at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.split("\r\n")
    method, target, _ = start.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    # Files come as forms, of which no field is read.
    is_json = raw and "multipart" not in headers.get("content-type", "")
    try:
        body = json.loads(raw) if is_json else {}
    except (ValueError, RecursionError):
        body = {}
    return method, target.partition("?")[0], body if isinstance(body, dict) else {}


def _encode(reply: Reply) -> bytes:
    status = f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}\r\n"
    if reply.events is None:
        body = json.dumps(reply.body).encode()
        return f"{status}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    head = f"{status}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunks = (event.encode() for event in reply.events)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


async def _drip(reply: Reply, writer: asyncio.StreamWriter) -> None:
    """Send a stream's events one at a time; each that has a piece of the text is a token that was made."""
    whole = _encode(reply)
    head, _, _ = whole.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    for event in reply.events or ():
        await asyncio.sleep(reply.every_s or 0)
        chunk = event.encode()
        writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if _has_text(event):
            reply.record["completion_tokens"] += 1
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _has_text(event: str) -> bool:
    """Whether an event brings a piece of the answer, rather than what stands around it."""
    _, _, data = event.partition("data: ")
    if data.startswith("[DONE]"):
        return False
    found = json.loads(data)
    choices = found.get("choices") or [{}]
    return bool(found.get("delta") or choices[0].get("text") or (choices[0].get("delta") or {}).get("content"))


def _load_recorded(path: Path) -> dict[tuple[str, str], int]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {(row["prompt"], row["model"]): int(row["output_tokens"]) for row in rows}


async def _serve(arguments: argparse.Namespace) -> None:
    recorded = _load_recorded(arguments.recorded) if arguments.recorded else None
    models = arguments.models.split(",")
    stub = Stub(models, port=arguments.port, log_path=arguments.log, recorded=recorded, seed=arguments.seed)
    async with stub:
        print(f"stub upstream on http://127.0.0.1:{stub.port} for {arguments.models}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo.stub", description="OpenAI-compatible stub upstream")
    parser.add_argument("--port", type=int, default=9911)
    parser.add_argument("--models", default="small,mid,big", help="comma-separated path prefixes")
    parser.add_argument("--log", type=Path, help="JSONL file, one record per request")
    parser.add_argument("--recorded", type=Path, help="JSONL of prompt, model, output_tokens (outcomes table)")
    parser.add_argument("--seed", type=int, default=0)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
