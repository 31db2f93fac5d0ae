"""
Serving a page at a socket, whatever clients are up to.

Nothing a client does may cost more than its own connection. There are bounds on the size of
a request's head (8 KiB for the request line and for each header, 128 headers; aiohttp's
defaults), on how long a connection may be silent, and on how many connections there are. At
that limit the oldest connection makes room for a new one: probes are short, so they always
get their answer, and who holds connections open loses them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import web

from nfproxy.servers.pages import Page, error

log = logging.getLogger(__name__)

#: Longer than any usual scrape interval, so that Prometheus can keep its connection.
_SILENCE_S = 90.0

#: How long a request's body is read, and thrown away, after its answer.
_LINGER_S = 1.0

#: How long requests that are being answered are waited for at the end.
_FAREWELL_S = 1.0


class Connections:
    """The open connections of one server or of several, oldest first, and their limit."""

    def __init__(self, limit: int) -> None:
        """Start without any."""
        self._limit = limit
        self._open: dict[_Connection, None] = {}

    def add(self, connection: _Connection) -> None:
        """Count a new connection; the oldest one is cut off if there are too many."""
        self._open[connection] = None
        if len(self._open) > self._limit:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cut()

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
            lingering_time=_LINGER_S,
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

    def cut(self) -> None:
        """End the connection at once, even if the client does not read what it was sent."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP without a word in the log, which anybody could fill else."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self.close()
        return error("400 Bad Request", status)


class Serving:
    """A page at a socket, from `start` to `close`."""

    def __init__(self, page: Page, connections: Connections) -> None:
        """Remember what to serve."""
        self._server = web.Server(page)
        self._connections = connections
        self._listener: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve at a listening socket, which is ours from now on."""
        loop = asyncio.get_running_loop()
        # in two steps, so that `close` finds the listener even if we are cancelled in the second
        self._listener = await loop.create_server(
            self._connect, sock=listening, start_serving=False
        )
        await self._listener.start_serving()

    def _connect(self) -> asyncio.Protocol:
        return _Connection(self._server, self._connections)

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The socket it is served at, none before and after."""
        return tuple(self._listener.sockets) if self._listener else ()

    async def close(self) -> None:
        """Accept nobody any more, finish the answers under way, end all connections."""
        if self._listener is not None:
            self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_FAREWELL_S)
