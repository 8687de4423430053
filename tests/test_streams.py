"""What a stream that nobody reads to its end is taken to have made, whatever its pieces look like."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from litellm_erp.proxy.answers import streams
from litellm_erp.proxy.answers.streams import explained, tokens_in, watched

WORD = "word"
PIECES: dict[str, Any] = {
    "chat": {"choices": [{"index": 0, "delta": {"role": "assistant", "content": WORD}}]},
    "chat object": SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=WORD))]),
    "reasoning": {"choices": [{"delta": {"content": None, "reasoning_content": WORD}}]},
    "tool call": {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": WORD}}]}}]},
    "completions": {"choices": [{"text": WORD}]},
    "responses": SimpleNamespace(type="response.output_text.delta", delta=WORD),
    "messages": b'event: content_block_delta\ndata: {"delta": {"type": "text_delta", "text": "word"}}\n\n',
    "thinking": f'data: {{"delta": {{"type": "thinking_delta", "thinking": "{WORD}"}}}}\n\n',
    "google": {"candidates": [{"content": {"parts": [{"text": WORD}]}}]},
}
NOTHING: list[Any] = [
    {"choices": []},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    SimpleNamespace(type="response.completed", response={}),
    "data: [DONE]\n\n",
    ": ping\n\n",
    b"",
    {"choices": None, "candidates": None, "delta": None},
]


class Told:
    """Stands where spend is counted, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[float | None] = []

    def abandoned(self, tokens_in: float, tokens_out: float) -> None:
        self.told.append(tokens_in + 100 * tokens_out if tokens_out else None)


async def pieces(count: int, error: BaseException | None = None) -> AsyncIterator[object]:
    for _ in range(count):
        yield PIECES["chat"]
    if error is not None:
        raise error


def watch(told: Told, stream: AsyncIterator[object]) -> Any:
    return watched(stream, {"messages": [{"role": "user", "content": "12345678"}]}, told.abandoned)


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_every_route_says_what_was_made(piece: Any) -> None:
    assert tokens_in(piece) == 1.0


def test_a_long_piece_is_several_tokens() -> None:
    assert tokens_in({"choices": [{"text": WORD * 25}]}) == 25.0


@pytest.mark.parametrize("piece", NOTHING, ids=range(len(NOTHING)))
def test_what_stands_around_an_answer_is_nothing_of_it(piece: Any) -> None:
    assert tokens_in(piece) == 0.0


@pytest.mark.parametrize("piece", ["data: {", {"choices": 7}, b"data: {\xff", {"candidates": {"a": 1}.items()}])
def test_no_piece_of_a_stream_breaks_it(piece: Any) -> None:
    assert tokens_in(piece) >= 0.0


async def test_a_stream_read_to_its_end_is_for_litellm_to_report() -> None:
    told = Told()
    assert len([piece async for piece in watch(told, pieces(5))]) == 5
    assert told.told == []


async def test_a_stream_whose_reader_goes_has_made_what_was_passed_on() -> None:
    told = Told()
    stream = watch(told, pieces(9))
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    assert told.told == [pytest.approx(302, abs=1)]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), TimeoutError()])
async def test_a_stream_that_breaks_has_made_what_was_passed_on_and_breaks_all_the_same(error: BaseException) -> None:
    told = Told()
    with pytest.raises(type(error)):
        [piece async for piece in watch(told, pieces(3, error))]
    assert told.told == [pytest.approx(302, abs=1)]


async def test_a_stream_that_never_began_is_counted_as_nothing_known() -> None:
    told = Told()
    with pytest.raises(ValueError, match="no"):
        [piece async for piece in watch(told, pieces(0, ValueError("no")))]
    assert told.told == [None]


ENDED = {
    "chat": [{"choices": [{"delta": {}}]}],
    "messages": [b'event: message_stop\ndata: {"type": "message_stop"}\n\n'],
    "with marks behind": [{"choices": []}, "data: [DONE]\n\n", ": ping\n\n", b""],
    "several events in one": ['data: {"a": 1}\n\ndata: {"b": 2}\n\n'],
}
BROKEN: list[list[Any]] = [[b'data: {"half'], [b"data: \xff{"], [...], [None], [], ['{"no": "event"}']]
TOLD = {"model": "big"}


async def through(chunks: list[Any], told: Any = lambda: TOLD) -> list[Any]:
    async def stream() -> AsyncIterator[object]:
        for chunk in [PIECES["chat"], *chunks]:
            yield chunk

    return [chunk async for chunk in explained(stream(), told)]


@pytest.mark.parametrize("chunks", ENDED.values(), ids=list(ENDED))
async def test_only_the_last_piece_that_says_something_tells_what_was_decided(chunks: list[Any]) -> None:
    found = await through(chunks)
    assert len(found) == 1 + len(chunks)
    telling = [i for i, chunk in enumerate(found) if "provider_specific_fields" in str(chunk)]
    assert telling == [1]
    assert str(found[1]).count("big") == 1
    assert str(found[1]).index("big") > str(found[1]).rfind('"a": 1')


@pytest.mark.parametrize("chunks", BROKEN, ids=repr)
async def test_a_piece_that_cannot_tell_passes_as_it_is(chunks: list[Any]) -> None:
    assert (await through(chunks))[1:] == chunks


async def test_a_stream_that_fails_fails_as_before_with_all_that_came() -> None:
    seen: list[object] = []

    async def read() -> None:
        async for chunk in explained(pieces(3, ValueError("upstream")), lambda: TOLD):
            seen.append(chunk)

    with pytest.raises(ValueError, match="upstream"):
        await read()
    assert seen == [PIECES["chat"]] * 3


async def test_where_nothing_may_be_told_or_telling_fails_nothing_changes() -> None:
    def failing() -> dict[str, object]:
        raise RuntimeError("no")

    last = {"choices": [{"delta": {}}]}
    assert [(await through([last], told))[-1] for told in (dict, failing)] == [last, last]


@pytest.mark.parametrize("text", ["An SSE line is `data: {}`.", "\ndata: {}\n", "plain"])
def test_what_is_told_in_the_last_event_leaves_its_text_alone(text):
    event = {"candidates": [{"content": {"parts": [{"text": text}]}}]}
    raw = f"data: {{}}\n\ndata: {json.dumps(event)}\n\n".encode()
    told = streams._telling(raw, lambda: {"reason": "routed"})
    assert isinstance(told, bytes)
    last = json.loads(told.decode().rpartition("\ndata: ")[2])
    assert last["candidates"] == event["candidates"]
    assert last["provider_specific_fields"]["erp"] == {"reason": "routed"}
