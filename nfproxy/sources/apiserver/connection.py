"""
Requests to the API server, one at a time: with the right credentials, at a bounded rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from asyncio_throttle.throttler import Throttler
from multidict import CIMultiDict

from nfproxy import __version__
from nfproxy.errors import ConfigError
from nfproxy.kube.watch import Status, read_status
from nfproxy.model.changes import Problem
from nfproxy.sources.apiserver import failures
from nfproxy.sources.apiserver.access import Access, ClientSettings, check_tls, read_access
from nfproxy.sources.apiserver.failures import RequestError
from nfproxy.sources.apiserver.observer import Observer, Unobserved
from nfproxy.sources.apiserver.plugins import PluginError, PluginRunner
from nfproxy.sources.apiserver.transport import Transport
from nfproxy.sources.source import Report

__all__ = ["ClientSettings", "Connection", "Request"]

_CONNECT_S = 10.0  # TCP and TLS
_ERROR_BODY_BYTES = 1 << 16
_USER_AGENT = f"nfproxy/{__version__}"
# aiohttp raises ValueError for an address or a header that HTTP cannot carry
_TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, ValueError)


class Request(msgspec.Struct, frozen=True):
    """
    What to ask.

    `head_s` is how long the answer may take to begin, `silence_s` how long nothing may come
    after that. `counted` tells whether it waits for its turn; the further pages of a list do not.
    """

    path: str
    query: Mapping[str, str] = {}
    method: str = "GET"
    body: dict[str, Any] | None = None
    content_type: str = "application/json"
    head_s: float = 60.0
    silence_s: float = 60.0
    counted: bool = True


class Connection:
    """
    The API server, as one client of it.

    Credentials and certificates are read anew when their files change, when they are about to
    expire, and when the API server does not accept them; what cannot be read then leaves those
    read before in use.
    """

    def __init__(
        self, settings: ClientSettings, report: Report, observer: Observer | None = None
    ) -> None:
        """Take the settings, and whom to tell; nothing is read before :meth:`open`."""
        self._settings = settings
        self._report = report
        self._observer = observer or Unobserved()
        self._plugins = PluginRunner()
        self._access: Access | None = None
        self._transport: Transport | None = None
        self._reading = asyncio.Lock()
        self._said = ""
        self._throttle: Throttler | None = None
        if settings.qps >= 0:
            burst = max(settings.burst, 1)
            self._throttle = Throttler(burst, period=burst / (settings.qps or 5.0))

    @property
    def host(self) -> str:
        """The API server's ``host:port``, "" until it is known."""
        return self._access.host if self._access else ""

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
        and tried once more.
        """
        await self._take_turn(request)
        async with contextlib.AsyncExitStack() as stack:
            try:
                response = await self._send(request, stack, None)
            except RequestError as error:
                if error.status.code != 401:
                    raise
                self._observer.retried(request.method, self.host, "401")
                response = await self._send(request, stack, self._access)
            try:
                yield response
            except (aiohttp.ClientError, OSError) as error:
                raise RequestError(failures.unanswered(error, self.host)) from error

    async def read(self, request: Request) -> bytes:
        """Make a request and return the whole body. Raises RequestError."""
        async with self.ask(request) as response:
            body = await response.read()
        self._observer.received(request.method, self.host, len(body))
        return body

    async def _take_turn(self, request: Request) -> None:
        if self._throttle is None or not request.counted:
            return
        began = time.monotonic()
        await self._throttle.acquire()  # type: ignore[no-untyped-call]
        self._observer.waited(request.method, self.host, time.monotonic() - began)

    async def _send(
        self,
        request: Request,
        stack: contextlib.AsyncExitStack,
        distrust: Access | None,
    ) -> aiohttp.ClientResponse:
        """Return the response if it is a success; `stack` closes it. Raises RequestError."""
        try:
            access, transport = await self._current(distrust)
            headers = self._headers(access, request)
        except (ConfigError, PluginError) as error:
            raise RequestError(str(error)) from error
        await stack.enter_async_context(transport)
        url = f"{access.configuration.host}{request.path}?{urlencode(request.query)}"
        size = 0 if request.body is None else len(msgspec.json.encode(request.body))
        began = time.monotonic()
        code = "<error>"
        try:
            async with asyncio.timeout(request.head_s):
                answer = await transport.request(
                    request.method,
                    url.removesuffix("?"),
                    headers=headers,
                    body=request.body,
                    _request_timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=_CONNECT_S, sock_read=request.silence_s
                    ),
                )
            response: aiohttp.ClientResponse = answer.response
            code = str(response.status)
            stack.callback(response.close)
            if response.status < 300:
                return response
            said = await _beginning(response)
        except _TRANSPORT_ERRORS as error:
            raise RequestError(failures.unanswered(error, access.host)) from error
        finally:
            seconds = time.monotonic() - began
            self._observer.request(request.method, access.host, code, seconds, size)
        raise self._refused(response, said, access)

    @staticmethod
    def _refused(response: aiohttp.ClientResponse, said: bytes, access: Access) -> RequestError:
        status = read_status(said) or Status()
        wish_s = failures.retry_after_s(response.headers.get("Retry-After"), time.time())
        status = msgspec.structs.replace(
            status,
            code=response.status,
            retry_after_s=status.retry_after_s if wish_s is None else wish_s,
        )
        reason = response.reason or ""
        if failures.wants_tls(response.status, said):
            reason = failures.USE_HTTPS
        text = failures.answered(status, reason, access.credentials)
        return RequestError(text, status)

    @staticmethod
    def _headers(access: Access, request: Request) -> CIMultiDict[str]:
        headers = CIMultiDict(
            {
                "Accept": "application/json",
                "User-Agent": _USER_AGENT,
                "Content-Type": request.content_type,
            }
        )
        headers.extend(access.impersonation)
        if authorization := access.authorization():
            headers["Authorization"] = authorization
        return headers

    async def _current(self, distrust: Access | None) -> tuple[Access, Transport]:
        """
        Return access and transport, read anew if `distrust` is what is in use, or if due.

        Raises ConfigError or PluginError if there is none yet.
        """
        async with self._reading:
            now = datetime.datetime.now(datetime.UTC)
            access, transport = self._access, self._transport
            if access and transport and access is not distrust and not access.stale(now):
                return access, transport
            try:
                access = await read_access(self._settings, os.environ, self._plugins)
                transport = check_tls(access, Transport)
            except (ConfigError, PluginError) as error:
                if self._access is None or self._transport is None:
                    raise
                self._say(f"{error}; what was read before stays in use")
                return self._access, self._transport
            self._say("")
            before, self._access, self._transport = self._transport, access, transport
        if before is not None:
            await before.retire()
        return access, transport

    def _say(self, text: str) -> None:
        """Report a trouble with the credentials when it arises, not each time."""
        if text and text != self._said:
            self._report(Problem("", f"API server {self.host}", "", text))
        self._said = text


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or as much of it as a person may want to know."""
    try:
        return await response.content.readexactly(_ERROR_BODY_BYTES)
    except asyncio.IncompleteReadError as error:
        return error.partial
