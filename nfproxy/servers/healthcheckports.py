"""
The health check node ports of Services (``spec.healthCheckNodePort``).

Load balancers ask there whether this node has endpoints of a Service. Every path and method gets
the same answer: the number of local endpoints, with code 200 if there are any and the proxy is in
sync. Whether the Node may get traffic makes no difference here.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from aiohttp import web

from nfproxy.model.addresses import Family, parse_prefix
from nfproxy.model.service import ObjectName
from nfproxy.plan.servicehealth import HealthCheck
from nfproxy.servers.admission import Connections
from nfproxy.servers.listening import listen_in_family, why_not
from nfproxy.servers.pages import JSON, answer
from nfproxy.servers.serving import SocketServer

log = logging.getLogger(__name__)

#: Of all Services together; load balancers ask and hang up.
_CONNECTIONS = 256

#: No load balancer asks from a link-local address, and a socket for one needs an interface.
_LINK_LOCAL = parse_prefix("fe80::/10")

Key = tuple[ObjectName, Family]

#: Packed addresses to listen at, by family; None stands for every local address of the family.
Addresses = Mapping[Family, Collection[bytes] | None]

_EVERYWHERE: tuple[None] = (None,)


class ListenFailure(NamedTuple):
    """
    A health check node port that cannot be listened on; `message` is for an Event's note.

    `other` is the Service that uses the port, too; None where a process does.
    """

    service: ObjectName
    family: Family
    port: int
    message: str
    other: ObjectName | None = None


class HealthCheckServers:
    """
    Listens on the health check node ports of Services, at the node's addresses.

    Sockets are opened in the network namespace of the calling thread. Belongs to the event loop.
    """

    def __init__(
        self,
        healthy: Callable[[], bool],
        failed: Callable[[ListenFailure], None],
        own_ports: Mapping[int, str],
    ) -> None:
        """
        Listen nowhere yet.

        `healthy` returns whether the proxy is in sync. `failed` is called at each update for each
        port that cannot be listened on. `own_ports` says what nfproxy itself serves at which port.
        """
        self._healthy = healthy
        self._failed = failed
        self._own_ports = own_ports
        self._connections = Connections(_CONNECTIONS)
        self._services: dict[Key, _Service] = {}
        self._failures: dict[Key, str] = {}
        self._wanted: Mapping[Key, HealthCheck] = {}
        self._addresses: Addresses = {}

    @property
    def listeners(self) -> int:
        """How many sockets listen."""
        return sum(len(service.listeners) for service in self._services.values())

    async def update(self, wanted: Mapping[Key, HealthCheck], addresses: Addresses) -> None:
        """
        Open and close sockets until they are those wanted; take over all counts of endpoints.

        Sockets that stay wanted stay open. When a port or an address goes, its connections end. A
        Service that cannot be served at one of its addresses is served at none, and tried again at
        the next update. One call at a time.
        """
        if not self._failures and wanted == self._wanted and addresses == self._addresses:
            return
        self._wanted, self._addresses = dict(wanted), dict(addresses)
        places = {family: _places(found) for family, found in addresses.items()}
        # Close before opening: a port may move from one Service to another.
        await self._close_all(self._unwanted(wanted, places))
        holders = self._holders(wanted)
        for key, check in wanted.items():
            holder = holders[key[1], check.port]
            if check.node_port_of is not None:
                await self._refuse(key, check, check.node_port_of, "is a node port of Service {}")
                continue
            if holder != key[0]:
                what = "is the healthCheckNodePort of Service {}, too"
                await self._refuse(key, check, holder, what)
                continue
            service = self._services.get(key)
            if service is None:
                service = self._services[key] = _Service(key[0], check, self._healthy)
            service.check = check
            await self._open(key, service, places.get(key[1], ()))
        for key in self._failures.keys() - wanted.keys():
            del self._failures[key]

    async def close(self) -> None:
        """Close everything. Idempotent."""
        self._wanted, self._addresses, self._failures = {}, {}, {}
        await self._close_all(self._unwanted({}, {}))

    def _unwanted(
        self,
        wanted: Mapping[Key, HealthCheck],
        places: Mapping[Family, Collection[bytes | None]],
    ) -> list[SocketServer]:
        """Take out the servers that are not wanted any more, and return them."""
        taken: list[SocketServer] = []
        for key, service in list(self._services.items()):
            check = wanted.get(key)
            stays = check is not None and check.port == service.check.port
            keep = places.get(key[1], ()) if stays else ()
            for place in service.listeners.keys() - set(keep):
                taken.append(service.listeners.pop(place))
            if not stays:
                del self._services[key]
        return taken

    def _holders(self, wanted: Mapping[Key, HealthCheck]) -> dict[tuple[Family, int], ObjectName]:
        """Return which Service has each port: the one that listens, else the first by name."""
        holders = {(key[1], one.check.port): key[0] for key, one in self._services.items()}
        for (name, family), check in sorted(wanted.items(), key=lambda item: item[0]):
            holders.setdefault((family, check.port), name)
        return holders

    async def _refuse(self, key: Key, check: HealthCheck, other: ObjectName, what: str) -> None:
        """Serve a Service nowhere, since another Service uses its port."""
        service = self._services.pop(key, None)
        if service is not None:
            await self._close_all(service.listeners.values())
        remedy = "give one of them another port"
        self._report(key, check.port, f"it {what.format(other)}; {remedy}", other)

    def _report(self, key: Key, port: int, why: str, other: ObjectName | None = None) -> None:
        name, family = key
        text = f'failed to start healthcheck "{name}" on port {port}: {why}'
        if self._failures.get(key) != text:
            place = f"on port {port} ({family.label})"
            shown = text.replace(f"on port {port}", place, 1)
            log.error("%s; trying again at every sync", shown)
        self._failures[key] = text
        self._failed(ListenFailure(name, family, port, text, other))

    async def _open(self, key: Key, service: _Service, places: Iterable[bytes | None]) -> None:
        family, port = key[1], service.check.port
        try:
            for place in places:
                if place not in service.listeners:
                    opened = listen_in_family(family, place, port)
                    server = SocketServer(service.page, self._connections)
                    service.listeners[place] = server
                    server.start(opened)
        except OSError as error:
            await self._close_all(service.listeners.values())
            del self._services[key]
            self._report(key, port, self._why_not(error, port))
        else:
            self._failures.pop(key, None)

    def _why_not(self, error: OSError, port: int) -> str:
        own = self._own_ports.get(port)
        if own is None or error.errno != errno.EADDRINUSE:
            return why_not(error)
        return f"nfproxy serves {own} there; give the Service another port"

    async def _close_all(self, servers: Iterable[SocketServer]) -> None:
        await asyncio.gather(*(server.close() for server in servers))


class _Service:
    """One Service in one family: its answer, and the servers that give it."""

    def __init__(self, name: ObjectName, check: HealthCheck, healthy: Callable[[], bool]) -> None:
        self._name = name
        self._healthy = healthy
        self.check = check
        self.listeners: dict[bytes | None, SocketServer] = {}

    async def page(self, request: web.BaseRequest) -> web.Response:
        """Answer any request."""
        healthy = self._healthy()
        count = self.check.endpoints
        body = {
            "service": {"namespace": self._name.namespace, "name": self._name.name},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        return answer(
            json.dumps(body, indent="\t").encode(),
            JSON,
            200 if count > 0 and healthy else 503,
            {"X-Load-Balancing-Endpoint-Weight": str(count)},
        )


def _places(addresses: Collection[bytes] | None) -> Collection[bytes | None]:
    """Return the addresses to listen at; None among them stands for all of the family."""
    if addresses is None:
        return _EVERYWHERE
    return [address for address in addresses if address not in _LINK_LOCAL]
