"""Health check node ports that two want, or something else has."""

import socket

from support.client.http11 import ask
from support.healthchecks import ONE, SHOP, TWO, V4, WEB, Proxy, at, refused, run
from support.ports import free_ports

from nfproxy.plan.servicehealth import HealthCheck


def test_of_two_services_with_one_port_the_first_is_served_and_both_are_named():
    """No other process is blamed. Once the first is gone, the second is served."""
    (port,) = free_ports(1)

    async def test(proxy: Proxy) -> None:
        check = HealthCheck(port, 1)
        await proxy.update({(WEB, V4): check}, at(ONE))
        await proxy.update({(SHOP, V4): check, (WEB, V4): check}, at(ONE))

        assert '"name": "web"' in (await ask((ONE, port), "/")).body.decode()
        (failure,) = proxy.failures
        assert (failure.service, failure.other) == (SHOP, WEB)
        assert failure.message == (
            f'failed to start healthcheck "ns/shop" on port {port}: it is the healthCheckNodePort '
            "of Service ns/web, too; give one of them another port"
        )
        await proxy.update({(SHOP, V4): check}, at(ONE))
        assert '"name": "shop"' in (await ask((ONE, port), "/")).body.decode()

    run(test)


def test_a_node_port_of_another_service_is_named():
    """A connection to it would never reach nfproxy, so nothing listens."""
    (port,) = free_ports(1)

    async def test(proxy: Proxy) -> None:
        await proxy.update({(WEB, V4): HealthCheck(port, 1)}, at(ONE))
        await proxy.update({(WEB, V4): HealthCheck(port, 1, SHOP)}, at(ONE))

        assert await refused(ONE, port)
        (failure,) = proxy.failures
        assert (failure.service, failure.other) == (WEB, SHOP)
        assert failure.message.endswith(
            f"on port {port}: it is a node port of Service ns/shop; give one of them another port"
        )
        await proxy.update({(WEB, V4): HealthCheck(port, 1)}, at(ONE))
        assert (await ask((ONE, port), "/")).code == 200

    run(test)


def test_a_port_of_nfproxys_own_is_named():
    """Not "another process". At another address than that server's the port is free."""

    async def test(proxy: Proxy) -> None:
        with socket.socket() as page:
            page.bind((ONE, 0))
            page.listen()
            port = int(page.getsockname()[1])
            proxy.own_ports[port] = "its health page"
            await proxy.update({(WEB, V4): HealthCheck(port, 1)}, at(ONE))
            (failure,) = proxy.failures
            assert failure.message == (
                f'failed to start healthcheck "ns/web" on port {port}: nfproxy serves its health '
                "page there; give the Service another port"
            )
            await proxy.update({(WEB, V4): HealthCheck(port, 1)}, at(TWO))
            assert (await ask((TWO, port), "/")).code == 200

    run(test)
