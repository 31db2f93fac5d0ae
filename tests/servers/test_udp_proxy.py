"""Node ports on loopback addresses: listeners and flows, over UDP."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from support.ports import free_ports

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.plan.localnodeports import LocalNodePort, LocalPort, Target
from nfproxy.servers import udpproxy
from nfproxy.servers.tcpproxy import LocalNodePortServers

V4, V6 = Family.IPV4, Family.IPV6
WEB, SHOP = ObjectName("ns", "web"), ObjectName("ns", "shop")
ONE = {V4: "127.0.0.1", V6: "::1"}
KIND = {V4: socket.AF_INET, V6: socket.AF_INET6}
families = pytest.mark.parametrize("family", [V4, V6])
SOON_S, LATE_S = 20.0, 0.2


def datagrams(family: Family, port: int = 0) -> socket.socket:
    """Return a socket at a loopback address."""
    opened = socket.socket(KIND[family], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.bind((ONE[family], port))
    return opened


class Endpoint:
    """Answers a datagram with its name and the datagram in upper case."""

    def __init__(self, name: str, family: Family) -> None:
        self.name, self.socket = name, datagrams(family)
        self.target = Target(ONE[family], self.socket.getsockname()[1])
        self.clients: set[object] = set()
        asyncio.get_running_loop().add_reader(self.socket, self._answer)

    def close(self) -> None:
        """Answer no more: the kernel answers with ICMP errors from now on."""
        if self.socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.socket)
            self.socket.close()

    def _answer(self) -> None:
        data, client = self.socket.recvfrom(65_535)
        self.clients.add(client)
        self.socket.sendto(data.upper() + self.name.encode(), client)


class Proxy:
    """The servers under test, their clock, endpoints for each family, and clients."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.failed: list[Family] = []
        self.servers = LocalNodePortServers(self.failed.append, lambda: self.now_s)
        self.endpoints = {
            family: {name: Endpoint(name, family) for name in "abc"} for family in (V4, V6)
        }
        self.clients: list[socket.socket] = []
        (self.port,) = free_ports(1)

    def put(
        self,
        names: str,
        family: Family = V4,
        service: ObjectName = WEB,
        affinity: int | None = None,
    ) -> None:
        """Ask for a listener with these endpoints, or for none."""
        targets = tuple(self.endpoints[family][name].target for name in names)
        wanted = LocalNodePort(service, targets, affinity) if names else None
        self.servers.update({LocalPort(family, self.port, Protocol.UDP): wanted})

    def client(self, family: Family = V4) -> socket.socket:
        """Return a client with a port of its own."""
        opened = datagrams(family)
        opened.connect((ONE[family], self.port))
        self.clients.append(opened)
        return opened

    async def ask(
        self, client: socket.socket, data: bytes = b"x", limit_s: float = SOON_S
    ) -> bytes:
        """Send a datagram, and return the answer; b"" for none, b"refused" for an ICMP error."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(client, data)
            async with asyncio.timeout(limit_s):
                return await loop.sock_recv(client, 65_535)
        except ConnectionRefusedError:
            return b"refused"
        except TimeoutError:
            return b""

    async def drawn(self, family: Family = V4) -> str:
        """Return the endpoint that a new client gets."""
        return (await self.ask(self.client(family)))[-1:].decode()

    @property
    def flows(self) -> int:
        """How many flows there are."""
        return len(self.servers._flows)

    def close(self) -> None:
        """Close clients and endpoints."""
        for client in self.clients:
            client.close()
        for endpoints in self.endpoints.values():
            for endpoint in endpoints.values():
                endpoint.close()


def run(test: Callable[[Proxy], Awaitable[None]]) -> None:
    """Run a test; the servers leave nothing behind."""

    async def use() -> None:
        proxy = Proxy()
        try:
            await asyncio.wait_for(test(proxy), 60)
        finally:
            await proxy.servers.close()
            await proxy.servers.close()
            proxy.close()
        assert proxy.flows == 0
        assert sum(proxy.servers.listeners.values()) == 0

    asyncio.run(use())


@families
def test_datagrams_go_both_ways(family: Family) -> None:
    """Whole, up to the longest and down to an empty one; each client gets its own answers."""

    async def test(proxy: Proxy) -> None:
        proxy.put("a", family)
        assert proxy.servers.listeners == {V4: int(family is V4), V6: int(family is V6)}
        first, second = proxy.client(family), proxy.client(family)
        for data in (b"", b"hello", b"y" * 1400, b"z" * 60_000):
            assert await proxy.ask(first, data) == data.upper() + b"a"
            assert await proxy.ask(second, data + b"2") == data.upper() + b"2a"
        assert len(proxy.endpoints[family]["a"].clients) == 2
        assert proxy.flows == 2

    run(test)


def test_it_listens_at_one_loopback_address_alone() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.put("a")
        other = datagrams(V4)
        proxy.clients.append(other)
        other.connect(("127.0.0.2", proxy.port))
        assert await proxy.ask(other) == b"refused"
        assert await proxy.ask(proxy.client(V6)) == b"refused"

    run(test)


def test_each_client_draws_an_endpoint_and_keeps_it() -> None:
    """With 60 clients none of three is left out but once in 10^10 runs."""

    async def test(proxy: Proxy) -> None:
        proxy.put("abc")
        assert {await proxy.drawn() for _ in range(60)} == {"a", "b", "c"}
        client = proxy.client()
        assert len({await proxy.ask(client) for _ in range(20)}) == 1

    run(test)


def test_affinity_is_one_pin_for_all_clients() -> None:
    """It slides, ends with its timeout, with another timeout, and with its endpoint."""

    async def test(proxy: Proxy) -> None:
        proxy.put("abc", affinity=60)
        pinned = await proxy.drawn()
        for _ in range(10):
            proxy.now_s += 50
            assert await proxy.drawn() == pinned
        others = "abc".replace(pinned, "")
        proxy.put(others, affinity=60)
        assert await proxy.drawn() in others
        proxy.put("abc", affinity=60)
        drawn = set()
        for _ in range(60):
            proxy.now_s += 61
            drawn.add(await proxy.drawn())
        assert drawn == {"a", "b", "c"}

    run(test)


def test_an_endpoint_that_leaves_takes_its_flows_with_it() -> None:
    """Those to other endpoints go on: an address would be another pod's next."""

    async def test(proxy: Proxy) -> None:
        proxy.put("a")
        old = proxy.client()
        assert await proxy.ask(old) == b"Xa"
        proxy.put("ab")
        assert await proxy.ask(old) == b"Xa"
        proxy.put("b")
        assert proxy.flows == 0
        assert await proxy.ask(old) == b"Xb"

    run(test)


