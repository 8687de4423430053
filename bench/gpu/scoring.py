"""Reward models: `rewards.local` and its kinds beside padded batches as they come, in bfloat16 and in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.gpu.measuring import Emit, Memory, Setting, gigabytes, growing, speed
from bench.gpu.texts import Writer, batches
from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Pair
from erp_trainer.rewards.local import LocalModel, chat_text
from erp_trainer.rewards.registry import load_reward_model

BATCH = 32
# Room for special tokens and the template in a pair that is to fill the context.
_AROUND = 24
_LEAST_ROWS = 16  # of a full batch, so that a quarter of its memory is enough for a smaller one
_SHARE_OF_FREE = 0.8  # that a batch may take, as the product has it
Encode = Callable[[LocalModel, Sequence[Pair]], Any]


@dataclass
class Scoring:
    """One reward model, measured in turn; every figure is told as soon as it is there.

    Attributes
    ----------
    encode : pairs to tensors, as the plain loop does it
    """

    part: str
    kind: str
    options: dict[str, Any]
    encode: Encode
    setting: Setting
    emit: Emit

    def run(self) -> None:
        """Ours, the plain loop, a full batch, out of memory, and float32."""
        memory = Memory(self.setting.device)
        pairs = Writer().pairs(64 if self.setting.tiny else 16_384)
        compared = pairs[: 16 if self.setting.tiny else 256]
        model = self._load("bfloat16", memory)
        self._ours(model, pairs, compared, memory)
        self._plain(model, pairs, compared, memory)
        self._full_batch(model, memory)
        short = _rewards(model, compared)
        model.close()
        del model
        model = self._load("float32", memory)
        self._compare(short, _rewards(model, compared))
        self._ours(model, pairs, compared, memory)
        model.close()

    def _load(self, dtype: str, memory: Memory) -> LocalModel:
        memory.begin()
        model = load_reward_model(RewardSpec(self.kind, self.part, 1.0, {**self.options, "dtype": dtype}))
        assert isinstance(model, LocalModel)
        _ = model.model
        return model

    def _ours(self, model: LocalModel, pairs: Sequence[Pair], compared: Sequence[Pair], memory: Memory) -> None:
        memory.begin()
        timed = growing(lambda n: _rewards(model, pairs[:n]), len(compared), len(pairs), self.setting.seconds)
        rows, _ = model.rows(pairs[: timed.count])
        tokens = sum(len(row["input_ids"]) for row in rows)
        self._tell("ours", model, timed, tokens, memory, batch_tokens=model._batcher.max_tokens)

    def _plain(self, model: LocalModel, pairs: Sequence[Pair], compared: Sequence[Pair], memory: Memory) -> None:
        memory.begin()
        timed = growing(lambda n: self._loop(model, pairs[:n]), len(compared), len(pairs), self.setting.seconds)
        rows, _ = model.rows(pairs[: timed.count])
        tokens = sum(len(row["input_ids"]) for row in rows)
        self._tell(f"plain loop, {BATCH} at a time", model, timed, tokens, memory)
        _, cut = model.rows(compared)
        difference = np.abs(np.array(_rewards(model, compared)) - self._loop(model, compared))[~np.array(cut)]
        self._fact("the same rewards as the plain loop", largest_difference=float(difference.max()))

    def _tell(self, way: str, model: LocalModel, timed: Any, tokens: int, memory: Memory, **rest: Any) -> None:
        row = speed(self.part, f"{way}, {model.dtype}", timed, "pairs", tokens, **rest)
        self.emit(row | {"memory_gb": gigabytes(memory.peak)})

    @torch.inference_mode()
    def _loop(self, model: LocalModel, pairs: Sequence[Pair]) -> list[float]:
        rewards: list[float] = []
        for part in batches(pairs, BATCH):
            tensors = self.encode(model, pairs[part]).to(model.device)
            rewards += model.model(**tensors).logits.float().flatten().tolist()
        return rewards

    def _full_batch(self, model: LocalModel, memory: Memory) -> None:
        """Long pairs, as many as one batch takes: what the estimate is for; then with a quarter of their memory."""
        batcher, held, free = model._batcher, memory.held, memory.free
        budget = batcher.max_tokens
        length = min(model.context, max(budget // _LEAST_ROWS, 2 * _AROUND))
        pairs = Writer(1).long_pairs(budget // length, length - _AROUND)
        width = max(len(row["input_ids"]) for row in model.rows(pairs)[0])
        memory.begin()
        expected = _rewards(model, pairs)
        tokens = min(batcher.max_tokens // width, len(pairs)) * width
        used = None if memory.peak is None or held is None else memory.peak - held
        self._fact(
            "memory of a full batch",
            tokens=tokens,
            rows=tokens // width,
            estimated_gb=None if free is None else gigabytes(_SHARE_OF_FREE * free * tokens / budget),
            measured_gb=gigabytes(used),
            halvings=batcher.shrunk,
        )
        budget, before = batcher.max_tokens, batcher.shrunk
        with memory.scarce((used or 0) // 4, model.model, tokens // 3):
            found = _rewards(model, pairs)
        self._fact(
            "out of memory, survived" if memory.known else "out of memory, planted, survived",
            halvings=batcher.shrunk - before,
            batch_tokens_before=budget,
            batch_tokens_after=batcher.max_tokens,
            largest_difference=float(np.abs(np.subtract(found, expected)).max()),
        )

    def _compare(self, short: list[float], exact: list[float]) -> None:
        self._fact(
            "bfloat16 against float32",
            pairs=len(exact),
            largest_difference=float(np.abs(np.subtract(short, exact)).max()),
            spread_of_rewards=float(np.std(exact)),
            correlation=float(np.corrcoef(short, exact)[0, 1]),
        )

    def _fact(self, fact: str, **figures: Any) -> None:
        self.emit({"part": self.part, "fact": fact, **figures})


def _rewards(model: LocalModel, pairs: Sequence[Pair]) -> list[float]:
    return [scored.reward for scored in model.score(pairs, lambda n: None)]


def as_pairs(model: LocalModel, pairs: Sequence[Pair]) -> Any:
    """Two texts, cut at the end."""
    prompts, responses = [str(pair.prompt) for pair in pairs], [pair.response for pair in pairs]
    return model.tokenizer(
        prompts, responses, padding=True, truncation=True, max_length=model.context, return_tensors="pt"
    )


def as_chats(model: LocalModel, pairs: Sequence[Pair]) -> Any:
    """The chat template's text, cut at the end."""
    encoded = model.tokenizer(
        [_chat(model, pair) for pair in pairs], padding=True, truncation=True, max_length=model.context,
        add_special_tokens=False, return_tensors="pt",
    )  # fmt: skip
    encoded.pop("token_type_ids", None)
    return encoded


def as_internlm(model: LocalModel, pairs: Sequence[Pair]) -> Any:
    """The chat, then the reward token; padded on the left."""
    from transformers import BatchEncoding

    ids = [model.tokenizer(_chat(model, pair), add_special_tokens=False)["input_ids"] for pair in pairs]
    ids = [[*row[-(model.context - 1) :], model.config.reward_token_id] for row in ids]
    width = max(map(len, ids))
    padded = [[0] * (width - len(row)) + row for row in ids]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    return BatchEncoding({"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)})


def _chat(model: LocalModel, pair: Pair) -> str:
    messages = [{"role": "user", "content": str(pair.prompt)}, {"role": "assistant", "content": pair.response}]
    return chat_text(model.tokenizer, messages)
