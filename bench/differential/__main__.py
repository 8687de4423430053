"""Does a request fail because of the plugin? The same hostile requests to three proxies: one has it, two do not.

``python -m bench.differential [--pairs 3000] [--seed 0]``. Each request of :mod:`bench.differential.requests` goes to
all three at once; a stub upstream of its own stands behind each, so that none sees what another did. The two without
differ where LiteLLM's random choice of a member shows: that is the noise. Where the proxy with the plugin answers like
neither of them, the request is sent again, until a proxy without the plugin answers so too or has not in ``RETRIES``
tries. What is left is a difference.

An answer is its status and its kind: JSON, a stream, what error. Of what was answered the text also says which model it
was, and that has to be the one that the header names. Bounded by the number of pairs and by a time for each request;
everything stays on loopback.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench.differential.comparing import measure
from bench.differential.report import findings, frames, table
from bench.differential.servers import BARE, PLUGIN, SECOND, start
from bench.machine import heading
from demo.proxy_process import interrupt_on_sigterm


def main() -> int:
    """Print the table and what differs; 1 where anything does."""
    parser = argparse.ArgumentParser(prog="python -m bench.differential", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    interrupt_on_sigterm()
    print(heading("The same requests with the plugin and without it", f"{asked.pairs} pairs, seed {asked.seed}"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        started = start(Path(folder), stack)
        began = time.perf_counter()
        results = asyncio.run(measure(started, asked.pairs, asked.seed))
        seconds = time.perf_counter() - began
        log = started[0][1].log_text()
        ended = [name for name, proxy, _ in started if proxy.returncode is not None]
    reasons = Counter(r.answers[PLUGIN].erp.get("reason", "-") for r in results)
    print("\n".join(table(results)))
    print(f"{seconds:.0f} s; reasons: {dict(reasons.most_common())}; frames of ours in tracebacks: {frames(log)}")
    noise = Counter(f"{r.answers[BARE].outcome} / {r.answers[SECOND].outcome}" for r in results if r.noisy)
    print(f"bare differ most often in: {noise.most_common(5)}; ended before the end: {ended or 'none'}")
    print("\n".join(findings(results)))
    return int(any(result.is_fault for result in results))


if __name__ == "__main__":
    sys.exit(main())
