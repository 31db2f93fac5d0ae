"""
An HTTP client that sends from any host of the lab.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Self

from nfproxy.tools.lab import Host

_TOTAL_RETRANS = 100  # offset of tcpi_total_retrans in struct tcp_info
_HEAD_LIMIT = 65536


class Answer(NamedTuple):
    """Which pod answered, and the address it saw."""

    pod: str
    seen: str


def target(address: str, port: int) -> str:
    """Return an address and port as one text."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Connection:
    """
    A connection from a host to an address and port; a context manager.

    Raises what `connect` does: ConnectionRefusedError, TimeoutError, another OSError.
    """

    def __init__(
        self, host: Host, address: str, port: int, *, source: str = "", timeout_s: float = 5.0
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._name = address
        self._socket = host.namespace.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            if source:
                self._socket.bind((source, 0))
            self._socket.connect((address, port))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def ask(self) -> Answer:
        """
        Send a request and return who answered; the connection stays open. Raises OSError.

        So the client closes first, as it must here: a server that did would keep the connection
        in TIME-WAIT and meet a new one that happens to use its ports with an objection.
        """
        self._socket.sendall(f"GET / HTTP/1.1\r\nHost: {self._name}\r\n\r\n".encode())
        data = b""
        while not data.endswith(b"\n") or b"\r\n\r\n" not in data[:-2]:
            received = self._socket.recv(4096)
            if not received or len(data) > _HEAD_LIMIT:
                raise ConnectionResetError("the connection ended within an answer")
            data += received
        pod, _, seen = data.rpartition(b"\r\n\r\n")[2].decode().split()
        return Answer(pod, seen)

    def sent_again(self) -> int:
        """
        Return how many packets the kernel had to send twice.

        A lost SYN shows here and not as a failure: the connection is just a second late.
        """
        data = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS + 4)
        count: int = struct.unpack_from("=I", data, _TOTAL_RETRANS)[0]
        return count
