"""Services' health check node ports, spoken to over TCP."""

import asyncio
import socket
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path

import pytest
from support.client.http11 import ask, connections
from support.healthchecks import (
    EVERYWHERE,
    ONE,
    REQUEST,
    SHOP,
    TWO,
    V4,
    V6,
    WEB,
    Proxy,
    at,
    refused,
    run,
)
from support.ports import free_ports

from nfproxy.model.addresses import parse_address
from nfproxy.model.service import ObjectName
from nfproxy.plan.servicehealth import HealthCheck
from nfproxy.servers import healthcheckports
from nfproxy.servers.healthcheckports import HealthCheckServers, Key


def test_the_answer_is_kube_proxys_to_the_byte():
    """Indented with tabs, no newline at the end; the count is a header, too."""
    (port,) = free_ports(1)

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(port, 3)}, EVERYWHERE)
        reply = await ask((ONE, port), "/")
        expected = (
            '{\n\t"service": {\n\t\t"namespace": "ns",\n\t\t"name": "web"\n\t},\n'
            '\t"localEndpoints": 3,\n\t"serviceProxyHealthy": true\n}'
        )

        assert (reply.code, reply.body.decode()) == (200, expected)
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-load-balancing-endpoint-weight"] == "3"

    run(test)


@pytest.mark.parametrize(
    ("endpoints", "healthy", "code"), [(1, True, 200), (0, True, 503), (1, False, 503)]
)
def test_the_code_is_200_with_local_endpoints_and_a_healthy_sync(
    endpoints: int, healthy: bool, code: int
):
    """Health is read at each request."""
    (port,) = free_ports(1)

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(port, endpoints)}, EVERYWHERE)
        proxy.healthy = healthy
        reply = await ask((ONE, port), "/")

        assert reply.code == code
        assert f'"serviceProxyHealthy": {str(healthy).lower()}'.encode() in reply.body
        assert reply.headers["x-load-balancing-endpoint-weight"] == str(endpoints)

    run(test)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "HEAD"])
def test_path_and_method_do_not_matter(method: str):
    """Load balancers differ in what they ask for."""
    (port,) = free_ports(1)

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(port, 1)}, EVERYWHERE)
        assert (await ask((ONE, port), "/any/path?query", method)).code == 200

    run(test)


def test_families_have_sockets_of_their_own():
    """Each has its own count, at one port; a family without a health check refuses."""
    port, other = free_ports(2)

    async def test(proxy: Proxy) -> None:
        await proxy.update(
            {
                (WEB, V4): HealthCheck(port, 1),
                (WEB, V6): HealthCheck(port, 2),
                (SHOP, V4): HealthCheck(other, 1),
            },
            EVERYWHERE,
        )
        weights = [
            (await ask((host, port), "/")).headers["x-load-balancing-endpoint-weight"]
            for host in (ONE, "::1")
        ]
        assert weights == ["1", "2"]
        assert await refused("::1", other)
        assert not proxy.failures

    run(test)


