"""
Servers in a lab that say who they are and whom they saw.

One thread serves them all. A TCP connection gets one line, ``identity address
port``, with the source the server saw, and then everything it sends back; a UDP
datagram and an SCTP INIT get that line as their answer.
"""

import contextlib
import errno
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Self

from support.packets import sctp

from nfproxy.model.addresses import FAMILIES
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Host

Handler = Callable[[], None]

_live: "weakref.WeakSet[Responders]" = weakref.WeakSet()


class Responders:
    """All servers of a lab. A context manager; closing it closes every socket."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._connections: dict[int, socket.socket] = {}
        self._listeners: list[Responder] = []
        self._sctp: dict[tuple[Host, int], _SctpHost] = {}
        self._closing = False
        self._settled: list[threading.Event] = []
        self._ours, self._theirs = socket.socketpair()
        self.watch(self._theirs, self._on_wake)
        self._thread = threading.Thread(target=self._serve, name="responders", daemon=True)
        self._thread.start()
        _live.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(
        self,
        host: Host,
        port: int,
        protocol: Protocol = Protocol.TCP,
        *,
        addresses: Iterable[str] = (),
        identity: str = "",
    ) -> "Responder":
        """
        Answer on `port` of `host`, on its own address pair unless others are given.

        It is listening when this returns. The identity is the host's name unless given.
        """
        chosen = tuple(addresses) or tuple(host.address(family) for family in FAMILIES)
        responder = Responder(self, host, port, protocol, chosen, identity or host.name)
        self._listeners.append(responder)
        return responder

    def stop(self, host: Host) -> None:
        """Close everything on `host`, so that its namespace can go."""
        for responder in [one for one in self._listeners if one.host is host]:
            responder.close()

    def settle(self) -> None:
        """Return when everything that had arrived before the call has been answered."""
        if self._closing:
            return
        done = threading.Event()
        self._settled.append(done)
        self._ours.send(b"s")
        done.wait(5.0)

    def close(self) -> None:
        """Close everything and end the thread. Idempotent."""
        if self._closing:
            return
        self._closing = True
        _live.discard(self)
        self._ours.send(b"c")
        self._thread.join()
        for responder in list(self._listeners):
            responder.close()
        for connection in list(self._connections.values()):
            self.unwatch(connection)
            connection.close()
        self._ours.close()
        self._theirs.close()
        self._epoll.close()

    def watch(self, sock: socket.socket, handler: Handler) -> None:
        """Call `handler` in the serving thread whenever `sock` has something to read."""
        sock.setblocking(False)
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def unwatch(self, sock: socket.socket) -> None:
        """Stop watching; to be called before the socket is closed."""
        if self._handlers.pop(sock.fileno(), None):
            self._epoll.unregister(sock.fileno())

    def sctp_host(self, host: Host, address: str) -> "_SctpHost":
        """Return the one that answers SCTP on `host` in the family of `address`."""
        family = sctp.socket_family(address)
        key = (host, family)
        if key not in self._sctp:
            self._sctp[key] = _SctpHost(self, host, family)
        return self._sctp[key]

    def forget(self, responder: "Responder") -> None:
        """Drop a closed responder from the books."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(responder)
        for key in [key for key, one in self._sctp.items() if not one.identities]:
            del self._sctp[key]

    def accept(self, listener: socket.socket, identity: str) -> None:
        """Take all connections that wait, and greet each."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    connection, seen = listener.accept()
                except ConnectionError:
                    continue
                self._connections[connection.fileno()] = connection
                self.watch(connection, lambda c=connection: self._echo(c))  # type: ignore[misc]
                with contextlib.suppress(OSError):
                    connection.send(f"{identity} {seen[0]} {seen[1]}\n".encode())

    def _echo(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
            if data:
                connection.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.unwatch(connection)
        self._connections.pop(connection.fileno(), None)
        connection.close()

    def _serve(self) -> None:
        while not self._closing:
            events = self._epoll.poll()
            waiting, self._settled = self._settled, []
            self._handle(events)
            if waiting:
                self._finish_round(waiting)

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            handler = self._handlers.get(fd)
            if handler is None:
                continue
            try:
                handler()
            except OSError as error:
                if error.errno != errno.EBADF:  # closed by another thread just now
                    raise

    def _finish_round(self, waiting: list[threading.Event]) -> None:
        """Serve what arrived meanwhile too, a connection's line included, then tell."""
        self._handle(self._epoll.poll(0))
        for done in waiting:
            done.set()

    def _on_wake(self) -> None:
        self._theirs.recv(4096)


class Responder:
    """One identity at one port of one host, on one or more addresses."""

    def __init__(
        self,
        owner: Responders,
        host: Host,
        port: int,
        protocol: Protocol,
        addresses: tuple[str, ...],
        identity: str,
    ) -> None:
        self.host = host
        self.port = port
        self.protocol = protocol
        self.addresses = addresses
        self.identity = identity
        self._owner = owner
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._open(address)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; connections that exist live on. Idempotent."""
        for sock in self._sockets:
            self._owner.unwatch(sock)
            sock.close()
        self._sockets.clear()
        if self.protocol is Protocol.SCTP:
            for address in self.addresses:
                self._owner.sctp_host(self.host, address).remove(address, self.port)
        self._owner.forget(self)

    def _open(self, address: str) -> None:
        if self.protocol is Protocol.SCTP:
            self._owner.sctp_host(self.host, address).add(address, self.port, self.identity)
            return
        family = sctp.socket_family(address)
        kind = socket.SOCK_STREAM if self.protocol is Protocol.TCP else socket.SOCK_DGRAM
        sock = self.host.namespace.socket(family, kind)
        self._sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, self.port))
        if self.protocol is Protocol.TCP:
            sock.listen(4096)
            self._owner.watch(sock, lambda: self._owner.accept(sock, self.identity))
        else:
            self._owner.watch(sock, lambda: self._answer_datagrams(sock))

    def _answer_datagrams(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                _, seen = sock.recvfrom(65536)
                with contextlib.suppress(OSError):
                    sock.sendto(f"{self.identity} {seen[0]} {seen[1]}\n".encode(), seen)


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
    Return when the responders of this process have answered all that had arrived.

    A probe asks before it calls a packet lost: the machine may be too busy to let
    their thread run for longer than the probe wants to wait.
    """
    for responders in list(_live):
        responders.settle()
