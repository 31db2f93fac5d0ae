"""
Connections to the API server: the official client's, watched over by the kernel.
"""

from __future__ import annotations

import socket
from typing import Any

import aiohttp

from nfproxy.apiserver.kubeclient import RESTClientObject

# A peer that vanished without a word is noticed within 35 s, watching or waiting.
_IDLE_S, _PROBE_EVERY_S, _PROBES = 20, 5, 3
_UNANSWERED_MS = 35_000

# Idle connections serve the pages of a list. One kept for longer may lead to where nobody is any
# more, and a request sent into it would wait for the kernel to find out.
_KEPT_S = 3

_READ_BUFFER = 1 << 18  # bytes; the client's own 2 MB would be there once per watch


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket on which the kernel finds out that nobody is there any more."""
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
    return made


class Transport(RESTClientObject):  # type: ignore[misc] # the client has no types
    """
    The client's transport for one configuration, closed once nobody uses it.

    It is replaced when certificates change, while watches still go through the old one.
    """

    def __init__(self, configuration: Any) -> None:
        configuration.client_session_kwargs = {
            "trust_env": False,  # proxies are in the configuration already
            "read_bufsize": _READ_BUFFER,
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        super().__init__(configuration)
        self._users = 0
        self._retired = False

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=self.maxsize,
            ssl=self.ssl_context,
            socket_factory=_socket,
            ttl_dns_cache=10,
            keepalive_timeout=_KEPT_S,
        )

    async def ask(self, proxy: str | None, **request: Any) -> Any:
        """Make a request through a proxy, None for none; see the client's ``request``."""
        self.proxy = proxy  # read before the request first waits
        return await self.request(**request)

    async def __aenter__(self) -> Transport:
        """Use the transport for one exchange."""
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the exchange."""
        self._users -= 1
        await self._close_unused()

    async def retire(self) -> None:
        """Close as soon as nobody uses it; at once if nobody does."""
        self._retired = True
        await self._close_unused()

    async def _close_unused(self) -> None:
        if self._retired and not self._users:
            await self.close()
