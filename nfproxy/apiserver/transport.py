"""One request to one API server: the official client's connections, which the kernel supervises."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from multidict import CIMultiDict

from nfproxy import __version__
from nfproxy.apiserver import failures
from nfproxy.apiserver.access import Access
from nfproxy.apiserver.kubeclient import RESTClientObject
from nfproxy.apiserver.serverpool import Server
from nfproxy.clock import monotonic_s, unix_s
from nfproxy.kube.apistatus import RequestError, Status, read_status, refused
from nfproxy.metrics import Metrics
from nfproxy.text import shorten

# The kernel notices within 35 s that a peer is gone, while the client waits or watches.
_IDLE_S, _PROBE_EVERY_S, _PROBES = 20, 5, 3
_UNANSWERED_MS = 35_000

# Idle connections serve the pages of a list. A connection kept for longer may lead to a server that
# is gone, and a request sent into it would wait until the kernel notices.
_KEEP_IDLE_S = 3

_READ_BUFFER = 1 << 18  # bytes for each watch; the official client's own are 2 MB
_MAX_ERROR_BODY = 1 << 16  # bytes
_ERROR_BODY_S = 10.0  # for the text of an error; its code is known by then
_USER_AGENT = f"nfproxy/{__version__}"
# aiohttp raises ValueError for an address or a header that HTTP cannot carry.
_TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, ValueError)


_JSON = "application/json"
#: For objects without managedFields, which no part of nfproxy reads. From Kubernetes 1.38 on, API
#: servers leave them out where the gate ManagedFieldsOptOut is on. Others ignore the parameter, and
#: the second type is for proxies that do not.
WITHOUT_MANAGED_FIELDS = f"{_JSON};drop=metadata.managedFields, {_JSON}"


class ApiRequest(msgspec.Struct, frozen=True):
    """
    What to ask.

    `head_s` is how long the answer may take to begin, `silence_s` how long no byte may come after
    that, and `max_bytes` how long the body may be where it is read as a whole. `counted` requests
    keep to the rate of qps and burst; further pages of a list do not.
    """

    path: str
    query: Mapping[str, str] = {}
    method: str = "GET"
    body: dict[str, Any] | None = None
    content_type: str = _JSON
    accept: str = _JSON
    head_s: float = 60.0
    silence_s: float = 60.0
    max_bytes: int = 8 << 20
    counted: bool = True


class Transport(RESTClientObject):  # type: ignore[misc] # the client has no types
    """
    The official client's transport for one configuration, closed after its last request.

    The connection replaces it when certificates change, while watches still use the old one.
    """

    def __init__(self, configuration: Any) -> None:
        """Make the TLS context. Raises OSError or ValueError if the certificates cannot be used."""
        configuration.client_session_kwargs = {
            "trust_env": False,  # each Server knows its proxy
            "read_bufsize": _READ_BUFFER,
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        super().__init__(configuration)
        # Go trusts a CA that it is given, also one that another has signed. Python does so by
        # default from 3.13 on.
        self.ssl_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._users = 0
        self._is_retired = False

    # A private method of the client: kubeclient.py checks at start that it exists.
    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=self.maxsize,
            ssl=self.ssl_context,
            socket_factory=_socket,
            ttl_dns_cache=10,
            keepalive_timeout=_KEEP_IDLE_S,
        )

    # The same holds for this one.
    def _create_pool_manager(self) -> Any:
        return _WithoutRedirects(super()._create_pool_manager())

    async def ask(self, proxy: str | None, **request: Any) -> Any:
        """Make a request through a proxy, None for none; see the client's ``request``."""
        self.proxy = proxy  # the client reads it before the request first waits
        return await self.request(**request)

    async def __aenter__(self) -> Transport:
        """Keep the transport open for one exchange."""
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the exchange."""
        self._users -= 1
        await self._close_unused()

    async def retire(self) -> None:
        """Close after the last exchange; at once if there is none."""
        self._is_retired = True
        await self._close_unused()

    async def _close_unused(self) -> None:
        if self._is_retired and not self._users:
            await self.close()


class _WithoutRedirects:
    """
    A session whose requests go to the server that they name, and nowhere else.

    Another server would receive what is meant for the API server, and its empty list would remove
    every Service.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, **arguments: Any) -> aiohttp.ClientResponse:
        return await self._session.request(**arguments, allow_redirects=False)

    async def close(self) -> None:
        await self._session.close()


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket whose connection breaks when the peer is gone."""
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
    return made


def headers(access: Access, request: ApiRequest) -> CIMultiDict[str]:
    """Return the headers of a request. Raises ConfigError if the token cannot be read."""
    made = CIMultiDict(
        {
            "Accept": request.accept,
            "User-Agent": _USER_AGENT,
            "Content-Type": request.content_type,
        }
    )
    made.extend(access.impersonation)
    if authorization := access.authorization():
        made["Authorization"] = authorization
    return made


async def exchange(
    transport: Transport,
    server: Server,
    request: ApiRequest,
    head: CIMultiDict[str],
    connect_s: float,
    credentials: str,
    metrics: Metrics,
) -> aiohttp.ClientResponse:
    """
    Return the response if it is a success; the caller closes it.

    TCP and TLS may take `connect_s`; `credentials` names the file of the credentials, for messages.
    Raises RequestError: with the Status of an answer, with the cause where there was no answer.
    """
    url = f"{server.url}{request.path}?{urlencode(request.query)}"
    size = 0 if request.body is None else len(msgspec.json.encode(request.body))
    began = monotonic_s()
    code = "<error>"
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(request.head_s):
                answer = await transport.ask(
                    server.proxy,
                    method=request.method,
                    url=url.removesuffix("?"),
                    headers=head,
                    body=request.body,
                    _request_timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=connect_s, sock_read=request.silence_s
                    ),
                )
            response: aiohttp.ClientResponse = answer.response
            code = str(response.status)
            stack.callback(response.close)
            if 200 <= response.status < 300:
                stack.pop_all()
                return response
            body = await _error_body(response)
        except _TRANSPORT_ERRORS as error:
            raise failures.unanswered(error, server.host) from error
        finally:
            seconds = monotonic_s() - began
            metrics.request(request.method, server.host, code, seconds, size)
    raise _refusal(response, body, credentials)


def _refusal(response: aiohttp.ClientResponse, body: bytes, credentials: str) -> RequestError:
    status = read_status(body) or Status()
    header_s = failures.retry_after_s(response.headers.get("Retry-After"), unix_s())
    status = msgspec.structs.replace(
        status,
        code=response.status,
        retry_after_s=status.retry_after_s if header_s is None else header_s,
    )
    reason = response.reason or ""
    if failures.wants_tls(response.status, body):
        reason = failures.USE_HTTPS
    return refused(status, reason, credentials, _redirect_target(response))


def _redirect_target(response: aiohttp.ClientResponse) -> str:
    """Return where a redirect leads, without a query: it may hold secrets. "" for no redirect."""
    location = response.headers.get("Location", "")
    return shorten(location.partition("?")[0].partition("#")[0].rpartition("@")[2])


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, its first part if it is longer than any Status, nothing if it drips."""
    try:
        async with asyncio.timeout(_ERROR_BODY_S):
            return await response.content.readexactly(_MAX_ERROR_BODY)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except (TimeoutError, aiohttp.ClientError):  # the code of the answer says enough
        return b""
