"""
The addresses and ports at which this process reaches the API servers, or the proxies to them.

No Service may take them over: the node would not even hear that the Service is deleted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from nfproxy.apiserver.serverpool import Server
from nfproxy.errors import InputError
from nfproxy.model.addresses import parse_address

#: A packed address and a port.
Location = tuple[bytes, int]

_RESOLVE_S = 5.0
_PORTS = {"http": 80, "https": 443}


class Locations:
    """
    What servers' URLs stand for. Names are resolved, and what they stood for before is kept.

    For the event loop's thread; `current` may be read by any thread.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], frozenset[Location]] = {}
        self.current: frozenset[Location] = frozenset()

    async def find(self, servers: Sequence[Server]) -> None:
        """Bring `current` up to date. A name that cannot be resolved keeps its addresses."""
        wanted = [place for server in servers for place in _places(server)]
        for place in dict.fromkeys(wanted):
            self._found[place] = await _resolved(*place) or self._found.get(place, frozenset())
        for place in self._found.keys() - set(wanted):
            del self._found[place]
        self.current = frozenset(location for found in self._found.values() for location in found)


def _places(server: Server) -> list[tuple[str, int]]:
    """Return host and port of a server, and those of the proxy to it."""
    places = []
    for url in filter(None, (server.url, server.proxy)):
        parts = urlsplit(url)
        if parts.hostname:
            places.append((parts.hostname, parts.port or _PORTS.get(parts.scheme, 443)))
    return places


async def _resolved(host: str, port: int) -> frozenset[Location]:
    """Return the addresses of a host, none where it cannot be resolved in time."""
    try:
        return frozenset(((parse_address(host), port),))
    except InputError:
        pass  # a name
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError, TimeoutError):
        return frozenset()
    return frozenset((parse_address(str(address[0])), port) for *_, address in found)
