"""Pool files, and ``erp-train sample`` as the process that users start."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from erp_trainer.pool.pool import Pool, load
from erp_trainer.prompts.prompt_set import Prompt, write_prompt_set
from erp_trainer.sampling.stage import sample_parts


def write_pool(folder: Path, models: Mapping[str, Mapping[str, Any]], n_prompts: int, **sampling: Any) -> Path:
    """A pool file with its prompt set in ``folder/run``."""
    document = {
        "run": "run",
        "prompts": {"source": "prompts.jsonl"},
        "sampling": {"k": 3, "max_tokens": 64} | sampling,
        "models": {name: dict(model) for name, model in models.items()},
        "rewards": [{"kind": "exact"}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    pool = folder / "pool.yaml"
    pool.write_text(yaml.safe_dump(document, sort_keys=False))
    write_prompt_set([Prompt(f"p{i}", f"question number {i}") for i in range(n_prompts)], folder / "run")
    return pool


def start_sample(pool: Path, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start ``erp-train sample POOL --json``."""
    return subprocess.Popen(
        [sys.executable, "-c", "from erp_trainer.cli import main; main()", "sample", str(pool), "--json", *options],
        env=os.environ | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sample(pool: Path, *options: str, env: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON on stdout, and what stands on stderr."""
    process = start_sample(pool, *options, env=env)
    stdout, stderr = process.communicate(timeout=600)
    return process.returncode, json.loads(stdout) if stdout else {}, stderr


def keys(pool: Pool | Path) -> list[tuple[str, str, int]]:
    """(prompt, model, sample) of everything on record, in order of the records."""
    pool = load(pool) if isinstance(pool, Path) else pool
    return [
        (record["prompt_id"], record["model"], sample)
        for model in pool.models.values()
        for record in sample_parts(pool.run, model)
        for sample in range(len(record["samples"]))
    ]
