"""A running OpenAI-compatible server; vLLM first.

Invariants
----------
* The server is asked for its models before the first prompt: a wrong address, key or name is one error at once.
* All K responses are asked for in one request, so that a prompt is prefilled once; a server that has only one choice
  to give is asked K times.
* What a vLLM server would add from the model's own ``generation_config.json`` (top_k, repetition penalty, …) is
  switched off: a record's sampling parameters are all there is, and the same in every engine. Other servers that fill
  in defaults of the model are told every parameter; an API is not told what is its default anyway.
* Neither the key nor the URL's user, password and query are in any message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from erp_trainer.pool.pool import PoolModel
from erp_trainer.sampling.base import Engine, Results, SampleRequest
from erp_trainer.sampling.driver import PromptRefused, RefusesN, Unanswerable, drive
from erp_trainer.sampling.pacing import Broken, RequestPace, Unreachable, failure_that_passes
from erp_trainer.sampling.wire.answer import Completion, NotAnAnswer, read_completion
from erp_trainer.sampling.wire.parameters import Parameters
from litellm_erp.errors import SamplingError, SettingsError

_PROBE_TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 20.0
_LONGEST_LIST = 10
# As servers of one's own name their owner: vLLM, SGLang, llama.cpp, Ollama, LM Studio. What they are not told is what
# the model's files say, not what APIs take as neutral.
_FILLS_IN = frozenset({"vllm", "sglang", "llamacpp", "library", "organization_owner"})
_VLLM_ONLY = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size)|maximum (model|input|sequence) length|max_model_len|prompt is too long"
    r"|input is too long|too many (input )?tokens|max_(completion_)?tokens.{0,40}too large",
    re.IGNORECASE,
)
_ABOUT_N = re.compile(r"(?<![\w.-])n(?![\w.-])|best_of|(multiple|number of) (choices|completions|candidates)")


class ServerEngine(Engine):
    """A client of one pool model's server.

    Parameters
    ----------
    model : ``api_base`` is the URL that ``/chat/completions`` is appended to

    Raises
    ------
    SettingsError : no ``api_base``, or its key is not in the environment
    SamplingError : the server cannot be reached, refuses the key, or does not serve the model
    """

    name = "server"

    def __init__(self, model: PoolModel, pace: RequestPace | None = None) -> None:
        if model.api_base is None:
            raise SettingsError(
                f"models.{model.name}.api_base: missing; engine server needs a URL such as http://127.0.0.1:8000/v1"
            )
        key = model.secret()
        self._model = model
        self._pace = pace or RequestPace()
        self._base = model.api_base.rstrip("/")
        self._where = f"{model.name}: {public_url(self._base)}"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        owner, self.version = self._probe()
        extras = _VLLM_ONLY if owner == "vllm" else {}
        self._parameters = Parameters(
            states_all=owner in _FILLS_IN, extras=extras, fixed=model.parameters, where=f"models.{model.name}"
        )

    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        return drive(self._client, requests, name=self._where, timeout_s=self._model.timeout_s, pace=self._pace)

    def _client(self) -> _ServerClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self._pace.ceiling)
        timeout = httpx.Timeout(self._model.timeout_s, connect=_CONNECT_TIMEOUT_S)
        http = httpx.AsyncClient(base_url=self._base, headers=self._headers, limits=limits, timeout=timeout)
        return _ServerClient(http, self._model, self._where, self._parameters)

    def _probe(self) -> tuple[str, str]:
        """Whose server it is, and its version."""
        name = self._model.name
        try:
            with httpx.Client(base_url=self._base, headers=self._headers, timeout=_PROBE_TIMEOUT_S) as http:
                answer = http.get("/models")
                served = _served(answer)
                is_vllm = any(entry.get("owned_by") == "vllm" for entry in served)
                version = _vllm_version(http) if is_vllm else None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as e:
            raise SamplingError(
                f"{self._where} cannot be reached ({e or type(e).__name__}). Start its server, or correct "
                f"models.{name}.api_base"
            ) from e
        if answer.status_code in (401, 403):
            raise wrong_key(self._where, self._model, answer.status_code)
        if answer.status_code >= 500:
            raise SamplingError(f"{self._where} answers {answer.status_code} to /models; look at the server's log")
        ids = [str(entry.get("id")) for entry in served]
        # A server that lists nothing may still serve the model.
        if ids and self._model.model not in ids:
            listed = ", ".join(ids[:_LONGEST_LIST]) + (", …" if len(ids) > _LONGEST_LIST else "")
            raise SamplingError(
                f"{self._where} does not serve {self._model.model!r}, it serves {listed}. Correct models.{name}.model, "
                "or start the server with --served-model-name"
            )
        owner = str(served[0].get("owned_by") or "unknown") if served else "unknown"
        return ("vllm", f"vllm {version}") if is_vllm else (owner, owner)


def wrong_key(where: str, model: PoolModel, status: int) -> SamplingError:
    """The error for a key that is missing or refused."""
    if model.api_key is None:
        return SamplingError(
            f"{where} wants a key ({status}). Put it into the environment and set models.{model.name}.api_key to "
            "os.environ/ITS_NAME"
        )
    return SamplingError(f"{where} refuses the key in {model.api_key} ({status}). Correct the variable")


def mentions_n(message: str) -> bool:
    """Whether an error is about the number of choices."""
    return _ABOUT_N.search(message) is not None


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class _ServerClient:
    def __init__(self, http: httpx.AsyncClient, model: PoolModel, where: str, parameters: Parameters) -> None:
        self._http = http
        self._model = model
        self._where = where
        self._parameters = parameters

    async def ask(self, request: SampleRequest, n: int, seed: int) -> Completion:
        wanted = None if request.sampling.seed is None else seed
        while True:  # every turn sends less than the one before
            sent, adjusted = self._parameters.sent(request.sampling, wanted), dict(self._parameters.adjusted)
            response = await self._post(request, n, sent)
            if response.status_code == 200:
                break
            message, param = _message(response)
            if response.status_code not in (400, 422) or not self._parameters.learn(sent, message, param):
                raise self._error(response, n)
        try:
            return read_completion(response.json(), sent.get("seed"), adjusted)
        except NotAnAnswer as e:
            raise Broken(str(e)) from e
        except ValueError as e:
            raise Broken(f"the answer is not a chat completion: {response.text[:200]!r}") from e

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _post(self, request: SampleRequest, n: int, sent: Mapping[str, Any]) -> httpx.Response:
        body = {"model": self._model.model, "messages": request.messages, **sent}
        if n > 1:
            body["n"] = n
        try:
            return await self._http.post("/chat/completions", json=body)
        except UnicodeEncodeError as e:
            raise Unanswerable("text", f"the prompt cannot be encoded as UTF-8 ({e.reason})") from e
        except httpx.TimeoutException as e:
            raise TimeoutError(str(e)) from e
        except httpx.ConnectError as e:
            raise Unreachable(f"the server cannot be reached any more ({e})") from e
        except httpx.HTTPError as e:
            raise Broken(f"the connection broke ({e or type(e).__name__})") from e

    def _error(self, response: httpx.Response, n: int) -> Exception:
        status, (message, param) = response.status_code, _message(response)
        if status in (401, 403):
            return wrong_key(self._where, self._model, status)
        if status == 404:
            return SamplingError(
                f"{self._where} answers 404: {message}. Correct models.{self._model.name}.model or .api_base"
            )
        if passing := failure_that_passes(response, f"{status}: {message}"):
            return passing
        if _TOO_LONG.search(message):
            return Unanswerable("context", message)
        if n > 1 and (param == "n" or mentions_n(message)):
            return RefusesN(message)
        return PromptRefused(f"{status}: {message}")


def _served(answer: httpx.Response) -> list[dict[str, Any]]:
    try:
        listed = answer.json()["data"] if answer.status_code == 200 else []
    except (ValueError, LookupError, TypeError):
        return []
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _vllm_version(http: httpx.Client) -> str:
    # It is served at the root, beside /v1.
    answer = http.get(str(http.base_url).rstrip("/").removesuffix("/v1") + "/version")
    try:
        return str(answer.json()["version"])
    except (ValueError, LookupError, TypeError):
        return "unknown"


def _message(response: httpx.Response) -> tuple[str, str | None]:
    """What an error says, and which parameter it is about; OpenAI nests it, older vLLM and others do not."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:200], None
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return str(error), None
    param = error.get("param")
    return str(error.get("message") or error.get("detail") or error), param if isinstance(param, str) else None