def test_an_icmp_error_ends_a_flow() -> None:
    """The client's next datagram draws again; other clients notice nothing."""

    async def test(proxy: Proxy) -> None:
        proxy.put("a")
        client, other = proxy.client(), proxy.client()
        await proxy.ask(client)
        proxy.endpoints[V4]["a"].close()
        assert await proxy.ask(client, limit_s=LATE_S) == b""
        assert proxy.flows == 0
        proxy.put("ab")
        for _ in range(60):
            answer = await proxy.ask(other, limit_s=LATE_S)
            if answer:
                break
        assert answer == b"Xb"

    run(test)


def test_an_endpoint_without_a_route_costs_the_datagram_alone() -> None:
    async def test(proxy: Proxy) -> None:
        wanted = LocalNodePort(WEB, (Target("255.255.255.255", 9),))
        proxy.servers.update({LocalPort(V4, proxy.port, Protocol.UDP): wanted})
        client = proxy.client()
        assert await proxy.ask(client, limit_s=LATE_S) == b""
        assert proxy.flows == 0
        proxy.put("a")
        assert await proxy.ask(client) == b"Xa"

    run(test)


def test_idle_flows_end_as_conntracks_do() -> None:
    """Sooner where no answer came; each datagram renews."""

    async def test(proxy: Proxy) -> None:
        with datagrams(V4) as silent:
            proxy.put("a")
            talks = proxy.client()
            await proxy.ask(talks)
            wanted = LocalNodePort(SHOP, (Target("127.0.0.1", silent.getsockname()[1]),))
            (port,) = free_ports(1)
            proxy.servers.update({LocalPort(V4, port, Protocol.UDP): wanted})
            lonely = datagrams(V4)
            proxy.clients.append(lonely)
            lonely.connect(("127.0.0.1", port))
            assert await proxy.ask(lonely, limit_s=LATE_S) == b""
            for later_s, left in ((29, 2), (2, 1), (80, 1), (10, 0)):
                proxy.now_s += later_s
                proxy.servers._flows.sweep()
                assert proxy.flows == left, later_s
            assert await proxy.ask(talks) == b"Xa"

    run(test)


def test_flows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new flow takes the place of the one that was idle longest: of its listener, then of all."""
    monkeypatch.setattr(udpproxy, "_FLOWS", 6)
    monkeypatch.setattr(udpproxy, "_FLOWS_EACH", 4)

    async def test(proxy: Proxy) -> None:
        proxy.put("a")
        proxy.put("a", V6)
        clients = [proxy.client() for _ in range(6)]
        for client in clients:
            assert await proxy.ask(client) == b"Xa"
            assert await proxy.ask(clients[0]) == b"Xa"  # never idle for long
        assert proxy.flows == 4
        before = len(proxy.endpoints[V4]["a"].clients)
        assert await proxy.ask(clients[0]) == b"Xa"
        assert len(proxy.endpoints[V4]["a"].clients) == before
        for _ in range(5):
            assert await proxy.drawn(V6) == "a"
        assert proxy.flows == 6

    run(test)


def test_another_service_takes_no_flow_over() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.put("a")
        client = proxy.client()
        await proxy.ask(client)
        proxy.put("ab", service=SHOP)
        assert proxy.flows == 0
        proxy.put("")
        assert await proxy.ask(client) == b"refused"

    run(test)


def test_a_port_that_is_taken_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is reported once, and counted each time."""

    async def test(proxy: Proxy) -> None:
        with datagrams(V4, proxy.port):
            proxy.put("a")
            proxy.servers.retry()
            assert proxy.failed == [V4, V4]
        assert caplog.text.count(f"node port {proxy.port}/udp is not served on 127.0.0.1") == 1
        proxy.servers.retry()
        assert await proxy.drawn() == "a"

    run(test)


def test_a_flood_of_one_client_does_not_stop_others() -> None:
    """Datagrams are passed on a few at a time."""

    async def test(proxy: Proxy) -> None:
        proxy.put("a")
        flood, client = proxy.client(), proxy.client()

        def send() -> None:
            for _ in range(64):
                try:
                    flood.send(b"f" * 1000)
                except OSError:
                    return

        loop = asyncio.get_running_loop()
        loop.add_writer(flood, send)
        answer = b""
        try:
            for _ in range(20):  # where a queue is full, the kernel drops datagrams
                if answer := await proxy.ask(client, limit_s=1.0):
                    break
        finally:
            loop.remove_writer(flood)
        assert answer == b"Xa"

    run(test)
