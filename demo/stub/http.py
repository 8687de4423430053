"""Just enough HTTP/1.1 over asyncio streams to answer keep-alive clients.

A web framework in its place would be what a benchmark of the proxy measures.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from demo.stub.call import Json


@dataclass(frozen=True)
class StubAnswer:
    """A status and either one JSON body or the events of a stream; status 0 answers nothing.

    ``every_s`` is between two events, and their tokens are then counted in ``record`` as they are sent.
    """

    status: int
    body: Json = field(default_factory=dict)
    events: Sequence[str] | None = None
    every_s: float | None = None
    record: Json = field(default_factory=dict)


def refusal(status: int, message: str, code: str, param: str | None = None) -> StubAnswer:
    """An error as OpenAI words it."""
    return StubAnswer(status, {"error": {"message": message, "type": code, "param": param, "code": code}})


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, Json]:
    """One request: method, path without its query, JSON body; IncompleteReadError at the end."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
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


async def send(reply: StubAnswer, writer: asyncio.StreamWriter) -> None:
    """One answer, all at once or drop by drop."""
    if reply.events is None:
        body = json.dumps(reply.body).encode()
        writer.write(_head(reply.status, "application/json", f"content-length: {len(body)}") + body)
    else:
        head = _head(reply.status, "text/event-stream", "transfer-encoding: chunked")
        chunks = [_chunk(event) for event in reply.events]
        if reply.every_s is None:
            writer.write(head + b"".join(chunks))
        else:
            writer.write(head)
            for event, chunk in zip(reply.events, chunks, strict=True):
                await asyncio.sleep(reply.every_s)
                writer.write(chunk)
                reply.record["completion_tokens"] += _has_text(event)
                await writer.drain()
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def _head(status: int, content_type: str, length: str) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {content_type}\r\n{length}\r\n\r\n".encode()


def _chunk(event: str) -> bytes:
    raw = event.encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


def _has_text(event: str) -> bool:
    """Whether an event brings a piece of the answer, a token that was made, rather than what stands around it."""
    _, _, data = event.partition("data: ")
    if data.startswith("[DONE]"):
        return False
    found = json.loads(data)
    choices = found.get("choices") or [{}]
    return bool(found.get("delta") or choices[0].get("text") or (choices[0].get("delta") or {}).get("content"))
