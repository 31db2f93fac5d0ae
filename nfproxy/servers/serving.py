"""
Serves a page at a socket, or at a configured address, within bounds.

No client costs more than its own connection. There are bounds on the size of a request's head
(8 KiB for the request line and for each header, 128 headers; aiohttp's defaults), on how long a
connection may be silent, and on the number of connections. At that limit the oldest connection is
closed for a new one. Probes are short, so they always get their answer; clients that hold
connections open lose them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import web

from nfproxy.errors import ListenError
from nfproxy.servers.listening import listen_at
from nfproxy.servers.pages import Page, error

log = logging.getLogger(__name__)

#: Longer than any usual scrape interval, so that Prometheus can keep its connection.
_SILENCE_S = 90.0

#: How long the rest of a request's body is read, and dropped, after its answer.
_BODY_S = 1.0

#: How long `close` waits for requests that are being answered.
_CLOSE_S = 1.0

#: How often to try again to listen, as kube-proxy does.
_LISTEN_RETRY_S = 5.0

#: Of one page server.
_CONNECTIONS = 100


class PageServer:
    """Serves a page at ``IP:port`` for as long as `run` runs."""

    def __init__(
        self,
        name: str,
        address: str,
        page: Page,
        *,
        hard_fail: bool = False,
        retry_s: float = _LISTEN_RETRY_S,
    ) -> None:
        """
        Serve nothing yet; `name` is for the log.

        With `hard_fail` (``bindAddressHardFail``) an address in use is fatal.
        """
        self._name = name
        self._address = address
        self._page = page
        self._hard_fail = hard_fail
        self._retry_s = retry_s
        self._server: SocketServer | None = None

    async def run(self) -> None:
        """
        Serve until cancelled; then finish the answers under way.

        Tries to listen until that succeeds. With `hard_fail` it raises ListenError instead.
        """
        listening = await self._listen()
        self._server = SocketServer(self._page, Connections(_CONNECTIONS))
        try:
            await self._server.start(listening)
            log.info("serving %s on %s", self._name, self._address)
            await asyncio.Future()
        finally:
            await self._server.close()
            self._server = None
            listening.close()

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Host and port of the sockets that listen; none before that succeeds."""
        if self._server is None:
            return ()
        return tuple(opened.getsockname()[:2] for opened in self._server.sockets)

    async def _listen(self) -> socket.socket:
        logged = ""
        while True:
            try:
                return listen_at(self._address)
            except ListenError as failure:
                if self._hard_fail:
                    raise
                if str(failure) != logged:
                    logged = str(failure)
                    log.error("%s: %s; trying again every %g s", self._name, logged, self._retry_s)
            await asyncio.sleep(self._retry_s)


class SocketServer:
    """Serves a page at a listening socket, from `start` to `close`."""

    def __init__(self, page: Page, connections: Connections) -> None:
        """Serve nothing yet; `connections` may be shared with other servers."""
        self._server = web.Server(page)
        self._connections = connections
        self._listener: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve at a listening socket, which belongs to this server from now on."""
        loop = asyncio.get_running_loop()
        # In two steps, so that `close` finds the listener even after a cancellation in the second.
        self._listener = await loop.create_server(
            self._connect, sock=listening, start_serving=False
        )
        await self._listener.start_serving()

    def _connect(self) -> asyncio.Protocol:
        return _Connection(self._server, self._connections)

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening socket, none before `start` and after `close`."""
        return tuple(self._listener.sockets) if self._listener else ()

    async def close(self) -> None:
        """Accept no connection, finish the answers under way, close all connections."""
        if self._listener is not None:
            self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_CLOSE_S)


class Connections:
    """The open connections of one server or of several, oldest first, and their limit."""

    def __init__(self, limit: int) -> None:
        """Start without any."""
        self._limit = limit
        self._open: dict[_Connection, None] = {}

    def add(self, connection: _Connection) -> None:
        """Count a new connection; at the limit, close the oldest one."""
        self._open[connection] = None
        if len(self._open) > self._limit:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.abort()

    def discard(self, connection: _Connection) -> None:
        """Forget a connection that ended."""
        self._open.pop(connection, None)


class _Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_connections",)

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_SILENCE_S,
            lingering_time=_BODY_S,
            access_log=None,  # type: ignore[arg-type] # aiohttp takes it for "none"
            logger=log,
        )
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once, even if the client does not read what it was sent."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP. It is not logged: any client could fill the log with it."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self.close()
        return error("400 Bad Request", status)
