import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from litellm_erp.embedding import embedder_from_spec
from litellm_erp.embedding.endpoint import EndpointEmbedder, endpoint_url
from litellm_erp.errors import EmbedderMismatch, EmbedderUnavailable, EmbeddingError, EmbeddingTimeout


class Handler(BaseHTTPRequestHandler):
    """Embeds a text as (its length, 1, 0), or misbehaves as the server's ``mode`` says."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode = self.server.mode
        self.server.requests.append((dict(self.headers), body, self.client_address))
        rows: list[Any] = [{"index": i, "embedding": [len(t), 1.0, 0.0]} for i, t in enumerate(body["input"])]
        if mode == "hang":
            self.server.release.wait(10)
        if mode == "close" or (mode == "close once" and len(self.server.requests) == 1):
            self.close_connection = True
            return
        if mode == "wrong dimension":
            rows = [{**row, "embedding": [1.0]} for row in rows]
        elif mode == "nan":
            rows[0]["embedding"][0] = float("nan")
        elif mode == "one too few":
            rows = rows[1:]
        elif mode == "null":
            rows[0]["embedding"] = None
        elif mode == "shuffled":
            rows.reverse()
        self.answer({"answer": 42} if mode == "other format" else {"data": rows}, 500 if mode == "500" else 200)

    def answer(self, body: object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """A server on loopback whose behaviour a test can switch."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = "right"
        self.models = ["e5"]
        self.requests: list[tuple[dict[str, str], dict[str, Any], Any]] = []
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def embedder(server: Server) -> EndpointEmbedder:
    embedder = EndpointEmbedder(server.url, model="e5", api_key="sk-hidden", timeout_s=20)
    server.requests.clear()
    return embedder


async def test_both_ways_give_normalised_vectors(embedder: EndpointEmbedder) -> None:
    expected = np.array([3, 1, 0]) / np.sqrt(10)
    assert embedder.embed(["abc"])[0] == pytest.approx(expected)
    assert await embedder.aembed("abc") == pytest.approx(expected)
    assert embedder.embed([]).shape == (0, 3)


def test_large_inputs_go_in_batches_and_come_back_in_order(server: Server, embedder: EndpointEmbedder) -> None:
    server.mode = "shuffled"
    rows = embedder.embed(["x" * n for n in range(1, 151)])
    assert [len(body["input"]) for _, body, _ in server.requests] == [64, 64, 22]
    assert (rows[:, 0] / rows[:, 1]).round().tolist() == list(range(1, 151))


async def test_connections_are_reused(server: Server, embedder: EndpointEmbedder) -> None:
    for _ in range(3):
        await embedder.aembed("a")
    assert len({client for _, _, client in server.requests}) == 1


def test_the_key_is_sent_and_told_to_nobody(server: Server, embedder: EndpointEmbedder) -> None:
    embedder.embed(["a"])
    assert server.requests[-1][0]["Authorization"] == "Bearer sk-hidden"
    assert "sk-hidden" not in json.dumps(embedder.spec.to_json())
    server.mode = "500"
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(["a"])
    assert "sk-hidden" not in str(caught.value)


@pytest.mark.parametrize("mode", ["wrong dimension", "nan", "one too few", "null", "500", "other format"])
async def test_a_wrong_answer_is_an_error_and_is_not_asked_again(
    server: Server, embedder: EndpointEmbedder, mode: str
) -> None:
    server.mode = mode
    with pytest.raises(EmbeddingError):
        await embedder.aembed("a")
    assert len(server.requests) == 1
    with pytest.raises(EmbeddingError):
        embedder.embed(["a", "b"])


async def test_a_broken_connection_is_tried_once_more(server: Server, embedder: EndpointEmbedder) -> None:
    server.mode = "close once"
    assert (await embedder.aembed("a")).shape == (3,)
    server.requests.clear()
    assert embedder.embed(["a"]).shape == (1, 3)


async def test_a_server_that_only_closes_connections_is_unavailable(server: Server, embedder: EndpointEmbedder) -> None:
    server.mode = "close"
    with pytest.raises(EmbedderUnavailable, match="Is it running"):
        await embedder.aembed("a")
    assert len(server.requests) == 2


async def test_a_server_that_hangs_times_out(server: Server) -> None:
    embedder = EndpointEmbedder(server.url, model="e5", timeout_s=0.2)
    server.mode = "hang"
    with pytest.raises(EmbeddingTimeout, match=r"0\.2 s"):
        await embedder.aembed("a")
    with pytest.raises(EmbeddingTimeout):
        embedder.embed(["a"])


def test_an_embedder_outlives_its_event_loop(embedder: EndpointEmbedder) -> None:
    assert asyncio.run(embedder.aembed("a")).shape == asyncio.run(embedder.aembed("a")).shape


def test_no_server_is_told_at_once() -> None:
    with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
        EndpointEmbedder("http://127.0.0.1:9", model="e5")


def test_the_only_model_need_not_be_named(server: Server) -> None:
    assert EndpointEmbedder(server.url).spec.id == "endpoint:e5"
    server.models.append("bge")
    with pytest.raises(EmbedderUnavailable, match="e5, bge"):
        EndpointEmbedder(server.url)


def test_a_proxy_starts_while_the_server_is_down(server: Server, embedder: EndpointEmbedder) -> None:
    server.mode = "close"
    again = embedder_from_spec(embedder.spec, api_key="sk-hidden")
    assert (again.spec, server.requests) == (embedder.spec, [])
    server.mode = "right"
    assert np.array_equal(again.embed(["abc"]), embedder.embed(["abc"]))


def test_a_spec_of_a_kind_unknown_is_refused(embedder: EndpointEmbedder) -> None:
    with pytest.raises(EmbedderMismatch, match="newer version"):
        embedder_from_spec(replace(embedder.spec, kind="quantum"))


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/embeddings"])
def test_a_url_is_completed(path: str) -> None:
    assert endpoint_url("http://h:80" + path)[0] == "http://h:80/v1/embeddings"


def test_what_is_written_down_of_a_url_holds_no_secret() -> None:
    sent, shown = endpoint_url("https://user:secret@[::1]:8443/e?key=secret#f")
    assert shown == "https://[::1]:8443/e/v1/embeddings"
    assert sent == "https://user:secret@[::1]:8443/e/v1/embeddings?key=secret"


@pytest.mark.parametrize("url", ["https://user:secret@h:port/", "http://[secret", "http://", "ftp://secret"])
def test_a_malformed_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(EmbedderUnavailable) as caught:
        endpoint_url(url)
    assert "secret" not in str(caught.value)
