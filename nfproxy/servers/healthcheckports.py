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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy.model.addresses import Family, parse_prefix
from nfproxy.model.service import ObjectName
from nfproxy.plan.servicehealth import HealthCheck
from nfproxy.servers.accepting import Reserve
from nfproxy.servers.admission import Connections
from nfproxy.servers.listening import listen_in_family, share_of_files, why_not
from nfproxy.servers.pages import JSON, answer
from nfproxy.servers.serving import SocketServer

log = logging.getLogger(__name__)

#: Of all Services together; load balancers ask and hang up.
_CONNECTIONS = 256

#: All sockets take at most this share (one of so many) of the files that may be open, and are not
#: more than these: each takes 3 KB of nfproxy's memory, and as much of the kernel's.
_SHARE_OF_FILES, _MOST = 2, 20_000

#: So many sockets are opened or closed before the event loop does other things: some 5 ms.
_AT_ONCE = 50

#: No load balancer asks from a link-local address, and a socket for one needs an interface.
_LINK_LOCAL = parse_prefix("fe80::/10")

Key = tuple[ObjectName, Family]
_Port = tuple[Family, int]

#: Packed addresses to listen at, by family; None stands for every local address of the family.
Addresses = Mapping[Family, Collection[bytes] | None]

_EVERYWHERE: Collection[bytes | None] = frozenset((None,))


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

        `healthy` returns whether the proxy is in sync. `failed` is called at each attempt for each
        port that cannot be listened on. `own_ports` says what nfproxy itself serves at which port.
        """
        self._healthy = healthy
        self._failed = failed
        self._own_ports = own_ports
        self._connections = Connections(_CONNECTIONS)
        self._reserve = Reserve()
        self._services: dict[Key, _Service] = {}
        self._failures: dict[Key, str] = {}
        self._wanted: dict[Key, HealthCheck] = {}
        self._claims: dict[_Port, set[ObjectName]] = {}  # which Services want each port
        self._holders: dict[_Port, ObjectName] = {}  # and which one has it
        self._addresses: Addresses = {}
        self._places: Mapping[Family, Collection[bytes | None]] = {}
        self._most = min(_MOST, share_of_files(_SHARE_OF_FILES))
        self.listeners = 0  # how many sockets listen

    async def update(
        self,
        changed: Mapping[Key, HealthCheck | None],
        addresses: Addresses,
        *,
        retry: bool = False,
    ) -> None:
        """
        Take over health checks that changed, None for one that is gone; open and close sockets.

        Costs what changed, unless the addresses did. Sockets that stay wanted stay open. When a
        port or an address goes, its connections end. A Service that cannot be served at one of its
        addresses is served at none, and tried again with `retry`. One call at a time.
        """
        keys = {*changed}
        if retry:
            keys.update(self._failures)
        if addresses != self._addresses:
            self._addresses = dict(addresses)
            self._places = {family: _places(found) for family, found in addresses.items()}
            keys.update(self._wanted)
        freed = [port for key, check in changed.items() for port in self._want(key, check)]
        # Close before opening: a port may move from one Service to another.
        await self._close_all([one for key in keys for one in self._unwanted(key)])
        for family, port in freed:
            keys.update((name, family) for name in self._claims.get((family, port), ()))
        opened = self.listeners
        for key in sorted(keys):
            check = self._wanted.get(key)
            if check is None:
                self._failures.pop(key, None)
            else:
                await self._serve(key, check)
            if self.listeners - opened >= _AT_ONCE:
                opened = self.listeners
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Close everything. Idempotent."""
        await self.update(dict.fromkeys(self._wanted), {})
        self._reserve.close()

    def _want(self, key: Key, check: HealthCheck | None) -> Iterator[_Port]:
        """Take over what is wanted of a Service; yield the port that it had until now."""
        name, family = key
        before = self._wanted.pop(key, None)
        if check is not None:
            self._wanted[key] = check
            self._claims.setdefault((family, check.port), set()).add(name)
        if before is not None and (check is None or check.port != before.port):
            port = family, before.port
            self._claims[port].discard(name)
            if not self._claims[port]:
                del self._claims[port]
            yield port

    def _unwanted(self, key: Key) -> list[SocketServer]:
        """Take out a Service's servers that are not wanted any more, and return them."""
        service, check = self._services.get(key), self._wanted.get(key)
        if service is None:
            return []
        if check is None or check.port != service.check.port:
            return self._end(key)
        gone = service.listeners.keys() - self._places.get(key[1], ())
        return [service.listeners.pop(place) for place in gone]

    def _end(self, key: Key) -> list[SocketServer]:
        """Let a Service be served no longer; return what served it."""
        service = self._services.pop(key, None)
        if service is None:
            return []
        del self._holders[key[1], service.check.port]
        return [*service.listeners.values()]

    async def _serve(self, key: Key, check: HealthCheck) -> None:
        name, port = key[0], (key[1], check.port)
        if check.node_port_of is not None:
            await self._refuse(key, check, check.node_port_of, "is a node port of Service {}")
            return
        holder = self._holders.get(port) or min(self._claims[port])
        if holder != name:
            await self._refuse(key, check, holder, "is the healthCheckNodePort of Service {}, too")
            return
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = _Service(name, check, self._healthy)
            self._holders[port] = name
        service.check = check
        await self._open(key, service)

    async def _refuse(self, key: Key, check: HealthCheck, other: ObjectName, what: str) -> None:
        """Serve a Service nowhere, since another Service uses its port."""
        await self._close_all(self._end(key))
        remedy = "give one of them another port"
        self._report(key, check.port, f"it {what.format(other)}; {remedy}", other)

    def _report(self, key: Key, port: int, why: str, other: ObjectName | None = None) -> None:
        name, family = key
        text = f'failed to start healthcheck "{name}" on port {port}: {why}'
        if self._failures.get(key) != text:
            place = f"Service {name}: health check node port {port} ({family.label})"
            log.error("%s is not served: %s; trying again every 30 s", place, why)
        self._failures[key] = text
        self._failed(ListenFailure(name, family, port, text, other))

    async def _open(self, key: Key, service: _Service) -> None:
        family, port = key[1], service.check.port
        places = self._places.get(family, ())
        if self.listeners + len(places) - len(service.listeners) > self._most:
            await self._close_all(self._end(key))
            self._report(key, port, self._too_many())
            return
        try:
            for place in places:
                if place not in service.listeners:
                    opened = listen_in_family(family, place, port)
                    server = SocketServer(service.page, self._connections, self._reserve)
                    service.listeners[place] = server
                    server.start(opened)
                    self.listeners += 1
        except OSError as error:
            await self._close_all(self._end(key))
            self._report(key, port, self._why_not(error, port))
        else:
            self._failures.pop(key, None)

    def _why_not(self, error: OSError, port: int) -> str:
        own = self._own_ports.get(port)
        if error.errno != errno.EADDRINUSE:
            return why_not(error)
        if own is None:
            return (
                "another process listens there (kube-proxy, or another nfproxy?); "
                f"`ss -ltnp 'sport = :{port}'` names it: stop it, or give the Service another port"
            )
        return f"nfproxy serves {own} there; give the Service another port"

    def _too_many(self) -> str:
        return (
            f"health checks of all Services have {self._most} sockets at most, and no more than "
            "half of the files that may be open; raise that limit (LimitNOFILE=, ulimit -n), or "
            "name fewer addresses in nodePortAddresses"
        )

    async def _close_all(self, servers: Sequence[SocketServer]) -> None:
        self.listeners -= len(servers)
        closing = []
        for number, server in enumerate(servers, 1):
            closing.append(asyncio.create_task(server.close()))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*closing)


def _places(addresses: Collection[bytes] | None) -> Collection[bytes | None]:
    """Return the addresses to listen at; None among them stands for all of the family."""
    if addresses is None:
        return _EVERYWHERE
    return frozenset(address for address in addresses if address not in _LINK_LOCAL)


class _Service:
    """One Service in one family: its answer, and the servers that give it."""

    def __init__(self, name: ObjectName, check: HealthCheck, healthy: Callable[[], bool]) -> None:
        self._name = name
        self._healthy = healthy
        self.check = check
        self.listeners: dict[bytes | None, SocketServer] = {}

    async def page(self, request: BaseRequest) -> Response:
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
