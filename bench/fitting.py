"""Time and memory of a fit: the probes at a fixed penalty, and everything chosen as ``--preset best`` does.

Run ``python -m bench.fitting [--quick]``. Each row is a process of its own. Memory is the peak above what the process
held once the inputs were made (float32 embeddings and rewards, one price per model). "off Ridge" is the largest
difference of a coefficient or intercept from scikit-learn's Ridge in float64 at the same penalty.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge

from bench.machine import heading
from erp_trainer.learning.ridge import assign_folds, cross_fit
from erp_trainer.learning.training_table import TrainingTable
from erp_trainer.policies.erp import fit_erp

SIZES = ((5, 4_000, 1_024), (100, 200_000, 256))
QUICK_SIZES = ((5, 4_000, 1_024), (20, 20_000, 256))
BETA = 20.0


def main(quick: bool = False) -> None:
    """Print the table."""
    print(
        heading(
            "Fitting from arrays in memory",
            f"probes: at β = {BETA:g}, from moments per fold, as every fit does first",
            f"paper: `--preset paper --beta {BETA:g}`: also out-of-fold R², standard errors, frontier, verdict",
            "best: `--preset best`: everything chosen out of fold",
        )
    )
    print(
        f"{'models':>6} {'prompts':>8} {'dims':>5}  {'':7}{'CPU s':>8}{'wall s':>8}{'memory MiB':>12}{'off Ridge':>11}"
    )
    for size in QUICK_SIZES if quick else SIZES:
        for way in WAYS:
            command = [sys.executable, "-m", "bench.fitting", *map(str, size), way]
            print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, end="", flush=True)


def probes(table: TrainingTable) -> str:
    """Fit probes only; the check against Ridge is made outside of the clock."""
    folds = assign_folds(table.groups_P, 0)
    return cross_fit(table.embeddings_PD, table.rewards_PM, folds, table.models).probes(BETA)


WAYS = {
    "probes": probes,
    "paper": lambda table: fit_erp(table, preset="paper", beta=BETA),
    "best": lambda table: fit_erp(table, preset="best"),
}


def measure(n_models: int, n_prompts: int, dimension: int, way: str) -> None:
    """Print one row."""
    table = synthetic(n_models, n_prompts, dimension)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held = _status_mib("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = WAYS[way](table)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = _status_mib("VmHWM") - held
    off = ""
    if way == "probes":
        reference = Ridge(alpha=BETA).fit(table.embeddings_PD.astype(np.float64), table.rewards_PM)
        off = f"{max(np.abs(fitted[0].T - reference.coef_).max(), np.abs(fitted[1] - reference.intercept_).max()):.0e}"
    print(f"{n_models:6} {n_prompts:8} {dimension:5}  {way:7}{cpu:8.2f}{wall:8.2f}{memory:12.0f}{off:>11}")


def synthetic(n_models: int, n_prompts: int, dimension: int) -> TrainingTable:
    """Rewards that a linear probe can partly predict; a dearer model is better on average."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((n_prompts, dimension), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    rewards = embeddings @ rng.standard_normal((dimension, n_models), dtype=np.float32)
    rewards += np.linspace(0, 0.2, n_models, dtype=np.float32)
    rewards += 0.5 * rng.standard_normal(rewards.shape, dtype=np.float32)
    cost = np.broadcast_to(np.geomspace(1e-4, 1e-2, n_models), rewards.shape)
    names = tuple(f"model-{m:03d}" for m in range(n_models))
    return TrainingTable(names, embeddings, rewards, cost, cost, np.arange(n_prompts), np.full(n_prompts, ""))


def _status_mib(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(*map(int, sys.argv[1:4]), sys.argv[4])
    else:
        main(quick="--quick" in sys.argv)
