"""Tokens/s of `erp-train sample` beside vLLM's own offline batch (``vllm.LLM.chat``).

Run ``python -m bench.sampling``. Same prompts, same K, same parameters, same options of vLLM; all are loaded
before the first round and take turns, in another order every round. Ours are timed from opening to the last record on
disk, the child's start not counted. Needs ERP_VLLM_PYTHON (scripts/setup_vllm.sh) and build/models
(scripts/small_models.py).
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import heading, spread
from bench.prompts import prompts
from demo.proxy_process import REPOSITORY, interrupt_on_sigterm
from demo.vllm_process import VLLMProcess, cpu_dtype
from erp_trainer.pool.pool import PoolModel, Sampling
from erp_trainer.prompts.prompt_set import Prompt
from erp_trainer.sampling.base import Engine, derive_seed
from erp_trainer.sampling.server import ServerEngine
from erp_trainer.sampling.stage import sample_pool_model
from erp_trainer.sampling.vllm_engine import VLLMEngine

OFFLINE, UNSEEDED = "vLLM offline batch", "vLLM offline batch, no seeds"
CONTEXT, SEQUENCES = 1024, 64
OPTIONS = {
    "max_model_len": CONTEXT,
    "max_num_seqs": SEQUENCES,
    "dtype": cpu_dtype(),
    "enforce_eager": True,
    "enable_chunked_prefill": False,
    "block_size": 32,
}
WARM_UP = 8
Rate = Callable[[list[Prompt], Sampling], float]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.sampling", description=__doc__)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "build" / "models" / "SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--words", type=int, default=40, help="of a prompt")
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-only", action="store_true", help="the server beside the offline batch, nothing else")
    arguments = parser.parse_args()
    interrupt_on_sigterm()
    python = os.environ.get("ERP_VLLM_PYTHON", str(REPOSITORY / ".venv-vllm" / "bin" / "vllm-python"))
    os.environ |= {"ERP_VLLM_PYTHON": python, "ERP_VLLM_OPTIONS": json.dumps(OPTIONS), "HF_HUB_OFFLINE": "1"}
    asked = [Prompt(f"p{i}", text) for i, text in enumerate(prompts(arguments.words, arguments.prompts))]
    sampling = Sampling(k=arguments.k, max_tokens=arguments.max_tokens)
    with ExitStack() as stack:
        columns = _columns(stack, python, arguments.model, server_only=arguments.server_only)
        print(
            heading(
                f"Tokens/s of sampling: {len(asked)} prompts of {arguments.words} words, K = {sampling.k}, "
                f"up to {sampling.max_tokens} tokens, {arguments.model.name}",
                f"vLLM with {SEQUENCES} sequences at once; {arguments.rounds} rounds in turn, warmed up.",
            ),
            flush=True,
        )
        for column in columns.values():
            column(asked[:WARM_UP], replace(sampling, seed=1000))
        rates: dict[str, list[float]] = {name: [] for name in columns}
        names = list(columns)
        for i in range(arguments.rounds):
            for name in names[i % len(names) :] + names[: i % len(names)]:
                rates[name].append(columns[name](asked, replace(sampling, seed=i)))
                print(f"  round {i + 1}: {rates[name][-1]:7.0f}  {name}", flush=True)
    print(f"\n{'engine':<32} {'tokens/s (least-most)':>24} {'of offline (least-most)':>26}")
    for name, found in rates.items():
        share = np.array(found) / np.array(rates[OFFLINE])
        print(f"{name:<32} {spread(found, 0):>24} {spread(share, 2):>26}")


def _columns(stack: ExitStack, python: str, folder: Path, *, server_only: bool) -> dict[str, Rate]:
    offline = _Offline(python, folder)
    stack.callback(offline.close)
    server = stack.enter_context(VLLMProcess(python, folder, "pool", max_model_len=CONTEXT, max_num_seqs=SEQUENCES))
    served = PoolModel("pool", "pool", Sampling(), api_base=server.api_base)
    columns: dict[str, Rate] = {
        OFFLINE: lambda asked, sampling: offline.rate(asked, sampling, seeded=True),
        "ours: server": lambda asked, sampling: _ours(served, sampling, asked, ServerEngine(served)),
    }
    if not server_only:
        child = PoolModel("pool", str(folder), Sampling(), engine="vllm")
        worker = stack.enter_context(closing(VLLMEngine(child)))
        columns[UNSEEDED] = lambda asked, sampling: offline.rate(asked, sampling, seeded=False)
        columns["ours: vllm in a child process"] = lambda asked, sampling: _ours(child, sampling, asked, worker)
    return columns


def _ours(model: PoolModel, sampling: Sampling, asked: list[Prompt], engine: Engine) -> float:
    with tempfile.TemporaryDirectory() as run:
        summary = sample_pool_model(Path(run), asked, replace(model, sampling=sampling), engine=engine)
    assert summary.sampled == len(asked), asdict(summary)
    return summary.output_tokens / summary.seconds


class _Offline:
    """``vllm.LLM.chat`` on everything at once."""

    def __init__(self, python: str, folder: Path) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="offline-", suffix=".log", delete=False) as log:
            self._process = subprocess.Popen(
                [python, str(Path(__file__).with_name("vllm_offline.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            self._exchange({"model": str(folder), **OPTIONS})
        except BaseException:
            self.close()
            raise

    def rate(self, asked: list[Prompt], sampling: Sampling, *, seeded: bool) -> float:
        common = {name: getattr(sampling, name) for name in ("temperature", "top_p", "max_tokens")} | {"n": sampling.k}
        seeds = [derive_seed(sampling.seed, prompt.prompt_id, 0) for prompt in asked]
        params = [common | ({"seed": seed} if seeded else {}) for seed in seeds]
        answer = self._exchange({"conversations": [prompt.messages for prompt in asked], "params": params})
        return float(answer["tokens"] / answer["seconds"])

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


if __name__ == "__main__":
    main()