async def answered(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Ask on a connection, and read the whole answer."""
    reader, writer = connection
    writer.write(REQUEST)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    size = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    await asyncio.wait_for(reader.readexactly(int(size.rpartition(b" ")[2])), 20)


def test_sockets_follow_the_addresses():
    """A connection to an address that stays goes on; one to an address that goes is closed."""
    (port,) = free_ports(1)
    wanted = {(WEB, V4): HealthCheck(port, 1)}

    async def test(proxy: Proxy) -> None:
        await proxy.update(wanted, at(ONE, TWO))
        assert await refused("127.0.0.3", port)
        async with connections((ONE, port)) as [kept], connections((TWO, port)) as [ended]:
            await answered(ended)
            await proxy.update(wanted, at(ONE, "127.0.0.3"))
            kept[1].write(REQUEST)

            assert await asyncio.wait_for(kept[0].readline(), 20) == b"HTTP/1.1 200 OK\r\n"
            assert await asyncio.wait_for(ended[0].read(), 20) == b""
            assert await refused(TWO, port)
            assert (await ask(("127.0.0.3", port), "/")).code == 200

    run(test)


def test_an_address_need_not_be_usable_yet():
    """The kernel may still check it for duplicates. Link-local addresses are left out."""
    (port,) = free_ports(1)
    addresses = {V6: [parse_address("fd00:dead::1"), parse_address("fe80::1")], V4: []}

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V6): HealthCheck(port, 1)}, addresses)
        assert (proxy.servers.listeners, proxy.failures) == (1, [])

    run(test)


def test_without_addresses_there_is_no_socket():
    """That is no error, and addresses may come later."""
    (port,) = free_ports(1)
    wanted = {(WEB, V4): HealthCheck(port, 1), (WEB, V6): HealthCheck(port, 1)}

    async def test(proxy: Proxy) -> None:
        await proxy.update(wanted, {V4: []})
        assert (proxy.servers.listeners, proxy.failures) == (0, [])
        await proxy.update(wanted, EVERYWHERE)
        assert proxy.servers.listeners == 2
        await proxy.update(wanted, at(TWO))
        assert proxy.servers.listeners == 1
        assert (await ask((TWO, port), "/")).code == 200

    run(test)


def test_a_socket_that_stays_wanted_stays_open():
    """Neither a new count nor another Service closes its connections."""
    port, other = free_ports(2)

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(port, 1)}, EVERYWHERE)
        async with connections((ONE, port)) as [(reader, writer)]:
            both = {(WEB, V4): HealthCheck(port, 2), (SHOP, V4): HealthCheck(other, 1)}
            await proxy.update(both, EVERYWHERE)
            await proxy.update({(WEB, V4): HealthCheck(port, 5)}, EVERYWHERE)
            writer.write(REQUEST)

            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert b"X-Load-Balancing-Endpoint-Weight: 5\r\n" in head
            assert await refused(ONE, other)

    run(test)


def test_services_may_swap_their_ports():
    """Old sockets are closed before new ones are opened."""
    first, second = free_ports(2)

    async def test(proxy: Proxy) -> None:
        for web, shop in ((first, second), (second, first)):
            wanted = {(WEB, V4): HealthCheck(web, 1), (SHOP, V4): HealthCheck(shop, 1)}
            await proxy.update(wanted, EVERYWHERE)
            assert b'"web"' in (await ask((ONE, web), "/")).body
            assert b'"shop"' in (await ask((ONE, shop), "/")).body
        assert not proxy.failures

    run(test)


def test_a_port_in_use_is_reported_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """At every update; until then the Service has no socket at its other addresses either."""
    with closing(socket.create_server((TWO, 0))) as holder:
        port = int(holder.getsockname()[1])
        wanted = {(WEB, V4): HealthCheck(port, 1)}

        async def test(proxy: Proxy) -> None:
            for _ in range(2):
                await proxy.update(wanted, at(ONE, TWO))
                assert await refused(ONE, port)
            holder.close()
            await proxy.update(wanted, at(ONE, TWO))

            assert (await ask((TWO, port), "/")).code == 200
            assert len(proxy.failures) == 2
            failure = proxy.failures[0]
            assert (failure.service, failure.family, failure.port) == (WEB, V4, port)
            assert f'failed to start healthcheck "ns/web" on port {port}: ' in failure.message
            assert "another process listens there" in failure.message

        run(test)
    assert [record.getMessage() for record in caplog.records] == [
        f"Service ns/web: health check node port {port} (IPv4) is not served: another process "
        "listens there (kube-proxy, or another nfproxy?); "
        f"`ss -ltnp 'sport = :{port}'` names it: stop it, or give the Service another port; "
        "trying again every 30 s"
    ]


def test_a_failure_concerns_only_its_service():
    """Others have their sockets."""
    (port,) = free_ports(1)
    with closing(socket.create_server((ONE, 0))) as holder:
        taken = int(holder.getsockname()[1])

        async def test(proxy: Proxy) -> None:
            wanted = {(WEB, V4): HealthCheck(taken, 1), (SHOP, V4): HealthCheck(port, 1)}
            await proxy.update(wanted, EVERYWHERE)
            assert (await ask((ONE, port), "/")).code == 200
            assert [failure.service for failure in proxy.failures] == [WEB]

        run(test)


def test_close_closes_listeners_and_connections():
    """A client that says nothing more reads the end at once."""
    (port,) = free_ports(1)

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(port, 1)}, EVERYWHERE)
        async with connections((ONE, port)) as [(reader, writer)]:
            await answered((reader, writer))
            await proxy.servers.close()
            assert await asyncio.wait_for(reader.read(), 20) == b""
            assert await refused(ONE, port)

    run(test)


def test_connections_are_bounded_over_all_services():
    """The oldest one is closed for a new one after a second, so probes get their answer."""
    port, other = free_ports(2)
    wanted = {(WEB, V4): HealthCheck(port, 1), (SHOP, V4): HealthCheck(other, 1)}

    async def test(proxy: Proxy) -> None:
        await proxy.update(wanted, EVERYWHERE)
        async with connections((ONE, port), 256) as held:
            for connection in held:
                await answered(connection)
            await asyncio.sleep(1.1)
            assert (await ask((ONE, other), "/")).code == 200
            oldest, _ = held[0]
            assert await asyncio.wait_for(oldest.read(), 20) == b""

    run(test)


def open_files() -> int:
    """Return how many files this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


def test_a_change_costs_what_changed(monkeypatch: pytest.MonkeyPatch):
    """However many Services have health check node ports; each of these holds one file."""
    ports = free_ports(21)
    asked: list[object] = []
    real = healthcheckports.HealthCheckServers._serve

    def serve(servers: HealthCheckServers, key: Key, check: HealthCheck) -> Awaitable[None]:
        asked.append(key)
        return real(servers, key, check)

    monkeypatch.setattr(healthcheckports.HealthCheckServers, "_serve", serve)
    names = [ObjectName("ns", f"s{number}") for number in range(20)]
    checks = {(name, V4): HealthCheck(port, 1) for name, port in zip(names, ports, strict=False)}

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(ports[20], 1)}, at(ONE))
        before = open_files()
        await proxy.update(checks | {(WEB, V4): HealthCheck(ports[20], 1)}, at(ONE))
        assert open_files() == before + 20
        asked.clear()
        await proxy.servers.update({(WEB, V4): HealthCheck(ports[20], 2)}, at(ONE))
        assert asked == [(WEB, V4)]
        assert proxy.servers.listeners == 21

    run(test)
