"""IO. Sampling by Ray Data's vLLM processor on a cluster.

One row is one sample: the processor keeps only the first of a request's ``n`` outputs. The samples of a prompt share
their prefill through vLLM's prefix cache, and have seeds of their own, as where a server answers one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from erp_trainer.pool.pool import PoolModel
from erp_trainer.pool.ray import connect
from erp_trainer.prompts.conversation import plain_messages
from erp_trainer.sampling.base import Engine, Failure, Response, Results, SampleRequest, too_long
from erp_trainer.sampling.vllm_worker import prompt_tokens
from litellm_erp.errors import SamplingError, SettingsError
from litellm_erp.shown import one_line

# Sequences that a task of the processor takes; a prompt is recorded when its task is done.
_SEQUENCES_PER_BLOCK = 64
_MOST_BLOCKS = 4096
_ERROR = "__inference_error__"
_TOO_LONG = "erp: too long"


class RayEngine(Engine):
    """A pool model in the vLLM processor, on as many replicas as the settings say.

    Raises
    ------
    SettingsError : no cluster, or no vLLM beside Ray
    SamplingError : the model cannot be loaded
    """

    name = "ray"

    def __init__(self, model: PoolModel) -> None:
        self._model = model
        self._ray = connect(model.ray)
        try:
            import vllm
            from ray.data.llm import vLLMEngineProcessorConfig
        except ImportError as e:
            raise SettingsError(
                f"--engine ray needs vLLM and ray[data] in the driver's environment too ({e.name or e} is missing)"
            ) from e
        self.version = f"vllm {vllm.__version__}, ray {self._ray.__version__}"
        self._context = _context(model)
        self._config = vLLMEngineProcessorConfig(**_processor(model))

    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        asked = list(requests)
        arriving = _Arriving(asked, self._context)
        try:
            for row in self._rows(asked):
                yield from arriving.take(row)
        except self._ray.exceptions.RayError as e:
            raise SamplingError(f"{self._model.name}: the work on Ray ended: {one_line(e)}") from e
        yield from arriving.left()

    def _rows(self, asked: list[SampleRequest]) -> Iterator[dict[str, Any]]:
        from ray.data.llm import build_processor

        items = [_item(number, request) for number, request in enumerate(asked)]
        per_block = max(1, _SEQUENCES_PER_BLOCK // max(request.n for request in asked))
        blocks = min(_MOST_BLOCKS, -(-len(items) // per_block))
        model, context = _Source.of(self._model), self._context
        self._ray.data.DataContext.get_current().enable_progress_bars = False
        rows = self._ray.data.from_items(items, override_num_blocks=blocks)
        rows = rows.flat_map(lambda item: _expand(item, model, context))
        processor = build_processor(self._config, preprocess=lambda row: {}, postprocess=_kept)
        yield from processor(rows).iter_rows()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a tokenizer is; hashable, so that a worker loads it once."""

    model: str
    revision: str | None
    trust_remote_code: bool

    @classmethod
    def of(cls, model: PoolModel) -> _Source:
        return cls(model.weights, model.revision, model.trust_remote_code)

    def options(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


def _processor(model: PoolModel) -> dict[str, Any]:
    settings = model.ray
    off = {"enabled": False}
    return {
        "model_source": model.weights,
        "engine_kwargs": {
            "revision": model.revision,
            "trust_remote_code": model.trust_remote_code,
            "enable_prefix_caching": True,
            **settings.engine,
        },
        "concurrency": settings.workers,
        "batch_size": _SEQUENCES_PER_BLOCK,
        # Prompts come as tokens, made as for vLLM in process; vLLM detokenizes.
        "chat_template_stage": off,
        "tokenize_stage": off,
        "detokenize_stage": off,
        "should_continue_on_error": True,
        # Needs a metrics port that not every cluster opens.
        "log_engine_metrics": False,
        "placement_group_config": {"bundles": [dict(b) for b in settings.bundles]} if settings.bundles else None,
    }


def _context(model: PoolModel) -> int:
    stated = model.ray.engine.get("max_model_len")
    if stated is not None:
        return int(stated)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model.weights, **_Source.of(model).options())
        return int(config.get_text_config().max_position_embeddings)
    except (OSError, ValueError, AttributeError) as e:
        raise SamplingError(
            f"{model.name}: the configuration of {model.model!r} cannot be read ({one_line(e)}). "
            f"Correct models.{model.name}.model, or state ray.engine.max_model_len"
        ) from e


def _item(number: int, request: SampleRequest) -> dict[str, Any]:
    sampling = request.sampling.stated()
    return {
        "number": number,
        # As text: Arrow would make one type of all messages.
        "messages": json.dumps(plain_messages(request.messages)),
        "seeds": [request.seed_of(sample) for sample in range(request.n)],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }


def _expand(item: dict[str, Any], source: _Source, context: int) -> list[dict[str, Any]]:
    """On a worker: a prompt's samples as rows, or one row that the processor passes by."""
    tokens = prompt_tokens(_tokenizer(source), json.loads(item["messages"]))
    long = len(tokens) >= context
    limit = min(item["max_tokens"], max(1, context - len(tokens)))
    return [
        {
            "number": item["number"],
            "sample": sample,
            "input_tokens": len(tokens),
            "limit": limit,
            "tokenized_prompt": [] if long else tokens,
            "sampling_params": {
                "seed": seed,
                "temperature": item["temperature"],
                "top_p": item["top_p"],
                "max_tokens": limit,
            },
            _ERROR: _TOO_LONG if long else "",
        }
        for sample, seed in enumerate(item["seeds"][:1] if long else item["seeds"])
    ]


@lru_cache(maxsize=4)
def _tokenizer(source: _Source) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source.model, **source.options())


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": row["number"],
        "sample": row["sample"],
        "input_tokens": row["input_tokens"],
        "limit": row["limit"],
        "text": row["generated_text"],
        "output_tokens": row["num_generated_tokens"],
    }


class _Arriving:
    """Rows put together to prompts again."""

    def __init__(self, asked: list[SampleRequest], context: int) -> None:
        self._asked = asked
        self._context = context
        self._waiting = set(range(len(asked)))
        self._responses: dict[int, dict[int, Response]] = {}

    def take(self, row: dict[str, Any]) -> Results:
        number = int(row["number"])
        if number not in self._waiting:
            return
        request = self._asked[number]
        error = row.get(_ERROR) or ""
        if error == _TOO_LONG:
            self._waiting.discard(number)
            yield request, too_long(int(row["input_tokens"]), self._context)
        elif error:
            self._waiting.discard(number)
            yield request, Failure(f"refused: {one_line(error)}")
        else:
            found = self._responses.setdefault(number, {})
            found[int(row["sample"])] = _response(request, row)
            if len(found) == request.n:
                self._waiting.discard(number)
                del self._responses[number]
                yield request, [found[sample] for sample in range(request.n)]

    def left(self) -> Results:
        """What never came."""
        for number in sorted(self._waiting):
            yield self._asked[number], Failure("Ray returned fewer rows than it was given")


def _response(request: SampleRequest, row: dict[str, Any]) -> Response:
    # The processor does not pass vLLM's reason on; a response that used up its tokens was cut.
    finish = "length" if int(row["output_tokens"]) >= int(row["limit"]) else "stop"
    seed = request.seed_of(int(row["sample"]))
    return Response(str(row["text"]), finish, int(row["input_tokens"]), int(row["output_tokens"]), seed)
