"""The servers of a lab, with SCTP: an INIT receives the line that TCP and UDP clients receive."""

from __future__ import annotations

import contextlib
import weakref

from support.packets import sctp

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Host
from nfproxy.tools.lab import responders as lab
from nfproxy.tools.lab.attempts import socket_family
from nfproxy.tools.lab.responders import Responder

_live: weakref.WeakSet[Responders] = weakref.WeakSet()


class Responders(lab.Responders):
    """All servers of a lab. A context manager; closing it closes every socket."""

    def __init__(self) -> None:
        super().__init__()
        self._sctp: dict[tuple[Host, int], _SctpHost] = {}
        _live.add(self)

    def responder_class(self, protocol: Protocol) -> type[Responder]:
        """Return the class for servers of a protocol."""
        return _SctpResponder if protocol is Protocol.SCTP else Responder

    def close(self) -> None:
        """Close everything and end the thread. Idempotent."""
        _live.discard(self)
        super().close()

    def forget(self, responder: Responder) -> None:
        """Remove a closed server from the list."""
        super().forget(responder)
        for key in [key for key, one in self._sctp.items() if not one.identities]:
            del self._sctp[key]

    def sctp_host(self, host: Host, address: str) -> _SctpHost:
        """Return what answers SCTP on `host` in the family of `address`."""
        family = socket_family(address)
        key = (host, family)
        if key not in self._sctp:
            self._sctp[key] = _SctpHost(self, host, family)
        return self._sctp[key]


class _SctpResponder(Responder):
    owner: Responders

    def open(self, address: str) -> None:
        self.owner.sctp_host(self.host, address).add(address, self.port, self.identity)

    def close(self) -> None:
        for address in self.addresses:
            self.owner.sctp_host(self.host, address).remove(address, self.port)
        super().close()


class _SctpHost:
    """Answers the INITs to one host in one family, as an SCTP stack would."""

    def __init__(self, owner: Responders, host: Host, family: int) -> None:
        self.identities: dict[tuple[str, int], str] = {}
        self._owner = owner
        self._socket = sctp.open_socket(host.namespace, family)
        owner.watch(self._socket, self._on_packets)

    def add(self, address: str, port: int, identity: str) -> None:
        if (address, port) in self.identities:
            raise OSError(f"{address} port {port}/sctp is in use")
        self.identities[address, port] = identity

    def remove(self, address: str, port: int) -> None:
        self.identities.pop((address, port), None)
        if not self.identities and self._socket.fileno() >= 0:
            self._owner.unwatch(self._socket)
            self._socket.close()

    def _on_packets(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                packet = sctp.receive(self._socket)
                if packet is not None and packet.chunk == sctp.INIT:
                    with contextlib.suppress(OSError):
                        sctp.send(self._socket, self._answer(packet))

    def _answer(self, packet: sctp.Packet) -> sctp.Packet:
        """Accept at a known address and port, abort elsewhere (RFC 9260, section 8.4)."""
        identity = self.identities.get((packet.destination, packet.destination_port))
        if identity is None:
            return packet.reply(sctp.ABORT)
        text = f"{identity} {packet.source} {packet.source_port}\n"
        return packet.reply(sctp.INIT_ACK, text.encode())


def settle_all() -> None:
    """
    Return when the responders of this process have answered everything that had arrived.

    A probe calls this before it counts a packet as lost: on a busy machine their thread may not run
    for longer than the probe wants to wait.
    """
    for responders in list(_live):
        responders.settle()
