"""vLLM's own offline batch, run by an interpreter that has vLLM: stdlib and vLLM only.

One JSON object a line. In: the arguments of ``vllm.LLM``, then rounds ``{"conversations", "params"}``. Out:
``{"ready": true}``, then ``{"tokens", "seconds"}`` of every round.
"""

import json
import os
import sys
import time


def main() -> None:
    """Serve rounds until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import vllm

    llm = vllm.LLM(**json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        began = time.perf_counter()
        params = [vllm.SamplingParams(**entry) for entry in job["params"]]
        outputs = llm.chat(job["conversations"], params, use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = sum(len(choice.token_ids) for output in outputs for choice in output.outputs)
        print(json.dumps({"tokens": tokens, "seconds": seconds}), file=out, flush=True)


if __name__ == "__main__":
    main()
