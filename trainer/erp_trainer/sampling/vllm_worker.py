"""One model in vLLM, in a process of its own that may belong to another Python environment: stdlib and vLLM only.

``python vllm_worker.py`` speaks one JSON object a line. In: ``{"model", "revision", "trust_remote_code", "options"}``,
then requests ``{"id", "messages", "n", "seed", "temperature", "top_p", "max_tokens"}``, then ``{"stop": true}``.
Out: ``{"ready": true, "version"}`` or ``{"error"}``, then for every request ``{"id", "choices": [{"text",
"finish_reason", "output_tokens"}], "input_tokens"}``, ``{"id", "too_long": [input tokens, context]}`` or
``{"id", "refused"}``, in the order in which they are finished.

When stdin ends without a stop, the parent is gone; everything ends at once, so that its memory is free for the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO


class Channel:
    """Lines in and out; whatever libraries print goes to stderr."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def receive(self, *, wait: bool) -> dict[str, Any] | None:
        """The next message; None where there is none and ``wait`` is false."""
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(block=wait)
        return None

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            self._inbox.put(message)
            if message.get("stop"):
                return
        # vLLM has processes of its own; they are in this one's group, if the parent made it a group.
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def main() -> int:
    """Serve one parent."""
    channel = Channel()
    job = channel.receive(wait=True) or {}
    try:
        import vllm
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        llm = vllm.LLM(
            model=job["model"],
            revision=job["revision"],
            trust_remote_code=job["trust_remote_code"],
            **job["options"],
        )
        engine, tokenizer = llm.llm_engine, llm.get_tokenizer()
        context = int(engine.model_config.max_model_len)
    except ModuleNotFoundError as e:
        channel.send({"error": f"{e.name} is not installed in {sys.executable}"})
        return 1
    except Exception as e:
        channel.send({"error": f"{type(e).__name__}: {e}"})
        return 1
    channel.send({"ready": True, "version": vllm.__version__})

    def add(request: dict[str, Any]) -> None:
        try:
            tokens = prompt_tokens(tokenizer, request["messages"])
            if len(tokens) >= context:
                channel.send({"id": request["id"], "too_long": [len(tokens), context]})
                return
            params = SamplingParams(
                n=request["n"],
                seed=request["seed"],
                temperature=request["temperature"],
                top_p=request["top_p"],
                max_tokens=min(request["max_tokens"], context - len(tokens)),
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            engine.add_request(str(request["id"]), {"prompt_token_ids": tokens}, params)
        except Exception as e:
            channel.send({"id": request["id"], "refused": f"{type(e).__name__}: {e}"})

    while True:
        while (message := channel.receive(wait=not engine.has_unfinished_requests())) is not None:
            if message.get("stop"):
                return 0
            add(message)
        for output in engine.step():
            if output.finished:
                channel.send(finished(output))


def prompt_tokens(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """The prompt as the model reads it: by its chat template, or as plain text where it has none."""
    if getattr(tokenizer, "chat_template", None) is None:
        return list(tokenizer.encode("\n\n".join(message["content"] for message in messages)))
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(text, add_special_tokens=False))


def finished(output: Any) -> dict[str, Any]:
    """A request's result as a message."""
    choices = [
        {"text": choice.text, "finish_reason": str(choice.finish_reason), "output_tokens": len(choice.token_ids)}
        for choice in output.outputs
    ]
    return {"id": int(output.request_id), "choices": choices, "input_tokens": len(output.prompt_token_ids)}


if __name__ == "__main__":
    # This folder's modules must not stand in for others of the same name.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    sys.exit(main())
