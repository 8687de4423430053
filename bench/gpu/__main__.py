"""``python -m bench.gpu [--json FILE]``: what a GPU does with our reward models, embedders and sampling, in 8 minutes.

Architectures have the real models' sizes and random weights, so nothing is fetched; each is measured through the
product's own classes, beside a plain loop. Every part runs in a process of its own and has its share of the time: one
that fails or is slow loses nothing of the others, nor what it found until then. ``--tiny`` runs everything at tiny
sizes, on a processor too.

Random weights: speed and memory are those of trained ones, while rewards hardly differ between pairs, so that
bfloat16 looks worse beside their spread than it is. Responses run to their full length.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.parts import PARTS
from bench.gpu.table import heading_of, lines
from demo.proxy_process import REPOSITORY, interrupt_on_sigterm

_LEFT_OVER_S = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0 if every part ended well, 1 if one did not."""
    asked = _parser().parse_args(arguments)
    if asked.part:
        return _child(asked)
    interrupt_on_sigterm()
    device, heading = heading_of(asked.device)
    if device == "cpu" and not asked.tiny:
        print("error: torch finds no GPU; --tiny runs tiny sizes on the processor", file=sys.stderr)
        return 1
    print(heading + ("\nTINY sizes: these are not the models' figures." if asked.tiny else ""), flush=True)
    names = asked.only or list(PARTS)
    deadline = time.monotonic() + 60 * asked.minutes - _LEFT_OVER_S
    found: dict[str, Any] = {"heading": heading, "tiny": asked.tiny, "parts": {}}
    for i, name in enumerate(names):
        share = PARTS[name].share / sum(PARTS[later].share for later in names[i:])
        result = _measured(name, asked, device, share * (deadline - time.monotonic()))
        found["parts"][name] = result
        print("\n".join(lines(PARTS[name].title, result)), flush=True)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    failed = [name for name, result in found["parts"].items() if result["error"]]
    print(
        f"\n{len(names) - len(failed)} of {len(names)} parts ended well" + ("" if not asked.json else f"; {asked.json}")
    )
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, a minute or two on a processor")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="some parts")
    parser.add_argument("--json", type=Path, help="write every figure there, after each part")
    parser.add_argument("--minutes", type=float, default=8, help="for everything; each part gets its share (default 8)")
    parser.add_argument("--device", help="as torch names it; default: the GPU if there is one")
    parser.add_argument("--internlm", type=Path, help="folder of internlm2-7b-reward, whose code is then used")
    parser.add_argument("--scratch", type=Path, help="folder for weights, up to 20 GB at a time; default: TMPDIR")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser


def _measured(name: str, asked: argparse.Namespace, device: str, limit_s: float) -> dict[str, Any]:
    """Run a part in a process of its own; what it told before it failed counts."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", dir=asked.scratch and asked.scratch.resolve()) as scratch:
        rows = Path(scratch) / "rows.jsonl"
        command = [sys.executable, "-m", "bench.gpu", "--part", name, "--rows", str(rows), "--device", device]
        command += ["--scratch", scratch, *(["--tiny"] if asked.tiny else [])]
        command += ["--internlm", str(asked.internlm.resolve())] if asked.internlm else []
        offline = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch, "TRANSFORMERS_VERBOSITY": "error"}
        error: str | None = None
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, env=os.environ | offline, timeout=max(limit_s, 1), capture_output=True,
                text=True, errors="replace", check=False,
            )  # fmt: skip
            if done.returncode:
                error = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            error = f"not done after its {limit_s:.0f} s; what is missing was not measured"
        told = rows.read_text(encoding="utf-8").splitlines() if rows.is_file() else []
    return {"rows": [json.loads(row) for row in told], "error": error, "seconds": time.monotonic() - began}


def _child(asked: argparse.Namespace) -> int:
    from bench.gpu.measuring import Setting

    setting = Setting(asked.device, asked.tiny, seconds=0.5 if asked.tiny else 4.0)
    part = PARTS[asked.part]
    with asked.rows.open("a", encoding="utf-8") as out:

        def emit(row: dict[str, Any]) -> None:
            out.write(json.dumps(row) + "\n")
            out.flush()

        part.run(part.title, asked.scratch / "model", setting, emit, asked.internlm)
    return 0


if __name__ == "__main__":
    sys.exit(main())
