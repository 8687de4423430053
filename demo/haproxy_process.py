"""A real haproxy in front of local proxies, as a platform's load balancer stands there."""

import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from demo.proxy_process import ServerProcess
from litellm_erp.errors import ServingError

# A server gets requests while its own health check says so. A connection that was refused goes to another server; a
# request that was sent does not, since a model may have answered it. A check may take long: a busy proxy is late, and
# to take it out makes the other one busier until none is left.
_CONFIG = """\
global
    stats socket {socket} level admin
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout check 10s
    retries 3
    retry-on conn-failure
    option redispatch
frontend in
    bind 127.0.0.1:{port}
    monitor-uri /health
    default_backend proxies
backend proxies
    balance leastconn
    option httpchk GET /erp/health
    http-check expect status 200
    default-server check inter 500ms fastinter 200ms fall 3 rise 1
{servers}
"""


class HaproxyProcess(ServerProcess):
    """``haproxy`` over some ports of this machine, called s0, s1 and so on.

    Parameters
    ----------
    folder : gets its config
    ports : of the servers
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        config = folder / "haproxy.cfg"
        super().__init__(["haproxy", "-db", "-f", str(config)], log_path=folder / "haproxy.log")
        # A path of a socket may have a hundred characters.
        self._socket = Path(tempfile.mkdtemp(prefix="ha-")) / "admin"
        servers = "\n".join(f"    server s{i} 127.0.0.1:{port}" for i, port in enumerate(ports))
        config.write_text(_CONFIG.format(socket=self._socket, port=self.port, servers=servers), encoding="utf-8")

    def drain(self, server: int) -> None:
        """Send a server no further requests."""
        self._say(f"set server proxies/s{server} state drain")

    def admit(self, server: int) -> None:
        """Send it requests again, once it is healthy."""
        self._say(f"set server proxies/s{server} state ready")

    def wait_until_up(self, server: int, deadline_s: float = 60.0) -> None:
        """Wait until a server gets requests.

        Raises
        ------
        ServingError : not so in time
        """
        end = time.monotonic() + deadline_s
        while not self._up(server):
            if time.monotonic() > end:
                raise ServingError(f"haproxy: server s{server} is not up after {deadline_s:g} s")
            time.sleep(0.1)

    def _up(self, server: int) -> bool:
        rows = [line.split(",") for line in self._say("show stat").splitlines()]
        return any(row[:2] == ["proxies", f"s{server}"] and row[17].startswith("UP") for row in rows if len(row) > 17)

    def _say(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._socket))
            admin.sendall(command.encode() + b"\n")
            answer = b""
            while part := admin.recv(65536):
                answer += part
        return answer.decode()
