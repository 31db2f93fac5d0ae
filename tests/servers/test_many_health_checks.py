"""Many Services with health check node ports: files are left, and the event loop goes on."""

import asyncio

import pytest
from support.client.http11 import ask
from support.healthchecks import EVERYWHERE, ONE, V4, V6, Proxy, at, refused, run
from support.ports import free_ports

from nfproxy.model.service import ObjectName
from nfproxy.plan.servicehealth import HealthCheck
from nfproxy.servers import healthcheckports
from nfproxy.servers.healthcheckports import Key


def wanted(ports: list[int]) -> dict[Key, HealthCheck]:
    """Return health checks of as many Services, in both families."""
    return {
        (ObjectName("ns", f"web-{number:03}"), family): HealthCheck(port, 1)
        for number, port in enumerate(ports)
        for family in (V4, V6)
    }


def test_their_sockets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process needs files for everything else. Room that comes is used."""
    monkeypatch.setattr(healthcheckports, "share_of_files", lambda share: 10 // share)
    ports = free_ports(4)

    async def test(proxy: Proxy) -> None:
        await proxy.update(wanted(ports), EVERYWHERE)
        assert proxy.servers.listeners == 5
        assert [failure.port for failure in proxy.failures] == [ports[2], ports[3], ports[3]]
        assert "5 sockets at most" in proxy.failures[0].message
        assert "ulimit -n" in proxy.failures[0].message
        assert await refused(ONE, ports[3])

        await proxy.update(wanted(ports), at(ONE))
        assert proxy.servers.listeners == 4
        assert (await ask((ONE, ports[3]), "/")).code == 200

    run(test)


def test_they_take_no_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files may be open: sockets are memory, too."""
    monkeypatch.setattr(healthcheckports, "_MOST", 3)
    ports = free_ports(2)

    async def test(proxy: Proxy) -> None:
        await proxy.update(wanted(ports), EVERYWHERE)
        assert proxy.servers.listeners == 3
        assert len(proxy.failures) == 1

    run(test)


def test_the_event_loop_goes_on_meanwhile() -> None:
    """Opening and closing thousands of sockets takes a second."""
    ports = free_ports(150)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def test(proxy: Proxy) -> None:
        nonlocal turns
        counting = asyncio.create_task(count())
        await proxy.update(wanted(ports), EVERYWHERE)
        assert proxy.servers.listeners == 300
        opening, turns = turns, 0
        await proxy.update({}, EVERYWHERE)
        assert proxy.servers.listeners == 0
        assert min(opening, turns) >= 5
        counting.cancel()

    run(test)
