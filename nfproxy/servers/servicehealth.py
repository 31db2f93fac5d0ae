"""
Services' health check node ports (``spec.healthCheckNodePort``).

Every path and method gets the same answer: the number of local endpoints, with code 200 if
there are any and the proxy's sync is healthy. The state of the Node does not matter here.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from aiohttp import web

from nfproxy.model.addresses import Family, parse_prefix
from nfproxy.model.service import ObjectName
from nfproxy.plan.servicehealth import HealthCheck
from nfproxy.servers.listening import advice, listen_in_family
from nfproxy.servers.pages import JSON, answer
from nfproxy.servers.serving import Connections, Serving

log = logging.getLogger(__name__)

#: Of all services together; load balancers ask and hang up.
_CONNECTIONS = 256

#: Needs an interface to be bound to, and no load balancer comes from there.
_LINK_LOCAL = parse_prefix("fe80::/10")

Key = tuple[ObjectName, Family]

#: Packed addresses, by family; None stands for every local address of the family.
Addresses = Mapping[Family, Collection[bytes] | None]

_EVERYWHERE: tuple[None] = (None,)


class ListenFailure(NamedTuple):
    """A health check node port that cannot be listened on; `message` fits an Event's note."""

    service: ObjectName
    family: Family
    port: int
    message: str


class ServiceHealthServers:
    """
    Listens for as many Services as it is told, at as many addresses.

    What stays wanted stays open; when a port or an address goes, its connections end.
    Sockets are opened in the network namespace of the calling thread.
    """

    def __init__(
        self, healthy: Callable[[], bool], failed: Callable[[ListenFailure], None]
    ) -> None:
        """Start without any; `failed` is called for each failure, at each update."""
        self._healthy = healthy
        self._failed = failed
        self._connections = Connections(_CONNECTIONS)
        self._services: dict[Key, _Service] = {}
        self._told: dict[Key, str] = {}
        self._wanted: Mapping[Key, HealthCheck] = {}
        self._addresses: Addresses = {}

    @property
    def listeners(self) -> int:
        """How many sockets listen."""
        return sum(len(service.listeners) for service in self._services.values())

    async def update(self, wanted: Mapping[Key, HealthCheck], addresses: Addresses) -> None:
        """
        Open, close and move what differs from the last call; take over all counts.

        A service that cannot be listened for at one of its addresses is not listened for at
        all, and tried again at the next call. One call at a time.
        """
        if not self._told and wanted == self._wanted and addresses == self._addresses:
            return
        self._wanted, self._addresses = dict(wanted), dict(addresses)
        places = {family: _places(found) for family, found in addresses.items()}
        # everything that goes is closed first: its port may be wanted by another
        await self._close_all(self._unwanted(wanted, places))
        for key, check in wanted.items():
            service = self._services.get(key)
            if service is None:
                service = self._services[key] = _Service(key[0], check, self._healthy)
            service.check = check
            await self._open(key, service, places.get(key[1], ()))
        for key in self._told.keys() - wanted.keys():
            del self._told[key]

    async def close(self) -> None:
        """Close everything. Idempotent."""
        self._wanted, self._addresses, self._told = {}, {}, {}
        await self._close_all(self._unwanted({}, {}))

    def _unwanted(
        self,
        wanted: Mapping[Key, HealthCheck],
        places: Mapping[Family, Collection[bytes | None]],
    ) -> list[Serving]:
        """Take out what is not wanted any more, and return it."""
        taken: list[Serving] = []
        for key, service in list(self._services.items()):
            check = wanted.get(key)
            stays = check is not None and check.port == service.check.port
            keep = places.get(key[1], ()) if stays else ()
            for place in service.listeners.keys() - set(keep):
                taken.append(service.listeners.pop(place))
            if not stays:
                del self._services[key]
        return taken

    async def _open(self, key: Key, service: _Service, places: Iterable[bytes | None]) -> None:
        name, family = key
        port = service.check.port
        try:
            for place in places:
                if place not in service.listeners:
                    opened = listen_in_family(family, place, port)
                    serving = service.listeners[place] = Serving(service.page, self._connections)
                    await serving.start(opened)
        except OSError as error:
            await self._close_all(service.listeners.values())
            del self._services[key]
            text = f'failed to start healthcheck "{name}" on port {port}: {advice(error)}'
            if self._told.get(key) != text:
                log.error("%s (%s); trying again at every sync", text, family.label)
            self._told[key] = text
            self._failed(ListenFailure(name, family, port, text))
        else:
            self._told.pop(key, None)

    async def _close_all(self, servings: Iterable[Serving]) -> None:
        await asyncio.gather(*(serving.close() for serving in servings))


class _Service:
    """One Service in one family: its answer, and where it is given."""

    def __init__(self, name: ObjectName, check: HealthCheck, healthy: Callable[[], bool]) -> None:
        self._name = name
        self._healthy = healthy
        self.check = check
        self.listeners: dict[bytes | None, Serving] = {}

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
    """Return where to listen; None among them stands for everywhere."""
    if addresses is None:
        return _EVERYWHERE
    return [address for address in addresses if address not in _LINK_LOCAL]
