"""``python -m bench.updating``: how long 5,000 new rows take to be learned by 100 models, written and loaded again."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from erp_trainer.bundles.records import stack_of
from erp_trainer.bundles.write import save_bundle
from erp_trainer.cli import cli
from erp_trainer.logged.sums import NewRows, mean_rewards, updated
from erp_trainer.logged.update import predict, sums_of, write_updated
from litellm_erp.bundle.load import load_bundle

MODELS, TRAINED, ROWS = 100, 400, 5000


def bundle_of(folder: Path) -> Path:
    """A bundle of many models, fitted by the command line."""
    rng = np.random.default_rng(0)
    with (folder / "outcomes.jsonl").open("w") as file:
        for p in range(TRAINED):
            for m in range(MODELS):
                row = {"prompt_id": f"p{p}", "prompt": f"task {p % 7} question {p}", "model": f"m{m:03d}"}
                row |= {"category": f"t{p % 7}", "reward": float(rng.normal(p % 7 == m % 7, 0.3)), "split": "train"}
                file.write(json.dumps(row) + "\n")
    for command in (["import", "outcomes.jsonl", "--out", "run"], ["fit", "run", "--out", "bundle"]):
        paths = [str(folder / part) if part in ("outcomes.jsonl", "run", "bundle") else part for part in command]
        found = CliRunner().invoke(cli, paths)
        assert found.exit_code == 0, found.output
    return folder / "bundle"


def main() -> None:
    """Print a table."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        path = bundle_of(Path(name))
        bundle = load_bundle(path)
        x = rng.normal(size=(ROWS, bundle.manifest.embedder.dimension)).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        every = rng.normal(size=(ROWS, MODELS))
        one_each = np.where(rng.integers(0, MODELS, ROWS)[:, None] == np.arange(MODELS), every, np.nan)
        print(f"{MODELS} models, {ROWS:,} rows, {x.shape[1]} dimensions")
        for what, rewards in (("every model has every row", every), ("one model a row", one_each)):
            start = time.perf_counter()
            rows = NewRows(x, rewards, np.full(ROWS, 2e9))
            sums = sums_of(bundle)
            found = updated(sums, MODELS, rows, bundle.features, stack_of(bundle.manifest))
            means = mean_rewards(sums, rows, predict(bundle, found, x))
            learned = time.perf_counter()
            with save_bundle(Path(name) / "updated") as folder:
                write_updated(folder, bundle, found, means)
            load_bundle(Path(name) / "updated")
            written = time.perf_counter()
            print(f"{what}: learned in {learned - start:.2f} s, written and loaded in {written - learned:.2f} s")


if __name__ == "__main__":
    main()
