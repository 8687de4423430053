"""Any OpenAI-compatible ``/v1/embeddings`` server: vLLM, text-embeddings-inference, a gateway.

Invariants
----------
* Every vector is validated: as many as texts, in the order of the texts, finite, of the right dimension.
* Neither the key nor the URL's user, password and query are in the spec or in any message.
* A request is sent again only if the connection broke; an answer that is wrong would be wrong again.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import numpy as np

from litellm_erp.choice.prompt import MAX_BYTES
from litellm_erp.embedding.base import Array, EmbedderSpec, check
from litellm_erp.errors import EmbedderUnavailable, EmbeddingError, EmbeddingTimeout

BATCH = 64
_BYTES_PER_TOKEN = 4
_HINTS = {
    401: "check the key",
    403: "check the key",
    404: "check the URL and the model's name",
    413: "the server takes less text than it was sent",
}


class EndpointEmbedder:
    """A client of one embedding server. Connections are reused.

    Parameters
    ----------
    url : base URL, with or without ``/v1`` or ``/v1/embeddings``
    model : name to send; None: the only model the server lists
    api_key : sent as a bearer token
    timeout_s : seconds for one request, its one repetition included
    spec : of a bundle; the server is then not asked for its dimension, so a proxy starts without it

    Raises
    ------
    EmbedderUnavailable : the server cannot be reached, or it lists no single model
    EmbeddingError : it answers, but not with embeddings
    """

    inline = False

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        spec: EmbedderSpec | None = None,
    ) -> None:
        self._endpoint, self._public = endpoint_url(url)
        self._timeout_s = timeout_s
        self._options: dict[str, Any] = {
            "timeout": timeout_s,
            "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        }
        self._client = httpx.Client(**self._options)
        self._async_client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._dimension = spec.dimension if spec else 0
        self._model = model or self._only_model()
        self.spec = spec or EmbedderSpec(
            kind="endpoint",
            id=f"endpoint:{self._model}",
            revision=None,
            dimension=self.embed(["dimension"]).shape[1],
            max_bytes=MAX_BYTES,
            max_tokens=None,
            sha256=None,
            url=self._public,
        )
        self._dimension = self.spec.dimension

    def embed(self, texts: Sequence[str]) -> Array:
        """As `Embedder.embed`, 64 texts to a request.

        Raises
        ------
        EmbedderUnavailable : no connection
        EmbeddingTimeout : no answer in time
        EmbeddingError : an answer that is not P embeddings of D finite numbers
        """
        if not texts:
            return np.zeros((0, self._dimension), dtype=np.float32)
        batches = [list(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return np.concatenate([self._parse(self._post(batch), len(batch)) for batch in batches])

    async def aembed(self, text: str) -> Array:
        """As `Embedder.aembed`; raises as `embed`."""
        try:
            # httpx counts each phase for itself; a server that trickles would never time out.
            response = await asyncio.wait_for(self._apost([text]), self._timeout_s)
        except (httpx.HTTPError, asyncio.TimeoutError) as e:
            raise self._failed(e) from e
        vector: Array = self._parse(response, 1)[0]
        return vector

    def embed_counted(self, text: str) -> tuple[Array, int]:
        return self.embed([text])[0], self.count_tokens(text)

    def count_tokens(self, text: str) -> int:
        """An estimate, four bytes to a token: an embedding server does not tell."""
        return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)

    def files(self) -> Sequence[Path]:
        """None: they are the server's."""
        return ()

    def close(self) -> None:
        """Close the connections of `embed`; those of `aembed` close with their event loop."""
        self._client.close()
        self._async_client = None

    def _post(self, texts: list[str]) -> httpx.Response:
        try:
            try:
                return self._client.post(self._endpoint, json=self._body(texts))
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                return self._client.post(self._endpoint, json=self._body(texts))
        except httpx.HTTPError as e:
            raise self._failed(e) from e

    async def _apost(self, texts: list[str]) -> httpx.Response:
        client = self._async()
        try:
            return await client.post(self._endpoint, json=self._body(texts))
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            return await client.post(self._endpoint, json=self._body(texts))

    def _async(self) -> httpx.AsyncClient:
        # A connection belongs to the loop it was opened in; another loop cannot use it.
        loop = asyncio.get_running_loop()
        if self._async_client is None or self._async_client[0] is not loop:
            self._async_client = (loop, httpx.AsyncClient(**self._options))
        return self._async_client[1]

    def _body(self, texts: list[str]) -> dict[str, Any]:
        return {"model": self._model, "input": texts, "encoding_format": "float"}

    def _parse(self, response: httpx.Response, n_texts: int) -> Array:
        if response.status_code != httpx.codes.OK:
            # The body may repeat the prompt or the key; messages end up in logs.
            hint = _HINTS.get(response.status_code, "its log says why")
            raise EmbeddingError(f"embedding server {self._public} answered {response.status_code}; {hint}")
        try:
            rows = sorted(response.json()["data"], key=lambda row: row["index"])
            indices, vectors = [row["index"] for row in rows], [row["embedding"] for row in rows]
        except (ValueError, KeyError, TypeError) as e:
            raise EmbeddingError(
                f"embedding server {self._public} did not answer in OpenAI's format ({type(e).__name__}: {e}); "
                'expected {"data": [{"index": 0, "embedding": [...]}]}. Is this its /v1/embeddings?'
            ) from e
        if indices != list(range(n_texts)):
            raise EmbeddingError(
                f"embedding server {self._public} answered with indices {indices[:5]} of {len(indices)}; "
                f"expected 0 to {n_texts - 1}"
            )
        array = check(vectors, self._dimension)
        if array.ndim != 2:
            raise EmbeddingError(f"embedding server {self._public} answered with numbers; expected vectors")
        return array

    def _failed(self, e: Exception) -> EmbeddingError:
        if isinstance(e, httpx.TimeoutException | asyncio.TimeoutError):
            return EmbeddingTimeout(
                f"embedding server {self._public} did not answer within {self._timeout_s:g} s. "
                "Raise timeout_s, or give the server more room"
            )
        return EmbedderUnavailable(
            f"embedding server {self._public} cannot be reached ({type(e).__name__}: {e}). Is it running?"
        )

    def _only_model(self) -> str:
        try:
            response = self._client.get(self._endpoint.removesuffix("/embeddings") + "/models")
            names = [entry["id"] for entry in response.json()["data"]]
        except httpx.HTTPError as e:
            raise self._failed(e) from e
        except (ValueError, KeyError, TypeError):
            names = []
        if len(names) != 1 or not isinstance(names[0], str):
            raise EmbedderUnavailable(
                f"embedding server {self._public} lists {len(names)} models ({', '.join(map(str, names[:5]))}); "
                "expected one. Name the model"
            )
        return names[0]


def endpoint_url(url: str) -> tuple[str, str]:
    """Where to send requests, and what of it may be written down.

    Parameters
    ----------
    url : base URL, with or without ``/v1`` or ``/v1/embeddings``

    Returns
    -------
    the URL of ``/embeddings``, complete; and the same without user, password, query and fragment

    Raises
    ------
    EmbedderUnavailable : it is no http(s) URL
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Its message would repeat the URL, which may hold a password.
        raise _malformed() from None
    if parts.scheme not in ("http", "https") or not host:
        raise _malformed()
    path = parts.path.rstrip("/")
    if not path.endswith("/embeddings"):
        path += "/embeddings" if path.endswith("/v1") else "/v1/embeddings"
    shown = f"[{host}]" if ":" in host else host
    netloc = f"{shown}:{port}" if port else shown
    return (
        urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")),
        urlunsplit((parts.scheme, netloc, path, "", "")),
    )


def _malformed() -> EmbedderUnavailable:
    return EmbedderUnavailable("the URL of the embedding server is malformed; expected http(s)://host[:port][/v1]")
