"""An HTTP server that answers what a test says, request by request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web

FOREVER_S = 20  # only to end a test that fails


class Exchange:
    """One request, waiting for what the test answers."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.method = request.method
        self.path = request.path
        self.query = dict(request.query)
        self.headers = request.headers
        self.body = b""
        self.response: asyncio.Future[web.StreamResponse] = asyncio.Future()
        self._stream = web.StreamResponse()

    def reply(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer with a body, as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._finish(
            web.Response(body=data, status=status, headers=headers, content_type="application/json")
        )

    def refuse(
        self, code: int, reason: str = "", message: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Answer with a Status."""
        status = {"kind": "Status", "code": code, "reason": reason, "message": message}
        self.reply(status, code, headers)

    async def send(self, *parts: Any) -> None:
        """Send a part of a stream: bytes as they are, anything else as a line of JSON."""
        if not self._stream.prepared:
            self._stream.enable_chunked_encoding()
            await self._stream.prepare(self.request)
        await self._stream.write(
            b"".join(p if isinstance(p, bytes) else json.dumps(p).encode() + b"\n" for p in parts)
        )

    async def end(self) -> None:
        """End a stream in order."""
        await self.send(b"\n")
        await self._stream.write_eof()
        self._finish(self._stream)

    def abort(self) -> None:
        """Break the connection off."""
        assert self.request.transport is not None
        self.request.transport.abort()
        self._finish(self._stream)

    def _finish(self, response: web.StreamResponse) -> None:
        if not self.response.done():
            self.response.set_result(response)


class ScriptedServer:
    """A server on a loopback port; a test takes its requests and answers them."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self._asked: asyncio.Queue[Exchange] = asyncio.Queue()
        self._open: set[Exchange] = set()
        self._transports: set[asyncio.Transport] = set()
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.1
        )
        self._site: web.TCPSite | None = None
        self._context: ssl.SSLContext | None = None

    async def start(self, context: ssl.SSLContext | None, port: int) -> None:
        """Listen for the first time, at a free port for 0."""
        await self._runner.setup()
        self.port, self._context = port, context
        await self.listen()
        self.port = self._runner.addresses[0][1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Accept connections (again)."""
        self._site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True
        )
        await self._site.start()

    async def refuse(self) -> None:
        """Refuse connections; of those that are there, only those in use stay."""
        assert self._site is not None
        await self._site.stop()
        used = {exchange.request.transport for exchange in self._open}
        for transport in self._transports - used:
            transport.abort()

    async def close(self) -> None:
        """End everything."""
        self.leave()
        await self._runner.cleanup()

    async def asked(self, path: str = "") -> Exchange:
        """Return the next request, of those whose path ends so; others are left waiting."""
        others = []
        try:
            while True:
                exchange = await asyncio.wait_for(self._asked.get(), FOREVER_S)
                if exchange.path.endswith(path):
                    return exchange
                others.append(exchange)
        finally:
            for other in others:
                self._asked.put_nowait(other)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request)
        exchange.body = await request.read()
        self._open.add(exchange)
        assert request.transport is not None
        self._transports.add(request.transport)
        self._asked.put_nowait(exchange)
        try:
            return await exchange.response
        finally:
            self._open.discard(exchange)

    def leave(self) -> None:
        """End what is still being asked."""
        for exchange in tuple(self._open):
            exchange.response.cancel()


@contextlib.asynccontextmanager
async def scripted(
    context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[ScriptedServer]:
    """Run a server, with TLS if a context is given."""
    server = ScriptedServer()
    await server.start(context, port)
    try:
        yield server
    finally:
        await server.close()


@contextlib.contextmanager
def black_hole(port: int = 0) -> Iterator[str]:
    """Give a URL on loopback from which nothing comes back: the queue of its socket is full."""
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.1", port))
        deaf.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"
