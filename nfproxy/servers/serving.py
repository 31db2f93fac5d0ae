"""
Serves a page at a socket, or at a configured address, within bounds.

No client costs more than its own connection. There are bounds on the size of a request's head
(64 KiB), on how long a connection may be silent, and on the number of connections (``admission``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from http import HTTPStatus
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from nfproxy.clock import thread_s
from nfproxy.errors import ListenError
from nfproxy.servers.accepting import Acceptor, Reserve
from nfproxy.servers.admission import Connections, Peer
from nfproxy.servers.localqueue import listen_apart
from nfproxy.servers.pages import Page, error
from nfproxy.servers.requestreader import LONGEST_HEAD, RefusedError, RequestReader

log = logging.getLogger(__name__)

#: Longer than any usual scrape interval, so that Prometheus can keep its connection.
_SILENCE_S = 90.0

#: How long the rest of a request's body is read, and dropped, after its answer.
_BODY_S = 1.0

#: How long a refused client's bytes are dropped before the connection closes. A close with unread
#: bytes resets the connection, and the client may then lose its answer.
_REFUSED_S = 0.5

#: How long `close` waits for requests that are being answered.
_CLOSE_S = 1.0

#: How often to try again to listen, as kube-proxy does.
_LISTEN_RETRY_S = 5.0

#: Usual ones of one page server.
_CONNECTIONS = 100

#: What one connection may send at a time. A few bytes can be a chunk or a header, which cost more
#: than their reading: other connections, and the rest of the process, come in between.
_SLICE = 2048

#: Holds what is being read; only while `buffer_updated` runs.
_buffer = bytearray(_SLICE)

#: Seconds that the kernel keeps a connection to itself while nothing comes in.
_DEFER_S = 1


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
            self._server.start(*listening)
            log.info("serving %s on %s", self._name, self._address)
            await asyncio.Future()
        finally:
            await self._server.close()
            self._server = None

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Host and port of the sockets that listen; none before that succeeds."""
        if self._server is None:
            return ()
        return self._server.listening

    async def _listen(self) -> list[socket.socket]:
        logged = ""
        while True:
            try:
                return listen_apart(self._address)
            except ListenError as failure:
                if self._hard_fail:
                    raise
                if str(failure) != logged:
                    logged = str(failure)
                    log.error("%s: %s; trying again every %g s", self._name, logged, self._retry_s)
            await asyncio.sleep(self._retry_s)


