"""
Requests to the API server in use: with the right credentials, at a bounded rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import time
from collections.abc import AsyncIterator

import aiohttp
from asyncio_throttle.throttler import Throttler

from nfproxy import __version__
from nfproxy.apiserver import failures
from nfproxy.apiserver.access import Access, ClientSettings, check_tls, read_access
from nfproxy.apiserver.exchange import Request, exchange, headers
from nfproxy.apiserver.failures import RequestError
from nfproxy.apiserver.plugins import PluginError, PluginRunner
from nfproxy.apiserver.servers import Server, Servers
from nfproxy.apiserver.transport import Transport
from nfproxy.errors import ConfigError
from nfproxy.kube.source import Report
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Problem

__all__ = ["ClientSettings", "Connection", "Request"]

log = logging.getLogger(__name__)

# How long TCP and TLS may take, where there is another server to ask, and where there is none.
_CONNECT_S, _CONNECT_ALONE_S = 3.0, 10.0

Answer = tuple[Server, aiohttp.ClientResponse]


class Connection:
    """
    The API servers of a cluster, as one client of them.

    Credentials and certificates are read anew when their files change, when they are about to
    expire, and when the API server does not accept them; what cannot be read then leaves those
    read before in use. When the server in use cannot be reached any more, every exchange with it
    ends, and the next is used.
    """

    def __init__(
        self, settings: ClientSettings, report: Report, observer: Metrics | None = None
    ) -> None:
        """Take the settings, and whom to tell; nothing is read before :meth:`open`."""
        self._settings = settings
        self._report = report
        self._observer = observer or Metrics(FAMILIES, __version__)
        self._plugins = PluginRunner()
        self._access: Access | None = None
        self._transport: Transport | None = None
        self._servers: Servers | None = None
        self._open: dict[aiohttp.ClientResponse, Server] = {}
        self._reached = False  # ever, with the present list of servers
        self._reading = asyncio.Lock()
        self._said = ""
        self._throttle: Throttler | None = None
        if settings.qps >= 0:
            burst = max(settings.burst, 1)
            self._throttle = Throttler(burst, period=burst / (settings.qps or 5.0))

    @property
    def host(self) -> str:
        """The ``host:port`` of the API server in use, "" until it is known."""
        return self._servers.current.host if self._servers else ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The ``host:port`` of every API server."""
        return tuple(server.host for server in self._servers.all) if self._servers else ()

    async def open(self) -> None:
        """
        Read how to reach the API server; idempotent. Makes no request.

        Raises ConfigError, naming file and field. A credential plugin that fails is no
        reason: it is run again with the first request.
        """
        with contextlib.suppress(PluginError):
            await self._current(distrust=None)

    async def aclose(self) -> None:
        """End all exchanges."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    async def __aenter__(self) -> Connection:
        """Open, see :meth:`open`."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    @contextlib.asynccontextmanager
    async def ask(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Make a request, and give the response while its body is being read.

        Raises RequestError for every answer but a success, for none at all, and when the
        connection breaks inside the block. Credentials that are not accepted are read anew
        and tried once more; what a server out of reach was asked is asked of the next.
        """
        await self._take_turn(request)
        async with contextlib.AsyncExitStack() as stack:
            try:
                server, response = await self._send(request, stack, None)
            except RequestError as error:
                if error.status.code != 401:
                    raise
                self._observer.retried(request.method, self.host, "401")
                server, response = await self._send(request, stack, self._access)
            self._open[response] = server
            stack.callback(self._open.pop, response)
            try:
                yield response
            except (aiohttp.ClientError, OSError) as error:
                text = failures.unanswered(error, server.host)
                if failures.vanished(error):
                    self._leave(server, text)
                raise RequestError(text) from error

    async def read(self, request: Request) -> bytes:
        """Make a request and return the whole body. Raises RequestError."""
        async with self.ask(request) as response:
            server = self._open[response]
            body = await response.read()
        self._observer.received(request.method, server.host, len(body))
        return body

    async def _take_turn(self, request: Request) -> None:
        if self._throttle is None or not request.counted:
            return
        began = time.monotonic()
        await self._throttle.acquire()  # type: ignore[no-untyped-call]
        self._observer.waited(request.method, self.host, time.monotonic() - began)

    # -- which server -----------------------------------------------------------------------

    async def _send(
        self, request: Request, stack: contextlib.AsyncExitStack, distrust: Access | None
    ) -> Answer:
        """
        Return the response if it is a success, and whose; `stack` closes it. Raises RequestError.

        Each server is asked once at most, beginning with the one in use.
        """
        try:
            access, transport, servers = await self._current(distrust)
            head = headers(access, request)
        except (ConfigError, PluginError) as error:
            raise RequestError(str(error)) from error
        await stack.enter_async_context(transport)
        asked: set[Server] = set()
        while True:
            server = servers.current
            asked.add(server)
            connect_s = _CONNECT_S if servers.has_other(time.monotonic()) else _CONNECT_ALONE_S
            try:
                response = await exchange(
                    transport, server, request, head, connect_s, access.credentials, self._observer
                )
            except RequestError as error:
                if not self._out_of_reach(request, servers, server, error):
                    raise
                if servers.current in asked:
                    raise RequestError(servers.why()) from error.__cause__
                self._observer.retried(request.method, server.host, "<error>")
            else:
                stack.callback(response.close)
                self._answered(request, server, response.status)
                return server, response

    def _out_of_reach(
        self, request: Request, servers: Servers, server: Server, error: RequestError
    ) -> bool:
        """
        Take a failure; tell whether it means that another server is to be asked the same.

        What may have been carried out (an Event that was posted) is not asked twice, unless there
        was no connection at all.
        """
        if error.status.code:
            self._answered(request, server, error.status.code)
            return False
        cause = error.__cause__
        if cause is None or not failures.out_of_reach(cause):
            return False
        if servers is not self._servers:  # another kubeconfig by now
            return False
        unsent = isinstance(cause, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
        if request.method != "GET" and not unsent:
            return False
        text = str(error)
        if self._access and self._access.in_cluster and not self._reached:
            text = f"{text}; {failures.IN_CLUSTER}"
        self._leave(server, text)
        return True

    def _answered(self, request: Request, server: Server, code: int) -> None:
        if self._servers is None or server not in self._servers.all:  # another kubeconfig by now
            return
        if code >= 500 and request.method != "GET":
            return  # what cannot be written may be a webhook's fault, whichever server is asked
        self._reached = True
        if text := self._servers.answered(server, code, time.monotonic()):
            log.warning("%s", text)
        self._observer.api_server(self.host)
        self._follow(server)

    def _leave(self, server: Server, text: str) -> None:
        """Take it that a server is out of reach; the next is used, if it was the one in use."""
        if self._servers is not None and server in self._servers.all:
            self._servers.failed(server, text, time.monotonic())
            self._follow(server)

    def _follow(self, server: Server) -> None:
        """End the exchanges with a server that is in use no longer; watches resume elsewhere."""
        if self._servers is None or server == self._servers.current:
            return
        for response in [r for r, whose in self._open.items() if whose == server]:
            response.close()

    # -- credentials ------------------------------------------------------------------------

    async def _current(self, distrust: Access | None) -> tuple[Access, Transport, Servers]:
        """
        Return how to ask, and whom, read anew if `distrust` is what is in use, or if due.

        Raises ConfigError or PluginError if there is nothing yet.
        """
        async with self._reading:
            now = datetime.datetime.now(datetime.UTC)
            access, before, servers = self._access, self._transport, self._servers
            if access is None or before is None or servers is None:
                have = None
            else:
                have = access, before, servers
                if access is not distrust and not access.stale(now):
                    return have
            try:
                access = await read_access(self._settings, os.environ, self._plugins)
                transport = check_tls(access, Transport)
            except (ConfigError, PluginError) as error:
                if have is None:
                    raise
                self._say(f"{error}; what was read before stays in use")
                return have
            self._say("")
            if servers is None or servers.all != access.servers:
                servers, self._reached = Servers(access.servers, self._settings.spread), False
            self._access, self._transport, self._servers = access, transport, servers
        if before is not None:
            await before.retire()
        return access, transport, servers

    def _say(self, text: str) -> None:
        """Report a trouble with the credentials when it arises, not each time."""
        if text and text != self._said:
            self._report(Problem("", f"API server {self.host}", "", text, kind="API"))
        self._said = text
