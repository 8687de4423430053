"""A real redis-server of one's own, for the tests and the benchmarks: on loopback, nothing kept on disk."""

import socket
from pathlib import Path

from demo.proxy_process import ServerProcess, free_port


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

    def _is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
