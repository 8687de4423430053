"""Serve until interrupted."""

import argparse
import asyncio
import json
from contextlib import suppress
from pathlib import Path

from demo.stub.server import Stub


def _load_recorded(path: Path) -> dict[tuple[str, str], int]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {(row["prompt"], row["model"]): int(row["output_tokens"]) for row in rows}


async def _serve(arguments: argparse.Namespace) -> None:
    recorded = _load_recorded(arguments.recorded) if arguments.recorded else None
    models = arguments.models.split(",")
    async with Stub(
        models, port=arguments.port, host=arguments.host, log_path=arguments.log, recorded=recorded
    ) as stub:
        print(f"stub upstream on http://{arguments.host}:{stub.port} for {arguments.models}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo.stub", description="OpenAI-compatible stub upstream")
    parser.add_argument("--port", type=int, default=9911)
    parser.add_argument("--host", default="127.0.0.1", help="for others to reach, as from another container: 0.0.0.0")
    parser.add_argument("--models", default="small,mid,big", help="comma-separated path prefixes")
    parser.add_argument("--log", type=Path, help="JSONL file, one record per request")
    parser.add_argument("--recorded", type=Path, help="JSONL of prompt, model, output_tokens (outcomes table)")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))
