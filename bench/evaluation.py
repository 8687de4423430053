"""Time and memory from a large outcomes table to its evaluation: import, fit and evaluate, each a process of its own.

Run ``python -m bench.evaluation [--quick]``. The table is made up: ten kinds of prompts with words of their own, models
with a strength per kind, one noisy reward each, half of the prompts for training. Memory is the process's peak.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bench.machine import heading

SIZE, QUICK_SIZE = (200_000, 20), (10_000, 20)
KINDS = 10


def main(quick: bool = False) -> None:
    """Print the table."""
    n_prompts, n_models = QUICK_SIZE if quick else SIZE
    print(heading(f"From {n_prompts:,} prompts × {n_models} models to an evaluation"))
    print(f"{'':<24}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, n_prompts, n_models)
        run, bundle = folder / "run", folder / "bundle"
        prices, table = folder / "prices.yaml", folder / "outcomes.parquet"
        step("import", ["import", table, "--wide", "--prices", prices, "--out", run])
        step("fit", ["fit", run, "--out", bundle])
        step("evaluate --no-rivals", ["evaluate", run, "--bundle", bundle, "--no-rivals"])
        step("evaluate", ["evaluate", run, "--bundle", bundle])


def step(label: str, arguments: list[object]) -> None:
    """Run one command and print what it took."""
    start = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", "from erp_trainer.cli import main; main()", *map(str, arguments)],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{label} failed")
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{label:<24}{cpu:>8.1f}{wall:>8.1f}{usage.ru_maxrss / 1024:>10.0f}", flush=True)


def write(folder: Path, n_prompts: int, n_models: int) -> None:
    """An outcomes table in wide form, and prices."""
    rng = np.random.default_rng(0)
    words = np.array([[f"kind{kind}word{word}" for word in range(200)] for kind in range(KINDS)])
    kinds = rng.integers(0, KINDS, n_prompts)
    drawn = rng.integers(0, 200, (n_prompts, 24))
    prompts = [" ".join(words[kind][row]) for kind, row in zip(kinds, drawn, strict=True)]
    strength = rng.normal(0.5, 0.15, (KINDS, n_models)) + np.linspace(0, 0.2, n_models)
    rewards = strength[kinds] + rng.normal(0, 0.3, (n_prompts, n_models))
    columns = {"prompt_id": np.arange(n_prompts).astype(str), "prompt": prompts, "category": kinds.astype(str)}
    columns |= {f"model-{m:02d}": rewards[:, m] for m in range(n_models)}
    pq.write_table(pa.table(columns), folder / "outcomes.parquet")
    prices = {f"model-{m:02d}": {"input_usd_per_mtok": 0.1 * (m + 1), "output_usd_per_mtok": 0.3 * (m + 1)}
              for m in range(n_models)}  # fmt: skip
    (folder / "prices.yaml").write_text(yaml.safe_dump(prices), encoding="utf-8")


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
