"""The upstream itself: who is asked for what, how the model behaves now, and the record of it."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote

from demo.stub import counting
from demo.stub.call import STATUS_MODES, Call, Json, Mode
from demo.stub.chat import chat, chat_events, completion, completion_events
from demo.stub.embeddings import embeddings
from demo.stub.http import StubAnswer, read_request, refusal, send
from demo.stub.odd import refused
from demo.stub.responses import compacted, response, response_events


def _moderation(call: Call) -> Json:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return {"id": f"modr-{call.id}", "model": call.body.get("model"), "results": [result]}


# What a request may say of how much a model is to think and to write, on whichever route.
_EFFORT = (
    "reasoning_effort", "reasoning", "thinking", "output_config", "max_tokens", "max_completion_tokens",
    "max_output_tokens",
)  # fmt: skip
# By route: its body, and its events where it streams.
_ROUTES: dict[str, tuple[Callable[[Call], Json], Callable[[Call], list[str]] | None]] = {
    "chat/completions": (chat, chat_events),
    "completions": (completion, completion_events),
    "responses": (response, response_events),
    "responses/compact": (compacted, None),
    "embeddings": (embeddings, None),
    "images/generations": (lambda call: {"created": 1_700_000_000, "data": [{"b64_json": "AAAA"}]}, None),
    "moderations": (_moderation, None),
    "audio/transcriptions": (lambda call: {"text": call.text}, None),
}


class Stub:
    """``async with Stub(["small", "big"]) as stub`` serves at ``stub.port``.

    Parameters
    ----------
    models : the path prefixes that are served
    port : 0 takes a free one
    host : what it listens on
    log_path : JSONL file that gets every record, flushed
    recorded : completion tokens by (prompt, model), in place of the drawn ones
    """

    def __init__(
        self,
        models: Iterable[str],
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        log_path: Path | None = None,
        recorded: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        self.models = tuple(models)
        self.port = port
        self._host = host
        self.records: list[Json] = []
        self.modes: dict[str, Mode] = {}
        self._log_path = log_path
        self._log_file: TextIO | None = None
        self._recorded = recorded or {}
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Stub":
        if self._log_path is not None:
            self._log_file = self._log_path.open("a", encoding="utf-8")
        self._server = await asyncio.start_server(self._serve_connection, self._host, self.port, backlog=1024)
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

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A client that goes away, mid-request or while it is kept hanging, is not an error here.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    method, path, body = await read_request(reader)
                    try:
                        reply = await self._reply(method, path, body)
                    except (ValueError, TypeError, AttributeError, RecursionError):
                        # As an API would say of fields that it cannot read.
                        reply = refusal(400, "the request has a field of the wrong form", "invalid_request_error")
                    if reply.status == 0:
                        break
                    await send(reply, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _reply(self, method: str, path: str, body: Json) -> StubAnswer:
        control = self._control(method, path, body)
        if control is not None:
            return control
        model, _, route = unquote(path).strip("/").partition("/v1/")
        if model not in self.models or (route not in _ROUTES and route != "models"):
            return refusal(404, f"no such path {path}", "not_found")
        if route == "models":
            return StubAnswer(200, {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "stub"}]})
        return await self._answer(self._call(model, route, body))

    def _control(self, method: str, path: str, body: Json) -> StubAnswer | None:
        """The stub's own paths: what it is, its records, and its models' modes."""
        if path == "/health":
            return StubAnswer(200, {"status": "ok", "models": list(self.models)})
        if path == "/_log":
            return StubAnswer(200, {"requests": self.records})
        if path == "/_reset" and method == "POST":
            # The log file keeps what it has.
            self.records.clear()
            self.modes.clear()
            return StubAnswer(200, {"status": "ok"})
        if path == "/_mode" and method == "POST":
            try:
                self.set_mode(str(body.get("model")), str(body.get("mode")))
            except ValueError as error:
                return refusal(400, str(error), "bad_mode")
            return StubAnswer(200, {"status": "ok"})
        return None

    def _call(self, model: str, route: str, body: Json) -> Call:
        prompt, mode = counting.prompt_text(body), self.modes.get(model, Mode())
        tokens = self._recorded.get((prompt, model)) or counting.draw_completion_tokens(prompt, model)
        completes = route == "completions"
        several = mode.kind != "one_choice" and (completes or route == "chat/completions")
        return Call(
            len(self.records) + 1,
            model,
            route,
            body,
            mode,
            prompt,
            counting.count_tokens(prompt) + counting.stated_tokens(body.get("prompt")),
            0 if route == "embeddings" else counting.capped(tokens, body),
            n=counting.choices(body.get("n")) if several else 1,
            best_of=counting.choices(body.get("best_of")) if several and completes else 1,
            prompts=counting.prompts(body) if completes else 1,
        )

    async def _answer(self, call: Call) -> StubAnswer:
        failure = self._failure(call)
        record = self._record(call, 200 if failure is None else failure.status)
        if call.mode.kind == "slow":
            await asyncio.sleep(call.mode.amount)
        if call.mode.kind == "hang":
            await asyncio.Event().wait()
        if failure is not None:
            return failure
        if call.mode.kind == "nulls":
            left = call.mode.amount - 1
            self.modes[call.model] = Mode("nulls", left) if left >= 1 else Mode()
        whole, events = _ROUTES[call.route]
        if not call.streams or events is None:
            return StubAnswer(200, whole(call))
        if not call.drips:
            return StubAnswer(200, events=events(call))
        record["completion_tokens"] = 0
        return StubAnswer(200, events=events(call), every_s=call.mode.amount, record=record)

    def _failure(self, call: Call) -> StubAnswer | None:
        mode = call.mode
        if mode.kind == "fail" and mode.amount >= 1:
            self.modes[call.model] = Mode("fail", mode.amount - 1)
            return refusal(500, f"{call.model} is set to fail", "server_error")
        if mode.kind in STATUS_MODES:
            status, said, code = STATUS_MODES[mode.kind]
            return refusal(status, f"{call.model} {said}", code)
        if max(call.n, call.best_of) > counting.MOST_CHOICES:
            return refusal(400, f"n must be at most {counting.MOST_CHOICES}", "invalid_request_error")
        if mode.kind == "refuse_n" and call.n > 1:
            return refusal(400, "n must be 1 for this model", "invalid_request_error")
        if found := refused(call):
            param, said, code = found
            return refusal(400, said, code, param)
        if mode.kind in ("hang", "close"):
            return StubAnswer(0)
        if mode.kind == "context" and call.prompt_tokens > mode.amount:
            said = (
                f"This model's maximum context length is {int(mode.amount)} tokens. However, your messages "
                f"resulted in {call.prompt_tokens} tokens. Please reduce the length of the messages."
            )
            return refusal(400, said, "context_length_exceeded")
        return None

    def _record(self, call: Call, status: int) -> Json:
        record = {
            "n": call.number,
            "id": call.id,
            "model": call.model,
            "body_model": call.body.get("model"),
            "user": call.body.get("user"),
            "stream": call.streams,
            "route": call.route,
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens if status == 200 else 0,
            "status": status,
            "seed": call.body.get("seed"),
            "choices": call.n,
            "answers": call.answers,
            "keys": sorted(call.body),
            "body": hashlib.sha256(json.dumps(call.body).encode()).hexdigest(),
            "effort": {name: call.body[name] for name in _EFFORT if name in call.body},
        }
        self.records.append(record)
        if self._log_file is not None:
            self._log_file.write(json.dumps(record) + "\n")
            self._log_file.flush()
        return record
