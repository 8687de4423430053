"""Real server processes for the demo, the tests and the benchmarks: a LiteLLM proxy, a stub upstream.

Invariants: each server runs in a process group of its own and only that group is ever signalled; when a
``with`` block ends the group is gone (SIGTERM, then SIGKILL); everything it printed is in its log file;
the environment is the caller's without what could reach out or change LiteLLM's behaviour.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from typing_extensions import Self

from litellm_erp.errors import ServingError

REPOSITORY = Path(__file__).resolve().parent.parent

# What the `litellm` console script does, in this interpreter; the package has no __main__.
_RUN_PROXY = "from litellm import run_server; run_server()"

# Start-up is 4.6 to 5 s on two cores, nearly all of it importing litellm.proxy.proxy_server; no flag or variable
# makes that shorter. These keep the proxy from reaching out and from reading a stray .env (PRODUCTION).
PROXY_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "WARNING",
    "LITELLM_MODE": "PRODUCTION",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "PYTHONUNBUFFERED": "1",
}
# Nothing from the environment; plain HTTP, for which loading the system's certificates would take 50 ms a client.
_LOCAL: dict[str, Any] = {"trust_env": False, "verify": False}
# A developer's own settings must not leak into a measured proxy.
_DROPPED_PREFIXES = ("LITELLM_", "OPENAI_", "DATABASE_", "REDIS_", "ERP_")


# Stands for the port in a command.
PORT = "{port}"
# How long a server may take to end on SIGTERM.
_STOP_DEADLINE_S = 10.0


def free_port() -> int:
    """A loopback TCP port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def interrupt_on_sigterm() -> None:
    """Have SIGTERM end this process as Ctrl-C does: ``with`` blocks end, and with them the servers they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class ServerProcess:
    """A server on a free loopback port in a process group of its own, ready when a path answers 200.

    Parameters
    ----------
    command : what is started; :data:`PORT` in it stands for the port
    ready_path : polled until it answers 200
    log_path : gets stdout and stderr; a temporary file where None
    env : added to the environment
    start_deadline_s : how long it may take to be ready
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        ready_path: str = "/health",
        log_path: Path | None = None,
        env: Mapping[str, str] | None = None,
        start_deadline_s: float = 300.0,
    ) -> None:
        self.port = free_port()
        self.log_path = log_path or _temporary_log()
        self.start_time_s = float("nan")
        self._command = [str(self.port) if part == PORT else part for part in command]
        self._ready_path = ready_path
        self._env = dict(env or {})
        self._start_deadline_s = start_deadline_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises
        ------
        ServingError : it ended, or was not ready in time; the message ends with the last log lines
        """
        started = time.perf_counter()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=REPOSITORY,
                env=_environment(self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(started + self._start_deadline_s)
        except BaseException:
            self.stop()
            raise
        self.start_time_s = time.perf_counter() - started

    def stop(self) -> None:
        """SIGTERM to the group, SIGKILL to what is left of it after the deadline."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_DEADLINE_S)
        # Workers can outlive their parent, so the group is killed even where the leader has ended.
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def log_text(self) -> str:
        """Everything it printed so far, both streams."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _wait_until_ready(self, deadline: float) -> None:
        while time.perf_counter() < deadline:
            if self.returncode is not None:
                raise ServingError(self._failure(f"ended with status {self.returncode} while starting"))
            with suppress(OSError, httpx.TransportError):
                if self._is_ready():
                    return
            time.sleep(0.05)
        raise ServingError(self._failure(f"was not ready after {self._start_deadline_s:g} s"))

    def _is_ready(self) -> bool:
        return httpx.get(f"{self.base_url}{self._ready_path}", **_LOCAL, timeout=2.0).status_code == 200

    def _failure(self, what: str) -> str:
        last = "\n".join(self.log_text().splitlines()[-30:])
        return f"{type(self).__name__} on port {self.port} {what}; the end of {self.log_path}:\n{last}"


class ProxyProcess(ServerProcess):
    """``litellm --config …`` in this interpreter's environment.

    Parameters
    ----------
    config_path : the proxy's config.yaml
    env : added to the environment, over :data:`PROXY_ENVIRONMENT`
    num_workers : uvicorn workers
    """

    def __init__(
        self,
        config_path: Path,
        *,
        env: Mapping[str, str] | None = None,
        num_workers: int = 1,
        log_path: Path | None = None,
        start_deadline_s: float = 300.0,
    ) -> None:
        self.master_key = f"sk-{secrets.token_urlsafe(32)}"
        command = [sys.executable, "-c", _RUN_PROXY, "--config", str(config_path.resolve())]
        super().__init__(
            [*command, "--host", "127.0.0.1", "--port", PORT, "--num_workers", str(num_workers)],
            ready_path="/health/liveliness",
            log_path=log_path,
            env=PROXY_ENVIRONMENT | {"LITELLM_MASTER_KEY": self.master_key} | dict(env or {}),
            start_deadline_s=start_deadline_s,
        )


class StubProcess(ServerProcess):
    """``python -m demo.stub`` and its controls.

    Parameters
    ----------
    models : the path prefixes it serves
    request_log : JSONL file for its records
    recorded : JSONL file of completion tokens, see :mod:`demo.stub`
    """

    def __init__(
        self,
        models: Sequence[str],
        *,
        request_log: Path | None = None,
        recorded: Path | None = None,
        log_path: Path | None = None,
    ) -> None:
        self.models = tuple(models)
        command = [sys.executable, "-m", "demo.stub", "--port", PORT, "--models", ",".join(models)]
        command += ["--log", str(request_log)] if request_log else []
        command += ["--recorded", str(recorded)] if recorded else []
        super().__init__(command, log_path=log_path)

    def api_base(self, model: str) -> str:
        """The base URL a deployment of the model is given."""
        return f"{self.base_url}/{model}/v1"

    def set_mode(self, model: str, mode: str) -> None:
        """Switch how a model behaves; see :meth:`demo.stub.call.Mode.parse`."""
        self._post("/_mode", {"model": model, "mode": mode})

    def reset(self) -> None:
        """Forget records and modes."""
        self._post("/_reset", {})

    def requests(self) -> list[dict[str, Any]]:
        """The records so far, in order of arrival."""
        answer = httpx.get(f"{self.base_url}/_log", **_LOCAL)
        requests: list[dict[str, Any]] = answer.json()["requests"]
        return requests

    def _post(self, path: str, body: dict[str, str]) -> None:
        answer = httpx.post(f"{self.base_url}{path}", json=body, **_LOCAL)
        if answer.status_code != 200:
            raise ValueError(answer.json()["error"]["message"])


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without foreign settings, the repository importable, and the extras."""
    merged = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED_PREFIXES)} | dict(extra)
    merged["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), merged.get("PYTHONPATH", "")]))
    return merged


def _temporary_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="server-", suffix=".log")
    os.close(handle)
    return Path(name)
