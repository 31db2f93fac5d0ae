"""Node ports on loopback addresses: listeners and connections, over TCP."""

import asyncio
import errno
import gc
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from support.ports import free_ports

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName
from nfproxy.plan.localnodeports import LocalNodePort, LocalPort, Target
from nfproxy.servers import tcpproxy
from nfproxy.servers.tcpproxy import LocalNodePortServers

V4, V6 = Family.IPV4, Family.IPV6
WEB, SHOP = ObjectName("ns", "web"), ObjectName("ns", "shop")
ONE = {V4: "127.0.0.1", V6: "::1"}
families = pytest.mark.parametrize("family", [V4, V6])
SOON_S = 20.0


class Endpoint:
    """Says its name, sends back what it gets in upper case, and ends after the client."""

    def __init__(self, name: str, family: Family = V4) -> None:
        self.name, self._family = name, family
        self.target = Target(ONE[family], 0)
        self.ended = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, ONE[self._family], 0)
        self.target = Target(ONE[self._family], self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self.name.encode() + b"\n")
            while data := await reader.read(1 << 16):
                writer.write(data.upper())
                await writer.drain()
            writer.write(b"the end")  # after the client's half-close
        except OSError:
            pass
        self.ended += 1
        writer.close()


class Proxy:
    """The servers under test, their clock, and two endpoints for each family."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.failed: list[Family] = []
        self.servers = LocalNodePortServers(self.failed.append, lambda: self.now_s)
        self.endpoints = {
            family: [Endpoint(f"{name}", family) for name in ("a", "b", "c")] for family in (V4, V6)
        }
        (self.port,) = free_ports(1)

    def wanted(
        self,
        *names: str,
        family: Family = V4,
        service: ObjectName = WEB,
        affinity: int | None = None,
    ) -> LocalNodePort:
        """Return a listener with these endpoints."""
        targets = tuple(e.target for e in self.endpoints[family] if e.name in names)
        return LocalNodePort(service, targets, affinity)

    def put(self, wanted: LocalNodePort | None, family: Family = V4, port: int = 0) -> None:
        """Ask for a listener, or for none."""
        self.servers.update({LocalPort(family, port or self.port): wanted})

    async def connect(
        self, family: Family = V4, host: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection of a client to the node port."""
        return await asyncio.open_connection(host or ONE[family], self.port)

    async def ask(self, family: Family = V4) -> str:
        """Return the name of the endpoint that a new connection goes to, "" for none."""
        try:
            reader, writer = await self.connect(family)
        except ConnectionResetError:
            return ""
        try:
            async with asyncio.timeout(SOON_S):
                return (await reader.readline()).decode().strip()
        except ConnectionError:
            return ""
        finally:
            writer.close()


def run(test: Callable[[Proxy], Awaitable[None]]) -> None:
    """Run a test with endpoints, and with servers that are closed after it and leave nothing."""

    async def use() -> None:
        proxy = Proxy()
        for endpoints in proxy.endpoints.values():
            for endpoint in endpoints:
                await endpoint.start()
        try:
            await asyncio.wait_for(test(proxy), 60)
        finally:
            await proxy.servers.close()
            await proxy.servers.close()
            for endpoints in proxy.endpoints.values():
                for endpoint in endpoints:
                    endpoint.close()
            await asyncio.sleep(0.05)  # their connections end, too
        assert sum(proxy.servers.listeners.values()) == 0

    asyncio.run(use())


async def refused(proxy: Proxy, family: Family = V4, host: str = "") -> bool:
    """Return whether a connection is refused."""
    try:
        _, writer = await proxy.connect(family, host)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@families
def test_data_goes_both_ways_and_half_close_is_passed_on(family: Family) -> None:
    """A client that has sent everything still gets the rest of the answer."""

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a", family=family), family)
        assert proxy.servers.listeners == {V4: int(family is V4), V6: int(family is V6)}
        reader, writer = await proxy.connect(family)
        assert await reader.readline() == b"a\n"
        data = os.urandom(3_000_000).hex().encode()

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, answer = await asyncio.gather(send(), reader.read(-1))
        assert answer == data.upper() + b"the end"
        assert proxy.endpoints[family][0].ended == 1
        writer.close()

    run(test)


