"""
One attempt to connect, as a small machine that never waits.

An attempt opens its socket bound to the source that it uses. `start` sends the first packet,
`advance` is called whenever the socket has something to say. Either returns the report once it is
known how the attempt ended. The lab has attempts over TCP; tests add other protocols.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from typing import NamedTuple, Protocol

from nfproxy.tools.lab.hosts import Host, packets_sent_again

# <linux/in.h>, <linux/in6.h>: report every ICMP error, not only the fatal ones
IP_RECVERR = 11
IPV6_RECVERR = 25

# No port of the last 28,000 attempts is used again, so that each is new for conntrack; the range
# holds no node port.
_PORTS = range(33000, 61000)
_TRIES = 100


class Ending(NamedTuple):
    """How an attempt ended: the line of the one that answered, or an errno."""

    line: str = ""
    error: int = 0


class ConnectAttempt(Protocol):
    """What attempts over all protocols have in common."""

    source_address: str
    source_port: int

    def __init__(
        self, host: Host, destination: str, port: int, source_address: str, source_port: int
    ) -> None: ...

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        ...

    def start(self) -> Ending | None:
        """Send the first packet."""
        ...

    def advance(self) -> Ending | None:
        """Read what has come."""
        ...

    def resent(self) -> int:
        """Return how many packets the kernel has sent again so far."""
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


class SocketAttempt:
    """An attempt over a connected socket of the kernel's."""

    kind: int

    def __init__(
        self, host: Host, destination: str, port: int, source_address: str, source_port: int
    ) -> None:
        self._target = (destination, port)
        self.source_address = ""
        self.source_port = source_port
        self._socket = host.namespace.socket(socket_family(destination), self.kind)
        try:
            self._socket.setblocking(False)
            self._socket.bind((source_address, source_port))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._socket.fileno()

    def resent(self) -> int:
        """Return how many packets the kernel has sent again so far."""
        return 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _connect(self) -> Ending | None:
        error = self._socket.connect_ex(self._target)
        if error and error != errno.EINPROGRESS:
            return Ending(error=error)
        self.source_address = self._socket.getsockname()[0]
        return None

    def _read_line(self) -> Ending | None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError as error:
            return Ending(error=error.errno or errno.EIO)
        return Ending(line=data.decode().strip()) if data else Ending(error=errno.ECONNRESET)


class TcpAttempt(SocketAttempt):
    """Connect, and read the line with which the responder greets."""

    kind = socket.SOCK_STREAM

    def start(self) -> Ending | None:
        """Connect."""
        report_icmp_errors(self._socket)
        # closed with a reset: no TIME_WAIT, and the source port is free again
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self._connect()

    def advance(self) -> Ending | None:
        """Read the line."""
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return Ending(error=error)
        # Here everything between SYN and ICMP error happens within connect(2). The kernel
        # then only notes the error and lets connect fail at the next SYN, a second later.
        queued = queued_error(self._socket)
        return Ending(error=queued[1]) if queued else self._read_line()

    def resent(self) -> int:
        """Return how many packets the kernel has sent again so far."""
        return packets_sent_again(self._socket)


def open_attempt(
    kind: type[ConnectAttempt],
    host: Host,
    destination: str,
    port: int,
    *,
    source_address: str = "",
    source_port: int = 0,
) -> ConnectAttempt:
    """Open the socket of an attempt, bound to its source. Nothing is sent yet. Raises OSError."""
    for _ in range(_TRIES):
        chosen = source_port or next(_next_ports.setdefault(kind, itertools.cycle(_PORTS)))
        try:
            return kind(host, destination, port, source_address, chosen)
        except OSError as error:
            if source_port or error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no free source port on {host.name}")


_next_ports: dict[type[ConnectAttempt], itertools.cycle[int]] = {}


def socket_family(address: str) -> int:
    """Return the socket family of an address written as text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def queued_error(sock: socket.socket) -> tuple[bytes, int] | None:
    """Take an ICMP error from the socket's queue: what it quotes, and its errno."""
    try:
        quoted, ancillary, _, _ = sock.recvmsg(64, 256, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    (error,) = struct.unpack_from("=I", ancillary[-1][2])
    return quoted, int(error)


def report_icmp_errors(sock: socket.socket) -> None:
    """Let the kernel queue the ICMP errors of a socket for `queued_error`."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
