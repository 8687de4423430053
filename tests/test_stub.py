import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from demo.proxy_process import StubProcess
from demo.stub.call import Mode
from demo.stub.counting import draw_completion_tokens
from demo.stub.embeddings import embed
from demo.stub.server import Stub

CHAT = "/small/v1/chat/completions"
BODY = {"model": "x", "user": "u1", "messages": [{"role": "user", "content": "what is two plus two"}]}


@pytest.fixture
async def server() -> AsyncIterator[Stub]:
    async with Stub(["small", "big"]) as stub:
        yield stub


@pytest.fixture
async def client(server: Stub) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client:
        yield client


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def test_answer_names_the_model_and_reports_usage_by_the_rule(client: httpx.AsyncClient) -> None:
    answer = (await client.post(CHAT, json=BODY)).json()
    assert answer["choices"][0]["message"]["content"] == "answer from small"
    drawn = draw_completion_tokens("what is two plus two", "small")
    assert answer["usage"] == {
        "prompt_tokens": math.ceil(20 / 4),
        "completion_tokens": drawn,
        "total_tokens": 5 + drawn,
    }


async def test_every_request_is_recorded_in_order_failures_too(client: httpx.AsyncClient, server: Stub) -> None:
    server.set_mode("big", "500")
    await client.post(CHAT, json=BODY)
    await client.post("/big/v1/chat/completions", json=BODY | {"stream": True})
    records = (await client.get("/_log")).json()["requests"]
    assert [(r["n"], r["model"], r["status"], r["stream"]) for r in records] == [
        (1, "small", 200, False),
        (2, "big", 500, True),
    ]
    assert {"body_model": "x", "user": "u1", "route": "chat/completions"}.items() <= records[0].items()


async def test_reset_clears_records_and_modes(client: httpx.AsyncClient) -> None:
    await client.post("/_mode", json={"model": "small", "mode": "500"})
    await client.post(CHAT, json=BODY)
    await client.post("/_reset")
    assert (await client.get("/_log")).json() == {"requests": []}
    assert (await client.post(CHAT, json=BODY)).status_code == 200


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_completion_tokens_are_capped(client: httpx.AsyncClient, limit: str) -> None:
    answer = (await client.post(CHAT, json=BODY | {limit: 7})).json()
    assert answer["usage"]["completion_tokens"] == 7


async def test_recorded_completion_tokens_replace_the_drawn_ones() -> None:
    recorded = {("what is two plus two", "small"): 9}
    async with Stub(["small"], recorded=recorded) as stub, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{stub.port}{CHAT}", json=BODY)
    assert answer.json()["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize("include_usage", [True, False])
async def test_stream_ends_with_usage_only_where_asked(client: httpx.AsyncClient, include_usage: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": include_usage}}
    answer = await client.post(CHAT, json=BODY | options)
    chunks = events(answer)
    text = "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"])
    assert text == "answer from small"
    assert ("usage" in chunks[-1]) is include_usage
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_responses_stream_completes_with_text_and_usage(client: httpx.AsyncClient) -> None:
    body = {"model": "x", "input": "hello you", "instructions": "be brief", "stream": True}
    *_, last = events(await client.post("/small/v1/responses", json=body))
    assert last["type"] == "response.completed"
    assert last["response"]["output"][0]["content"][0]["text"] == "answer from small"
    assert last["response"]["usage"]["input_tokens"] == math.ceil(len("be brief\nhello you") / 4)


async def test_completions_and_models_are_served(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/big/v1/completions", json={"model": "x", "prompt": "hi"})).json()
    assert answer["choices"][0]["text"] == "answer from big"
    assert (await client.get("/big/v1/models")).json()["data"][0]["id"] == "big"


@pytest.mark.parametrize("path", ["/unknown/v1/chat/completions", "/small/v1/nothing", "/"])
async def test_unknown_path_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path, json=BODY)).status_code == 404


