"""vLLM without a server: one model at a time, in a child process, so that all its memory is free when it ends.

``ERP_VLLM_PYTHON`` names another interpreter for the child, where vLLM lives in an environment of its own;
``ERP_VLLM_OPTIONS`` is a JSON object of further arguments of ``vllm.LLM``, such as ``{"max_model_len": 4096}``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from erp_trainer.pool.pool import PoolModel
from erp_trainer.prompts.conversation import plain_messages
from erp_trainer.sampling.base import Engine, Failure, Response, Result, Results, SampleRequest, too_long
from litellm_erp.errors import SamplingError, SettingsError

_WORKER = Path(__file__).with_name("vllm_worker.py")
# Enough to keep vLLM's scheduler full; little enough that an interruption costs little.
_SEQUENCES_AHEAD = 2048
_REQUESTS_AHEAD = 64
_STOP_DEADLINE_S = 20.0
_LOG_LINES = 3


class VLLMEngine(Engine):
    """A child process with one pool model.

    Raises
    ------
    SamplingError : vLLM is not installed, or cannot load the model
    SettingsError : ``ERP_VLLM_OPTIONS`` is not a JSON object
    """

    name = "vllm"

    def __init__(self, model: PoolModel) -> None:
        self._model = model
        self._under_way: dict[int, SampleRequest] = {}
        self._keep_log = False
        self._log = tempfile.NamedTemporaryFile("w+", prefix="erp-vllm-", suffix=".log", delete=False)  # noqa: SIM115
        python = os.environ.get("ERP_VLLM_PYTHON", sys.executable)
        try:
            self._process = subprocess.Popen(  # noqa: S603  the user's own interpreter
                [python, str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
                # Ctrl-C is this process's to handle, and the group is what is ended.
                start_new_session=True,
            )
        except OSError as e:
            raise SettingsError(f"ERP_VLLM_PYTHON: {python} cannot be started ({e.strerror})") from e
        try:
            # A child that ended at once says why where its answer is read.
            with contextlib.suppress(OSError):
                self._send(
                    {
                        "model": model.weights,
                        "revision": model.revision,
                        "trust_remote_code": model.trust_remote_code,
                        "options": _options(),
                    }
                )
            answer = self._receive()
            if "error" in answer:
                self._keep_log = True
                raise SamplingError(
                    f"{model.name}: vLLM cannot load {model.model!r}: {answer['error']}. Its log is {self._log.name}. "
                    'Install it (pip install "litellm-erp[vllm]"), set ERP_VLLM_PYTHON to an interpreter that has it, '
                    f"or correct models.{model.name}.model"
                )
        except BaseException:
            self.close()
            raise
        self.version = f"vllm {answer['version']}"

    def sample(self, requests: Iterable[SampleRequest]) -> Results:
        numbered = enumerate(requests)
        for number, request in numbered:
            self._ask(number, request)
            if len(self._under_way) >= max(_REQUESTS_AHEAD, _SEQUENCES_AHEAD // request.n):
                break
        while self._under_way:
            answer = self._receive()
            request = self._under_way.pop(answer["id"])
            for number, following in itertools.islice(numbered, 1):
                self._ask(number, following)
            yield request, _result(request, answer)

    def close(self) -> None:
        """End the child; what it was asked and has not answered is dropped."""
        if not self._under_way:
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                self._send({"stop": True})
                self._process.wait(_STOP_DEADLINE_S)
        _end_group(self._process.pid, self._process)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        if not self._keep_log:
            Path(self._log.name).unlink(missing_ok=True)

    def _ask(self, number: int, request: SampleRequest) -> None:
        self._under_way[number] = request
        sampling = request.sampling.stated()
        message = {
            "id": number,
            "messages": plain_messages(request.messages),
            "n": request.n,
            "seed": request.seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        # What a child finished before it died is still in the pipe; `_receive` meets its end after that.
        with contextlib.suppress(OSError):
            self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  it was opened as a pipe
        stdin.write(json.dumps(message) + "\n")
        stdin.flush()

    def _receive(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101
        line = stdout.readline()
        if not line.endswith("\n"):
            raise self._died()
        message: dict[str, Any] = json.loads(line)
        return message

    def _died(self) -> SamplingError:
        self._keep_log = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        last = Path(self._log.name).read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return SamplingError(
            f"{self._model.name}: vLLM ended with status {self._process.returncode}: {' / '.join(last)}. Its log is "
            f"{self._log.name}"
        )


def _end_group(group: int, leader: subprocess.Popen[str]) -> None:
    """Kill a process group, and wait until its memory is free for the next model's."""
    deadline = time.monotonic() + _STOP_DEADLINE_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(group, signal.SIGKILL)
            leader.poll()
            time.sleep(0.05)
    leader.wait()


def _options() -> dict[str, Any]:
    text = os.environ.get("ERP_VLLM_OPTIONS", "{}")
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise SettingsError(f"ERP_VLLM_OPTIONS: found {text!r}; expected a JSON object of arguments of vllm.LLM")
    return options


def _result(request: SampleRequest, answer: dict[str, Any]) -> Result:
    if "too_long" in answer:
        return too_long(*answer["too_long"])
    if "refused" in answer:
        return Failure(f"refused: {answer['refused']}")
    return [
        Response(choice["text"], choice["finish_reason"], answer["input_tokens"], choice["output_tokens"], request.seed)
        for choice in answer["choices"]
    ]
