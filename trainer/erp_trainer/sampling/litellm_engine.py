"""Any model that LiteLLM can call, so that API models can join a pool.

``n`` and ``seed`` are sent to providers that take them; from the others responses come one by one, with ``seed: null``
on record. What LiteLLM or the provider refuses by name is left out, as everywhere (`wire.parameters`).
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from erp_trainer.pool.litellm_map import offline_litellm
from erp_trainer.pool.pool import PoolModel
from erp_trainer.sampling.base import Engine, Results, SampleRequest
from erp_trainer.sampling.driver import PromptRefused, RefusesN, Unanswerable, drive
from erp_trainer.sampling.pacing import Broken, Busy, RequestPace
from erp_trainer.sampling.server import mentions_n, wrong_key
from erp_trainer.sampling.wire.answer import Completion, NotAnAnswer, read_completion
from erp_trainer.sampling.wire.parameters import Parameters
from litellm_erp.errors import SamplingError

# LiteLLM's providers that are servers of one's own: what they are not told is what the model's files say.
_FILLS_IN = frozenset(
    {"hosted_vllm", "vllm", "ollama", "ollama_chat", "lm_studio", "llamafile", "xinference", "docker_model_runner"}
)
_UNREADABLE = "Invalid response object"


class LiteLLMEngine(Engine):
    """A client of one pool model through ``litellm.acompletion``.

    Parameters
    ----------
    model : its ``model`` is LiteLLM's name, such as ``openai/gpt-4o-mini``

    Raises
    ------
    SettingsError : its key is not in the environment
    SamplingError : LiteLLM knows no provider for the name
    """

    name = "litellm"

    def __init__(self, model: PoolModel, pace: RequestPace | None = None) -> None:
        litellm = offline_litellm()
        litellm.suppress_debug_info = True
        self.version = f"litellm {version('litellm')}"
        self._model = model
        self._pace = pace or RequestPace()
        self._options: dict[str, Any] = {
            "model": model.model,
            "api_base": model.api_base,
            "api_key": model.secret(),
            "timeout": model.timeout_s,
            # Retries are the driver's, which counts them.
            "num_retries": 0,
            "max_retries": 0,
        }
        try:
            name, provider, _, _ = litellm.get_llm_provider(model=model.model, api_base=model.api_base)
        except litellm.exceptions.BadRequestError as e:
            raise SamplingError(
                f"models.{model.name}.model: LiteLLM knows no provider for {model.model!r}; write it as "
                "provider/model, such as openai/gpt-4o-mini"
            ) from e
        supported = litellm.get_supported_openai_params(model=name, custom_llm_provider=provider) or []
        self._takes_n, self._takes_seed = "n" in supported, "seed" in supported
        self._parameters = Parameters(
            states_all=provider in _FILLS_IN, fixed=model.parameters, where=f"models.{model.name}"
        )

    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        return drive(
            lambda: _LiteLLMClient(self._model, self._options, self._parameters, self._takes_n, self._takes_seed),
            requests,
            name=f"{self._model.name}: {self._model.model}",
            timeout_s=self._model.timeout_s,
            pace=self._pace,
        )


def missing_keys(model: PoolModel) -> list[str]:
    """API keys that LiteLLM looks for in the environment and does not find; those that there are other ways for not."""
    missing = offline_litellm().validate_environment(model=model.model).get("missing_keys") or []
    return missing if all(str(name).endswith("_API_KEY") for name in missing) else []


class _LiteLLMClient:
    def __init__(
        self, model: PoolModel, options: dict[str, Any], parameters: Parameters, takes_n: bool, takes_seed: bool
    ) -> None:
        self._litellm = offline_litellm()
        self._model = model
        self._options = options
        self._parameters = parameters
        self._takes_n = takes_n
        self._takes_seed = takes_seed

    async def ask(self, request: SampleRequest, n: int, seed: int) -> Completion:
        if n > 1 and not self._takes_n:
            raise RefusesN(f"{self._model.model} takes no n")
        wanted = seed if self._takes_seed and request.sampling.seed is not None else None
        options = self._options | {"messages": request.messages} | ({"n": n} if n > 1 else {})
        while True:  # every turn sends less than the one before
            sent, adjusted = self._parameters.sent(request.sampling, wanted), dict(self._parameters.adjusted)
            try:
                answer = await self._litellm.acompletion(**options, **sent)
                return read_completion(answer.model_dump(warnings=False), sent.get("seed"), adjusted)
            except NotAnAnswer as e:
                raise Broken(str(e)) from e
            except Exception as e:  # providers raise what they like; LiteLLM's own tree is told apart below
                if not (self._is_refusal(e) and self._parameters.learn(sent, str(e))):
                    raise self._error(e, n) from e

    async def aclose(self) -> None:
        await self._litellm.close_litellm_async_clients()

    def _is_refusal(self, error: Exception) -> bool:
        kinds = self._litellm.exceptions
        return isinstance(error, (kinds.BadRequestError, kinds.UnprocessableEntityError)) and not isinstance(
            error, (kinds.ContextWindowExceededError, kinds.ContentPolicyViolationError)
        )

    def _error(self, error: Exception, n: int) -> Exception:
        kinds = self._litellm.exceptions
        status = getattr(error, "status_code", None)
        where = f"{self._model.name}: {self._model.model}"
        if isinstance(error, (kinds.AuthenticationError, kinds.PermissionDeniedError)):
            return wrong_key(where, self._model, int(status or 401))
        if isinstance(error, kinds.NotFoundError):
            return SamplingError(f"{where} answers 404: {error}. Correct models.{self._model.name}.model or .api_base")
        if isinstance(error, kinds.ContextWindowExceededError):
            return Unanswerable("context", str(error))
        if isinstance(error, kinds.ContentPolicyViolationError):
            return Unanswerable("policy", str(error))
        if isinstance(error, kinds.Timeout):
            return TimeoutError(str(error))
        if isinstance(error, (kinds.RateLimitError, kinds.ServiceUnavailableError)):
            return Busy(str(error))
        if self._is_refusal(error):
            return RefusesN(str(error)) if n > 1 and mentions_n(str(error)) else PromptRefused(str(error))
        if _UNREADABLE in str(error):
            # Content in parts, of a provider that LiteLLM does not expect it from; the next answer would be no other.
            return PromptRefused(
                f"LiteLLM cannot read what {self._model.model} answers. Where the API is OpenAI's protocol, take "
                "engine: server with its api_base"
            )
        return Broken(f"{type(error).__name__}: {error}")
