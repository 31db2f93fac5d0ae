"""Attempts over UDP and SCTP, beside the lab's over TCP."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

from support.packets import sctp

from nfproxy.model.service import Protocol
from nfproxy.tools.lab.attempts import (
    ConnectAttempt,
    Ending,
    SocketAttempt,
    TcpAttempt,
    queued_error,
    report_icmp_errors,
    socket_family,
)
from nfproxy.tools.lab.hosts import Host


class UdpAttempt(SocketAttempt):
    """Send one datagram, and read the one that comes back."""

    kind = socket.SOCK_DGRAM

    def start(self) -> Ending | None:
        report_icmp_errors(self._socket)
        report = self._connect()
        if report is not None:
            return report
        return _unless_filtered(lambda: self._socket.send(b"who?"))

    def advance(self) -> Ending | None:
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
        self._socket = sctp.open_socket(host.namespace, socket_family(destination))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def resent(self) -> int:
        return 0

    def close(self) -> None:
        self._socket.close()

    def start(self) -> Ending | None:
        sctp.only_to_port(self._socket, self.source_port)
        report_icmp_errors(self._socket)
        try:
            if self._bind_to:
                self._socket.bind((self._bind_to, 0))
            self._socket.connect((self._destination, 0))
            self.source_address = self._socket.getsockname()[0]
        except OSError as error:
            return Ending(error=error.errno or errno.EIO)
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

    def advance(self) -> Ending | None:
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
                    return Ending(line=packet.text.decode().strip())
                return Ending(error=errno.ECONNREFUSED)

    def _is_answer(self, packet: sctp.Packet) -> bool:
        asked = (self._port, self.source_port, self._tag)
        got = (packet.source_port, packet.destination_port, packet.verification_tag)
        return got == asked and packet.chunk in (sctp.INIT_ACK, sctp.ABORT)

    def _icmp_error(self) -> Ending | None:
        """Read the errors that came by ICMP; they quote the packet they are about."""
        while queued := queued_error(self._socket):
            if queued[0].startswith(struct.pack("!HH", self.source_port, self._port)):
                return Ending(error=queued[1])
        return None


def _unless_filtered(send: Callable[[], object]) -> Ending | None:
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
        return Ending(error=error.errno or errno.EIO)
    return None


ATTEMPTS: dict[Protocol, type[ConnectAttempt]] = {
    Protocol.TCP: TcpAttempt,
    Protocol.UDP: UdpAttempt,
    Protocol.SCTP: SctpAttempt,
}