def test_it_listens_at_one_loopback_address_alone() -> None:
    """Not at the rest of 127.0.0.0/8, nor in the other family."""

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a"))
        assert not await refused(proxy)
        assert await refused(proxy, host="127.0.0.2")
        assert await refused(proxy, V6)

    run(test)


def test_each_connection_draws_an_endpoint() -> None:
    """Uniformly: with 60 connections none of three is left out but once in 10^10 runs."""

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a", "b", "c"))
        assert {await proxy.ask() for _ in range(60)} == {"a", "b", "c"}
        proxy.put(proxy.wanted("b"))
        assert {await proxy.ask() for _ in range(10)} == {"b"}

    run(test)


def test_a_failed_dial_closes_the_client_and_tries_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused at once, or without an answer for some seconds."""
    monkeypatch.setattr(tcpproxy, "_DIAL_S", 0.2)

    async def test(proxy: Proxy) -> None:
        (closed,) = free_ports(1)
        full = socket.socket()
        full.bind((ONE[V4], 0))
        full.listen(0)
        filler = [socket.socket() for _ in range(3)]
        for each in filler:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        for target in (Target(ONE[V4], closed), Target(*full.getsockname())):
            proxy.put(LocalNodePort(WEB, (target,)))
            assert await proxy.ask() == ""
        for each in (full, *filler):
            each.close()

    run(test)


def test_clients_stay_with_one_endpoint_for_the_timeout() -> None:
    """Each connection renews it. It ends with the endpoint, and when the timeout changes."""

    async def test(proxy: Proxy) -> None:
        names = ("a", "b", "c")
        proxy.put(proxy.wanted(*names, affinity=100))
        first = await proxy.ask()
        for _ in range(30):
            proxy.now_s += 99
            assert await proxy.ask() == first
        others = [name for name in names if name != first]
        proxy.put(proxy.wanted(*others, affinity=100))
        second = await proxy.ask()
        assert second in others
        proxy.put(proxy.wanted(*names, affinity=100))
        assert {await proxy.ask() for _ in range(10)} == {second}
        seen = set()
        for _ in range(60):
            proxy.now_s += 100
            seen.add(await proxy.ask())
        assert seen == {*names}
        seen = set()
        for timeout in range(200, 260):
            proxy.put(proxy.wanted(*names, affinity=timeout))
            seen.add(await proxy.ask())
        assert seen == {*names}

    run(test)


def test_connections_outlive_their_endpoint_but_not_their_listener() -> None:
    """A Service that gets the port from another does not inherit its connections."""

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a"))
        reader, writer = await proxy.connect()
        assert await reader.readline() == b"a\n"
        proxy.put(proxy.wanted("b"))
        writer.write(b"x")
        assert await reader.read(1) == b"X"
        proxy.put(proxy.wanted("b", service=SHOP))
        assert await reader.read(1) == b""
        assert await proxy.ask() == "b"
        writer.close()
        reader, writer = await proxy.connect()
        assert await reader.readline() == b"b\n"
        proxy.put(None)
        assert await reader.read(1) == b""
        assert await refused(proxy)
        assert proxy.servers.listeners == {V4: 0, V6: 0}
        writer.close()

    run(test)


def test_a_port_in_use_is_counted_logged_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Others are served meanwhile."""

    async def test(proxy: Proxy) -> None:
        other = socket.socket()
        other.bind((ONE[V4], 0))
        other.listen()
        taken = other.getsockname()[1]
        changes = {
            LocalPort(V4, taken): proxy.wanted("a"),
            LocalPort(V4, proxy.port): proxy.wanted("b"),
        }
        proxy.servers.update(changes)
        assert await proxy.ask() == "b"
        proxy.servers.retry()
        proxy.servers.update({LocalPort(V4, taken): proxy.wanted("c")})
        assert proxy.failed == [V4] * 3
        (line,) = caplog.messages
        assert line.startswith(f"Service ns/web: node port {taken} is not served on 127.0.0.1: ")
        other.close()
        proxy.servers.retry()
        assert proxy.servers.listeners[V4] == 2
        proxy.port = taken
        assert await proxy.ask() == "c"
        assert proxy.failed == [V4] * 3

    run(test)


