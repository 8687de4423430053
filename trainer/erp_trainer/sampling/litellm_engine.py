"""Any model that LiteLLM can call, so that API models can join a pool.

``n`` and ``seed`` are sent to providers that take them; from the others responses come one by one, with ``seed: null``
on record.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from erp_trainer.pool.litellm_map import offline_litellm
from erp_trainer.pool.pool import PoolModel
from erp_trainer.sampling.base import Engine, Results, SampleRequest
from erp_trainer.sampling.driver import Choice, Completion, PromptRefused, RefusesN, Unanswerable, drive
from erp_trainer.sampling.pacing import Broken, Busy, RequestPace
from erp_trainer.sampling.server import mentions_n, wrong_key
from litellm_erp.errors import SamplingError


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

    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        return drive(
            lambda: _LiteLLMClient(self._model, self._options, self._takes_n, self._takes_seed),
            requests,
            name=f"{self._model.name}: {self._model.model}",
            timeout_s=self._model.timeout_s,
            pace=self._pace,
        )


class _LiteLLMClient:
    def __init__(self, model: PoolModel, options: dict[str, Any], takes_n: bool, takes_seed: bool) -> None:
        self._litellm = offline_litellm()
        self._model = model
        self._options = options
        self._takes_n = takes_n
        self._takes_seed = takes_seed

    async def ask(self, request: SampleRequest, n: int, seed: int) -> Completion:
        if n > 1 and not self._takes_n:
            raise RefusesN(f"{self._model.model} takes no n")
        sampling = request.sampling
        options = self._options | {
            "messages": request.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if n > 1:
            options["n"] = n
        if self._takes_seed:
            options["seed"] = seed
        try:
            answer = await self._litellm.acompletion(**options)
        except Exception as e:  # providers raise what they like; LiteLLM's own tree is told apart below
            raise self._error(e, n) from e
        return _answer(answer, seed if self._takes_seed else None)

    async def aclose(self) -> None:
        await self._litellm.close_litellm_async_clients()

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
        if isinstance(error, kinds.BadRequestError):  # unsupported parameters, too
            return RefusesN(str(error)) if n > 1 and mentions_n(str(error)) else PromptRefused(str(error))
        return Broken(f"{type(error).__name__}: {error}")


def _answer(answer: Any, seed: int | None) -> Completion:
    usage = getattr(answer, "usage", None)
    choices = [
        Choice(choice.message.content or "", str(choice.finish_reason or "unknown"))
        for choice in sorted(answer.choices, key=lambda choice: choice.index)
    ]
    if not choices:
        raise Broken("the answer has no choices")
    return Completion(
        choices, getattr(usage, "prompt_tokens", None) or None, getattr(usage, "completion_tokens", None), seed
    )
