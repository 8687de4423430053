"""The engine `transformers` beside ``generate`` on a few prompts at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.gpu.measuring import Emit, Memory, Setting, Timed, gigabytes, growing, speed
from bench.gpu.texts import K, Writer, batches
from erp_trainer.pool.pool import PoolModel, Sampling
from erp_trainer.sampling.base import SampleRequest
from erp_trainer.sampling.transformers_engine import TransformersEngine

BATCH = 8  # prompts of the plain loop, with K responses each
# A round lasts as long as its longest response, with many prompts little longer than with a few.
_PATIENCE, _LONGER = 6, 1.6
_WORDS = 1000  # of a prompt


class Decoder:
    """One decoder, measured in turn."""

    def __init__(self, part: str, folder: Path, setting: Setting, emit: Emit) -> None:
        self._part, self._setting, self._emit = part, setting, emit
        self._memory = Memory(setting.device)
        self._sampling = Sampling(k=K, max_tokens=8 if setting.tiny else 128)
        self._most = 32 if setting.tiny else 512
        self._engine = TransformersEngine(PoolModel("decoder", str(folder), self._sampling, "transformers"))
        texts = Writer().texts(self._most, 64 if setting.tiny else _WORDS)
        self._messages = [[{"role": "user", "content": text}] for text in texts]

    def run(self) -> None:
        """Ours, the plain loop, and out of memory."""
        weights = self._memory.held
        found, peak = self._ours()
        self._plain()
        self._out_of_memory(found, None if peak is None or weights is None else peak - weights)
        self._engine.close()

    def _ours(self) -> tuple[Timed, int | None]:
        self._memory.begin()
        timed = growing(self._sample, 4 * K, self._most, _PATIENCE * self._setting.seconds, longer=_LONGER)
        peak = self._memory.peak
        self._tell("ours", timed, timed.result, batch_tokens=self._engine._batch_tokens)
        if (estimate := self._estimate(timed.count)) is not None:
            figures = {"estimated_gb": gigabytes(estimate), "measured_gb": gigabytes(peak)}
            self._emit({"part": self._part, "fact": "memory with weights, keys and values", **figures})
        return timed, peak

    def _plain(self) -> None:
        self._memory.begin()
        timed = growing(self._loop, BATCH, self._most, 2 * self._setting.seconds, factor=2)
        self._tell(f"plain loop, {BATCH} prompts at a time", timed, timed.result)

    def _tell(self, way: str, timed: Timed, tokens: int, **rest: Any) -> None:
        row = speed(self._part, f"{way}, K = {K}", timed, "prompts", tokens, **rest)
        self._emit(row | {"memory_gb": gigabytes(self._memory.peak)})

    def _estimate(self, prompts: int) -> int | None:
        """Weights, and keys and values of every token of the largest batch."""
        if self._memory.held is None:
            return None
        config = self._engine._lm.config.get_text_config()
        a_token = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        longest = max(len(str(messages[0]["content"]).split()) for messages in self._messages[:prompts])
        tokens = min(prompts * K * (longest + self._sampling.max_tokens), self._engine._batch_tokens)
        return self._memory.held + tokens * a_token

    def _out_of_memory(self, found: Timed, used: int | None) -> None:
        """As many prompts, with a quarter of the memory that they took."""
        count = min(found.count, 64)
        if used is not None:
            self._memory.begin()
            held = self._memory.held or 0
            self._sample(count)
            used = (self._memory.peak or 0) - held
        before = self._engine._batch_tokens
        with self._memory.scarce((used or 0) // 4, self._engine._lm, 512):
            tokens = self._sample(count)
        self._emit({
            "part": self._part,
            "fact": "out of memory, survived" if self._memory.known else "out of memory, planted, survived",
            "prompts": count, "tokens": tokens, "batch_tokens_before": before,
            "batch_tokens_after": self._engine._batch_tokens,
        })  # fmt: skip

    def _sample(self, count: int) -> int:
        """Output tokens of so many prompts; every one of them must be answered."""
        requests = [
            SampleRequest(f"p{i}", messages, K, self._sampling) for i, messages in enumerate(self._messages[:count])
        ]
        tokens = 0
        for request, result in self._engine.sample(requests):
            assert isinstance(result, list), f"{request.prompt_id}: {result}"
            assert len(result) == K, f"{request.prompt_id}: {len(result)} responses"
            tokens += sum(response.output_tokens or 0 for response in result)
        return tokens

    @torch.inference_mode()
    def _loop(self, count: int) -> int:
        from transformers import GenerationConfig

        engine, tokens = self._engine, 0
        lm, tokenizer = engine._lm, engine._tokenizer
        tokenizer.padding_side = "left"
        asked = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=K,
            max_new_tokens=self._sampling.max_tokens, pad_token_id=0, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        for part in batches(self._messages[:count], BATCH):
            encoded = tokenizer(_rendered(tokenizer, self._messages[part]), padding=True, return_tensors="pt")
            ids, mask = encoded["input_ids"].to(lm.device), encoded["attention_mask"].to(lm.device)
            output = lm.generate(input_ids=ids, attention_mask=mask, generation_config=asked)
            tokens += int((output[:, ids.shape[1] :] != 0).sum())
        return tokens


def _rendered(tokenizer: Any, conversations: Sequence[Any]) -> list[str]:
    return [tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in conversations]
