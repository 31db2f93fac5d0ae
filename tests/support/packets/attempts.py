"""
One connection attempt per protocol, as a small machine that never waits.

An attempt opens its socket bound to the source it shall use. `start` sends the first
packet, `advance` is called whenever the socket has something to say, and either
returns the report once it is known how it ended.
"""

import errno
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple
from typing import Protocol as Interface

from support.packets import sctp

from nfproxy.model.service import Protocol
from nfproxy.tools.lab.hosts import Host, packets_sent_again

# <linux/in.h>, <linux/in6.h>: report every ICMP error, not only the fatal ones
IP_RECVERR = 11
IPV6_RECVERR = 25


class Report(NamedTuple):
    """How an attempt ended: the line of the one that answered, or an errno."""

    line: str = ""
    error: int = 0


class Attempt(Interface):
    """What the three protocols have in common."""

    source_address: str
    source_port: int

    def __init__(
        self, host: Host, destination: str, port: int, source_address: str, source_port: int
    ) -> None: ...

    def fileno(self) -> int: ...

    def start(self) -> Report | None: ...

    def advance(self) -> Report | None: ...

    def resent(self) -> int:
        """Return how many packets the kernel has sent again so far."""
        ...

    def close(self) -> None: ...


class _SocketAttempt:
    """An attempt over a connected socket of the kernel's."""

    kind: int

    def __init__(
        self, host: Host, destination: str, port: int, source_address: str, source_port: int
    ) -> None:
        self._target = (destination, port)
        self.source_address = ""
        self.source_port = source_port
        self._socket = host.namespace.socket(sctp.socket_family(destination), self.kind)
        try:
            self._socket.setblocking(False)
            self._socket.bind((source_address, source_port))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def resent(self) -> int:
        return 0

    def close(self) -> None:
        self._socket.close()

    def _connect(self) -> Report | None:
        error = self._socket.connect_ex(self._target)
        if error and error != errno.EINPROGRESS:
            return Report(error=error)
        self.source_address = self._socket.getsockname()[0]
        return None

    def _read_line(self) -> Report | None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError as error:
            return Report(error=error.errno or errno.EIO)
        return Report(line=data.decode().strip()) if data else Report(error=errno.ECONNRESET)


class TcpAttempt(_SocketAttempt):
    """Connect, and read the line with which the responder greets."""

    kind = socket.SOCK_STREAM

    def start(self) -> Report | None:
        _report_icmp_errors(self._socket)
        # closed with a reset: no TIME_WAIT, and the source port is free again
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self._connect()

    def advance(self) -> Report | None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return Report(error=error)
        # Here everything between SYN and ICMP error happens within connect(2). The kernel
        # then only notes the error and lets connect fail at the next SYN, a second later.
        queued = _queued_error(self._socket)
        return Report(error=queued[1]) if queued else self._read_line()

    def resent(self) -> int:
        return packets_sent_again(self._socket)


class UdpAttempt(_SocketAttempt):
    """Send one datagram, and read the one that comes back."""

    kind = socket.SOCK_DGRAM

    def start(self) -> Report | None:
        _report_icmp_errors(self._socket)
        report = self._connect()
        if report is not None:
            return report
        return _unless_filtered(lambda: self._socket.send(b"who?"))

    def advance(self) -> Report | None:
        return self._read_line()


class SctpAttempt:
    """
    Send an INIT, and read the INIT ACK or ABORT that comes back.

    The raw socket is connected, so it sees only packets from the address that was
    asked; other attempts' packets among them are told apart by port and tag.
    """

    def __init__(
        self, host: Host, destination: str, port: int, source_address: str, source_port: int
    ) -> None:
        self._destination = destination
        self._port = port
        self._bind_to = source_address
        self.source_address = ""
        self.source_port = source_port
        self._tag = sctp.new_tag()
        self._socket = sctp.open_socket(host.namespace, sctp.socket_family(destination))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def resent(self) -> int:
        return 0

    def close(self) -> None:
        self._socket.close()

    def start(self) -> Report | None:
        sctp.only_to_port(self._socket, self.source_port)
        _report_icmp_errors(self._socket)
        try:
            if self._bind_to:
                self._socket.bind((self._bind_to, 0))
            self._socket.connect((self._destination, 0))
            self.source_address = self._socket.getsockname()[0]
        except OSError as error:
            return Report(error=error.errno or errno.EIO)
        packet = sctp.Packet(
            self.source_address,
            self.source_port,
            self._destination,
            self._port,
            sctp.INIT,
            0,
            self._tag,
        )
        return _unless_filtered(lambda: sctp.send(self._socket, packet))

    def advance(self) -> Report | None:
        while True:
            try:
                packet = sctp.receive(self._socket)
            except BlockingIOError:
                return self._icmp_error()
            except OSError:
                # any attempt to the same address may have caused it: the queue says which
                report = self._icmp_error()
                if report is not None:
                    return report
                continue
            if packet is not None and self._is_answer(packet):
                if packet.chunk == sctp.INIT_ACK:
                    return Report(line=packet.text.decode().strip())
                return Report(error=errno.ECONNREFUSED)

    def _is_answer(self, packet: sctp.Packet) -> bool:
        asked = (self._port, self.source_port, self._tag)
        got = (packet.source_port, packet.destination_port, packet.verification_tag)
        return got == asked and packet.chunk in (sctp.INIT_ACK, sctp.ABORT)

    def _icmp_error(self) -> Report | None:
        """Read the errors that came by ICMP; they quote the packet they are about."""
        while queued := _queued_error(self._socket):
            if queued[0].startswith(struct.pack("!HH", self.source_port, self._port)):
                return Report(error=queued[1])
        return None


def _unless_filtered(send: Callable[[], object]) -> Report | None:
    """
    Send; a failure is a report, except one that rules in the output hook made.

    Both a drop and a reject there make it fail with EPERM. The ICMP error of the
    reject tells them apart, and comes just after.
    """
    try:
        send()
    except PermissionError:
        return None
    except OSError as error:
        return Report(error=error.errno or errno.EIO)
    return None


def _queued_error(sock: socket.socket) -> tuple[bytes, int] | None:
    """Take an ICMP error from the socket's queue: what it quotes, and its errno."""
    try:
        quoted, ancillary, _, _ = sock.recvmsg(64, 256, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    (error,) = struct.unpack_from("=I", ancillary[-1][2])
    return quoted, int(error)


def _report_icmp_errors(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


ATTEMPTS: dict[Protocol, type[Attempt]] = {
    Protocol.TCP: TcpAttempt,
    Protocol.UDP: UdpAttempt,
    Protocol.SCTP: SctpAttempt,
}
