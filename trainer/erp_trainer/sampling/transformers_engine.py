"""transformers: the engine that needs nothing else. Slower than vLLM, for small pools and for machines without it.

Invariant: what a prompt is answered is decided by its own seed, not by what is in the same batch (up to rounding).
``generate`` draws all rows of a batch from one generator, so the drawing is done here, by the Gumbel-max trick:
argmax(log p + g) with independent standard Gumbel g is a draw from p.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from erp_trainer.pool.pool import PoolModel, StatedSampling
from erp_trainer.prompts.conversation import plain_messages
from erp_trainer.sampling.base import Engine, Response, Results, SampleRequest, too_long
from erp_trainer.sampling.memory import is_out_of_memory
from erp_trainer.sampling.vllm_worker import prompt_tokens
from litellm_erp.errors import SamplingError
from litellm_erp.shown import one_line

# Prompts that are read ahead, to batch those of the same length.
_BUCKET = 256
_CPU_TOKENS, _GPU_TOKENS = 16_384, 262_144


@dataclass(frozen=True, slots=True)
class _Encoded:
    request: SampleRequest
    tokens: list[int]


class TransformersEngine(Engine):
    """One pool model in this process, on a GPU if there is one.

    Raises
    ------
    SamplingError : torch or transformers is missing, or they cannot load the model
    """

    name = "transformers"

    def __init__(self, model: PoolModel) -> None:
        try:
            import torch
            import transformers
        except ModuleNotFoundError as e:
            raise SamplingError(
                f"{model.name}: {e.name} is not installed; engine transformers needs it. Run: pip install "
                '"litellm-erp[transformer]"'
            ) from e
        self._torch = torch
        self._model = model
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        options: dict[str, Any] = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model.weights, **options)
            self._lm = transformers.AutoModelForCausalLM.from_pretrained(model.weights, dtype=dtype, **options)
            self._lm.to(self._device).eval()
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as e:
            raise SamplingError(
                f"{model.name}: transformers cannot load {model.model!r}: {one_line(e)}. Correct "
                f"models.{model.name}.model"
            ) from e
        config = self._lm.config.get_text_config()
        self._context = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        self._eos = _eos_tokens(self._lm, self._tokenizer)
        # The model's own may hold a top_k or a penalty, which `generate` merges in; a record's parameters are all
        # there is.
        self._lm.generation_config = transformers.GenerationConfig()
        self._batch_tokens = _GPU_TOKENS if self._device == "cuda" else _CPU_TOKENS

    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        remaining = iter(requests)
        while bucket := list(itertools.islice(remaining, _BUCKET)):
            encoded = []
            for request in bucket:
                tokens = prompt_tokens(self._tokenizer, plain_messages(request.messages))
                if len(tokens) >= self._context:
                    yield request, too_long(len(tokens), self._context)
                else:
                    encoded.append(_Encoded(request, tokens))
            encoded.sort(key=lambda item: len(item.tokens), reverse=True)
            yield from self._batches(encoded)

    def close(self) -> None:
        self._lm = self._tokenizer = None
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def _batches(self, encoded: Sequence[_Encoded]) -> Results:
        """From the longest to the shortest, so that a batch size that fits once goes on fitting."""
        done = 0
        while done < len(encoded):
            first = encoded[done]
            rows = self._batch_tokens // (len(first.tokens) + self._room(first))
            fits = self._room(first) == first.request.sampling.stated().max_tokens
            batch = encoded[done : done + (max(1, rows // first.request.n) if fits else 1)]
            a_prompt = first.request.n * (len(first.tokens) + self._room(first))
            retry = partial(self._out_of_memory, tokens_of_a_prompt=a_prompt)
            for results in shrinking(batch, self._generate, retry):
                yield from results
            done += len(batch)

    def _room(self, item: _Encoded) -> int:
        return min(item.request.sampling.stated().max_tokens, self._context - len(item.tokens))

    def _out_of_memory(self, error: Exception, prompts: int, *, tokens_of_a_prompt: int) -> bool:
        """Whether fewer prompts at once may help; from now on batches are half of what did not fit."""
        if not is_out_of_memory(error):
            return False
        if prompts == 1:
            raise SamplingError(
                f"{self._model.name}: out of memory with the responses to one prompt. Lower sampling.k or max_tokens"
            ) from error
        # Not half of what it was: both halves of a batch may fail, and each of theirs, and so on.
        self._batch_tokens = min(self._batch_tokens, prompts // 2 * tokens_of_a_prompt)
        if self._device == "cuda":
            self._torch.cuda.empty_cache()
        return True

    def _generate(self, batch: Sequence[_Encoded]) -> list[tuple[SampleRequest, list[Response]]]:
        torch, sampling, n = self._torch, batch[0].request.sampling.stated(), batch[0].request.n
        width = max(len(item.tokens) for item in batch)
        pad = self._eos[0] if self._eos else 0
        ids = torch.full((len(batch), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, width - len(item.tokens) :] = torch.tensor(item.tokens)
            mask[row, width - len(item.tokens) :] = 1
        generators = [torch.Generator(self._device).manual_seed(item.request.seed) for item in batch]
        with torch.inference_mode():
            output = self._lm.generate(
                input_ids=ids.repeat_interleave(n, dim=0).to(self._device),
                attention_mask=mask.repeat_interleave(n, dim=0).to(self._device),
                generation_config=self._generation_config(self._room(batch[0]), pad),
                logits_processor=[_Draw(torch, generators, n, sampling)],
            )
        answers = output[:, width:].tolist()
        return [
            (item.request, [self._response(item, tokens) for tokens in answers[row * n : (row + 1) * n]])
            for row, item in enumerate(batch)
        ]

    def _generation_config(self, max_tokens: int, pad: int) -> Any:
        from transformers import GenerationConfig

        return GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, eos_token_id=self._eos or None, pad_token_id=pad
        )

    def _response(self, item: _Encoded, tokens: list[int]) -> Response:
        ends = [place for place, token in enumerate(tokens) if token in self._eos]
        count = ends[0] + 1 if ends else len(tokens)
        text = self._tokenizer.decode(tokens[:count], skip_special_tokens=True)
        return Response(text, "stop" if ends else "length", len(item.tokens), count, item.request.seed)


class _Draw:
    """A logits processor after which the largest logit is a draw: temperature, top-p, Gumbel noise.

    Rows of one prompt share a generator; rows are in prompt order, ``n`` to a prompt.
    """

    def __init__(self, torch: Any, generators: Sequence[Any], n: int, sampling: StatedSampling) -> None:
        self._torch = torch
        self._generators = generators
        self._n = n
        self._sampling = sampling

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self._sampling.temperature == 0:
            return scores
        scores = scores.float() / self._sampling.temperature
        if self._sampling.top_p < 1:
            scores = nucleus(self._torch, scores, self._sampling.top_p)
        noise = self._torch.empty_like(scores)
        for prompt, generator in enumerate(self._generators):
            noise[prompt * self._n : (prompt + 1) * self._n].exponential_(generator=generator)
        # -log of a standard exponential is a standard Gumbel.
        return scores - noise.log_()


def nucleus(torch: Any, scores: Any, top_p: float) -> Any:
    """Minus infinity outside the smallest set of tokens whose probabilities reach ``top_p``; shape (rows, tokens)."""
    ordered, order = scores.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
    return torch.full_like(scores, float("-inf")).scatter(
        -1, order, ordered.masked_fill(before >= top_p, float("-inf"))
    )


def shrinking(
    items: Sequence[Any], run: Callable[[Sequence[Any]], Any], retry: Callable[[Exception, int], bool]
) -> Generator[Any, None, None]:
    """``run(items)``, or the same in halves where it raises something that ``retry`` says smaller batches may cure.

    Parameters
    ----------
    retry : of the error and the number of items
    """
    try:
        result = run(items)
    except Exception as e:
        if not retry(e, len(items)):
            raise
    else:
        yield result
        return
    half = len(items) // 2
    yield from shrinking(items[:half], run, retry)
    yield from shrinking(items[half:], run, retry)


def _eos_tokens(lm: Any, tokenizer: Any) -> list[int]:
    stated = [getattr(lm.generation_config, "eos_token_id", None), tokenizer.eos_token_id]
    tokens = [token for entry in stated for token in (entry if isinstance(entry, list) else [entry])]
    return list(dict.fromkeys(token for token in tokens if token is not None))
