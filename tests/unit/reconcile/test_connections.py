"""
Connections by service port, summed up from counters that begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Claim, ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.connections import ConnectionTotals, Counter, PortName, frontend_key

WEB, DNS = ObjectName("default", "web"), ObjectName("kube-system", "dns")
V4, V6 = Family.IPV4, Family.IPV6


def at(address: str, port: int, protocol: Protocol = Protocol.TCP) -> Counter:
    """Return the element of a frontend with an address."""
    packed = parse_address(address)
    key = packed + schema.protocol_bytes(protocol) + schema.port_bytes(port)
    return Counter(V4 if len(packed) == 4 else V6, schema.FRONTENDS, key)


def node_port(port: int, protocol: Protocol = Protocol.TCP, family: Family = V4) -> Counter:
    """Return the element of a node port."""
    key = schema.protocol_bytes(protocol) + schema.port_bytes(port)
    return Counter(family, schema.NODE_PORTS, key)


CLUSTER, CLUSTER_V6, NODE_PORT = at("10.96.0.1", 80), at("fd00::1", 80), node_port(30080)
DNS_UDP = at("10.96.0.10", 53, Protocol.UDP)
OWNERS = {
    frontend_key(CLUSTER): Claim("", WEB, "http"),
    frontend_key(CLUSTER_V6): Claim("", WEB, "http"),
    frontend_key(NODE_PORT): Claim("", WEB, "http"),
    frontend_key(DNS_UDP): Claim("", DNS, "dns"),
}
HTTP = PortName(WEB, "http", Protocol.TCP)


class Node:
    """A kernel's counters and whoever reads them, after a first reading."""

    def __init__(self, first: int = 0) -> None:
        self.services = {WEB, DNS}
        self.connections = ConnectionTotals()
        self.read({CLUSTER: first})

    def read(self, counters: Mapping[Counter, int]) -> dict[PortName, int]:
        """Read, and return the totals."""
        self.connections.read(counters.items(), OWNERS.get, self.services.__contains__)
        return dict(self.connections.totals)


def test_what_was_counted_before_the_first_reading_is_not_ours() -> None:
    """
    A new process finds the counters of the one before, whose totals are known to nobody.
    """
    node = Node(first=1000)

    assert node.read({CLUSTER: 1000}) == {}
    assert node.read({CLUSTER: 1003}) == {HTTP: 3}


def test_all_frontends_of_a_service_port_are_one() -> None:
    """
    Both families, cluster IP and node port.
    """
    assert Node().read({CLUSTER: 1, CLUSTER_V6: 2, NODE_PORT: 3}) == {HTTP: 6}


def test_an_element_that_was_replaced_counts_from_the_beginning() -> None:
    """
    Its Service's total never gets less.
    """
    node = Node()
    node.read({CLUSTER: 10})

    assert node.read({CLUSTER: 4}) == {HTTP: 14}
    assert node.read({}) == {HTTP: 14}
    assert node.read({CLUSTER: 5}) == {HTTP: 19}


def test_ports_are_told_apart_by_protocol() -> None:
    """
    The name does not say it where a Service has one port.
    """
    node = Node()

    assert {PortName(DNS, "dns", Protocol.UDP): 7} == node.read({DNS_UDP: 7})


def test_a_service_that_goes_takes_its_total_along() -> None:
    """
    One of the same name begins anew.
    """
    node = Node()
    node.read({CLUSTER: 10, DNS_UDP: 1})
    node.services.discard(WEB)
    assert {DNS} == {name.service for name in node.read({DNS_UDP: 1})}
    node.services.add(WEB)

    assert node.read({CLUSTER: 2, DNS_UDP: 1})[HTTP] == 2


@pytest.mark.parametrize(
    "counter",
    [
        at("10.96.0.99", 80),
        node_port(31000),
        Counter(V4, schema.FRONTENDS, b"short"),
        node_port(30080, 99),  # type: ignore[arg-type]
        Counter(V6, schema.FRONTENDS, CLUSTER.key),
    ],
    ids=["nobody's", "nobody's node port", "another layout", "a protocol", "another family"],
)
def test_what_belongs_to_nobody_is_not_counted(counter: Counter) -> None:
    """
    An element on its way out, or a stranger's.
    """
    assert Node().read({counter: 5}) == {}


@pytest.mark.parametrize(
    ("counter", "expected"),
    [
        (CLUSTER, FrontendKey(V4, parse_address("10.96.0.1"), Protocol.TCP, 80)),
        (CLUSTER_V6, FrontendKey(V6, parse_address("fd00::1"), Protocol.TCP, 80)),
        (
            node_port(65535, Protocol.SCTP, V6),
            FrontendKey(V6, b"", Protocol.SCTP, 65535),
        ),
    ],
)
def test_elements_are_known_by_their_keys(counter: Counter, expected: FrontendKey) -> None:
    """
    As the planner knows frontends.
    """
    assert expected == frontend_key(counter)
