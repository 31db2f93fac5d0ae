"""
Servers on hosts of a lab that answer with their name and the client address they see.

One thread serves them all. By default a TCP connection receives one line, ``identity address port``
with the source that the server sees, and then everything that it sends comes back. A UDP datagram
receives such a line.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nfproxy.closing import Closing
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.service import Protocol
from nfproxy.tools.lab.hosts import Host

Handler = Callable[[], object]

_SETTLE_S = 5.0


class Responders(Closing):
    """
    All servers of a lab. A context manager; closing it closes every socket.

    Any thread may call it. Handlers run in its own thread.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._connections: dict[int, socket.socket] = {}
        self._listeners: list[Responder] = []
        self._closing = False
        self._settling: list[threading.Event] = []
        self._wake, self._woken = socket.socketpair()
        self.watch(self._woken, lambda: self._woken.recv(4096))
        self._thread = threading.Thread(target=self._serve, name="responders", daemon=True)
        self._thread.start()

    def listen(
        self,
        host: Host,
        port: int,
        protocol: Protocol = Protocol.TCP,
        *,
        addresses: Iterable[str] = (),
        identity: str = "",
    ) -> Responder:
        """
        Answer on `port` of `host`, by default on its own address pair and by its name.

        The server listens when this returns.
        """
        chosen = tuple(addresses) or tuple(host.address(family) for family in FAMILIES)
        kind = self.responder_class(protocol)
        responder = kind(self, host, port, protocol, chosen, identity or host.name)
        self._listeners.append(responder)
        return responder

    def responder_class(self, protocol: Protocol) -> type[Responder]:
        """Tests override this for SCTP, which not every kernel has sockets for."""
        return Responder

    def stop(self, host: Host) -> None:
        """Close all servers on `host`, so that its namespace can go."""
        for responder in [one for one in self._listeners if one.host is host]:
            responder.close()

    def settle(self) -> None:
        """Return when everything that had arrived before the call has its answer."""
        if self._closing:
            return
        done = threading.Event()
        self._settling.append(done)
        self._wake.send(b"s")
        done.wait(_SETTLE_S)

    def close(self) -> None:
        """Close everything and end the thread. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._wake.send(b"c")
        self._thread.join()
        for responder in list(self._listeners):
            responder.close()
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._wake.close()
        self._woken.close()
        self._epoll.close()

    def watch(self, sock: socket.socket, handler: Handler) -> None:
        """Call `handler` in the serving thread whenever `sock` has something to read."""
        sock.setblocking(False)
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def unwatch(self, sock: socket.socket) -> None:
        """Stop watching a socket; call this before closing it."""
        if self._handlers.pop(sock.fileno(), None):
            self._epoll.unregister(sock.fileno())

    def forget(self, responder: Responder) -> None:
        """Remove a closed server from the list."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(responder)

    def accept(self, listener: socket.socket, identity: str) -> None:
        """Accept all waiting connections, and greet each."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    connection, client = listener.accept()
                except ConnectionError:
                    continue
                self._connections[connection.fileno()] = connection
                self.watch(connection, lambda c=connection: self._echo(c))  # type: ignore[misc]
                with contextlib.suppress(OSError):
                    connection.send(_line(identity, client))

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
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self.unwatch(connection)
        self._connections.pop(connection.fileno(), None)
        connection.close()

    def _serve(self) -> None:
        while not self._closing:
            events = self._epoll.poll()
            settling, self._settling = self._settling, []
            self._handle(events)
            if settling:
                # Serve once more what has arrived since: a connection's line, for example.
                self._handle(self._epoll.poll(0))
                for done in settling:
                    done.set()

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            handler = self._handlers.get(fd)
            if handler is None:
                continue
            try:
                handler()
            except OSError as error:
                if error.errno != errno.EBADF:  # another thread has just closed it
                    raise


@dataclass(eq=False)
class Responder:
    """A server with one identity at one port of one host, on one or more addresses."""

    owner: Responders
    host: Host
    port: int
    protocol: Protocol
    addresses: tuple[str, ...]
    identity: str
    _sockets: list[socket.socket] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        try:
            for address in self.addresses:
                self.open(address)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; existing connections go on. Idempotent."""
        for sock in self._sockets:
            self.owner.unwatch(sock)
            sock.close()
        self._sockets.clear()
        self.owner.forget(self)

    def open(self, address: str) -> None:
        """Listen on an address. Raises OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if self.protocol is Protocol.TCP else socket.SOCK_DGRAM
        sock = self.host.namespace.socket(family, kind)
        self._sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, self.port))
        if self.protocol is Protocol.TCP:
            sock.listen(4096)
            self.owner.watch(sock, lambda: self.owner.accept(sock, self.identity))
        else:
            self.owner.watch(sock, lambda: self._answer_datagrams(sock))

    def _answer_datagrams(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                _, client = sock.recvfrom(65536)
                with contextlib.suppress(OSError):
                    sock.sendto(_line(self.identity, client), client)


def _line(identity: str, client: tuple[str, int]) -> bytes:
    return f"{identity} {client[0]} {client[1]}\n".encode()
