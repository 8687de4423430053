"""A real redis-server of one's own, for the tests and the benchmarks: on loopback, nothing kept on disk."""

import socket

from demo.proxy_process import PORT, ServerProcess


class RedisProcess(ServerProcess):
    """``redis-server``; after :meth:`kill` and ``start`` it is empty."""

    def __init__(self) -> None:
        super().__init__(["redis-server", "--port", PORT, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
