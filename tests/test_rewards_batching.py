"""Batches that fill memory, and shrink when it runs out."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.batching import TokenBatcher
from erp_trainer.rewards.kinds.text_pair import TextPair
from erp_trainer.rewards.local import Row
from litellm_erp.errors import RewardError
from tests import reward_models
from tests.reward_models import PAIRS, spec


class SmallDevice(TextPair):
    """Runs out of memory over ``rows`` rows, as CUDA does, or as torch's CPU allocator does."""

    def __init__(self, spec: RewardSpec, rows: int, error: Exception) -> None:
        super().__init__(spec)
        self.rows_that_fit, self.error = rows, error
        self.batches: list[int] = []

    def forward(self, rows: Sequence[Row]) -> list[float]:
        self.batches.append(len(rows))
        if len(rows) > self.rows_that_fit:
            raise self.error
        return super().forward(rows)


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried 1 byte")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_models.openassistant(tmp_path_factory.mktemp("rm"))


@pytest.mark.parametrize("error", [CUDA, CPU])
def test_running_out_of_memory_halves_batches_and_changes_no_reward(folder: Path, error: Exception) -> None:
    small = SmallDevice(spec("text-pair", model=str(folder), max_tokens_per_batch=100_000), 3, error)
    progress: list[int] = []
    one_by_one = TextPair(spec("text-pair", model=str(folder), max_tokens_per_batch=1))
    found = [s.reward for s in small.score(PAIRS, progress.append)]
    assert found == pytest.approx([s.reward for s in one_by_one.score(PAIRS, lambda n: None)], abs=1e-5)
    assert small.batches[:3] == [15, 7, 3]
    assert sum(progress) == len(PAIRS)


def test_the_smaller_batch_is_remembered(folder: Path) -> None:
    small = SmallDevice(spec("text-pair", model=str(folder), max_tokens_per_batch=100_000), 3, CUDA)
    small.score(PAIRS, lambda n: None)
    small.batches.clear()
    small.score(PAIRS, lambda n: None)
    assert max(small.batches) <= 3


def test_one_input_that_does_not_fit_is_an_error_that_says_what_to_do(folder: Path) -> None:
    small = SmallDevice(spec("text-pair", model=str(folder)), 0, CUDA)
    with pytest.raises(RewardError, match=r"one input of \d+ tokens does not fit into memory .* Lower max_tokens"):
        small.score(PAIRS, lambda n: None)


def test_other_errors_are_not_taken_for_a_lack_of_memory(folder: Path) -> None:
    small = SmallDevice(spec("text-pair", model=str(folder)), 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        small.score(PAIRS, lambda n: None)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_every_input_is_run_once_in_batches_of_like_length_within_the_budget(lengths: list[int], budget: int) -> None:
    batches: list[list[int]] = []

    def forward(rows: list[int]) -> list[float]:
        batches.append(rows)
        return [float(i) for i in rows]

    assert TokenBatcher(budget).run(lengths, forward, lambda n: None) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= budget for rows in batches)
    longest = [lengths[i] for rows in batches for i in rows]
    assert longest == sorted(longest, reverse=True)