@pytest.mark.parametrize(("mode", "code"), [("500", "server_error"), ("429", "rate_limit_exceeded")])
async def test_failure_modes_answer_their_status(client: httpx.AsyncClient, server: Stub, mode: str, code: str) -> None:
    server.set_mode("small", mode)
    answer = await client.post(CHAT, json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (int(mode), code)
    assert (await client.post("/big/v1/chat/completions", json=BODY)).status_code == 200


async def test_fail_mode_recovers_after_its_count(client: httpx.AsyncClient, server: Stub) -> None:
    server.set_mode("small", "fail:2")
    assert [(await client.post(CHAT, json=BODY)).status_code for _ in range(3)] == [500, 500, 200]


async def test_context_mode_refuses_only_longer_prompts(client: httpx.AsyncClient, server: Stub) -> None:
    server.set_mode("small", "context:5")
    assert (await client.post(CHAT, json=BODY)).status_code == 200
    server.set_mode("small", "context:4")
    answer = await client.post(CHAT, json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_hang_mode_never_answers_and_is_recorded(client: httpx.AsyncClient, server: Stub) -> None:
    server.set_mode("small", "hang")
    with pytest.raises(httpx.ReadTimeout):
        await client.post(CHAT, json=BODY, timeout=httpx.Timeout(60.0, read=0.2))
    assert server.records[0]["status"] == 0


async def test_close_mode_drops_the_connection(client: httpx.AsyncClient, server: Stub) -> None:
    server.set_mode("small", "close")
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(CHAT, json=BODY)


async def test_slow_mode_delays_one_model_and_not_the_others(client: httpx.AsyncClient, server: Stub) -> None:
    server.set_mode("small", "slow:0.3")
    slow = asyncio.create_task(client.post(CHAT, json=BODY))
    assert (await client.post("/big/v1/chat/completions", json=BODY)).status_code == 200
    assert not slow.done()
    assert (await slow).status_code == 200


@pytest.mark.parametrize("mode", ["nonsense", "slow", "slow:x", "500:1", "context:"])
async def test_unknown_mode_is_refused(client: httpx.AsyncClient, mode: str) -> None:
    answer = await client.post("/_mode", json={"model": "small", "mode": mode})
    assert answer.status_code == 400


def test_mode_names_may_carry_the_embed_prefix() -> None:
    assert Mode.parse("embed_nan") == Mode("nan")


async def embeddings(client: httpx.AsyncClient, texts: list[str]) -> np.ndarray:
    body = {"model": "x", "input": texts, "encoding_format": "float"}
    answer = (await client.post("/small/v1/embeddings", json=body)).json()
    return np.array([row["embedding"] for row in answer["data"]])


async def test_embeddings_are_deterministic_normalised_and_near_for_shared_words(
    client: httpx.AsyncClient,
) -> None:
    a, b, c = vectors = await embeddings(client, ["red apple pie", "red apple cake", "engine oil filter"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert a @ b > a @ c
    assert np.allclose(a, embed("red apple pie"))


async def test_embedding_modes_break_the_vectors(client: httpx.AsyncClient, server: Stub) -> None:
    good = await embeddings(client, ["a"])
    server.set_mode("small", "wrong_shape")
    assert (await embeddings(client, ["a"])).shape[1] == good.shape[1] - 1
    server.set_mode("small", "nan")
    assert np.isnan(await embeddings(client, ["a"])).all()


def test_drawn_completion_tokens_stay_in_range_and_differ_by_model() -> None:
    drawn = [draw_completion_tokens(f"prompt {i}", model) for i in range(200) for model in ("small", "big")]
    assert min(drawn) >= 64
    assert max(drawn) <= 448
    assert len(set(drawn)) > 100


def test_process_serves_logs_and_stops(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    with StubProcess(["small"], request_log=log, log_path=tmp_path / "out.log") as process:
        httpx.post(f"{process.api_base('small')}/chat/completions", json=BODY, trust_env=False, timeout=60.0)
        assert process.requests() == [json.loads(line) for line in log.read_text().splitlines()]
        with pytest.raises(ValueError, match="unknown mode"):
            process.set_mode("small", "nonsense")
    assert process.returncode is not None
