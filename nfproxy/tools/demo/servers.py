"""
The pods' HTTP servers: each says who it is and whom it sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Self

from nfproxy.model.addresses import FAMILIES
from nfproxy.tools.lab import Host

PORT = 8080
_HEAD_LIMIT = 65536


class Servers:
    """
    A server on port 8080 of every host given, both families; a context manager.

    One event loop in one thread serves them all. They listen when the constructor returns.
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._open: set[asyncio.BaseTransport] = set()
        self._loop = asyncio.new_event_loop()
        self._listeners: list[tuple[socket.socket, str]] = []
        try:
            for host in hosts:
                for family in FAMILIES:
                    sock = host.namespace.socket(int(family), socket.SOCK_STREAM)
                    self._listeners.append((sock, host.name))
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind((host.address(family), PORT))
                    sock.listen(1024)
        except BaseException:
            for sock, _ in self._listeners:
                sock.close()
            raise
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="servers", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all servers and their connections. Idempotent."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(lambda name=name: _Echo(name, self._open), sock=sock)  # type: ignore[misc]
            for sock, name in self._listeners
        ]
        await self._stop.wait()
        for server in servers:
            server.close()
        for transport in list(self._open):
            transport.close()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn


class _Echo(asyncio.Protocol):
    """One connection: answers each request with a line of text."""

    def __init__(self, name: str, open_transports: set[asyncio.BaseTransport]) -> None:
        self._name = name
        self._all = open_transports
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's signature is wide
        self._transport = transport
        self._all.add(transport)
        peer = transport.get_extra_info("peername")
        self._body = f"{self._name} saw {peer[0] if peer else 'nobody'}\n".encode()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            self._answer(last=b"\r\nconnection: close" in head.lower())
        if len(self._data) > _HEAD_LIMIT:
            self._transport.abort()

    def _answer(self, *, last: bool) -> None:
        word = b"close" if last else b"keep-alive"
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
            b"Connection: %s\r\n\r\n%s" % (len(self._body), word, self._body)
        )
        if last:
            self._transport.close()
