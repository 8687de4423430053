"""IO. A vLLM server in pooling mode: requests with retries, several at a time.

Endpoints and fields are those of vLLM 0.32; ``use_activation: false`` is what makes its answers raw rewards, without
which a one-label classifier's come through a sigmoid.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import httpx
from tenacity import RetryError, Retrying, sleep_using_event

from erp_trainer.rewards.base import RewardOptions
from erp_trainer.rewards.truncation import Tokens
from erp_trainer.sampling.pacing import Broken, RequestPace, failure_that_passes
from litellm_erp.config_file import from_environment, secret_reference
from litellm_erp.errors import RewardError
from litellm_erp.shown import one_line

_PACE = RequestPace(backoff_s=0.25)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Server:
    """Options: ``api_base``, ``model`` as it is served, ``api_key``, ``timeout_s``, ``concurrency``."""

    def __init__(self, options: RewardOptions) -> None:
        self.where = options.where
        self.model = options.text("model")
        self.base = options.text("api_base").rstrip("/").removesuffix("/v1")
        self._key = secret_reference(options, "api_key", "REWARD_API_KEY")
        self._timeout_s = options.integer("timeout_s", 300, low=1)
        self._concurrency = options.integer("concurrency", 32, low=1)
        self._client: httpx.Client | None = None
        self._stopped = threading.Event()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """One answer, whatever it takes.

        Raises
        ------
        RewardError : the server refuses, does not answer after several attempts, or answers no JSON object
        """
        return self._answer("POST", path, {"model": self.model, **body})

    def context(self) -> int | None:
        """Tokens that the server takes; None where it does not say.

        Raises
        ------
        RewardError : it does not serve the model
        """
        served = [entry for entry in self._answer("GET", "/v1/models", None).get("data", []) if isinstance(entry, dict)]
        for entry in served:
            if entry.get("id") == self.model:
                length = entry.get("max_model_len")
                return length if isinstance(length, int) else None
        names = ", ".join(str(entry.get("id")) for entry in served) or "nothing"
        raise RewardError(f"{self.where}: {self.base} does not serve {self.model!r}; it serves {names}")

    def version(self) -> str:
        """Of vLLM, for messages."""
        try:
            return str(self._answer("GET", "/version", None).get("version") or "of unknown version")
        except RewardError:
            return "of unknown version"

    def each(
        self, items: Sequence[_Item], call: Callable[[_Item], _Result], advance: Callable[[_Item], object]
    ) -> list[_Result]:
        """Call for every item, several at a time, in the items' order; the first error, or an interrupt, ends it."""
        self._stopped.clear()
        with ThreadPoolExecutor(self._concurrency) as threads:
            futures = {threads.submit(call, item): item for item in items}
            waiting = set(futures)
            try:
                while waiting:
                    done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                        advance(futures[future])
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self._stopped.set()
                self.close()  # which ends requests that are under way
                raise
            return [future.result() for future in futures]

    def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _answer(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        sleep = sleep_using_event(self._stopped)
        try:
            return self._object(path, Retrying(sleep=sleep, **_PACE.again())(self._ask, method, path, body))
        except RetryError as e:
            found = e.last_attempt
            raise RewardError(
                f"{self.where}: {self.base}{path} did not answer in {found.attempt_number} attempts "
                f"({found.exception()})"
            ) from e

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        if self._stopped.is_set():
            raise RewardError(f"{self.where}: stopped")
        try:
            response = self._http().request(method, self.base + path, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as e:
            raise RewardError(f"{self.where}: api_base: {self.base} is no URL ({e}); expected http://host:port") from e
        except (httpx.HTTPError, RuntimeError) as e:  # RuntimeError: closed by another thread
            raise Broken(f"{type(e).__name__}: {e}") from e
        if response.status_code == 200:
            return response
        problem = f"HTTP {response.status_code}: {one_line(response.text)}"
        raise failure_that_passes(response, problem) or RewardError(
            f"{self.where}: {self.base}{path} refused ({problem})"
        )

    def _object(self, path: str, response: httpx.Response) -> dict[str, Any]:
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RewardError(f"{self.where}: {self.base}{path} answered no JSON object: {response.text[:100]!r}")
        return found

    def _http(self) -> httpx.Client:
        if self._client is None:
            headers = {}
            if self._key is not None:
                headers["Authorization"] = f"Bearer {from_environment(self._key, f'{self.where}.api_key')}"
            limits = httpx.Limits(max_connections=self._concurrency)
            self._client = httpx.Client(timeout=self._timeout_s, headers=headers, limits=limits)
        return self._client


class ServerTokens(Tokens):
    """By the server's own tokenizer: ``/tokenize`` and ``/detokenize``."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def encode(self, text: str) -> list[int]:
        return token_ids(self._server, prompt=text, add_special_tokens=False) if text else []

    def decode(self, text: str, kept: list[int], *, from_start: bool) -> str:
        # A cut may fall inside a character.
        return str(self._server.post("/detokenize", tokens=kept).get("prompt", "")).strip("\ufffd")


def token_ids(server: Server, **request: Any) -> list[int]:
    """Ids of a text (``prompt``) or a conversation (``messages``), by ``/tokenize``."""
    found = server.post("/tokenize", **request).get("tokens")
    if not isinstance(found, list):
        raise RewardError(f"{server.where}: {server.base}/tokenize answered without tokens; expected vLLM's")
    return found


def surely_fits(texts: Iterable[str], context: int) -> bool:
    """Whether texts fit by their bytes alone: a token has one at least, and templates add few."""
    lengths = [len(text.encode("utf-8", "replace")) + 16 for text in texts]
    return sum(lengths) + 32 <= context
