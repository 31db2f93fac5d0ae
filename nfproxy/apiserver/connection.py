"""Requests to the API server in use: with valid credentials, at a bounded rate."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
from collections.abc import AsyncIterator

import aiohttp
from asyncio_throttle.throttler import Throttler

from nfproxy import __version__
from nfproxy.apiserver import failures
from nfproxy.apiserver.access import Access, ClientSettings, check_tls, read_access
from nfproxy.apiserver.bodies import read_body
from nfproxy.apiserver.locations import Location, Locations
from nfproxy.apiserver.plugins import PluginError, PluginRunner
from nfproxy.apiserver.serverpool import Server, ServerPool
from nfproxy.apiserver.transport import ApiRequest, Transport, exchange, headers
from nfproxy.clock import monotonic_s
from nfproxy.errors import ConfigError, NfproxyError
from nfproxy.kube.apistatus import RequestError
from nfproxy.kube.source import Report
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Problem

log = logging.getLogger(__name__)

# How long TCP and TLS may take, where there is another server to ask, and where there is none.
_CONNECT_S, _CONNECT_ALONE_S = 3.0, 10.0

# After a credential plugin failed, requests use the previous credentials for this long without
# waiting for another run.
_RENEW_AGAIN_S = 10.0

Answer = tuple[Server, aiohttp.ClientResponse]


class Connection:
    """
    A client of a cluster's API servers. For the event loop's thread.

    It reads credentials and certificates again when their files change, shortly before they expire,
    and when the API server does not accept them; if that fails, the previous ones stay in use. When
    the server in use cannot be reached, all exchanges with it end, and the next server is used.
    """

    def __init__(
        self, settings: ClientSettings, report: Report, metrics: Metrics | None = None
    ) -> None:
        """Prepare; nothing is read before :meth:`open`. `report` takes problems of credentials."""
        self._settings = settings
        self._report = report
        self._metrics = metrics or Metrics(FAMILIES, __version__)
        self._plugins = PluginRunner()
        self._access: Access | None = None
        self._transport: Transport | None = None
        self._servers: ServerPool | None = None
        self._locations = Locations()
        self._open: dict[aiohttp.ClientResponse, Server] = {}
        self._has_answered = False  # any of the present servers
        self._reading = asyncio.Lock()
        self._reported = ""
        self._failure: NfproxyError | None = None  # the last, if nothing could be read so far
        self._failed_at = self._renew_again_at = 0.0
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

    @property
    def addresses(self) -> frozenset[Location]:
        """The packed address and the port of every API server, as :meth:`locate` found them."""
        return self._locations.current

    @property
    def lacks_credentials(self) -> bool:
        """Whether the latest attempt to read credentials, or to run their plugin, failed."""
        return bool(self._reported) or self._failure is not None

    async def locate(self) -> None:
        """Find the addresses of the API servers; resolves names."""
        await self._locations.find(self._servers.all if self._servers else ())

    async def open(self) -> None:
        """
        Read credentials and addresses; idempotent. Makes no request, and runs no program.

        Raises ConfigError, naming file and field. The first request runs the credential plugin.
        """
        async with self._reading:
            if self._servers is not None:
                return
            access = await read_access(self._settings, os.environ, None)
            await check_tls(access, Transport).close()
            self._servers = ServerPool(access.servers, self._settings.spread)
            if access.has_plugin:
                return
        await self._current(rejected=None)

    async def aclose(self) -> None:
        """End all exchanges, and a credential plugin that runs."""
        await self._plugins.aclose()
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
    async def ask(self, request: ApiRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Make a request, and give the response while its body is being read.

        Raises RequestError for every answer but a success, for no answer, and when the connection
        breaks inside the block. Credentials that are not accepted are read again and tried once
        more; if a server cannot be reached, the next one gets the request.
        """
        await self._take_turn(request)
        async with contextlib.AsyncExitStack() as stack:
            try:
                server, response = await self._send(request, stack, None)
            except RequestError as error:
                if error.status.code != 401:
                    raise
                # The kubelet may have replaced the token, or a plugin's token may have no expiry.
                self._metrics.retried(request.method, self.host, "401")
                server, response = await self._send(request, stack, self._access)
            self._open[response] = server
            stack.callback(self._open.pop, response)
            try:
                yield response
            except (aiohttp.ClientError, OSError) as error:
                failure = failures.unanswered(error, server.host)
                # A server that ends a connection is there. A peer without a sign of life is not:
                # the next request would wait for it again.
                if failures.is_lifeless(error):
                    self._leave(server, failure)
                raise failure from error

    async def read(self, request: ApiRequest) -> bytes:
        """
        Make a request and return the whole body.

        Raises RequestError, also for a body that is too long or drips.
        """
        async with self.ask(request) as response:
            server = self._open[response]
            body = await read_body(response, request.max_bytes)
        self._metrics.received(request.method, server.host, len(body))
        return body

    async def _take_turn(self, request: ApiRequest) -> None:
        if self._throttle is None or not request.counted:
            return
        began = monotonic_s()
        await self._throttle.acquire()  # type: ignore[no-untyped-call]
        self._metrics.waited(request.method, self.host, monotonic_s() - began)

    # -- which server -----------------------------------------------------------------------

    async def _send(
        self, request: ApiRequest, stack: contextlib.AsyncExitStack, rejected: Access | None
    ) -> Answer:
        """
        Return the server that answered with a success, and its response, which `stack` closes.

        Each server is asked at most once, beginning with the one in use. Credentials that are still
        `rejected` are read again first. Raises RequestError.
        """
        try:
            access, transport, servers = await self._current(rejected)
            head = headers(access, request)
        except (ConfigError, PluginError) as error:
            raise RequestError(error.what, error.remedy, is_certain=True) from error
        await stack.enter_async_context(transport)
        asked: set[Server] = set()
        while True:
            server = servers.current
            asked.add(server)
            connect_s = _CONNECT_S if servers.has_other(monotonic_s()) else _CONNECT_ALONE_S
            try:
                response = await exchange(
                    transport, server, request, head, connect_s, access.credentials, self._metrics
                )
            except RequestError as error:
                if not self._should_ask_next(request, servers, server, error):
                    raise
                if servers.current in asked:
                    failure = servers.why()
                    failure.is_silent = error.is_silent
                    raise failure from error.__cause__
                self._metrics.retried(request.method, server.host, "<error>")
            else:
                stack.callback(response.close)
                self._answered(request, server, response.status)
                return server, response

    def _should_ask_next(
        self, request: ApiRequest, servers: ServerPool, server: Server, error: RequestError
    ) -> bool:
        """Take a failure; return whether the next server should get the same request."""
        if error.status.code:
            self._answered(request, server, error.status.code)
            return False
        cause = error.__cause__
        if not failures.is_out_of_reach(cause):
            return False
        if servers is not self._servers:  # the kubeconfig names other servers by now
            return False
        # What the server may have carried out, such as posting an Event, is not asked twice.
        if request.method != "GET" and not failures.is_unsent(cause):
            return False
        if self._access and self._access.in_cluster and not self._has_answered:
            remedies = (error.remedy, failures.IN_CLUSTER)
            error = RequestError(error.what, "; ".join(filter(None, remedies)))
        self._leave(server, error)
        return True

    def _answered(self, request: ApiRequest, server: Server, code: int) -> None:
        """Take an answer, with a success or not."""
        if self._servers is None or server not in self._servers.all:
            return  # the kubeconfig names other servers by now
        if code >= 500 and request.method != "GET":
            return  # a failing webhook answers so for every server, while reading works
        self._has_answered = True
        if line := self._servers.answered(server, code, monotonic_s()):
            log.warning("%s", line)
        self._metrics.api_server(self.host)
        self._end_exchanges_unless_current(server)

    def _leave(self, server: Server, error: RequestError) -> None:
        """Take it that a server cannot be reached; if it is in use, use the next one."""
        if self._servers is not None and server in self._servers.all:
            self._servers.failed(server, error, monotonic_s())
            self._end_exchanges_unless_current(server)

    def _end_exchanges_unless_current(self, server: Server) -> None:
        """Close the streams of a server that is no longer in use; watches resume at the next."""
        if self._servers is None or server == self._servers.current:
            return
        for response in [r for r, asked in self._open.items() if asked == server]:
            response.close()

    # -- credentials ------------------------------------------------------------------------

    async def _current(self, rejected: Access | None) -> tuple[Access, Transport, ServerPool]:
        """
        Return what a request needs, read again if `rejected` is still in use, or if files changed.

        Raises ConfigError or PluginError if nothing was read before that could stay in use.
        """
        asked_at = monotonic_s()
        # One request reads; the others wait for it instead of reading the same files again.
        async with self._reading:
            if self._failure is not None and self._failed_at >= asked_at:
                raise self._failure  # of a plugin that ran while this request waited
            now = datetime.datetime.now(datetime.UTC)
            access, before, servers = self._access, self._transport, self._servers
            if access is None or before is None or servers is None:
                previous = None
            else:
                previous = access, before, servers
                must_wait = access.has_plugin and monotonic_s() < self._renew_again_at
                if access is not rejected and (must_wait or not access.is_stale(now)):
                    return previous
            try:
                access = await read_access(self._settings, os.environ, self._plugins)
                transport = check_tls(access, Transport)
            except (ConfigError, PluginError) as error:
                if previous is None:
                    self._failure, self._failed_at = error, monotonic_s()
                    raise
                self._report_once(error)
                self._renew_again_at = monotonic_s() + _RENEW_AGAIN_S
                return previous
            self._reported, self._failure = "", None
            if servers is None or servers.all != access.servers:
                servers = ServerPool(access.servers, self._settings.spread)
                self._has_answered = False
            self._access, self._transport, self._servers = access, transport, servers
        if before is not None:
            await before.retire()
        return access, transport, servers

    def _report_once(self, error: NfproxyError) -> None:
        """Report that credentials cannot be read, unless that is known."""
        if str(error) != self._reported:
            remedies = (error.remedy, "the previous credentials stay in use")
            remedy = "; ".join(filter(None, remedies))
            self._report(Problem("", f"API server {self.host}", "", error.what, remedy, "API"))
        self._reported = str(error)
