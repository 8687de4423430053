"""Time and memory of loading a bundle of 500 models, each load in a fresh process.

Memory is what the process's resident set grows by (VmRSS), with LiteLLM's dependencies imported and the embedder
loaded before; reading it after a collection of garbage.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.machine import heading, spread
from bench.synthetic import write_bundle

POOLS = (5, 50, 500)

_CHILD = """
import gc, json, sys, time, tracemalloc
from litellm_erp.bundle.load import load_bundle
from litellm_erp.embedding.static import StaticEmbedder

def resident_mb():
    gc.collect()
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

started = time.perf_counter()
embedder = StaticEmbedder()
embedder_s = time.perf_counter() - started
before = resident_mb()
started = time.perf_counter()
loaded = load_bundle(sys.argv[1])
bundle_s = time.perf_counter() - started
grown = resident_mb() - before
tracemalloc.start()
again = load_bundle(sys.argv[1])
peak = tracemalloc.get_traced_memory()[1] / 2**20
print(json.dumps([embedder_s * 1e3, bundle_s * 1e3, grown, peak]))
"""


def main(quick: bool = False) -> None:
    """Print the table."""
    rounds = 3 if quick else 7
    print(
        heading(
            "Loading a bundle on the static embedder (320 dimensions, reward and output-token heads)",
            "Medians of fresh processes; MB on disk and resident beyond the embedder. Limits: 1 s and 20 MB for 500.",
        )
    )
    print("models  MB on disk  load ms (min-max)  MB resident (min-max)  peak MB while loading  embedder ms")
    with tempfile.TemporaryDirectory() as folder:
        paths = {pool: write_bundle(Path(folder) / f"bundle-{pool}", pool) for pool in POOLS}
        found: dict[int, list[list[float]]] = {pool: [] for pool in POOLS}
        for _ in range(rounds):
            for pool, path in paths.items():
                found[pool].append(_load(path))
        for pool, rows in found.items():
            embedder_ms, load_ms, resident_mb, peak_mb = np.array(rows).T
            disk_mb = sum(file.stat().st_size for file in paths[pool].rglob("*") if file.is_file()) / 2**20
            print(
                f"{pool:6}  {disk_mb:10.1f}  {spread(load_ms):>17}  {spread(resident_mb):>21}  "
                f"{np.median(peak_mb):21.1f}  {np.median(embedder_ms):11.0f}",
                flush=True,
            )


def _load(path: Path) -> list[float]:
    done = subprocess.run([sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


if __name__ == "__main__":
    main()
