"""
One request to one API server, and what comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from multidict import CIMultiDict

from nfproxy import __version__
from nfproxy.apiserver import failures
from nfproxy.apiserver.access import Access
from nfproxy.apiserver.failures import RequestError
from nfproxy.apiserver.servers import Server
from nfproxy.apiserver.transport import Transport
from nfproxy.kube.watch import Status, read_status
from nfproxy.metrics import Metrics

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


def headers(access: Access, request: Request) -> CIMultiDict[str]:
    """Return the headers of a request. Raises ConfigError where there is no token to be read."""
    made = CIMultiDict(
        {
            "Accept": "application/json",
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
    request: Request,
    head: CIMultiDict[str],
    connect_s: float,
    credentials: str,
    observer: Metrics,
) -> aiohttp.ClientResponse:
    """
    Return the response if it is a success; whoever gets it closes it.

    `connect_s` is how long TCP and TLS may take. Raises RequestError: for an answer that is none,
    with `credentials` for where ours are from, and for none at all, with the cause.
    """
    url = f"{server.url}{request.path}?{urlencode(request.query)}"
    size = 0 if request.body is None else len(msgspec.json.encode(request.body))
    began = time.monotonic()
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
            if response.status < 300:
                stack.pop_all()
                return response
            said = await _beginning(response)
        except _TRANSPORT_ERRORS as error:
            raise RequestError(failures.unanswered(error, server.host)) from error
        finally:
            seconds = time.monotonic() - began
            observer.request(request.method, server.host, code, seconds, size)
    raise _refused(response, said, credentials)


def _refused(response: aiohttp.ClientResponse, said: bytes, credentials: str) -> RequestError:
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
    return RequestError(failures.answered(status, reason, credentials), status)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or as much of it as a person may want to know."""
    try:
        return await response.content.readexactly(_ERROR_BODY_BYTES)
    except asyncio.IncompleteReadError as error:
        return error.partial
