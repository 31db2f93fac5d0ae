"""Sockets: listening, accepting, and letting connections die when a test asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Sequence

from aiohttp import web

MakeSocket = Callable[[int, int], socket.socket]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
_BACKLOG = 1024
_TRIES = 20


class Listener:
    """
    Accepts TLS connections for an HTTP server, on one port of some addresses.

    `make_socket` makes a socket in the network namespace that is meant. While `gate` is closed,
    connections are accepted (by the kernel), and no process talks to them.
    """

    def __init__(
        self,
        server: web.Server,
        make_socket: MakeSocket,
        addresses: Sequence[str],
        gate: asyncio.Event,
    ) -> None:
        self.port = 0
        self.context: ssl.SSLContext | None = None
        self._server = server
        self._make_socket = make_socket
        self._addresses = addresses
        self._gate = gate
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return sum(1 for handler in self._server.connections if handler.transport)

    def open(self, port: int) -> None:
        """Listen; port 0 takes a free one. Idempotent."""
        if self._sockets:
            return
        for left in reversed(range(_TRIES)):
            try:
                self._sockets = self._bind(port)
                break
            except OSError:  # the port is free for one address, not for the other
                if port or not left:
                    raise
        self.port = self._sockets[0].getsockname()[1]
        for sock in self._sockets:
            self._spawn(self._accept(sock))

    def _bind(self, port: int) -> list[socket.socket]:
        made: list[socket.socket] = []
        try:
            for address in self._addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = self._make_socket(family, socket.SOCK_STREAM)
                made.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setblocking(False)
                sock.bind((address, port))
                sock.listen(_BACKLOG)
                port = sock.getsockname()[1]
        except BaseException:
            for sock in made:
                sock.close()
            raise
        return made

    async def close(self) -> None:
        """Listen no more; connections stay. Idempotent."""
        loop = asyncio.get_running_loop()
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()
        accepting = [task for task in self._tasks if task.get_name() == "accept"]
        await _cancel(accepting)

    async def abort_connections(self) -> int:
        """End all connections by RST; return how many there were."""
        handshakes = [task for task in self._tasks if task.get_name() == "welcome"]
        await _cancel(handshakes)
        transports = [h.transport for h in self._server.connections if h.transport]
        for transport in transports:
            abort(transport)
        await asyncio.sleep(0)  # they close their sockets in the loop's next turn
        return len(handshakes) + len(transports)

    def _spawn(self, work: asyncio._CoroutineLike[None], name: str = "accept") -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(listening)
            self._spawn(self._welcome(accepted), "welcome")

    async def _welcome(self, sock: socket.socket) -> None:
        """Shake hands. Who does not trust our certificate is no concern of ours."""
        loop = asyncio.get_running_loop()
        try:
            await self._gate.wait()
            with contextlib.suppress(OSError):  # ssl.SSLError is one
                await loop.connect_accepted_socket(self._server, sock, ssl=self.context)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
            raise


def abort(transport: asyncio.BaseTransport) -> None:
    """Close a connection by RST."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
