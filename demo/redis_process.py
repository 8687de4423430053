"""A real redis-server of one's own, for the tests and the benchmarks: on loopback, nothing kept on disk."""

import socket
import time
from contextlib import suppress
from pathlib import Path

from demo.proxy_process import ServerProcess, free_port
from litellm_erp.errors import ServingError


class RedisProcess(ServerProcess):
    """``redis-server`` on a free port; after :meth:`kill` and ``start`` it is empty."""

    def __init__(self, *, port: int | None = None, log_path: Path | None = None) -> None:
        port = port or free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__(command, port=port, ready_path="", log_path=log_path, start_deadline_s=30.0)

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _wait_until_ready(self, deadline: float) -> None:
        while time.perf_counter() < deadline:
            if self.returncode is not None:
                raise ServingError(self._failure(f"ended with status {self.returncode} while starting"))
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        raise ServingError(self._failure("did not answer"))
