"""Health check node ports of a test, and who asks at them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from support.client.http11 import ask

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import ObjectName
from nfproxy.plan.servicehealth import HealthCheck
from nfproxy.servers.healthcheckports import HealthCheckServers, Key, ListenFailure

V4, V6 = Family.IPV4, Family.IPV6
WEB, SHOP = ObjectName("ns", "web"), ObjectName("ns", "shop")
EVERYWHERE: Mapping[Family, Collection[bytes] | None] = {V4: None, V6: None}
ONE, TWO = "127.0.0.1", "127.0.0.2"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def at(*addresses: str) -> Mapping[Family, Collection[bytes] | None]:
    """Return IPv4 addresses to listen at, and none of IPv6."""
    return {V4: [parse_address(address) for address in addresses], V6: []}


class Proxy:
    """The servers under test, the health they ask for, and the failures they reported."""

    def __init__(self) -> None:
        self.healthy = True
        self.failures: list[ListenFailure] = []
        self.own_ports: dict[int, str] = {}
        self.servers = HealthCheckServers(
            lambda: self.healthy, self.failures.append, self.own_ports
        )
        self._wanted: Mapping[Key, HealthCheck] = {}

    async def update(
        self,
        wanted: Mapping[Key, HealthCheck],
        addresses: Mapping[Family, Collection[bytes] | None],
    ) -> None:
        """Have these health checks alone served, and those that failed tried again."""
        gone = dict.fromkeys(key for key in self._wanted if key not in wanted)
        changed = {key: one for key, one in wanted.items() if self._wanted.get(key) != one}
        self._wanted = dict(wanted)
        await self.servers.update(gone | changed, addresses, retry=True)


def run(test: Callable[[Proxy], Awaitable[None]]) -> None:
    """Run a test with servers that are closed after it."""

    async def use() -> None:
        proxy = Proxy()
        try:
            await test(proxy)
        finally:
            await proxy.servers.close()
        assert proxy.servers.listeners == 0

    asyncio.run(use())


async def refused(host: str, port: int) -> bool:
    """Return whether a connection is refused."""
    try:
        await ask((host, port), "/")
    except ConnectionRefusedError:
        return True
    return False
