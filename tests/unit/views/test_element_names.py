"""What elements of our tables are to an operator."""

from __future__ import annotations

import pytest
from support.objects.model import changes, endpoint_slice, service

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.nft import schema
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.views.elementnames import Place, name_elements

WEB = FrontendKey(Family.IPV4, bytes([10, 96, 0, 1]), Protocol.TCP, 80)
NODE_PORT = FrontendKey(Family.IPV4, b"", Protocol.TCP, 30080)
UNKNOWN = FrontendKey(Family.IPV4, bytes([10, 96, 0, 9]), Protocol.TCP, 80)


def desired() -> Desired:
    planner = Planner(NodeConfig(node_name="n"))
    ports = (ServicePort("http", Protocol.TCP, 80, 30080),)
    planner.apply(
        changes(service(ports=ports), endpoint_slice("web", "10.244.1.5", port_name="http"))
    )
    return planner.desired


def verdict(key: FrontendKey) -> Place:
    name = schema.FRONTENDS if key.address else schema.NODE_PORTS
    return key.family, name, key.element_key


def slot(key: FrontendKey, number: int) -> Place:
    maps = schema.ENDPOINTS if key.address else schema.NODE_PORT_ENDPOINTS
    where = key.address + schema.port_bytes(key.port) + schema.number_bytes(number)
    return key.family, maps[key.protocol], where


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([], ""),
        ([verdict(WEB)], "10.96.0.1:80/tcp of default/web:http"),
        ([verdict(NODE_PORT)], "node port 30080/tcp (IPv4) of default/web:http"),
        ([slot(WEB, 1)], "slot 1 of default/web:http"),
        ([slot(NODE_PORT, 0)], "slot 0 of default/web:http"),
        ([verdict(WEB), slot(WEB, 0)], "2 elements of default/web:http"),
        ([verdict(UNKNOWN)], "1 element of frontends"),
        ([slot(UNKNOWN, 0)], "1 element of endpoints-tcp"),
        ([(Family.IPV4, "cluster-ips", bytes(4))], "1 element of cluster-ips"),
        ([(Family.IPV4, "endpoints-tcp", b"short")], "1 element of endpoints-tcp"),
        ([(Family.IPV4, "strange", b"")], "1 element of strange"),
        (
            [slot(WEB, 0), *((Family.IPV4, f"s{n}", b"") for n in range(4))],
            "1 element of default/web:http, 1 element of s0, 1 element of s1 and of 2 more",
        ),
    ],
)
def test_elements_are_named_by_service_port(places: list[Place], text: str) -> None:
    """Those of no Service by their set."""
    named = name_elements(desired(), places)
    assert named.text == text
    is_known = bool(text) and "element of s" not in text and "default/web:http" in text
    assert named.services == (("default/web:http",) if is_known else ())
    assert bool(named.frontends) == is_known


def test_before_anything_is_planned_sets_are_named() -> None:
    """And nothing fails."""
    assert name_elements(None, [slot(WEB, 0)]).text == "1 element of endpoints-tcp"