def test_few_ports_are_tried_again_at_each_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them in turn, and all at once every 30 s; files are left for everything else."""
    monkeypatch.setattr(tcpproxy, "share_of_files", lambda share: 2)
    monkeypatch.setattr(tcpproxy, "_AT_ONCE", 3)
    ports = free_ports(10)

    async def test(proxy: Proxy) -> None:
        proxy.servers.update({LocalPort(V4, port): proxy.wanted("a") for port in ports})
        assert (len(proxy.failed), proxy.servers.listeners[V4]) == (8, 2)
        proxy.servers.update({})
        assert len(proxy.failed) == 11
        proxy.servers.retry()
        assert len(proxy.failed) == 19
        # Those that were tried longest ago come first.
        proxy.servers.update({LocalPort(V4, port): None for port in ports[:2]})
        assert (len(proxy.failed), proxy.servers.listeners[V4]) == (20, 2)

    run(test)


def test_without_files_a_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a stack trace for each."""

    def no_file(target: Target) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tcpproxy, "_endpoint_socket", no_file)

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a"))
        assert await proxy.ask() == ""

    run(test)
    gc.collect()
    assert not caplog.messages


def test_a_port_that_is_no_longer_wanted_is_not_tried_again() -> None:
    """Nor counted."""

    async def test(proxy: Proxy) -> None:
        with socket.socket() as other:
            other.bind((ONE[V4], proxy.port))
            other.listen()
            proxy.put(proxy.wanted("a"))
            proxy.put(None)
        proxy.servers.retry()
        assert proxy.failed == [V4]
        assert await refused(proxy)

    run(test)


def test_connections_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    One Service leaves room for another; those that are open stay, and a line a minute says so.
    """
    monkeypatch.setattr(tcpproxy, "_CONNECTIONS", 5)
    monkeypatch.setattr(tcpproxy, "_CONNECTIONS_EACH", 3)

    async def test(proxy: Proxy) -> None:
        first = proxy.port
        proxy.put(proxy.wanted("a"))
        held = [await proxy.connect() for _ in range(3)]
        for reader, _ in held:
            assert await reader.readline() == b"a\n"
        assert [await proxy.ask() for _ in range(5)] == [""] * 5
        assert len(caplog.messages) == 1
        (proxy.port,) = free_ports(1)
        proxy.put(proxy.wanted("b"))
        held += [await proxy.connect() for _ in range(2)]
        for reader, _ in held[3:]:
            assert await reader.readline() == b"b\n"
        assert await proxy.ask() == ""
        held[0][1].write(b"x")
        assert await held[0][0].read(1) == b"X"
        proxy.port = first
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(SOON_S):
            while await proxy.ask() != "a":  # noqa: ASYNC110 - it asks each time
                await asyncio.sleep(0.01)

    run(test)


def test_a_reset_is_passed_on() -> None:
    """The endpoint learns at once that the client is gone."""

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a"))
        reader, writer = await proxy.connect()
        await reader.readline()
        opened = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        async with asyncio.timeout(SOON_S):
            while not proxy.endpoints[V4][0].ended:  # noqa: ASYNC110 - in another task
                await asyncio.sleep(0.01)

    run(test)


def test_a_side_that_reads_nothing_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side is stopped, and no data is kept in this process beyond one piece."""

    async def test(proxy: Proxy) -> None:
        proxy.put(proxy.wanted("a"))
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, (ONE[V4], proxy.port))
        sent = 0
        try:  # what comes back is not read, so nothing more can be sent at some point
            while True:
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(client, bytes(1 << 16))
                sent += 1 << 16
        except TimeoutError:
            pass
        assert sent < 64 << 20
        client.close()

    run(test)