class SocketServer:
    """Serves a page at a listening socket, from `start` to `close`."""

    def __init__(
        self, page: Page, connections: Connections, shared_reserve: Reserve | None = None
    ) -> None:
        """Serve nothing yet; other servers may have the same `connections`, and the reserve."""
        self._server = Server(page)
        self._own_reserve = Reserve()
        self._reserve = shared_reserve or self._own_reserve
        self._connections = connections
        self._acceptors: list[Acceptor] = []
        self._handing_over: set[asyncio.Task[Any]] = set()
        self.listening: tuple[tuple[str, int], ...] = ()  # host and port, from `start` to `close`

    def start(self, *listening: socket.socket) -> None:
        """Serve at listening sockets of one place, which belong to this server from now on."""
        self.listening = (listening[0].getsockname()[:2],)
        for one in listening:
            # Those who connect and say nothing cost the kernel a little, and this process nothing.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_S)
            acceptor = Acceptor(one, self._accepted, self._connections.make_room, self._reserve)
            self._acceptors.append(acceptor)

    def _accepted(self, client: socket.socket) -> None:
        """Serve a new connection, or close it where there is no room."""
        try:
            peer = Peer.of(client)
        except OSError:  # it has ended
            client.close()
            return
        # Nothing is made for one that is refused: a flood must not cost what its answers would.
        if not self._connections.admits(peer):
            client.close()
            return
        connection = _Connection(self._server, self._connections, peer)
        self._connections.add(connection, peer)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: connection, client))
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)

    async def close(self) -> None:
        """Accept no connection, finish the answers under way, close all connections."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._own_reserve.close()
        self.listening = ()
        await asyncio.gather(*self._handing_over, return_exceptions=True)
        self._server.pre_shutdown()
        await self._server.shutdown(_CLOSE_S)


class _Connection(RequestHandler, asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = ("_connections", "_ended", "_peer", "_reader", "_rest")

    def __init__(self, server: Server, connections: Connections, peer: Peer) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_SILENCE_S,
            lingering_time=_BODY_S,
            max_line_size=LONGEST_HEAD,
            max_field_size=LONGEST_HEAD,
            access_log=None,  # type: ignore[arg-type] # aiohttp takes it for "none"
            logger=log,
        )
        self._connections = connections
        self._peer = peer
        self._reader = RequestReader()
        self._ended = asyncio.Event()  # set when the client sends nothing more
        self._rest: asyncio.TimerHandle | None = None
        self._parser: Any = _PlainParser(self._parser, self._reader)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where the next bytes go: so few that they cost little time."""
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read what came; then rest, if that took long for as many connections as there are."""
        began_s = thread_s()
        self.data_received(bytes(_buffer[:nbytes]))
        rest_s = self._connections.rest_s(thread_s() - began_s)
        if rest_s and self._rest is None:
            self._pause_transport_reading()
            self._rest = self._loop.call_later(rest_s, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        if not (self._reading_paused or self._buffer_paused):  # aiohttp has reasons of its own
            self._resume_transport_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data and self._reader.refused:
            # After the answers to what came before it.
            super().data_received(b"")

    def eof_received(self) -> bool | None:  # type: ignore[override] # asyncio takes it
        """Go on where the client waits for answers; load balancers close their half so early."""
        self._ended.set()
        self._reader.end()
        super().data_received(b"")
        is_idle = self._waiter is not None and not self._waiter.done() and not self._messages
        return None if is_idle else True

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended.set()
        if self._rest is not None:
            self._rest.cancel()
        self._connections.discard(self, self._peer)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once, even if the client does not read what it was sent."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    async def finish_response(
        self, request: BaseRequest, resp: StreamResponse, start_time: float | None
    ) -> tuple[StreamResponse, bool]:
        """Send an answer; after the last one to a client that sends nothing more, close."""
        self._close_after_the_last(resp)
        body = resp.body if isinstance(resp, Response) else None
        size = len(body) if isinstance(body, bytes) else 0
        self._connections.answering(self, self._peer, size)
        try:
            sent = await super().finish_response(request, resp, start_time)
            if self._paused:  # the client has not taken what was sent
                with contextlib.suppress(ConnectionError):
                    await self._drain_helper()
        finally:
            self._connections.taken(self)
        self._connections.answered(self._peer)
        self._close_after_the_last(resp)
        if (
            self._reader.refused
            and not self._messages
            and isinstance(self.transport, asyncio.Transport)
        ):
            # A client that is gone, or one that sends on, must not keep the connection.
            with contextlib.suppress(OSError, TimeoutError):
                self.transport.write_eof()
                await asyncio.wait_for(self._ended.wait(), _REFUSED_S)
        return sent

    def _close_after_the_last(self, resp: StreamResponse) -> None:
        if self._ended.is_set() and not self._messages:
            resp.force_close()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Answer what is not HTTP. It is not logged: any client could fill the log with it."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self.close()
        code = exc.code if isinstance(exc, HttpProcessingError) else status
        why = f": {message}" if message else ""
        answer = error(f"{code} {HTTPStatus(code).phrase}{why}", code)
        answer.force_close()
        return answer


class _PlainParser:
    """aiohttp's parser behind a reader of requests, which passes on their plain form."""

    def __init__(self, parser: Any, reader: RequestReader) -> None:
        self._parser = parser
        self._reader = reader

    def feed_data(self, data: bytes) -> Any:
        """Return what aiohttp's parser returns. Raises HttpProcessingError for a refused one."""
        try:
            plain = self._reader.feed(data)
        except RefusedError as refused:
            raise HttpProcessingError(code=refused.code, message=refused.why) from refused
        return self._parser.feed_data(plain)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)
